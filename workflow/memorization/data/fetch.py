"""Put a data set's files in place, and say where they came from: local mirror, download or stand-in."""

import errno
import json
import logging
import shutil
from pathlib import Path
from typing import Literal

from memorization.contracts import atomic
from memorization.data import standins
from memorization.data.download import Downloader, UnavailableError, digest, sha256
from memorization.data.registry import DatasetSpec, FileSpec, lookup
from memorization.errors import UserError
from memorization.specs import Strict

PROVENANCE = "provenance.json"
DIFFERS = "local copy, checksum differs"

log = logging.getLogger(__name__)


class FileRecord(Strict):
    """What was put in place. `url` is "mirror", "standin" or "own text" where it was no download."""

    sha256: str
    bytes: int
    url: str


class Provenance(Strict):
    """provenance.json: where a data set's files came from. Never holds a path of the machine."""

    dataset: str
    source: Literal["mirror", "download", "standin", "local copy, checksum differs", "own text"]
    is_standin: bool
    files: dict[str, FileRecord]
    licence: str
    citation: str
    note: str

    @classmethod
    def read(cls, directory: Path) -> "Provenance":
        """The provenance that `fetch` left in `directory`."""
        return cls.model_validate_json((Path(directory) / PROVENANCE).read_text(encoding="utf-8"))


def fetch(
    name: str,
    directory: Path,
    *,
    registry_path: Path,
    on_missing: Literal["standin", "error"],
    mirror: Path | None,
    cache: Path,
    trusted: bool = False,
) -> Provenance:
    """Place the files of data set `name` in `directory` under their canonical names, with provenance.json.

    Each file is looked for in `mirror`/`name`/, then at the registry's addresses (through `cache`); if any is
    missing after that, all are replaced by the stand-in where `on_missing` and the registry allow it.
    `trusted` accepts mirror files whose checksum differs; the provenance then says so.
    Raises UserError: unknown data set, no such mirror, wrong checksum in it, nothing found, disk full.
    """
    dataset = lookup(name, registry_path)
    try:
        try:
            provenance = _real(name, dataset, directory, mirror, Downloader(cache), trusted)
        except UnavailableError as error:
            provenance = _standin(name, dataset, directory, on_missing, str(error))
        with atomic(Path(directory) / PROVENANCE) as path:
            path.write_text(json.dumps(provenance.model_dump(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _cannot_write(name, directory, cache, error) from error
    return provenance


def _real(
    name: str,
    dataset: DatasetSpec,
    directory: Path,
    mirror: Path | None,
    downloader: Downloader,
    trusted: bool,
) -> Provenance:
    """Files from mirror and network. Nothing is placed before all are found. Raises UnavailableError."""
    if mirror is not None and not Path(mirror).is_dir():
        raise UserError(f"MEMORIZATION_DATA: the folder {mirror} does not exist; mend the path or unset the variable")
    found: dict[str, tuple[Path, str]] = {}
    wrong = []
    for file_name, file in dataset.files.items():
        local = Path(mirror) / name / file_name if mirror is not None else None
        if local is not None and local.is_file():
            if not _matches(local, file, trusted):
                wrong.append(file_name)
            found[file_name] = local, "mirror"
        else:
            found[file_name] = downloader.get(file_name, file)
    files = {file_name: _place(path, Path(directory) / file_name, url) for file_name, (path, url) in found.items()}
    downloaded = any(url != "mirror" for _, url in found.values())
    return Provenance(
        dataset=name,
        source=DIFFERS if wrong else "download" if downloaded else "mirror",
        is_standin=False,
        files=files,
        licence=dataset.licence,
        citation=dataset.citation,
        note=f"not the public file: {', '.join(wrong)}" if wrong else "checksums as in the registry",
    )


def _matches(path: Path, file: FileSpec, trusted: bool) -> bool:
    """Whether a mirror file is the public one. Raises UserError where it is not and is not trusted either."""
    if file.checksum is None:
        if trusted:
            return False
        raise UserError(
            f"{path}: the registry knows no checksum of this file, only of the archive it comes in; "
            "remove it so that it is downloaded, or mark the local copy as trusted"
        )
    actual, size = digest(path, file.checksum), path.stat().st_size
    if actual == file.checksum:
        return True
    if trusted:
        return False
    expected = "" if file.bytes is None else f" ({file.bytes} bytes)"
    (kind, _, found), (_, _, wanted) = actual.partition(":"), file.checksum.partition(":")
    hint = " (truncated?)" if file.bytes is not None and size < file.bytes else ""
    raise UserError(
        f"{path}: {kind} is {found} ({size} bytes){hint}, but the registry expects {wanted}{expected}; "
        "copy the file again, remove it so that it is downloaded, or mark the local copy as trusted"
    )


def _standin(
    name: str, dataset: DatasetSpec, directory: Path, on_missing: Literal["standin", "error"], why: str
) -> Provenance:
    """The embedded replacement, or UserError where there is none or it is not wanted."""
    example = next(iter(dataset.files))
    remedy = f"set MEMORIZATION_DATA to a folder that holds {name}/{example}, or connect to the internet"
    if on_missing == "error" or dataset.standin is None:
        raise UserError(f"data set {name!r} cannot be had: not in a local mirror, and {why}; {remedy}")
    log.warning("data set %r: using the STAND-IN, results say nothing about %s (%s); %s", name, name, why, remedy)
    files = {}
    standin = standins.STANDINS[dataset.standin]
    for role, content in standin.make().items():
        target = Path(directory) / getattr(dataset.roles, role)
        with atomic(target) as path:
            path.write_bytes(standins.packed(content, target.name))
        files[target.name] = FileRecord(sha256=sha256(target), bytes=target.stat().st_size, url="standin")
    return Provenance(
        dataset=name,
        source="standin",
        is_standin=True,
        files=files,
        licence=standin.licence,
        citation=standin.citation,
        note=f"stand-in for {dataset.title}: {standin.origin()}",
    )


def _place(source: Path, target: Path, url: str) -> FileRecord:
    """Copy a file into place atomically."""
    # A copy and not a hard link: a link shares the mirror's time stamp, which is older than the job's inputs,
    # so Snakemake would run the job again, and a later write would change the mirror.
    with atomic(target) as path:
        shutil.copyfile(source, path)
    return FileRecord(sha256=sha256(target), bytes=target.stat().st_size, url=url)


def _cannot_write(name: str, directory: Path, cache: Path, error: OSError) -> UserError:
    """One line about an operating system error while files were copied."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "free some space" if full else "check the folder and its permissions"
    where = error.filename or f"{directory} or the cache {cache}"
    return UserError(
        f"data set {name!r}: cannot read or write {where}: {error.strerror or error}; {remedy} and run again"
    )
