"""What one training step of the full-size networks costs, beside a peer of the same size.

    python benchmarks/model_costs.py [--batch-size 4] [--repeats 5] [--only denoiser]

Prints a table and writes outputs/benchmarks/model_costs.json. Steps (forward, backward, fused
Adam) of ours and of the peer alternate in one process; times are medians of CPU seconds, so that a
busy machine disturbs them little. Peak memory is that of a fresh process after two float32 steps.

Peers: the denoiser's is diffusers' UNet2DModel of the same widths with its default of 8 channels
per attention head; the upscaler's is SRResNet as printed in the paper (batch normalization, torch's
PReLU, no bicubic skip); the segmenter's is our own U-Net as torch runs it by default. Peers keep
torch's default memory format; ours are channels_last. Both have the same precision.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUT = REPOSITORY / "outputs" / "benchmarks" / "model_costs.json"
CONFIGS = {
    "denoiser": "denoising_unet_128",
    "segmenter": "segmentation_unet_128",
    "upscaler": "srresnet_x4",
}
MEMORY_LIMIT_GB = 12.0


class PaperSRResNet(nn.Module):
    """Ledig et al. 2017, Figure 4, to the letter."""

    def __init__(self, width: int, num_blocks: int) -> None:
        super().__init__()

        def conv(outputs: int = width) -> nn.Module:
            return nn.Conv2d(width, outputs, 3, padding=1)

        self.stem = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(), nn.BatchNorm2d(width), nn.PReLU(), conv(), nn.BatchNorm2d(width))
            for _ in range(num_blocks)
        )
        self.trunk = nn.Sequential(conv(), nn.BatchNorm2d(width))
        self.head = nn.Sequential(
            *[m for _ in "ab" for m in (conv(4 * width), nn.PixelShuffle(2), nn.PReLU())],
            nn.Conv2d(width, 3, 9, padding=4),
        )

    def forward(self, x: Tensor) -> Tensor:
        shallow = hidden = self.stem(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out: Tensor = self.head(shallow + self.trunk(hidden))
        return out


class DiffusersDenoiser(nn.Module):
    """UNet2DModel of a DenoisingUNet's widths, with the same calling convention."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        kinds = [
            "Attn" if i in config["attention_levels"] else "" for i in range(len(config["widths"]))
        ]
        self.model = UNet2DModel(
            block_out_channels=tuple(config["widths"]),
            layers_per_block=config["blocks_per_level"],
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.model(x, t - 1).sample
        return out


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = instantiate(
        OmegaConf.load(REPOSITORY / "conf" / "network" / f"{CONFIGS[name]}.yaml")
    )
    return network


def build_peer(name: str, config: dict[str, Any]) -> nn.Module:
    if name == "denoiser":
        return DiffusersDenoiser(config)
    if name == "upscaler":
        return PaperSRResNet(config["width"], config["num_blocks"])
    return build(name)


def inputs(name: str, batch_size: int) -> tuple[Tensor, ...]:
    """128-pixel images; the upscaler gets 32 pixels and gives 128."""
    side = 32 if name == "upscaler" else 128
    x = torch.rand(batch_size, 3, side, side) * 2 - 1
    return (x, torch.randint(1, 501, (batch_size,))) if name == "denoiser" else (x,)


def make_step(
    name: str, network: nn.Module, *, batch_size: int, precision: str, memory_format: Any
) -> Callable[[], None]:
    network.to(memory_format=memory_format).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    arguments = inputs(name, batch_size)
    labels = torch.randint(0, 11, (batch_size, 128, 128))
    target = torch.rand(batch_size, 3, 128, 128) * 2 - 1

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = network(*arguments).float()
        loss = F.cross_entropy(out, labels) if name == "segmenter" else F.mse_loss(out, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def gigaflops_per_image(name: str, network: nn.Module) -> float:
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs(name, 1))
    return float(counter.get_total_flops()) / 1e9


def peak_memory_gb(name: str, batch_size: int) -> float:
    """In a fresh process; ours is small, for a child starts with its parent's maximum."""
    arguments = [
        sys.executable,
        __file__,
        "--peak-memory-of",
        name,
        "--batch-size",
        str(batch_size),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return float(done.stdout) / 1e6


def print_own_peak_memory(name: str, batch_size: int) -> None:
    step = make_step(
        name,
        build(name),
        batch_size=batch_size,
        precision="fp32",
        memory_format=torch.channels_last,
    )
    step()
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux


def median_step_seconds(steps: list[Callable[[], None]], repeats: int) -> list[float]:
    """Medians of CPU seconds; the steps take turns, the first round warms up."""
    seconds: list[list[float]] = [[] for _ in steps]
    for repeat in range(repeats + 1):
        for step, times in zip(steps, seconds, strict=True):
            start = time.process_time()
            step()
            if repeat:
                times.append(time.process_time() - start)
    return [statistics.median(times) for times in seconds]


def measure(
    name: str, *, batch_size: int, repeats: int, precision: str, peak_gb: float
) -> dict[str, Any]:
    network = build(name)
    peer = build_peer(name, cast(dict[str, Any], network.config))
    row: dict[str, Any] = {
        "network": name,
        "config": CONFIGS[name],
        "batch_size": batch_size,
        "precision": precision,
        "peak_memory_gb_float32": round(peak_gb, 2),
    }
    for prefix, model in (("", network), ("peer_", peer)):
        row[f"{prefix}parameters"] = sum(p.numel() for p in model.parameters())
        row[f"{prefix}gflop_per_image"] = round(gigaflops_per_image(name, model), 2)
    steps = [
        make_step(
            name, model, batch_size=batch_size, precision=precision, memory_format=memory_format
        )
        for model, memory_format in (
            (network, torch.channels_last),
            (peer, torch.contiguous_format),
        )
    ]
    row["step_cpu_s"], row["peer_step_cpu_s"] = median_step_seconds(steps, repeats)
    row["times_faster_than_peer"] = round(row["peer_step_cpu_s"] / row["step_cpu_s"], 2)
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'network':<11}{'parameters':>13}{'GFLOP/image':>13}{'peak GB':>9}{'step CPU s':>12}"
        f"{'peer params':>13}{'GFLOP':>9}{'CPU s':>8}{'faster':>8}"
    )
    for row in rows:
        print(
            f"{row['network']:<11}{row['parameters']:>13,}{row['gflop_per_image']:>13.1f}"
            f"{row['peak_memory_gb_float32']:>9.2f}{row['step_cpu_s']:>12.2f}"
            f"{row['peer_parameters']:>13,}{row['peer_gflop_per_image']:>9.1f}"
            f"{row['peer_step_cpu_s']:>8.2f}{row['times_faster_than_peer']:>7.2f}x"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=4, help="images per step")
    parser.add_argument("--repeats", type=int, default=5, help="steps whose median is taken")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--only", choices=CONFIGS, action="append", help="leave the others out")
    parser.add_argument("--peak-memory-of", choices=CONFIGS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_memory_of:
        print_own_peak_memory(arguments.peak_memory_of, arguments.batch_size)
        return 0
    names = arguments.only or list(CONFIGS)
    peaks = {name: peak_memory_gb(name, arguments.batch_size) for name in names}
    rows = [
        measure(
            name,
            batch_size=arguments.batch_size,
            repeats=arguments.repeats,
            precision=arguments.precision,
            peak_gb=peaks[name],
        )
        for name in names
    ]
    print_table(rows)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2) + "\n")
    print(f"written: {OUTPUT.relative_to(REPOSITORY)}")
    too_large = [name for name, peak in peaks.items() if peak > MEMORY_LIMIT_GB]
    if too_large:
        print(f"above {MEMORY_LIMIT_GB:.0f} GB of memory: {', '.join(too_large)}", file=sys.stderr)
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
