import functools
import hashlib
import multiprocessing
import os
import pickle
import threading
import uuid
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from neural_photo_editor.data import storage as storage_module
from neural_photo_editor.data.shard_cache import ShardCache
from neural_photo_editor.data.storage import ShardStorage, StorageError


def _content(number: int, size: int = 1000) -> bytes:
    return np.random.default_rng(number).bytes(size)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[ShardStorage]:
    url = f"memory://{uuid.uuid4().hex}/shards"
    storage = ShardStorage(url, cache_dir=tmp_path / "cache", cache_bytes=3000, retry_wait_s=0.0)
    yield storage
    storage._connection = None
    for name in storage.names():
        storage.remove(name)


def _put(storage: ShardStorage, name: str, content: bytes, folder: Path) -> str:
    (folder / "upload").write_bytes(content)
    storage.write(name, folder / "upload")
    return _digest(content)


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_what_was_written_is_there(kind: str, tmp_path: Path, remote: ShardStorage) -> None:
    storage = {
        "folder": ShardStorage(tmp_path / "a" / "b"),
        "file": ShardStorage(f"file://{tmp_path}/a/b"),
        "memory": remote,
    }[kind]
    assert storage.names() == []
    assert not storage.exists("x.tar")
    with pytest.raises(FileNotFoundError):
        storage.read("x.tar")
    for content in (b"old", b"newer"):
        digest = _put(storage, "x.tar", content, tmp_path)
        assert storage.read("x.tar") == content
        assert (storage.exists("x.tar"), storage.size("x.tar")) == (True, len(content))
        path = storage.local("x.tar", size=len(content), sha256=digest)
        assert path.read_bytes() == content
    _put(storage, "a.json", b"{}", tmp_path)
    assert storage.names() == ["a.json", "x.tar"]
    for _ in range(2):
        storage.remove("x.tar")
    assert storage.names() == ["a.json"]
    assert str(storage).endswith(("a/b", "/shards"))


@pytest.mark.parametrize(
    "url",
    ["pipe:cat x", "simplecache::s3://bucket/x", "ssh://host/x", "s3://a::zip://b", "tar://x"],
)
def test_protocols_outside_the_list_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="s3, gs"):
        ShardStorage(url)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x\n"])
def test_names_with_folders_are_refused(name: str, tmp_path: Path, remote: ShardStorage) -> None:
    (tmp_path / "upload").write_bytes(b"x")
    for storage in (remote, ShardStorage(tmp_path / "a")):
        with pytest.raises(ValueError, match="not a plain file name"):
            storage.write(name, tmp_path / "upload")
        with pytest.raises(ValueError, match="not a plain file name"):
            storage.read(name)


def test_a_local_shard_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"123")
    storage = ShardStorage(tmp_path)
    assert storage.local("x.tar", size=3, sha256="0" * 64) == tmp_path / "x.tar"
    with pytest.raises(ValueError, match=r"x\.tar has 3 bytes, the manifest lists 4"):
        storage.local("x.tar", size=4, sha256="0" * 64)
    with pytest.raises(ValueError, match=r"y\.tar is missing"):
        storage.local("y.tar", size=4, sha256="0" * 64)


def test_a_remote_shard_is_fetched_once_and_checked(tmp_path: Path, remote: ShardStorage) -> None:
    digest = _put(remote, "x.tar", _content(1), tmp_path)
    path = remote.local("x.tar", size=1000, sha256=digest)
    remote.remove("x.tar")
    (tmp_path / "cache" / "others.tar").write_bytes(bytes(5000))  # Neither counted nor dropped.
    assert remote.local("x.tar", size=1000, sha256=digest) == path
    with pytest.raises(ValueError, match=r"memory://.*/shards/y\.tar is missing"):
        remote.local("y.tar", size=1000, sha256="0" * 64)
    _put(remote, "z.tar", _content(2), tmp_path)
    with pytest.raises(ValueError, match=r"z\.tar: it has other bytes than the manifest lists"):
        remote.local("z.tar", size=1000, sha256=digest[::-1])
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {
        "cache.lock",
        "others.tar",
        f"{digest}.tar",
    }


def test_the_least_recently_used_goes_and_open_files_stay_readable(
    tmp_path: Path, remote: ShardStorage
) -> None:
    contents = {f"{number}.tar": _content(number) for number in range(5)}
    for name, content in contents.items():
        _put(remote, name, content, tmp_path)
    assert remote.cache is not None

    def fetch(name: str) -> Path:
        return remote.local(name, size=1000, sha256=_digest(contents[name]))

    paths = [fetch(f"{number}.tar") for number in range(3)]
    file = remote.open("1.tar", size=1000, sha256=_digest(contents["1.tar"]))
    fetch("0.tar")
    fetch("2.tar")
    fetch("3.tar")  # 1 was used longest ago.
    assert [path.exists() for path in paths] == [True, False, True]
    fetch("4.tar")
    assert [path.exists() for path in paths] == [False, False, True]
    assert remote.cache.used_bytes() == 3000
    assert os.pread(file, 1000, 0) == contents["1.tar"]
    os.close(file)


def test_a_shard_larger_than_the_cache_is_refused(tmp_path: Path, remote: ShardStorage) -> None:
    digest = _put(remote, "x.tar", _content(1, 3001), tmp_path)
    with pytest.raises(ValueError, match=r"x\.tar: a shard of 3001 bytes .* raise cache_bytes"):
        remote.local("x.tar", size=3001, sha256=digest)
    with pytest.raises(ValueError, match="cache_bytes must be at least 1"):
        ShardStorage("memory://x", cache_dir=tmp_path, cache_bytes=0)


class _Flaky:
    """A file system's `cat_file` that fails, or sends too little, as often as told."""

    def __init__(self, content: bytes, faults: list[str]) -> None:
        self.content = content
        self.faults = faults
        self.ranges: list[tuple[int, int]] = []

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        self.ranges.append((start, end))
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "error":
            raise TimeoutError("no answer")
        data = self.content[start:end]
        return data[:7] if fault == "short" else data


def _flaky(remote: ShardStorage, content: bytes, faults: list[str]) -> _Flaky:
    fs = _Flaky(content, faults)
    remote._connection = os.getpid(), fs
    return fs


def test_interrupted_blocks_are_repeated_and_no_others(
    remote: ShardStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_BLOCK_BYTES", 400)
    content = _content(1)
    fs = _flaky(remote, content, ["", "error", "short", "error", ""])
    path = remote.local("x.tar", size=1000, sha256=_digest(content))
    assert path.read_bytes() == content
    assert fs.ranges == [(0, 400)] + 4 * [(400, 800)] + [(800, 1000)]


def test_what_arrived_before_giving_up_is_continued(
    remote: ShardStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_BLOCK_BYTES", 400)
    content = _content(1)
    _flaky(remote, content, ["", *["error"] * 6])
    with pytest.raises(StorageError, match=r"x\.tar failed 6 times, last with TimeoutError"):
        remote.local("x.tar", size=1000, sha256=_digest(content))
    fs = _flaky(remote, content, [])
    assert remote.local("x.tar", size=1000, sha256=_digest(content)).read_bytes() == content
    assert fs.ranges == [(400, 800), (800, 1000)]


def test_a_first_part_of_another_object_is_fetched_again(
    remote: ShardStorage, tmp_path: Path
) -> None:
    content = _content(1)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{_digest(content)}.1000.part").write_bytes(b"x" * 300)
    fs = _flaky(remote, content, [])
    assert remote.local("x.tar", size=1000, sha256=_digest(content)).read_bytes() == content
    assert fs.ranges == [(300, 1000), (0, 1000)]


def test_abandoned_parts_make_room_and_parts_in_work_do_not(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, max_bytes=1000)
    contents = [_content(number, 600) for number in range(2)]
    names = [f"{_digest(content)}.600.part" for content in contents]

    def fetch_second(file: Path) -> None:
        assert (tmp_path / names[0]).exists()
        file.write_bytes(contents[1])

    def fetch_first(file: Path) -> None:
        cache.get(_digest(contents[1]), size=600, fetch=fetch_second)
        file.write_bytes(contents[0])

    cache.get(_digest(contents[0]), size=600, fetch=fetch_first)
    (tmp_path / names[0]).write_bytes(b"abandoned")
    assert cache.used_bytes() == 1209
    other = _content(7, 600)
    cache.get(_digest(other), size=600, fetch=lambda file: file.write_bytes(other) and None)
    assert cache.used_bytes() == 600


def _get_in_process(folder: Path, content: bytes, barrier: object, calls: Path) -> None:
    def fetch(file: Path) -> None:
        with calls.open("a") as out:
            out.write(f"{os.getpid()}\n")
        file.write_bytes(content)

    barrier.wait()  # type: ignore[attr-defined]
    path = ShardCache(folder, max_bytes=2000).get(_digest(content), size=1000, fetch=fetch)
    assert path.read_bytes() == content


def test_processes_that_want_the_same_shard_fetch_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    arguments = (tmp_path / "cache", _content(1), barrier, tmp_path / "calls")
    processes = [context.Process(target=_get_in_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((tmp_path / "calls").read_text().split()) == 1


def test_a_storage_can_be_sent_to_another_process(remote: ShardStorage, tmp_path: Path) -> None:
    _put(remote, "x.tar", b"123", tmp_path)
    assert pickle.loads(pickle.dumps(remote)).read("x.tar") == b"123"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web_folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its URL on a web server that knows no ranges."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_web_server_can_be_read_and_not_written(
    web_folder: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_BLOCK_BYTES", 400)
    folder, url = web_folder
    content = _content(1)
    (folder / "x.tar").write_bytes(content)
    storage = ShardStorage(url, cache_dir=tmp_path / "cache", retry_wait_s=0.0)
    assert storage.read("x.tar") == content
    assert (storage.exists("x.tar"), storage.exists("y.tar")) == (True, False)
    path = storage.local("x.tar", size=1000, sha256=_digest(content))
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match=r"y\.tar is missing"):
        storage.local("y.tar", size=1000, sha256="0" * 64)
    with pytest.raises(ValueError, match="cannot be written: http only reads"):
        storage.write("z.tar", folder / "x.tar")
