"""How fast the denoiser predicts noise on one core, beside diffusers' UNet2DModel.

    python benchmarks/denoiser_forward.py [--repeats 15]    # about 5 minutes

Both compute the same function with the same weights, so the table also says how far the outputs
lie apart. The peer runs as diffusers runs it: float32, evaluation mode, torch's memory format. Ours
runs as it is, and made ready by `prepare_for_inference` in float32, bfloat16 and int8. They take
turns in one process with one thread; times are medians of CPU seconds per image.

With glibc's defaults, memory is given back to the system and faulted in again: over a thousand
pages per image of the small network. `make demo` sets the allocator so that it is not, and so
should this: MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=2000000000.

Prints a table and writes outputs/benchmarks/denoiser_forward.json.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from neural_photo_editor.networks.diffusers_weights import load_unet2d
from neural_photo_editor.networks.inference import native_dtype, prepare_for_inference

REPOSITORY = Path(__file__).resolve().parents[1]
NETWORKS = {"denoising_unet_128": 128, "denoising_unet_demo": 64}  # side in pixels
PEER = "diffusers, float32"
MALLOC_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")

Predict = Callable[[Tensor, Tensor], Tensor]


def build_peer(name: str) -> UNet2DModel:
    config: Any = OmegaConf.load(REPOSITORY / "conf" / "network" / f"{name}.yaml")
    kinds = ["Attn" if i in config.attention_levels else "" for i in range(len(config.widths))]
    torch.manual_seed(0)
    return UNet2DModel(
        block_out_channels=tuple(config.widths),
        layers_per_block=config.blocks_per_level,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        attention_head_dim=config.head_dim,
        norm_num_groups=config.num_groups,
    ).eval()


def ways(peer: UNet2DModel) -> dict[str, Predict]:
    network = load_unet2d(peer.state_dict(), unet2d_config=dict(peer.config)).eval()
    return {
        PEER: lambda x, t: peer(x, t - 1).sample,
        "ours, as it is, float32": network,
        "ours, prepared, float32": prepare_for_inference(network, dtype=torch.float32),
        "ours, prepared, bfloat16": prepare_for_inference(network, dtype=torch.bfloat16),
        "ours, prepared, int8": prepare_for_inference(network, dtype=torch.int8),
    }


def cpu_seconds(
    predictions: dict[str, Predict], x: Tensor, t: Tensor, repeats: int
) -> dict[str, list[float]]:
    """CPU seconds per image of every repeat; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in predictions}
    for repeat in range(repeats + 1):
        for name, predict in predictions.items():
            start = time.process_time()
            predict(x, t)
            if repeat:
                seconds[name].append((time.process_time() - start) / len(x))
    return seconds


def gigaflops(predict: Predict, x: Tensor, t: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        predict(x[:1], t[:1])
    return float(counter.get_total_flops()) / 1e9


def measure(name: str, *, batch_size: int, repeats: int) -> list[dict[str, Any]]:
    side = NETWORKS[name]
    predictions = ways(build_peer(name))
    x = torch.randn(batch_size, 3, side, side, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(1, 500, batch_size + 2).long()[1:-1]
    expected = predictions[PEER](x, t)
    gigaflop = gigaflops(predictions["ours, as it is, float32"], x, t)
    seconds = cpu_seconds(predictions, x, t, repeats)
    rows = []
    for way, predict in predictions.items():
        median = statistics.median(seconds[way])
        difference = (predict(x, t) - expected).abs()
        row = {
            "network": name,
            "batch_size": batch_size,
            "way": way,
            "cpu_s_per_image": median,
            "fastest_cpu_s_per_image": min(seconds[way]),
            "times_faster_than_peer": statistics.median(seconds[PEER]) / median,
            "gigaflop_per_s": gigaflop / median,
            "max_difference": difference.max().item(),
            "mean_difference": difference.mean().item(),
            "spread_of_result": expected.std().item(),
        }
        rows.append(row)
        print(
            f"{name:<21}{batch_size:>5}  {way:<26}{median * 1e3:>9.1f}"
            f"{row['times_faster_than_peer']:>7.2f}x{row['gigaflop_per_s']:>9.0f}"
            f"{row['max_difference']:>10.1e}{row['mean_difference']:>10.1e}",
            flush=True,
        )
    return rows


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="runs whose median is taken")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--only", choices=NETWORKS, action="append", help="leave the others out")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "outputs" / "benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'network':<21}{'batch':>5}  {'way':<26}{'ms/image':>9}{'faster':>8}{'GFLOP/s':>9}"
        f"{'max diff':>10}{'mean diff':>10}"
    )
    results: list[dict[str, Any]] = []
    for name in arguments.only or NETWORKS:
        for batch_size in arguments.batch_sizes:
            repeats = max(3, arguments.repeats // batch_size)
            results += measure(name, batch_size=batch_size, repeats=repeats)
    report = {
        "machine": torch.cpu.get_capabilities().get("cpu_name", platform.machine()),
        "native_dtype": str(native_dtype()),
        "environment": {name: os.environ.get(name) for name in MALLOC_SETTINGS},
        "versions": {name: version(name) for name in ("torch", "diffusers")},
        "threads": 1,
        "results": results,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "denoiser_forward.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
