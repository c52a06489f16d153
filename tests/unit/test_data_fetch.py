"""Fetching: mirror, download with resume and retry, stand-in. Everything stays on the loopback interface."""

import errno
import hashlib
import io
import json
import re
import shutil
import socket
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from memorization.data import archives, download
from memorization.data.fetch import Provenance, fetch
from memorization.errors import UserError

TEXTS = {
    "a.train.txt": b" one two three \n" * 20_000,
    "a.valid.txt": b" two \n" * 50,
    "a.test.txt": b" three \n" * 50,
}
CLOSED = "http://127.0.0.1:9"


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """No proxy, and an error instead of any connection that leaves the machine."""
    monkeypatch.setenv("NO_PROXY", "*")
    real = socket.getaddrinfo

    def guarded(host, *args, **kwargs):
        if host not in {"127.0.0.1", "nowhere.invalid"}:
            raise AssertionError(f"test tried to reach {host}")
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)


@pytest.fixture
def no_waiting(monkeypatch):
    """The waits between retries, recorded and not waited."""
    pooch = pytest.importorskip("pooch")
    waits = []
    monkeypatch.setattr(pooch.core.time, "sleep", waits.append)
    return waits


class Server:
    """Serves `files` (path -> bytes). `faults`: path -> list of responses to misbehave with first."""

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, handler):
        self.requests.append((handler.path, handler.headers.get("Range")))
        fault = next(iter(self.faults.get(handler.path, [])), None)
        if fault is not None:
            self.faults[handler.path].pop(0)
        content = self.files.get(handler.path)
        if isinstance(fault, int) or content is None:
            handler.send_error(fault or 404)
            return
        first = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(first[1]) if first and fault != "whole" else 0
        if start >= len(content) > 0:
            handler.send_error(416)
            return
        body = content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    server.files = {f"/{name}": content for name, content in TEXTS.items()}
    yield server
    server.close()


@pytest.fixture
def place(tmp_path):
    """Call fetch for data set `a` with the given sources per file name; keyword arguments go through."""

    def call(sources, **options):
        checksum = options.pop("checksum", lambda content: {"sha256": digest(content)})
        entry = {
            "title": "Three words",
            "licence": "none",
            "citation": "nobody",
            "homepage": "http://127.0.0.1/",
            "standin": options.pop("standin", "text"),
            "roles": {"train": "a.train.txt", "validation": "a.valid.txt", "test": "a.test.txt"},
            "files": {
                name: {**checksum(content), "bytes": len(content), "sources": sources(name)}
                for name, content in TEXTS.items()
            },
        }
        registry = tmp_path / "datasets.yaml"
        registry.write_text(yaml.safe_dump({"a": entry}, sort_keys=False), encoding="utf-8")
        defaults = {"on_missing": "error", "mirror": None, "cache": tmp_path / "cache"}
        return fetch("a", tmp_path / "out", registry_path=registry, **(defaults | options))

    return call


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    (folder / "a").mkdir(parents=True)
    for name, content in TEXTS.items():
        (folder / "a" / name).write_bytes(content)
    return folder


def closed(name):
    return [{"url": f"{CLOSED}/{name}"}]


def placed(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix == ".txt"}


# Mirror


def test_mirror_comes_first(place, mirror, tmp_path):
    provenance = place(closed, mirror=mirror)
    assert placed(tmp_path) == TEXTS
    assert provenance.source == "mirror"
    assert not provenance.is_standin
    assert provenance.files["a.test.txt"].model_dump() == {
        "sha256": digest(TEXTS["a.test.txt"]),
        "bytes": len(TEXTS["a.test.txt"]),
        "url": "mirror",
    }


def test_provenance_is_written_and_holds_no_path(place, mirror, tmp_path):
    provenance = place(closed, mirror=mirror)
    text = (tmp_path / "out" / "provenance.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["dataset"] == "a"
    assert Provenance.read(tmp_path / "out") == provenance


def test_placed_files_are_no_links_into_the_mirror(place, mirror, tmp_path):
    place(closed, mirror=mirror)
    (tmp_path / "out" / "a.test.txt").write_bytes(b"changed")
    assert (mirror / "a" / "a.test.txt").read_bytes() == TEXTS["a.test.txt"]


def test_truncated_mirror_file_is_an_error_even_where_a_standin_is_allowed(place, mirror, tmp_path):
    content = TEXTS["a.train.txt"][:1000]
    (mirror / "a" / "a.train.txt").write_bytes(content)
    with pytest.raises(UserError, match="truncated") as caught:
        place(closed, mirror=mirror, on_missing="standin")
    text = str(caught.value)
    for part in ("a.train.txt", digest(content), digest(TEXTS["a.train.txt"]), "1000 bytes", "320000 bytes"):
        assert part in text
    assert "\n" not in text
    assert not (tmp_path / "out").exists()


def test_wrong_checksum_of_the_same_size_does_not_claim_truncation(place, mirror):
    (mirror / "a" / "a.test.txt").write_bytes(TEXTS["a.test.txt"].replace(b"three", b"eerht"))
    with pytest.raises(UserError, match="registry expects") as caught:
        place(closed, mirror=mirror)
    assert "truncated" not in str(caught.value)


def test_trusted_mirror_file_is_used_and_said_so(place, mirror, tmp_path):
    (mirror / "a" / "a.test.txt").write_bytes(b" other \n")
    provenance = place(closed, mirror=mirror, trusted=True)
    assert provenance.source == "local copy, checksum differs"
    assert "a.test.txt" in provenance.note
    assert provenance.files["a.test.txt"].sha256 == digest(b" other \n")
    assert placed(tmp_path)["a.test.txt"] == b" other \n"


def test_trusted_says_nothing_where_checksums_agree(place, mirror):
    assert place(closed, mirror=mirror, trusted=True).source == "mirror"


def test_mirror_folder_that_does_not_exist_is_an_error(place, tmp_path):
    with pytest.raises(UserError, match=r"MEMORIZATION_DATA.*does not exist"):
        place(closed, mirror=tmp_path / "typo", on_missing="standin")


def test_disk_full_is_one_line(place, mirror, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match="the disk is full or its quota used up: free some space") as caught:
        place(closed, mirror=mirror)
    assert "\n" not in str(caught.value)


def test_a_cache_on_a_full_disk_is_one_line(place, monkeypatch, tmp_path):
    def full(self, name, file):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "cache" / "x.part"))

    monkeypatch.setattr(download.Downloader, "get", full)
    with pytest.raises(UserError, match=r"read or write .*x\.part: No space left on device; free some space"):
        place(closed)


def test_a_mirror_file_that_may_not_be_read_is_named(place, mirror, monkeypatch):
    """Also where that is noticed only while it is copied."""

    def forbidden(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", str(source))

    monkeypatch.setattr(shutil, "copyfile", forbidden)
    with pytest.raises(UserError, match=r"cannot read or write \S*/mirror/a/a\.train\.txt: Permission denied; check"):
        place(closed, mirror=mirror)


# Stand-in


def test_offline_falls_through_to_the_standin_with_one_warning(place, tmp_path, caplog):
    pytest.importorskip("pooch")
    begin = time.monotonic()
    provenance = place(closed, on_missing="standin")
    assert time.monotonic() - begin < 10
    assert provenance.source == "standin"
    assert provenance.is_standin
    assert {record.url for record in provenance.files.values()} == {"standin"}
    assert "Python Software Foundation" in provenance.licence
    assert set(placed(tmp_path)) == set(TEXTS)
    assert len(caplog.records) == 1
    for part in ("STAND-IN", "Connection refused", "MEMORIZATION_DATA", "connect to the internet"):
        assert part in caplog.text


@pytest.mark.parametrize("options", [{"on_missing": "error"}, {"on_missing": "standin", "standin": None}])
def test_offline_without_a_standin_is_an_error(place, tmp_path, options):
    pytest.importorskip("pooch")
    with pytest.raises(UserError, match=r"cannot be had.*a\.train\.txt.*MEMORIZATION_DATA"):
        place(closed, **options)
    assert not (tmp_path / "out").exists()


def test_a_missing_name_service_is_noticed_at_once(place, tmp_path):
    pytest.importorskip("pooch")
    begin = time.monotonic()
    with pytest.raises(UserError, match="Name or service not known"):
        place(lambda name: [{"url": f"https://nowhere.invalid/{name}"}])
    assert time.monotonic() - begin < 5


def test_a_silent_host_is_given_up_after_the_connection_limit(monkeypatch):
    pytest.importorskip("requests")
    monkeypatch.setattr(download, "CONNECT_S", 0.1)
    given_up = threading.Event()

    def hang(*args, **kwargs):
        given_up.wait(5)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    begin = time.monotonic()
    assert "no answer" in download._unreachable("http://127.0.0.1/x")
    assert time.monotonic() - begin < 1
    given_up.set()


def test_one_file_in_the_mirror_is_not_mixed_with_standins(place, mirror, tmp_path):
    pytest.importorskip("pooch")
    (mirror / "a" / "a.test.txt").unlink()
    provenance = place(closed, mirror=mirror, on_missing="standin")
    assert {record.url for record in provenance.files.values()} == {"standin"}
    assert placed(tmp_path)["a.train.txt"] != TEXTS["a.train.txt"]


# Download


def test_download_checks_caches_and_records_the_address(place, server, tmp_path, no_waiting):
    provenance = place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert placed(tmp_path) == TEXTS
    assert provenance.source == "download"
    assert provenance.files["a.test.txt"].url == f"{server.url}/a.test.txt"
    assert len(server.requests) == 3
    place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert len(server.requests) == 3
    assert no_waiting == []


def test_download_fills_what_the_mirror_lacks(place, server, mirror, tmp_path, no_waiting):
    (mirror / "a" / "a.test.txt").unlink()
    provenance = place(lambda name: [{"url": f"{server.url}/{name}"}], mirror=mirror)
    assert placed(tmp_path) == TEXTS
    assert provenance.source == "download"
    assert [record.url == "mirror" for record in provenance.files.values()] == [True, True, False]


def test_second_address_is_used_when_the_first_is_closed_or_lacks_the_file(place, server, tmp_path, no_waiting):
    def sources(name):
        return [{"url": f"{base}/{name}"} for base in (CLOSED, f"{server.url}/none", server.url)]

    provenance = place(sources)
    assert placed(tmp_path) == TEXTS
    assert {record.url for record in provenance.files.values()} == {f"{server.url}/{name}" for name in TEXTS}
    assert no_waiting == []


def test_wrong_content_is_retried_then_left_for_the_next_address(place, server, tmp_path, no_waiting):
    server.files |= {f"/bad/{name}": b"<html>log in first</html>" for name in TEXTS}
    provenance = place(lambda name: [{"url": f"{server.url}/bad/{name}"}, {"url": f"{server.url}/{name}"}])
    assert placed(tmp_path) == TEXTS
    assert {record.url for record in provenance.files.values()} == {f"{server.url}/{name}" for name in TEXTS}
    assert [path for path, _ in server.requests].count("/bad/a.test.txt") == 1 + download.RETRIES


def test_wrong_content_everywhere_is_an_error_that_says_so(place, server, tmp_path, no_waiting):
    server.files = {f"/{name}": b"<html>log in first</html>" for name in TEXTS}
    with pytest.raises(UserError, match="wrong checksum"):
        place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert not (tmp_path / "out").exists()


def test_server_errors_are_retried_with_growing_waits(place, server, tmp_path, no_waiting):
    server.faults["/a.train.txt"] = [503, 500]
    place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert placed(tmp_path) == TEXTS
    assert no_waiting == [1, 2]


def test_broken_transfer_is_resumed(place, server, tmp_path, no_waiting):
    server.faults["/a.train.txt"] = ["cut"]
    place(lambda name: [{"url": f"{server.url}/{name}"}])
    ranges = [asked for path, asked in server.requests if path == "/a.train.txt"]
    assert ranges[0] is None
    # What is kept are whole chunks of 64 KiB.
    assert ranges[1:] == [f"bytes={len(TEXTS['a.train.txt']) // 2 // (1 << 16) * (1 << 16)}-"]
    assert placed(tmp_path) == TEXTS


def partial(tmp_path, content):
    """What an interrupted run left in the cache of the training file."""
    checksum = digest(TEXTS["a.train.txt"])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{checksum[:12]}-a.train.txt.part").write_bytes(content)


def test_partial_file_of_an_earlier_run_is_continued(place, server, tmp_path, no_waiting):
    partial(tmp_path, TEXTS["a.train.txt"][:70_000])
    place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert server.requests[0] == ("/a.train.txt", "bytes=70000-")
    assert placed(tmp_path) == TEXTS


def test_server_without_ranges_starts_again(place, server, tmp_path, no_waiting):
    partial(tmp_path, TEXTS["a.train.txt"][:70_000])
    server.faults["/a.train.txt"] = ["whole"]
    place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert len([path for path, _ in server.requests if path == "/a.train.txt"]) == 1
    assert placed(tmp_path) == TEXTS


@pytest.mark.parametrize("left", [TEXTS["a.train.txt"], b"rubbish" * 10, b"x" * 400_000])
def test_useless_partial_file_does_not_stop_a_download(place, server, tmp_path, no_waiting, left):
    partial(tmp_path, left)
    place(lambda name: [{"url": f"{server.url}/{name}"}])
    assert placed(tmp_path) == TEXTS


def archive(kind):
    """All texts as a zip or a tar.gz, under d/."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as box:
            for name, content in TEXTS.items():
                box.writestr(f"d/{name}", content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as box:
            for name, content in TEXTS.items():
                info = tarfile.TarInfo(f"d/{name}")
                info.size = len(content)
                box.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_archive_is_downloaded_once_and_its_members_checked(place, server, tmp_path, no_waiting, kind):
    content = archive(kind)
    server.files = {f"/all.{kind}": content}
    url = f"{server.url}/all.{kind}"
    provenance = place(lambda name: [{"url": url, "sha256": digest(content), "member": f"d/{name}"}])
    assert placed(tmp_path) == TEXTS
    assert {record.url for record in provenance.files.values()} == {url}
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["zip", "tgz"])
@pytest.mark.parametrize(("member", "message"), [("d/none", "does not hold"), ("d/a.valid.txt", "has sha256")])
def test_wrong_member_is_an_error(place, server, no_waiting, kind, member, message):
    content = archive(kind)
    server.files = {f"/all.{kind}": content}
    source = {"url": f"{server.url}/all.{kind}", "sha256": digest(content), "member": member}
    with pytest.raises(UserError, match=message):
        place(lambda name: [source])


def git_blob(content):
    """By git's own rule, written independently of download.py."""
    return hashlib.sha1(f"blob {len(content)}".encode() + b"\x00" + content).hexdigest()


def test_git_blob_is_what_git_calls_the_content(tmp_path):
    path = tmp_path / "file"
    # The ids of `printf '' | git hash-object --stdin` and of `printf 'test content\n' | ...` (the book Pro Git).
    for content, known in (
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        (b"test content\n", "d670460b4b4aece5915caf5c68d12f560a9fe3e4"),
    ):
        path.write_bytes(content)
        assert download.git_blob(path) == git_blob(content) == known
        assert download.matches(path, f"gitblob:{known}")
    assert not download.matches(path, f"gitblob:{'0' * 40}")


def test_a_file_known_by_its_git_blob_is_downloaded_once(place, server, tmp_path, no_waiting):
    blobs = {"checksum": lambda content: {"gitblob": git_blob(content)}}
    place(lambda name: [{"url": f"{server.url}/{name}"}], **blobs)
    assert placed(tmp_path) == TEXTS
    asked = len(server.requests)
    place(lambda name: [{"url": f"{server.url}/{name}"}], **blobs)
    assert len(server.requests) == asked == len(TEXTS)
    spoilt = next(path for path in (tmp_path / "cache").iterdir() if path.name.endswith("a.test.txt"))
    spoilt.write_bytes(b"spoilt")
    place(lambda name: [{"url": f"{server.url}/{name}"}], **blobs)
    assert placed(tmp_path) == TEXTS


def test_a_wrong_git_blob_is_tried_again_and_then_an_error(place, server, no_waiting):
    wrong = {"checksum": lambda content: {"gitblob": "0" * 40}}
    with pytest.raises(UserError, match=r"wrong checksum \(it is gitblob:[0-9a-f]{40}, not gitblob:0{40}\)"):
        place(lambda name: [{"url": f"{server.url}/{name}"}], **wrong)
    assert no_waiting == [1, 2]


def test_members_of_an_archive_known_by_its_git_blob_need_no_checksum(place, server, tmp_path, no_waiting):
    content = archive("tgz")
    server.files = {"/all.tgz": content}
    url, blob = f"{server.url}/all.tgz", git_blob(content)
    unknown = {"checksum": lambda content: {}}
    provenance = place(lambda name: [{"url": url, "gitblob": blob, "member": f"d/{name}"}], **unknown)
    assert placed(tmp_path) == TEXTS
    assert provenance.files["a.test.txt"].sha256 == digest(TEXTS["a.test.txt"])
    assert len(server.requests) == 1
    with pytest.raises(UserError, match="wrong checksum"):
        place(lambda name: [{"url": url, "gitblob": "1" * 40, "member": f"d/{name}"}], **unknown)


def test_a_mirror_file_without_a_checksum_must_be_trusted(place, mirror, tmp_path):
    def sources(name):
        return [{"url": f"{CLOSED}/all.tgz", "gitblob": "1" * 40, "member": name}]

    unknown = {"checksum": lambda content: {}, "mirror": mirror}
    with pytest.raises(UserError, match="knows no checksum of this file, only of the archive"):
        place(sources, **unknown)
    provenance = place(sources, trusted=True, **unknown)
    assert provenance.source == "local copy, checksum differs"
    assert placed(tmp_path) == TEXTS


def test_a_plain_file_needs_a_checksum_and_only_one(place):
    with pytest.raises(UserError, match="needs a checksum"):
        place(closed, checksum=lambda content: {})
    with pytest.raises(UserError, match="give one checksum"):
        place(closed, checksum=lambda content: {"sha256": digest(content), "gitblob": git_blob(content)})


def test_data_layer_imports_without_pooch():
    """The back ends' environments do not have it: it may be imported only inside functions."""
    for module in ("download", "fetch", "registry", "corpora", "standins"):
        source = (Path(download.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert not re.search(r"^(import|from) (pooch|requests)", source, re.MULTILINE)


def test_an_archive_that_its_host_packs_anew_is_checked_by_what_it_holds(place, server, tmp_path, no_waiting):
    """Data set `a` whose files are archives themselves: here all three the same one."""
    packed = tmp_path / "packed.tgz"
    packed.write_bytes(archive("tgz"))
    server.files = {"/all.zip": archive("zip"), "/bad.zip": b"no archive"}
    holds = archives.content_digest(packed)
    good = {"url": f"{server.url}/all.zip", "content": holds}
    provenance = place(lambda name: [{"url": f"{server.url}/bad.zip", "content": holds}, good])
    assert {record.url for record in provenance.files.values()} == {good["url"]}
    with pytest.raises(UserError, match="wrong checksum"):
        place(lambda name: [{"url": f"{server.url}/all.zip", "content": "0" * 64}], cache=tmp_path / "fresh")
