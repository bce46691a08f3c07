import io
import tarfile
from pathlib import Path

import pytest

from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_verification import find_problems, verify
from neural_photo_editor.data.storage import ShardStorage


def _problems(folder: Path) -> list[str]:
    return list(find_problems(ShardStorage(folder), ShardManifest.load(folder)))


def test_shards_as_written_have_no_problem(shards: Path) -> None:
    assert verify(shards) == ShardManifest.load(shards)
    assert _problems(shards) == []


def test_one_changed_byte_of_a_photo_is_found_and_named(shards: Path) -> None:
    path = shards / "train-000001.tar"
    with tarfile.open(path) as tar:
        photo = tar.getmembers()[3]
    data = bytearray(path.read_bytes())
    data[photo.offset_data + 60] ^= 1
    path.write_bytes(data)
    digest, member = _problems(shards)
    assert "train-000001.tar has other bytes than the manifest lists: copy it again" in digest
    assert f"train-000001.tar, member {photo.name} has another digest" in member
    with pytest.raises(ValueError, match=r"train-000001\.tar has other bytes"):
        verify(shards)


def test_missing_cut_off_and_stray_shards_are_all_reported(shards: Path) -> None:
    val, train = shards / "val-000000.tar", shards / "train-000000.tar"
    size = val.stat().st_size
    val.write_bytes(val.read_bytes()[:-512])
    train.rename(shards / "train-000099.tar")
    missing, cut_off, stray = _problems(shards)
    assert "train-000000.tar is missing" in missing
    assert f"val-000000.tar has {size - 512} bytes, the manifest lists {size}" in cut_off
    assert "train-000099.tar is not in the manifest: remove it" in stray


def _rewrite(folder: Path, file: str, *, drop: str = "", content: bytes | None = None) -> None:
    """Write a tar anew without a member, or with another content of its first photo.

    The manifest is made to list the new bytes, as if the writer had been wrong.
    """
    path = folder / file
    with tarfile.open(path) as tar:
        members = [(m, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (member, data) in enumerate(members):
            if member.name != drop:
                data = content if content is not None and number == 0 else data
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    manifest = ShardManifest.load(folder)
    update = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    new = [s.model_copy(update=update if s.file == file else {}) for s in manifest.shards]
    manifest.model_copy(update={"shards": tuple(new)}).save(folder)


def test_the_samples_are_counted_even_where_the_digest_fits(shards: Path) -> None:
    key = ShardManifest.load(shards).shards[0].keys[1]
    _rewrite(shards, "train-000000.tar", drop=f"{key}.labels.png")
    (problem,) = _problems(shards)
    assert f"train-000000.tar, 17 members instead of 18: {key}.labels.png" in problem


def test_a_photo_is_compared_with_the_digest_beside_it(shards: Path) -> None:
    _rewrite(shards, "train-000000.tar", content=b"another photo")
    (problem,) = _problems(shards)
    key = ShardManifest.load(shards).shards[0].keys[0]
    assert f"member {key}.png has another digest than {key}.json states" in problem


def test_what_is_no_tar_is_a_problem_and_not_a_crash(shards: Path) -> None:
    path = shards / "train-000000.tar"
    path.write_bytes(b"x" * path.stat().st_size)
    digest, content = _problems(shards)
    assert "has other bytes" in digest
    assert "cannot be read" in content


def test_remote_shards_are_checked(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    storage = ShardStorage(f"memory://{tmp_path.name}/verified", retries=0)
    for path in shards.iterdir():
        storage.write(path.name, path)
    assert verify(storage) == ShardManifest.load(shards)
    storage.remove("val-000000.tar")
    data = bytearray((shards / "train-000000.tar").read_bytes())
    data[1000] ^= 1
    (tmp_path / "changed").write_bytes(data)
    storage.write("train-000000.tar", tmp_path / "changed")
    # What is in the cache already has the right bytes, whatever the store holds now.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    storage = ShardStorage(str(storage), retries=0)
    changed, missing = find_problems(storage, ShardManifest.load(storage))
    assert "train-000000.tar" in changed
    assert "val-000000.tar is missing" in missing
