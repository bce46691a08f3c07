"""Shards on a real S3 server: written, streamed through a small cache, over a bad network."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
import s3fs
from PIL import Image

from neural_photo_editor.common.fingerprint import sha256_bytes
from neural_photo_editor.data import storage as storage_module
from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_order import shard_windows
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.storage import ShardStorage, StorageError
from tests.integration.faulty_proxy import FaultyProxy

pytestmark = pytest.mark.slow

NUM_SHARDS = 10


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
        server.kill()


def _use_port(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Point S3 clients to a port; a connection that exists would go on with its own."""
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(server_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket's name."""
    _use_port(monkeypatch, server_port)
    bucket = f"b{time.time_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return bucket


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photos of noise in 10 shards of about 40 kB."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(60):
        photo = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / "photos" / f"{number}.png")
    source = ImageFolder(folder=folder / "photos")
    manifest = write_shards(
        source, out_dir=folder / "shards", name="test", samples_per_shard=6, val_fraction=0.0
    )
    assert len(manifest.shards) == NUM_SHARDS
    return folder / "shards"


def _upload(folder: Path, bucket: str) -> str:
    storage = ShardStorage(f"s3://{bucket}/data/faces")
    for path in sorted(folder.iterdir()):
        storage.write(path.name, path)
    assert storage.names() == sorted(path.name for path in folder.iterdir())
    return str(storage)


def _stream(url: str | Path, *, cache: Path, cache_bytes: int, **options: int) -> ShardDataModule:
    module = ShardDataModule(
        shards=url,
        batch_size=4,
        resolution=16,
        crop_size=32,
        require_labels=False,
        shuffle_shards=2,
        cache_dir=cache,
        cache_bytes=cache_bytes,
        **options,
    )
    module.setup("fit")
    return module


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_cache_smaller_than_the_data_streams_what_a_folder_streams(
    shards: Path, s3: str, tmp_path: Path, num_workers: int
) -> None:
    sizes = sorted((path.stat().st_size for path in shards.glob("*.tar")), reverse=True)
    cache_bytes = sum(sizes[:5])
    remote = _stream(
        _upload(shards, s3), cache=tmp_path, cache_bytes=cache_bytes, num_workers=num_workers
    )
    local = _stream(shards, cache=tmp_path, cache_bytes=1)
    cache = remote.storage.cache
    assert cache is not None
    fetched: set[str] = set()
    loaders = remote.train_dataloader(), local.train_dataloader()
    for epoch in range(2):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for one, two in zip(*loaders, strict=True):
            assert one["sample_id"].tolist() == two["sample_id"].tolist()
            assert one["image"].equal(two["image"])
            assert cache.used_bytes() <= cache_bytes
            fetched |= {path.name for path in tmp_path.glob("*.tar")}
    assert len(fetched) == NUM_SHARDS


def test_resuming_fetches_the_shards_of_one_window(shards: Path, s3: str, tmp_path: Path) -> None:
    module = _stream(_upload(shards, s3), cache=tmp_path, cache_bytes=10**9)
    loader = module.train_dataloader()
    assert not list(tmp_path.glob("*.tar"))
    loader.sampler.set_epoch(1, first_step=7)  # type: ignore[attr-defined]
    next(iter(loader))
    # A batch of 4 at sample 28: it lies within the third window of two shards of 6, and the
    # fourth may have been fetched ahead.
    windows = shard_windows(NUM_SHARDS, seed=0, epoch=1, shuffle_shards=2)
    assert _cached(tmp_path, module) <= {*windows[2], *windows[3]}


def _cached(folder: Path, module: ShardDataModule) -> set[int]:
    digests = {path.stem for path in folder.glob("*.tar")}
    return {
        number for number, shard in enumerate(module.manifest.shards) if shard.sha256 in digests
    }


def test_the_next_window_is_fetched_while_one_is_read(
    shards: Path, s3: str, tmp_path: Path
) -> None:
    module = _stream(_upload(shards, s3), cache=tmp_path, cache_bytes=10**9)
    windows = shard_windows(NUM_SHARDS, seed=0, epoch=0, shuffle_shards=2)
    batches = iter(module.train_dataloader())
    next(batches)  # The first of the first window's 3; nothing reads ahead without workers.
    deadline = time.monotonic() + 60
    while not {*windows[1]} <= _cached(tmp_path, module):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert _cached(tmp_path, module) <= {*windows[0], *windows[1]}
    batches.close()  # type: ignore[attr-defined]


def test_transfers_that_are_cut_again_and_again_arrive_whole(
    s3: str, server_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection lives for more than 100 kB, a twentieth of the shard."""
    monkeypatch.setattr(storage_module, "_BLOCK_BYTES", 64 * 1024)
    content = np.random.default_rng(0).bytes(2_000_000)
    (tmp_path / "upload").write_bytes(content)
    ShardStorage(f"s3://{s3}/x").write("a.tar", tmp_path / "upload")
    with FaultyProxy(server_port) as proxy:
        proxy.cut_after = 100_000
        _use_port(monkeypatch, proxy.port)
        storage = ShardStorage(f"s3://{s3}/x", cache_dir=tmp_path / "cache", retry_wait_s=0.01)
        path = storage.local("a.tar", size=len(content), sha256=sha256_bytes(content))
        assert path.read_bytes() == content
        assert len(content) < proxy.sent < 3 * len(content)


_FETCH = """
import sys
from pathlib import Path
from neural_photo_editor.data import storage
storage._BLOCK_BYTES = 64 * 1024
url, cache, size, sha256 = sys.argv[1:]
storage.ShardStorage(url, cache_dir=Path(cache)).local("a.tar", size=int(size), sha256=sha256)
"""


def test_a_killed_transfer_is_continued(
    s3: str, server_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.random.default_rng(1).bytes(2_000_000)
    (tmp_path / "upload").write_bytes(content)
    url, digest = f"s3://{s3}/x", sha256_bytes(content)
    ShardStorage(url).write("a.tar", tmp_path / "upload")
    with FaultyProxy(server_port) as proxy:
        proxy.stop_after = 1_000_000
        _use_port(monkeypatch, proxy.port)
        arguments = [url, str(tmp_path / "cache"), str(len(content)), digest]
        with subprocess.Popen([sys.executable, "-c", _FETCH, *arguments]) as process:
            assert proxy.stalled.wait(60)
            process.send_signal(signal.SIGKILL)
    (part,) = (tmp_path / "cache").glob("*.part")
    have = part.stat().st_size
    assert have > 500_000
    with FaultyProxy(server_port) as proxy:
        _use_port(monkeypatch, proxy.port)
        storage = ShardStorage(url, cache_dir=tmp_path / "cache")
        path = storage.local("a.tar", size=len(content), sha256=digest)
        assert path.read_bytes() == content
        assert len(content) - have <= proxy.sent < len(content) - have + 100_000


def test_missing_and_other_shards_are_named_and_an_unreachable_store_is_no_damage(
    shards: Path, s3: str, server_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = _upload(shards, s3)
    boto3.client("s3").delete_object(Bucket=s3, Key="data/faces/train-000000.tar")
    other = bytes((shards / "train-000001.tar").stat().st_size)
    boto3.client("s3").put_object(Bucket=s3, Key="data/faces/train-000001.tar", Body=other)
    storage = ShardStorage(url, cache_dir=tmp_path, retries=1, retry_wait_s=0.0)
    reader = ShardReader(storage)
    firsts = range(0, 60, 6)
    with pytest.raises(CorruptSampleError, match=r"s3://.*/train-000000\.tar is missing"):
        reader.read(firsts[0])
    with pytest.raises(CorruptSampleError, match=r"train-000001\.tar: it has other bytes"):
        reader.read(firsts[1])
    reader.read(firsts[2])
    with FaultyProxy(server_port) as proxy:
        proxy.cut_after = 0
        _use_port(monkeypatch, proxy.port)
        storage._connection = None
        with pytest.raises(StorageError, match=r"train-000003\.tar failed 2 times, last with"):
            reader.read(firsts[3])
