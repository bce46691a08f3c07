"""How fast photos come out of each kind of data set: this project's stream beside its peers.

    pip install --no-deps --target outputs/peers -r benchmarks/peers.txt
    PYTHONPATH=outputs/peers python benchmarks/data_loading.py    # about 5 minutes

Drawn portraits become the same JPEG bytes in every format: WebDataset tars (ours are such), MDS
shards, litdata chunks and a plain folder. Every reader makes shuffled batches of 64 photos, uint8
(64, 3, H, W), in this process (0 workers) or in 2 loader workers. Time is the CPU time of the
process and of its children between two marks within an epoch, so neither other work on the machine
nor the start of workers counts much. The limit is simplejpeg
decoding the same bytes, held in memory, into nothing, in as many processes. Readers take turns;
figures are medians.
Prints a table and writes outputs/benchmarks/data_loading.json.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from data_formats import BATCH_SIZE, LIMIT, READERS, write_formats

BASELINE = "webdataset, torchrgb"
OURS = "shard stream"
PACKAGES = ("torch", "numpy", "pillow", "simplejpeg", "webdataset", "mosaicml-streaming", "litdata")


def measure(
    folder: Path, *, resolution: int, num_workers: int, repeats: int
) -> dict[str, list[float]]:
    """Return each reader's rates in photos per CPU second, one per pass; the readers take turns."""
    passes = {name: make(folder, resolution, num_workers) for name, make in READERS.items()}
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for repeat in range(repeats + 1):
        for name, one_pass in passes.items():
            num_photos, cpu_s = one_pass()
            if repeat:  # The first pass warms up caches and imports.
                rates[name].append(num_photos / cpu_s)
    return rates


def rows(rates: dict[str, list[float]], **setting: int) -> list[dict[str, object]]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            **setting,
            "reader": name,
            "photos_per_cpu_second": rate,
            "slowest_pass": min(rates[name]),
            "fastest_pass": max(rates[name]),
            "times_plain_webdataset": rate / medians[BASELINE],
            "share_of_limit": rate / medians[LIMIT],
        }
        for name, rate in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many photos")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)  # The repeated portraits are near-duplicates on purpose.

    results: list[dict[str, object]] = []
    header = f"{'pixels':>6} {'workers':>7}  {'reader':<32}"
    print(f"{header}{'photos/s/core':>14}{'x plain wds':>12}{'of limit':>9}")
    for resolution, count in ((128, 6400), (256, 2560)):
        with tempfile.TemporaryDirectory() as folder:
            num_photos = round(count * arguments.scale / BATCH_SIZE) * BATCH_SIZE
            write_formats(Path(folder), resolution=resolution, count=num_photos)
            for num_workers in (0, 2):
                rates = measure(
                    Path(folder),
                    resolution=resolution,
                    num_workers=num_workers,
                    repeats=arguments.repeats,
                )
                for row in rows(rates, resolution=resolution, num_workers=num_workers):
                    results.append(row)
                    print(
                        f"{resolution:>6} {num_workers:>7}  {row['reader']:<32}"
                        f"{row['photos_per_cpu_second']:>14,.0f}"
                        f"{row['times_plain_webdataset']:>12.2f}{row['share_of_limit']:>9.2f}",
                        flush=True,
                    )
    report = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "batch_size": BATCH_SIZE,
        "repeats": arguments.repeats,
        "results": results,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "data_loading.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
