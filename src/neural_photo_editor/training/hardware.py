"""What a training runs on: names, sizes and the peak of its arithmetic."""

import platform
import time
from pathlib import Path
from typing import Any

import psutil
import torch

GPU_PEAKS_TFLOPS: dict[str, tuple[float, float]] = {
    "B200": (2250.0, 1125.0),
    "GH200": (989.4, 494.7),
    "H200 NVL": (835.5, 417.5),
    "H200": (989.4, 494.7),
    "H100 PCIe": (756.5, 378.0),
    "H100 NVL": (835.5, 417.5),
    "H100": (989.4, 494.7),
    "A100": (312.0, 156.0),
    "A30": (165.0, 82.0),
    "A40": (149.7, 74.8),
    "RTX A6000": (154.8, 77.4),
    "L40S": (362.05, 183.0),
    "L40": (181.05, 90.5),
    "L4": (121.0, 60.0),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71.0, 35.6),
}
"""(bfloat16, TF32) of tensor cores without sparsity, from NVIDIA's data sheets of these products.

Sheets that print figures with sparsity only (B200, NVL, L4, L40) are halved. The first name whose
words the device's name has one after the other counts."""

LESS_OR_MORE = {"MIG", "Laptop", "Ti", "D"}
"""Words of a name that make it another product, or a slice of one."""

MATMUL_SIDE = 768
MATMUL_TIME_S = 0.2


def describe_hardware() -> dict[str, Any]:
    """Return what ``hardware.json`` says of this machine: processors, GPUs, memory, versions."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_threads": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [gpu.name for gpu in gpus],
        "gpu_memory_gib": [round(gpu.total_memory / 2**30, 1) for gpu in gpus],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpus else None,  # type: ignore[no-untyped-call]
        "torch_threads": torch.get_num_threads(),
    }


def peak_flops(device: torch.device, *, bf16: bool) -> float | None:
    """Return what the device computes per second at most, in the arithmetic that a training uses.

    Of a GPU that is the data sheet's figure for bfloat16 or TF32. Of a CPU it is measured, in a
    fifth of a second: the fastest of several matrix products with this process's threads.

    Args:
        device: that one process trains on.
        bf16: in bfloat16; otherwise float32, which a GPU computes as TF32 here.

    Returns:
        Floating point operations per second; None for a GPU that is not in the table, and for a
        slice of one (MIG).
    """
    if device.type == "cuda":
        peaks = _gpu_peaks(torch.cuda.get_device_name(device))
        return None if peaks is None else peaks[0 if bf16 else 1] * 1e12
    if device.type != "cpu":
        return None
    matrix = torch.ones(MATMUL_SIDE, MATMUL_SIDE, dtype=torch.bfloat16 if bf16 else torch.float32)
    matrix @ matrix  # Loads the library.
    fastest, end = float("inf"), time.perf_counter() + MATMUL_TIME_S
    while (start := time.perf_counter()) < end:
        matrix @ matrix
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * MATMUL_SIDE**3 / fastest


def _gpu_peaks(name: str) -> tuple[float, float] | None:
    # "NVIDIA A100-SXM4-80GB" is an A100; "NVIDIA RTX A4000" is no A40.
    words = name.replace("-SXM", " SXM").replace("-PCIE", " PCIE").split()
    if LESS_OR_MORE.intersection(words):
        return None
    text = f" {' '.join(words)} "
    return next((peaks for part, peaks in GPU_PEAKS_TFLOPS.items() if f" {part} " in text), None)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
