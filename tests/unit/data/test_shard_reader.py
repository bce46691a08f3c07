import io
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.data.image_folder import ImageFolder
from neural_photo_editor.data.shard_manifest import ImageFormat, ShardManifest
from neural_photo_editor.data.shard_reader import CorruptSampleError, ShardReader
from neural_photo_editor.data.shard_writer import write_shards


def _overwrite(path: Path, member: str, *, start: int, data: bytes) -> None:
    with tarfile.open(path) as tar:
        offset = tar.getmember(member).offset_data
    with path.open("r+b") as file:
        file.seek(offset + start)
        file.write(data)


def test_reads_what_tarfile_and_pillow_read(shards: Path) -> None:
    reader = ShardReader(shards)
    assert len(reader) == 23
    sample_id = 0
    for shard in reader.manifest.shards:
        with tarfile.open(shards / shard.file) as tar:
            for key in shard.keys:
                photo, labels = reader.read(sample_id)
                assert reader.key(sample_id) == key
                for name, array in ((f"{key}.png", photo), (f"{key}.labels.png", labels)):
                    with Image.open(tar.extractfile(name)) as image:  # type: ignore[arg-type]
                        np.testing.assert_array_equal(array, np.array(image))
                sample_id += 1


def test_jpeg_pixels_equal_pillows(labeled_photos: ImageFolder, tmp_path: Path) -> None:
    manifest = write_shards(labeled_photos, out_dir=tmp_path, name="test", val_fraction=0.0)
    photo, _ = ShardReader(tmp_path).read(4)
    with tarfile.open(tmp_path / manifest.shards[0].file) as tar:
        data = tar.extractfile("04.jpg").read()  # type: ignore[union-attr]
    with Image.open(io.BytesIO(data)) as image:
        # Two builds of libjpeg-turbo may round differently.
        assert np.abs(photo.astype(int) - np.array(image)).max() <= 2


def test_sample_ids_are_positions_in_the_manifest(shards: Path) -> None:
    reader = ShardReader(shards)
    train, val = reader.sample_ids("train"), reader.sample_ids("val")
    assert train.dtype == np.int64
    np.testing.assert_array_equal(np.concatenate((train, val)), np.arange(23))
    manifest = ShardManifest.load(shards)
    assert [reader.key(i) for i in val.tolist()] == [
        key for shard in manifest.shards if shard.split == "val" for key in shard.keys
    ]


def test_a_reader_with_open_files_can_be_sent_to_another_process(shards: Path) -> None:
    reader = ShardReader(shards)
    photo, _ = reader.read(5)
    again, _ = pickle.loads(pickle.dumps(reader)).read(5)
    np.testing.assert_array_equal(again, photo)


def test_missing_labels_are_none(photo_folder: Path, tmp_path: Path) -> None:
    write_shards(ImageFolder(folder=photo_folder / "photos"), out_dir=tmp_path, name="test")
    reader = ShardReader(tmp_path)
    assert reader.read(0)[1] is None
    assert not reader.has_labels(0)


def test_damaged_members_are_named(shards: Path) -> None:
    reader = ShardReader(shards)
    first, second = reader.manifest.shards[0].keys[:2]
    path = shards / "train-000000.tar"
    _overwrite(path, f"{first}.png", start=0, data=b"not a png")
    _overwrite(path, f"{second}.labels.png", start=30, data=bytes(20))
    with pytest.raises(CorruptSampleError, match=rf"train-000000\.tar, member {first}\.png: "):
        reader.read(0)
    with pytest.raises(CorruptSampleError, match=rf"tar, member {second}\.labels\.png: "):
        reader.read(1)
    reader.read(2)


def test_a_cut_off_jpeg_is_damaged_not_gray(labeled_photos: ImageFolder, tmp_path: Path) -> None:
    write_shards(labeled_photos, out_dir=tmp_path, name="test", val_fraction=0.0)
    _overwrite(tmp_path / "train-000000.tar", "00.jpg", start=640, data=b"\xff\xd9" * 20)
    with pytest.raises(CorruptSampleError, match=r"member 00\.jpg"):
        ShardReader(tmp_path).read(0)


def test_a_file_that_shrinks_while_it_is_read_is_damaged(shards: Path) -> None:
    reader = ShardReader(shards)
    reader.read(0)
    with (shards / "train-000000.tar").open("r+b") as file:
        file.truncate(600)
    with pytest.raises(CorruptSampleError, match="bytes at offset"):
        reader.read(5)


def test_shards_that_disagree_with_the_manifest_are_refused_when_they_are_opened(
    shards: Path,
) -> None:
    path = shards / "train-000000.tar"
    original = path.read_bytes()
    for content, reason in {
        original[:-512]: r"has \d+ bytes, the manifest lists",
        bytes(len(original)): "holds other samples",
        b"x" * len(original): "not a readable tar: no valid header at byte 0",
    }.items():
        path.write_bytes(content)
        reader = ShardReader(shards)
        for _ in range(2):  # The second time without reading the shard.
            with pytest.raises(CorruptSampleError, match=rf"train-000000\.tar, .*{reason}"):
                reader.read(0)
        reader.read(len(reader) - 1)


def test_opening_reads_the_manifest_alone_and_reading_opens_one_shard(shards: Path) -> None:
    reader = ShardReader(shards)
    first = len(reader.manifest.shards[0].keys)
    for shard in reader.manifest.shards[1:]:
        (shards / shard.file).unlink()
    for sample_id in range(first):
        reader.read(sample_id)
    with pytest.raises(CorruptSampleError, match=r"train-000001\.tar is missing"):
        reader.read(first)
    with pytest.raises(ValueError, match=r"train-000001\.tar is missing"):
        reader.check_complete()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_number_of_open_files_is_bounded_and_returns_to_zero(shards: Path) -> None:
    before = _open_files()
    reader = ShardReader(shards, max_open_shards=2)
    for _ in range(3):
        for sample_id in range(len(reader)):
            reader.read(sample_id)
            assert _open_files() <= before + 2
    assert len(reader.manifest.shards) > 2
    del reader
    assert _open_files() == before


@pytest.mark.parametrize("image_format", ["png", "jpg"])
def test_any_damage_is_found_or_harmless(
    labeled_photos: ImageFolder, tmp_path: Path, image_format: ImageFormat
) -> None:
    """Bytes overwritten anywhere, headers of the tar and of the images included."""
    write_shards(
        labeled_photos, out_dir=tmp_path, name="test", val_fraction=0.0, image_format=image_format
    )
    path = tmp_path / "train-000000.tar"
    original = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    generator = np.random.default_rng(0)
    found: list[str] = []
    for _ in range(300):
        damaged = original.copy()
        # Half of the time in the first sample's 33 bytes that say how large its photo is.
        places = generator.integers(0, 545 if generator.integers(2) else 4096, size=3)
        damaged[places] = generator.integers(0, 256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            photo, labels = ShardReader(tmp_path).read(0)
        except CorruptSampleError as error:
            found.append(str(error))
        else:
            assert photo.dtype == np.uint8
            assert labels is not None
            assert labels.max() <= 10
    assert len(found) > 100
    assert all("train-000000.tar, member 00." in message for message in found)


@pytest.mark.parametrize("image_format", ["png", "jpg"])
def test_a_header_that_names_a_huge_size_is_refused_before_memory_is_taken(
    labeled_photos: ImageFolder, tmp_path: Path, image_format: ImageFormat
) -> None:
    write_shards(
        labeled_photos, out_dir=tmp_path, name="test", val_fraction=0.0, image_format=image_format
    )
    path = tmp_path / "train-000000.tar"
    content = path.read_bytes()
    if image_format == "png":  # IHDR: length, type, width, height, five bytes, checksum
        start = content.index(b"IHDR")
        header = b"IHDR" + 2 * (30000).to_bytes(4, "big") + content[start + 12 : start + 17]
        header += zlib.crc32(header).to_bytes(4, "big")
    else:  # SOF0: marker, length, precision, height, width
        start = content.index(b"\xff\xc0\x00\x11")
        header = content[start : start + 5] + 2 * (60000).to_bytes(2, "big")
    _overwrite(path, f"00.{image_format}", start=start - 512, data=header)
    with pytest.raises(CorruptSampleError, match=r"member 00\.\w+: .*(too large|exceeds limit)"):
        ShardReader(tmp_path).read(0)
