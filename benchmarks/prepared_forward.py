"""How fast the served forms of upscaler and segmenter are on one core, beside torch's own.

    python benchmarks/prepared_forward.py [--repeats 9]    # about a minute

The upscaler enlarges 128 pixels to 512, the segmenter sees 128. The first row of each is the
network as its paper draws it, run by torch in float32; the second our upscaler as it is. They take
turns in one process with one thread; times are medians of CPU seconds. Weights are random, spread
around their initial values. Differences from the first row are PSNR, of images in [-1, 1] and of
logits by their own range.

Prints a table and writes outputs/benchmarks/prepared_forward.json. For the allocator's settings see
benchmarks/denoiser_forward.py.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.prepared_segmenter import PreparedSegmenter
from neural_photo_editor.networks.prepared_upscaler import PreparedUpscaler
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

REPOSITORY = Path(__file__).resolve().parents[1]
SIDE = 128
SPREAD = 0.01  # of random weights around their initial values, some of which are zero

Predict = Callable[[Tensor], Tensor]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def plain_upscaler(network: SRResNet) -> Predict:
    """PixelShuffle before the last convolution, and torch's PReLU."""

    def predict(low: Tensor) -> Tensor:
        stem, activation = network.stem
        shallow = hidden = F.prelu(stem(low), activation.weight)
        block: Any
        for block in network.blocks:
            hidden = hidden + block.conv2(F.prelu(block.conv1(hidden), block.activation.weight))
        hidden = shallow + network.trunk(hidden)
        stages: Any = list(network.upsample)
        for conv, activation in zip(stages[::3], stages[2::3], strict=True):
            hidden = F.prelu(F.pixel_shuffle(conv(hidden), 2), activation.weight)
        head = network.head
        detail = F.conv2d(hidden, head.weight, head.bias, padding=head.padding)
        return detail + F.interpolate(low, scale_factor=float(network.scale), mode="bicubic")

    return predict


def upscalers() -> dict[str, Predict]:
    network = spread_out(SRResNet())
    ways: dict[str, Predict] = {"torch, float32": plain_upscaler(network), "as it is": network}
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        ways[f"prepared, {str(dtype).removeprefix('torch.')}"] = PreparedUpscaler(
            network, dtype=dtype
        )
    return ways


def segmenters() -> dict[str, Predict]:
    network = spread_out(SegmentationUNet())
    return {"torch, float32": network, "prepared, float32": PreparedSegmenter(network)}


def spread_out(network: NetworkT) -> NetworkT:
    for parameter in network.eval().requires_grad_(False).parameters():
        parameter += SPREAD * torch.randn_like(parameter)
    return network


def decibels(actual: Tensor, expected: Tensor, value_range: float) -> float:
    error = (actual - expected).square().mean().item()
    return 10 * math.log10(value_range**2 / error) if error else math.inf


def measure(name: str, ways: dict[str, Predict], repeats: int) -> list[dict[str, Any]]:
    # Smooth, as photos are.
    image = F.interpolate(torch.rand(1, 3, SIDE // 4, SIDE // 4), size=SIDE, mode="bicubic")
    image = image.clamp(0, 1) * 2 - 1
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, Tensor] = {}
    for repeat in range(repeats + 1):
        for way, predict in ways.items():
            start = time.process_time()
            results[way] = predict(image)
            if repeat:
                seconds[way].append(time.process_time() - start)
    expected, slowest = results["torch, float32"], statistics.median(seconds["torch, float32"])
    value_range = 2.0 if name == "upscaler" else (expected.max() - expected.min()).item()
    rows = []
    for way in ways:
        median = statistics.median(seconds[way])
        row = {
            "network": name,
            "way": way,
            "cpu_s": median,
            "times_faster": slowest / median,
            "psnr": decibels(results[way], expected, value_range),
        }
        rows.append(row)
        print(
            f"{name:<11}{way:<20}{median * 1e3:>8.1f}{slowest / median:>7.2f}x{row['psnr']:>7.1f}"
        )
    return rows


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="calls whose median is taken")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "outputs" / "benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'network':<11}{'':<20}{'ms':>8}{'faster':>8}{'PSNR':>7}")
    rows = measure("upscaler", upscalers(), arguments.repeats)
    rows += measure("segmenter", segmenters(), arguments.repeats)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "prepared_forward.json"
    report = {"torch": torch.__version__, "threads": 1, "results": rows}
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
