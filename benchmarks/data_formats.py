"""The same photos in the formats of several data loaders, and a pass over each of them."""

import dataclasses
import importlib.machinery
import io
import multiprocessing
import sys
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import simplejpeg
import torch
import webdataset as wds
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.sources import Sample
from neural_photo_editor.data.synthetic_source import SyntheticPortraits


def _stand_in_for_torchvision() -> None:
    """Let mosaicml-streaming import where torchvision has no build; only its examples use it."""
    names = ("", ".datasets", ".transforms", ".transforms.functional")
    for name in names:
        module = types.ModuleType(f"torchvision{name}")
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]


_stand_in_for_torchvision()
import litdata  # noqa: E402
import streaming  # noqa: E402
from litdata.streaming.cache import Cache  # noqa: E402

BATCH_SIZE = 64
NUM_DISTINCT = 320
PHOTOS_PER_SHARD = 320
READ_AHEAD = 4  # batches: 2 workers with DataLoader's prefetch_factor of 2
LIMIT = "simplejpeg alone (limit)"

Pixels = NDArray[np.uint8]
Decode = Callable[[bytes], Pixels]
Pass = Callable[[], tuple[int, float]]  # Returns a number of photos and their CPU seconds.
MakePass = Callable[[Path, int, int], Pass]  # (folder, resolution, number of workers)


class RepeatedPortraits(SyntheticPortraits):
    """Unlabeled drawn portraits; after `NUM_DISTINCT` they repeat, which spares drawing time."""

    def __init__(self, *, resolution: int, count: int) -> None:
        super().__init__(seed=0, count=count, resolution=resolution)
        self._drawn: dict[int, Sample] = {}

    def load(self, index: int) -> Sample:
        sample = self._drawn.get(index % NUM_DISTINCT)
        if sample is None:
            sample = self._drawn[index] = super().load(index)
        return dataclasses.replace(sample, key=self.key(index), labels=None)


def write_formats(folder: Path, *, resolution: int, count: int) -> None:
    """Write `count` photos as shards, then the very bytes of their JPEGs in the other formats."""
    source = RepeatedPortraits(count=count, resolution=resolution)
    write_shards(
        source,
        out_dir=folder / "shards",
        name="benchmark",
        samples_per_shard=PHOTOS_PER_SHARD,
        val_fraction=0.0,
    )
    (folder / "files").mkdir()
    (folder / "chunks").mkdir()
    chunks = Cache(str(folder / "chunks"), chunk_size=PHOTOS_PER_SHARD)
    with streaming.MDSWriter(out=str(folder / "mds"), columns={"jpg": "bytes"}) as mds:
        for index, data in enumerate(stored_jpegs(folder)):
            (folder / "files" / f"{index:06d}.jpg").write_bytes(data)
            mds.write({"jpg": data})
            chunks[index] = {"jpg": data}
    chunks.done()
    chunks.merge()


def stored_jpegs(folder: Path) -> Iterable[bytes]:
    for url in _tars(folder):
        for sample in wds.WebDataset(url, shardshuffle=False):
            yield sample["jpg"]


def decode_simplejpeg(data: bytes) -> Pixels:
    photo: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
    return photo


def decode_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def to_tensor(photo: Pixels) -> torch.Tensor:
    # (H, W, C) -> (C, H, W), a view: the batch's stack copies.
    return torch.from_numpy(photo).permute(2, 0, 1)


def collate(photos: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(photos)


def shard_stream(folder: Path, resolution: int, num_workers: int) -> Pass:
    data = ShardDataModule(
        shards=folder / "shards",
        batch_size=BATCH_SIZE,
        resolution=resolution,
        require_labels=False,
        num_workers=num_workers,
    )
    data.setup()
    return lambda: _read(folder, data.train_dataloader(), image=lambda batch: batch["image"])


def webdataset_plain(folder: Path, _: int, num_workers: int) -> Pass:
    """As webdataset's documentation shows: shuffle, decode, to_tuple, batched."""
    dataset = wds.WebDataset(_tars(folder), shardshuffle=100, seed=0).shuffle(1000)
    dataset = dataset.decode("torchrgb").to_tuple("jpg").batched(BATCH_SIZE)
    return lambda: _read(
        folder,
        wds.WebLoader(dataset, batch_size=None, num_workers=num_workers),
        image=lambda batch: batch[0],
    )


def webdataset_with(decode: Decode) -> MakePass:
    def make(folder: Path, _: int, num_workers: int) -> Pass:
        dataset = wds.WebDataset(_tars(folder), shardshuffle=100, seed=0).shuffle(1000)
        dataset = dataset.map(lambda sample: to_tensor(decode(sample["jpg"])))
        dataset = dataset.batched(BATCH_SIZE, collation_fn=collate)
        return lambda: _read(
            folder, wds.WebLoader(dataset, batch_size=None, num_workers=num_workers)
        )

    return make


class _MosaicPhotos(streaming.StreamingDataset):  # type: ignore[misc]
    def __getitem__(self, index: int) -> torch.Tensor:
        return to_tensor(decode_simplejpeg(super().__getitem__(index)["jpg"]))


def mosaic(folder: Path, _: int, num_workers: int) -> Pass:
    dataset = _MosaicPhotos(local=str(folder / "mds"), shuffle=True, batch_size=BATCH_SIZE)
    return lambda: _read(folder, _loader(dataset, num_workers))


class _LitPhotos(litdata.StreamingDataset):  # type: ignore[misc]
    def __getitem__(self, index: Any) -> torch.Tensor:
        return to_tensor(decode_simplejpeg(super().__getitem__(index)["jpg"]))


def lit(folder: Path, _: int, num_workers: int) -> Pass:
    dataset = _LitPhotos(str(folder / "chunks"), shuffle=True)
    return lambda: _read(
        folder,
        litdata.StreamingDataLoader(
            dataset, batch_size=BATCH_SIZE, num_workers=num_workers, collate_fn=collate
        ),
    )


class _Files(Dataset[torch.Tensor]):
    def __init__(self, folder: Path, decode: Decode) -> None:
        self.paths = sorted(folder.iterdir())
        self.decode = decode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return to_tensor(self.decode(self.paths[index].read_bytes()))


def files_with(decode: Decode) -> MakePass:
    def make(folder: Path, _: int, num_workers: int) -> Pass:
        dataset = _Files(folder / "files", decode)
        return lambda: _read(folder, _loader(dataset, num_workers, shuffle=True))

    return make


def decoding_alone(folder: Path, _: int, num_workers: int) -> Pass:
    """Decode every photo, in as many processes at once: two of them slow each other down."""
    jpegs = list(stored_jpegs(folder))
    if num_workers == 0:
        return lambda: (len(jpegs), _decode_all(jpegs))
    parts = [jpegs[first::num_workers] for first in range(num_workers)]

    def one_pass() -> tuple[int, float]:
        with multiprocessing.get_context("fork").Pool(num_workers) as pool:
            return len(jpegs), sum(pool.map(_decode_all, parts, chunksize=1))

    return one_pass


def _decode_all(jpegs: list[bytes]) -> float:
    """Return the CPU seconds it took."""
    start_s = time.process_time()
    for data in jpegs:
        decode_simplejpeg(data)
    return time.process_time() - start_s


READERS: dict[str, MakePass] = {
    "webdataset, torchrgb": webdataset_plain,
    "webdataset + simplejpeg": webdataset_with(decode_simplejpeg),
    "mosaicml-streaming + simplejpeg": mosaic,
    "litdata + simplejpeg": lit,
    "folder + Pillow": files_with(decode_pillow),
    "folder + simplejpeg": files_with(decode_simplejpeg),
    "shard stream": shard_stream,
    LIMIT: decoding_alone,
}


def _loader(dataset: Any, num_workers: int, **options: Any) -> DataLoader[torch.Tensor]:
    return DataLoader(
        dataset, batch_size=BATCH_SIZE, num_workers=num_workers, collate_fn=collate, **options
    )


def _read(
    folder: Path, loader: Iterable[Any], image: Callable[[Any], torch.Tensor] = lambda batch: batch
) -> tuple[int, float]:
    """Read everything; return the photos between two marks and the CPU seconds they took.

    The marks leave out the start and the end of loader workers, which a long training pays once.
    Both lie where workers have read ahead equally far.
    """
    total = len(list((folder / "files").iterdir()))
    ends = [total // 5, total - (READ_AHEAD + 1) * BATCH_SIZE]
    marks: list[tuple[int, float]] = []
    seen = 0
    for batch in loader:
        photos = image(batch)
        assert photos.is_contiguous()
        seen += len(photos)
        if len(marks) < len(ends) and seen >= ends[len(marks)]:
            marks.append((seen, cpu_seconds()))
    (first, start_s), (last, end_s) = marks
    return last - first, end_s - start_s


def cpu_seconds() -> float:
    """Return the CPU time of this process and its living children."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _tars(folder: Path) -> list[str]:
    shards = ShardManifest.load(folder / "shards").shards
    return [str(folder / "shards" / shard.file) for shard in shards]
