"""Verified downloads of registry files into a shared cache: resumed, retried, quick to give up when offline.

pooch does the verifying, retrying and moving into place; it is imported only when something is downloaded,
because the back ends' environments do not have it.
"""

import fcntl
import hashlib
import shutil
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from memorization.contracts import atomic
from memorization.data.archives import content_digest
from memorization.data.registry import FileSpec, SourceSpec

CONNECT_S, READ_S = 5.0, 20.0
"""Longest wait for a connection, and for the next bytes of one."""
RETRIES = 2
"""After a broken transfer, a server error or a wrong checksum; pooch waits 1 s, then 2 s."""
DEFAULT_PORTS = {"http": 80, "https": 443}


class UnavailableError(Exception):
    """A source cannot give a file, and asking again now would not help. The text says why."""


class Downloader:
    """Fetches registry files through one cache folder and remembers hosts that do not answer."""

    def __init__(self, cache: Path):
        self.cache = Path(cache)
        self.dead: dict[str, str] = {}

    def get(self, name: str, file: FileSpec) -> tuple[Path, str]:
        """(path in the cache, url) of the first source that gives file `name` with the right checksum.

        Raises UnavailableError with every source's reason, OSError when the cache cannot be written.
        """
        reasons = []
        for source in file.sources:
            try:
                return self._from_source(name, file, source), source.url
            except UnavailableError as error:
                reasons.append(f"{urlsplit(source.url).netloc}: {error}")
        raise UnavailableError(f"{name}: " + "; ".join(dict.fromkeys(reasons)))

    def _from_source(self, name: str, file: FileSpec, source: SourceSpec) -> Path:
        if source.member is None:
            return self._retrieve(source.url, source.checksum or file.checksum)
        path = self.cache / f"{_short(file.checksum or source.checksum)}-{name}"
        # Without a checksum of its own the file may have been left by an archive that was changed since: always anew.
        if file.checksum is None or not (path.is_file() and matches(path, file.checksum)):
            _extract(self._retrieve(source.url, source.checksum), source.member, path)
            if file.checksum is not None and not matches(path, file.checksum):
                actual = digest(path, file.checksum)
                raise UnavailableError(f"{source.member} in the archive has {actual}, not {file.checksum}")
        return path

    def _retrieve(self, url: str, checksum: str) -> Path:
        """The file at `url` with the given checksum (`sha256:...`, `gitblob:...`), from the cache or downloaded."""
        import pooch
        import requests

        pooch.get_logger().setLevel("WARNING")
        name = f"{_short(checksum)}-{Path(urlsplit(url).path).name}"
        self.cache.mkdir(parents=True, exist_ok=True)
        manager = pooch.create(
            self.cache,
            base_url="",
            registry={name: checksum if checksum.startswith("sha256:") else None},
            urls={name: url},
            retry_if_failed=RETRIES,
        )
        part = self.cache / f"{name}.part"

        def transfer(url: str, output: str, pooch_: Any) -> None:
            self._transfer(part, url, output, pooch_)
            if not checksum.startswith("sha256:") and not matches(output, checksum):
                raise ValueError(f"it is {digest(output, checksum)}, not {checksum}")

        try:
            # Two jobs that append to one partial file would spoil it: the second waits, then finds the file.
            with _lock(self.cache / f"{name}.lock"):
                # pooch knows no git blobs: what it would check of them is checked here.
                if (cached := self.cache / name).is_file() and not matches(cached, checksum):
                    cached.unlink()
                return Path(manager.fetch(name, downloader=transfer))
        except requests.RequestException as error:
            raise UnavailableError(_reason(error)) from error
        except ValueError as error:
            raise UnavailableError(f"wrong checksum ({' '.join(str(error).split())})") from error

    def _transfer(self, part: Path, url: str, output: str, _pooch: Any) -> None:
        """pooch's downloader: continue the partial file `part`, then move it to `output`.

        Raises requests' exceptions for what pooch should try again, UnavailableError for what it should not.
        """
        import requests
        from pooch.downloaders import HTTPDownloader

        host = urlsplit(url).netloc
        if host not in self.dead and (trouble := _unreachable(url)):
            self.dead[host] = trouble
        if host in self.dead:
            raise UnavailableError(self.dead[host])
        bar = _Bar(host) if sys.stderr.isatty() else False
        with part.open("ab") as stream:
            start = stream.tell()
            transfer = HTTPDownloader(
                progressbar=bar,
                chunk_size=1 << 16,
                timeout=(CONNECT_S, READ_S),
                # Without identity a server may compress, and offsets would count compressed bytes.
                headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {}),
                hooks={"response": lambda response, **_: _restart_unless_partial(response, stream)},
            )
            try:
                transfer(url, stream, None)
            except requests.HTTPError as error:
                if error.response.status_code < 500 and error.response.status_code not in {408, 416, 429}:
                    raise UnavailableError(_reason(error)) from error
                raise
            except (requests.ConnectionError, requests.Timeout) as error:
                if stream.tell() == start:
                    self.dead[host] = _reason(error)
                    raise UnavailableError(self.dead[host]) from error
                raise
            finally:
                if bar:
                    bar.close()
        shutil.move(part, output)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob(path: Path) -> str:
    """The id that git gives a file's content: SHA-1 of `blob <size>`, a zero byte, and the content.

    SHA-1 tells a spoilt download from a sound one; against somebody who wants to deceive it proves less than SHA-256.
    """
    with open(path, "rb") as stream:
        header = hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size, usedforsecurity=False)
        return hashlib.file_digest(stream, lambda: header).hexdigest()


KINDS = {"sha256": sha256, "gitblob": git_blob, "content": content_digest}
"""Kind of checksum -> function of a path."""


def digest(path: Path, like: str) -> str:
    """The checksum of a file, written as `like` is: `sha256:...` or `gitblob:...`."""
    kind = like.partition(":")[0]
    return f"{kind}:{KINDS[kind](path)}"


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has this checksum."""
    return digest(path, checksum) == checksum


def _short(checksum: str) -> str:
    """What tells files of one name apart in the cache."""
    return checksum.partition(":")[2][:12]


def _restart_unless_partial(response: Any, stream: Any) -> None:
    """Drop what was there before when the server sends the whole file (200) or rejects the range (416)."""
    if response.status_code in {200, 416}:
        stream.truncate(0)


def _unreachable(url: str) -> str | None:
    """Why the host of `url` (or the proxy that leads to it) takes no connection, or None.

    requests' own timeout counts per address and not for the name service, which can block for half a minute
    where there is no network; a thread that may be left behind bounds both.
    """
    from requests.utils import get_environ_proxies, select_proxy

    address = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    port = address.port or DEFAULT_PORTS.get(address.scheme, 80)
    outcome = [f"no answer within {CONNECT_S:g} s"]

    def knock() -> None:
        try:
            socket.create_connection((address.hostname, port), timeout=CONNECT_S).close()
            outcome[0] = ""
        except OSError as error:
            outcome[0] = error.strerror or str(error)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    return outcome[0] or None


def _reason(error: Exception) -> str:
    """A short cause of one of requests' exceptions."""
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else f"{type(error).__name__}: {str(error)[:120]}"


def _extract(archive: Path, member: str, target: Path) -> None:
    """Write one member of a zip or tar archive to `target` atomically."""
    try:
        with atomic(target) as path, path.open("wb") as output:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as box, box.open(member) as content:
                    shutil.copyfileobj(content, output)
            else:
                with tarfile.open(archive) as box:
                    content = box.extractfile(member)
                    if content is None:
                        raise KeyError(member)
                    shutil.copyfileobj(content, output)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UnavailableError(f"{archive.name} does not hold {member}: {error}") from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class _Bar:
    """rich's progress bar with the few methods that pooch calls."""

    def __init__(self, label: str):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(label, total=None)
        self._progress.start()

    @property
    def total(self) -> float | None:
        """Bytes to come."""
        return self._progress.tasks[0].total

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size or None)

    def update(self, size: int) -> None:
        """`size` more bytes have come."""
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        """Back to zero."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()
