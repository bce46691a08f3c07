"""Bytes, step time and data rate of distributed training: a model, and what two processes need.

    python benchmarks/scaling.py [--steps 25] [--shards DIR]

Trains a small denoiser for a few steps with one process (the whole batch, and half of it) and with
two, DDP and FSDP, and compares bytes sent and step time with the model; then prints what the
model says of ddpm_128 on 8 and 64 GPUs. Writes outputs/benchmarks/scaling.json. Needs root: each
training gets a network namespace, whose loopback device counts its bytes alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scaling_model import Cluster, Training, bytes_sent, step_seconds, waiting_seconds
from torch.utils.flop_counter import FlopCounterMode

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "outputs" / "benchmarks" / "scaling.json"
BATCH = 16
SLOW_MBIT = 50  # wires so slow that a step is waiting for them
GLOO_SCATTER = 2  # torch scatters sums by a whole all-reduce there
SETTINGS = (
    "experiment=demo_ddpm",
    "optimizer@module.optimizer=adam",
    "data.resolution=32",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1000",
    "trainer.limit_val_batches=0",
    "~callbacks.best",
    "~callbacks.samples",
    "logger=csv",
    "+callbacks.traffic._target_=scaling_traffic.Traffic",
)
# What a GPU and its wires do, from data sheets; the shares that trainings reach are assumptions.
H200_FLOPS = 989e12 * 0.40  # bfloat16, dense, at the MFU that the benchmark of a step asks for
NVLINK = 450e9 * 0.8  # bytes/s of one GPU within a host, one direction
NETWORK = 50e9 * 0.8  # bytes/s of one GPU between hosts: 400 Gbit/s each


def train(
    folder: Path, shards: Path, *overrides: str, steps: int, mbit: int | None = None
) -> dict[str, float]:
    """Run the documented command in a network namespace of its own and return its traffic.

    Args:
        mbit: rate of the loopback device in Mbit/s, all processes together; None for no limit.
    """
    limit = f"tc qdisc add dev lo root tbf rate {mbit}mbit burst 256kb latency 400ms && "
    command = f'ip link set lo up && {limit if mbit else ""}exec "$@"'
    result = folder / "traffic.json"
    subprocess.run(
        [
            "unshare", "--net", "bash", "-c", command, "train", sys.executable,
            "pipelines/train.py", f"data.shards={shards}", f"run_dir={folder / 'run'}",
            f"trainer.max_steps={steps}", "ckpt_path=null", *SETTINGS,
            f"+callbacks.traffic.path={result}", *overrides,
        ],
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OMP_NUM_THREADS": "1",
             "PYTHONPATH": str(ROOT / "benchmarks")},
        check=True,
    )  # fmt: skip
    measured: dict[str, float] = json.loads(result.read_text())
    return measured


def network_of(name: str) -> torch.nn.Module:
    network: torch.nn.Module = instantiate(
        OmegaConf.load(ROOT / "conf" / "network" / f"{name}.yaml")
    )
    return network


def num_parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def training_flops(network: torch.nn.Module, resolution: int) -> int:
    """Return the operations of forward and backward for one image."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        out = network.to("meta")(torch.empty(1, 3, resolution, resolution), torch.ones(1).long())
        out.sum().backward()
    return counter.get_total_flops()


def measure(folder: Path, shards: Path, *, steps: int) -> list[dict[str, Any]]:
    parameters = num_parameters(network_of("denoising_unet_demo"))
    whole = train(folder, shards, f"data.batch_size={BATCH}", steps=steps)
    half = train(folder, shards, f"data.batch_size={BATCH // 2}", steps=steps)
    rows: list[dict[str, Any]] = []
    for strategy, passes, mbit in (
        ("ddp", 1, None),
        ("ddp", 2, None),
        ("fsdp", 1, None),
        ("ddp", 1, SLOW_MBIT),
    ):
        measured = train(
            folder,
            shards,
            f"data.batch_size={BATCH}",
            f"data.max_batch_per_device={BATCH // 2 // passes}",
            "trainer.devices=2",
            f"trainer.strategy={strategy}",
            steps=steps,
            mbit=mbit,
        )
        model = bytes_sent(
            parameters, processes=2, strategy=strategy, passes=passes, scatter=GLOO_SCATTER
        )
        rows.append(
            {
                "strategy": strategy,
                "passes": passes,
                "mbit": mbit,
                "bytes_measured": measured["bytes"] / 2,
                "bytes_model": model,
                "measured": measured,
                "one_process": whole,
                "one_process_half_batch": half,
                "data_bytes_per_s": BATCH / measured["seconds"] * bytes_per_photo(shards),
            }
        )
        print(
            f"{strategy}, {passes} pass(es): {measured['bytes'] / 2 / 1e6:.2f} MB per process and "
            f"step, model {model / 1e6:.2f}"
        )
        if mbit:
            predicted = half["seconds"] + waiting_seconds(
                2 * model * 8 / (mbit * 1e6),  # Both processes share the device.
                computing=half["seconds"],
                parameters=parameters,
                strategy=strategy,
            )
            print(f"    at {mbit} Mbit/s the model says {predicted:.2f} s per step")
        for name in ("seconds", "cpu_seconds"):
            print(
                f"    {name} per step: {measured[name]:.3f}; one process {whole[name]:.3f}, with "
                f"half the batch {half[name]:.3f}"
            )
    return rows


def bytes_per_photo(shards: Path) -> float:
    manifest = json.loads((shards / "manifest.json").read_text())["shards"]
    return sum(s["bytes"] for s in manifest) / sum(len(s["keys"]) for s in manifest)


def predict(photo_bytes: float) -> list[dict[str, Any]]:
    network = network_of("denoising_unet_128")
    parameters, flops = num_parameters(network), training_flops(network, 128)
    rows = []
    for gpus, batch in ((1, 40), (8, 40), (8, 320), (64, 320), (64, 2560)):
        for strategy in ("ddp", "fsdp"):
            cluster = Cluster(gpus, H200_FLOPS, NVLINK if gpus <= 8 else NETWORK)
            training = Training(parameters, flops, batch, strategy)
            seconds, exposed = step_seconds(training, cluster)
            row = {
                "gpus": gpus,
                "batch": batch,
                "strategy": strategy,
                "bytes": bytes_sent(parameters, processes=gpus, strategy=strategy, passes=1),
                "seconds": seconds,
                "waiting": exposed / seconds,
                "data_bytes_per_s": batch / seconds * photo_bytes,
            }
            rows.append(row)
            print(
                f"ddpm_128, {gpus} GPUs, batch {batch}, {strategy}: {row['bytes'] / 1e6:.0f} MB "
                f"per GPU and step, {1000 * seconds:.1f} ms, {row['waiting']:.0%} waiting, "
                f"{batch / seconds:,.0f} photos/s, {row['data_bytes_per_s'] / 1e6:.1f} MB/s"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--predict-only", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, count in ((32, 64), (128, 32)):
            source = SyntheticPortraits(seed=0, count=count, resolution=size)
            write_shards(source, out_dir=folder / str(size), name="portraits", val_fraction=0.1)
        measured = (
            [] if arguments.predict_only else measure(folder, folder / "32", steps=arguments.steps)
        )
        content = {"measured": measured, "predicted": predict(bytes_per_photo(folder / "128"))}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
