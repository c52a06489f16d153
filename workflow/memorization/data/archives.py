"""Archives, zip or tar, read from front to back: their members, and a digest that does not depend on the packing."""

import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path

from memorization.errors import UserError


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of the archive at `path`, in its order; nothing is unpacked to disk.

    Raises UserError for a file that is missing, damaged, or no archive.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as box:
                for name in box.namelist():
                    if not name.endswith("/"):
                        yield name, box.read(name)
            return
        with tarfile.open(path, "r:*") as box:
            while (info := box.next()) is not None:
                if info.isfile():
                    yield info.name, box.extractfile(info).read()
                # tarfile remembers every member: half a million of them would be half a gigabyte.
                box.members.clear()
    except OSError as error:
        reason = error.strerror or "truncated or damaged"
        raise UserError(f"{path}: the archive cannot be read ({reason}); fetch it again") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError):
        raise UserError(f"{path}: not a zip or tar archive, or a damaged one; fetch it again") from None


def content_digest(path: Path) -> str:
    """SHA-256 over names (without the top folder) and contents of an archive's files; "none" where it is no archive.

    The same for every packing of the same files: a host that makes archives of a commit packs it anew when it likes,
    under a top folder of its own or none. Files that begin with a dot are the host's business and do not count.
    """
    listed = {}
    try:
        for name, content in members(path):
            below = name.partition("/")[2] or name
            if not below.startswith("."):
                listed[below] = hashlib.sha256(content).hexdigest()
    except UserError:
        return "none"
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(listed.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
