"""How long a training step takes, beside other libraries' networks of as many FLOPs.

    pip install --no-deps --target outputs/peers -r benchmarks/peers.txt
    OMP_NUM_THREADS=1 python benchmarks/training_step.py [TASK...] [--repeats 5]    # 8 minutes
    python benchmarks/training_step.py --device cuda --batch-size 40 [--compile]

A step is the same for all: forward pass, loss in float32, backward pass, clipping of the norm of
the gradient, AdamW, and the average of the weights; images, noise and targets are ready. Each
network is trained in its default setting (as its library's own example, or our configuration,
trains it) and in its best: the fastest of both memory formats and the options that change no FLOP,
in bfloat16 where that is native and with the fused optimizer, tried first. Then all take turns in
one process with one thread. Times are medians of CPU seconds, on a GPU of CUDA's own events.

FLOPs are those of forward and backward pass that torch.utils.flop_counter counts. The peak is that
of a large matrix product or a 3 x 3 convolution in the same number format, measured in the same
run, whichever is faster. A time on a GPU is a tenth of ten runs in a row, which hide how long the
host takes to launch them as a training does; cuDNN chooses its algorithms by trying, likewise.

Prints a table and writes outputs/benchmarks/training_step.json.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from training_step_contenders import REPOSITORY, TASKS, Contender, Setting, Task
from training_step_peers import find_peers

MOST_DIFFERENT = 0.05  # of the FLOPs of ours
RUNS_IN_A_ROW = 10  # On a GPU.
CLIP_NORM = 1.0
EMA_DECAY = 0.999
PEAK_SIZES = {"cpu": (2048, 128, 64), "cuda": (8192, 512, 64)}  # Matrix, channels, pixels.
PACKAGES = (
    "torch",
    "diffusers",
    "denoising-diffusion-pytorch",
    "segmentation-models-pytorch",
    "timm",
    "super-image",
)

Step = Callable[[], None]


def make_step(task: Task, contender: Contender, setting: Setting, device: torch.device) -> Step:
    torch.manual_seed(0)
    layout: Any = torch.channels_last if setting.channels_last else torch.contiguous_format
    network = contender.build(**dict(setting.options)).to(device, memory_format=layout).train()
    call: Any = contender.call
    if setting.compiled:
        network = torch.compile(network)  # type: ignore[assignment]
    parameters = list(network.parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=setting.fused or None)
    images, *rest = (x.to(device) for x in task.inputs(task.batch_size, task.side))
    images = images.contiguous(memory_format=layout)
    target = task.target(task.batch_size, task.side).to(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.bfloat16):
            out = call(network, images, *rest)
        task.loss(out.float(), target).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1.0 - EMA_DECAY)

    return step


def gigaflops_per_image(task: Task, contender: Contender) -> float:
    """Of forward and backward pass; nothing is computed."""
    network = contender.build().to("meta")
    inputs = [x.to("meta") for x in task.inputs(1, task.side)]
    with FlopCounterMode(display=False) as counter:
        contender.call(network, *inputs).sum().backward()
    return float(counter.get_total_flops()) / 1e9


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """CPU seconds of the process, or seconds of the GPU, where runs follow without a break."""
    if device.type == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in "ab")
    begin.record()
    for _ in range(RUNS_IN_A_ROW):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / RUNS_IN_A_ROW


def all_seconds(
    works: list[Callable[[], Any]], repeats: int, device: torch.device
) -> list[list[float]]:
    """They take turns; the first round warms up and does not count."""
    seconds: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, times in zip(works, seconds, strict=True):
            taken = seconds_of(work, device)
            if repeat:
                times.append(taken)
    return seconds


def best_setting(
    task: Task, contender: Contender, device: torch.device, *, native: bool, compiled: bool
) -> Setting:
    """The fastest in the second step; each candidate is gone before the next one comes."""
    seconds: dict[Setting, float] = {}
    for setting in contender.candidates(native_bfloat16=native, compiled=compiled):
        ((seconds[setting],),) = all_seconds(
            [make_step(task, contender, setting, device)], 1, device
        )
        print(f"  tried: {contender.name}, {setting}: {seconds[setting]:.3f} s", flush=True)
    return min(seconds, key=seconds.__getitem__)


def peak_gigaflops(device: torch.device, dtype: torch.dtype) -> float:
    side, channels, pixels = PEAK_SIZES[device.type]
    matrix = torch.randn(side, side, device=device).to(dtype)
    images = torch.randn(4, channels, pixels, pixels).to(device, dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3).to(device, dtype)
    works = [lambda: matrix @ matrix, lambda: F.conv2d(images, kernel, padding=1)]
    gigaflop = [2 * side**3 / 1e9, 2 * 9 * channels**2 * 4 * pixels**2 / 1e9]
    seconds = all_seconds(works, 9, device)
    return max(flop / min(times) for flop, times in zip(gigaflop, seconds, strict=True))


def measure(
    name: str, task: Task, device: torch.device, *, repeats: int, compiled: bool
) -> list[dict[str, Any]]:
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    runs: list[tuple[Contender, str, Setting]] = []
    for contender in task.contenders:
        best = best_setting(task, contender, device, native=native, compiled=compiled)
        runs += [(contender, "default", contender.default), (contender, "best", best)]
    steps = [make_step(task, contender, setting, device) for contender, _, setting in runs]
    seconds = [statistics.median(times) for times in all_seconds(steps, repeats, device)]
    peaks = {
        bfloat16: peak_gigaflops(device, torch.bfloat16 if bfloat16 else torch.float32)
        for bfloat16 in (False, True)
    }
    ours = gigaflops_per_image(task, task.contenders[0])
    rows = []
    for (contender, kind, setting), step_s in zip(runs, seconds, strict=True):
        gigaflop = gigaflops_per_image(task, contender)
        if abs(gigaflop / ours - 1) > MOST_DIFFERENT:
            raise ValueError(f"{contender.name} takes {gigaflop:.1f} GFLOP, ours {ours:.1f}")
        row = {
            "task": name,
            "batch_size": task.batch_size,
            "side": task.side,
            "network": contender.name,
            "kind": kind,
            "setting": asdict(setting),
            "gigaflop_per_image": gigaflop,
            "step_s": step_s,
            "times_as_long_as_our_best": step_s / seconds[1],
            "peak_gigaflop_per_s": peaks[setting.bfloat16],
            "share_of_peak": gigaflop * task.batch_size / step_s / peaks[setting.bfloat16],
        }
        rows.append(row)
        print(
            f"{name:<10} {contender.name:<28}{kind:<8}{gigaflop:>8.1f}{step_s:>8.3f}"
            f"{row['times_as_long_as_our_best']:>7.2f}x{row['share_of_peak']:>7.0%}  {setting}",
            flush=True,
        )
    return rows


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all")
    parser.add_argument("--repeats", type=int, default=5, help="steps whose median is taken")
    parser.add_argument("--small", action="store_true", help="half the side and half the images")
    parser.add_argument("--batch-size", type=int, help="images in a step; on an H200 40")
    parser.add_argument("--device", choices=PEAK_SIZES, default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile in the best settings")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "outputs" / "benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")  # As pipelines/train.py does; on a GPU that is TF32.
    torch.backends.cudnn.benchmark = True  # As conf/trainer does.
    find_peers()  # After diffusers was imported, which would take the transformers of another peer.
    print(f"{'task':<10} {'network':<28}{'':<8}{'GFLOP':>8}{'s':>8}{'time':>8}{'peak':>7}  setting")
    tasks = {name: TASKS[name] for name in arguments.tasks or TASKS}
    if arguments.small:
        tasks = {
            name: replace(task, side=task.side // 2, batch_size=task.batch_size // 2)
            for name, task in tasks.items()
        }
    if arguments.batch_size is not None:
        tasks = {
            name: replace(task, batch_size=arguments.batch_size) for name, task in tasks.items()
        }
    rows = [
        row
        for name, task in tasks.items()
        for row in measure(
            name,
            task,
            torch.device(arguments.device),
            repeats=arguments.repeats,
            compiled=arguments.compile,
        )
    ]
    report = {
        "machine": platform.processor() or platform.machine(),
        "device": arguments.device,
        "threads": 1,
        "versions": versions(),
        "results": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "training_step.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
