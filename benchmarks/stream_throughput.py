"""Reading speed of the shard stream beside webdataset on the same tars, one core, JPEG + labels.

    python benchmarks/stream_throughput.py            # about 1 minute

Drawn portraits of 64 and 256 pixels become shards once; each reader then makes shuffled batches
of 32 in this process. Time is the process's CPU time, so other work on the machine counts little.
The table's last column is samples per CPU second relative to webdataset with its own decoder
("rgb8", Pillow). Prints a table, writes outputs/benchmarks/stream_throughput.json.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset as wds

from neural_photo_editor.data.datamodule import ShardDataModule
from neural_photo_editor.data.label_map import decode_labels
from neural_photo_editor.data.shard_manifest import ShardManifest
from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits

BATCH_SIZE = 32


def stream(folder: Path, resolution: int) -> Callable[[], Iterable[Any]]:
    data = ShardDataModule(shards=folder, batch_size=BATCH_SIZE, resolution=resolution)
    data.setup()
    return data.train_dataloader


def flipped_stream(folder: Path, resolution: int) -> Callable[[], Iterable[Any]]:
    data = ShardDataModule(
        shards=folder, batch_size=BATCH_SIZE, resolution=resolution, horizontal_flip=True
    )
    data.setup()
    return data.train_dataloader


def webdataset_default(folder: Path, _: int) -> Callable[[], Iterable[Any]]:
    def decode_label_map(data: bytes) -> np.ndarray[Any, Any]:
        return decode_labels(data)

    def batches() -> Iterable[Any]:
        # As its documentation shows: shuffle, decode, to_tuple, batched.
        return (
            wds.WebDataset(_files(folder), shardshuffle=100, seed=0)
            .shuffle(1000)
            .decode(wds.handle_extension("labels.png", decode_label_map), "rgb8")
            .map(_chw)
            .batched(BATCH_SIZE, partial=False, collation_fn=_collate)
        )

    return batches


def webdataset_simplejpeg(folder: Path, _: int) -> Callable[[], Iterable[Any]]:
    def decode(sample: dict[str, Any]) -> dict[str, Any]:
        photo = simplejpeg.decode_jpeg(sample["jpg"], colorspace="RGB")
        return {"jpg": photo, "labels.png": decode_labels(sample["labels.png"])}

    def batches() -> Iterable[Any]:
        return (
            wds.WebDataset(_files(folder), shardshuffle=100, seed=0)
            .shuffle(1000)
            .map(decode)
            .map(_chw)
            .batched(BATCH_SIZE, partial=False, collation_fn=_collate)
        )

    return batches


READERS = {
    "webdataset, rgb8 (Pillow)": webdataset_default,
    "webdataset + simplejpeg": webdataset_simplejpeg,
    "shard stream": stream,
    "shard stream, flips": flipped_stream,
}


def _files(folder: Path) -> list[str]:
    shards = ShardManifest.load(folder).shards
    return [str(folder / shard.file) for shard in shards if shard.split == "train"]


def _chw(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    photo = torch.from_numpy(sample["jpg"]).permute(2, 0, 1)
    return photo, torch.from_numpy(sample["labels.png"])


def _collate(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    photos, labels = zip(*samples, strict=True)
    return torch.stack(photos), torch.stack(labels)


def _samples_per_cpu_second(batches: Callable[[], Iterable[Any]]) -> float:
    """Return the rate of one pass over the data."""
    start_s = time.process_time()
    num_batches = sum(1 for _ in batches())
    return num_batches * BATCH_SIZE / (time.process_time() - start_s)


def measure(resolution: int, *, count: int, repeats: int, folder: Path) -> dict[str, float]:
    """Return each reader's median rate in samples per CPU second; the readers take turns."""
    source = SyntheticPortraits(seed=0, count=count, resolution=resolution)
    write_shards(source, out_dir=folder, name="benchmark", samples_per_shard=500, val_fraction=0.0)
    passes = {name: reader(folder, resolution) for name, reader in READERS.items()}
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for repeat in range(repeats + 1):
        for name, batches in passes.items():
            rate = _samples_per_cpu_second(batches)
            if repeat:  # The first pass warms up caches and imports.
                rates[name].append(rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

    results = []
    print(f"{'pixels':>6}  {'reader':<28}{'samples/s/core':>15}{'ratio':>8}")
    for resolution, count in ((64, 1500), (256, 400)):
        with tempfile.TemporaryDirectory() as folder:
            rates = measure(
                resolution, count=count, repeats=arguments.repeats, folder=Path(folder) / "shards"
            )
        baseline = rates["webdataset, rgb8 (Pillow)"]
        for name, rate in rates.items():
            print(f"{resolution:>6}  {name:<28}{rate:>15,.0f}{rate / baseline:>8.2f}")
            results.append(
                {
                    "resolution": resolution,
                    "reader": name,
                    "samples_per_cpu_second": rate,
                    "ratio": rate / baseline,
                }
            )
    report = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("torch", "webdataset", "simplejpeg", "pillow", "numpy")
        },
        "batch_size": BATCH_SIZE,
        "repeats": arguments.repeats,
        "results": results,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "stream_throughput.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
