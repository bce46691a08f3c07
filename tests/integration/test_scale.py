"""One training is the same on any number of processes, passes and strategies, and launchers."""

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.training.checkpoint import read_checkpoint
from neural_photo_editor.training.metrics_csv import read_metrics
from pipelines.train import train

_log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
STEPS = 50
SETTINGS = (
    "experiment=demo_ddpm",
    "optimizer@module.optimizer=adam",  # Muon magnifies the rounding of sums in another order.
    "network.widths=[32,64]",
    "network.attention_levels=[1]",
    "network.blocks_per_level=1",
    "data.batch_size=8",
    "data.resolution=32",
    "module.sample_steps=1",
    "module.num_samples=1",
    f"module.lr_scheduler.total_steps={STEPS}",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=2",
    f"trainer.val_check_interval={STEPS}",
    "collective_timeout_s=60",
    "logger=csv",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Epochs of 4 steps that drop some of 39 samples; 9 samples for validation."""
    folder = tmp_path_factory.mktemp("shards")
    source = SyntheticPortraits(seed=0, count=48, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", samples_per_shard=7, val_fraction=0.25)
    return folder


def _run(shards: Path, run_dir: Path, *overrides: str, steps: int = STEPS) -> Path:
    """Train in this process."""
    settings = [f"data.shards={shards}", f"run_dir={run_dir}", f"trainer.max_steps={steps}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*settings, *SETTINGS, *overrides])
    return train(cfg)


def _start(
    shards: Path, run_dir: Path, *overrides: str, steps: int = STEPS, **environ: str
) -> subprocess.Popen[str]:
    """Start the documented command, which may start others."""
    settings = [f"data.shards={shards}", f"run_dir={run_dir}", f"trainer.max_steps={steps}"]
    return subprocess.Popen(
        [sys.executable, "pipelines/train.py", *settings, *SETTINGS, *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # To end it with all it started.
    )


def _finish(*processes: subprocess.Popen[str], code: int = 0) -> list[str]:
    """Wait for processes, which all must end with a code, and return what they wrote."""
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == code, output
    return outputs


def _logged(run_dir: Path, name: str) -> list[float]:
    return [row[name] for row in read_metrics(run_dir / "metrics.csv") if name in row]


def _largest_difference(run_dir: Path, other: Path) -> float:
    """Compare the losses of all steps."""
    losses, others = _logged(run_dir, "train/loss"), _logged(other, "train/loss")
    assert len(losses) == len(others) == STEPS
    largest = max(abs(a - b) for a, b in zip(losses, others, strict=True))
    _log.info("%s: the losses of %d steps differ by at most %.1e", run_dir.name, STEPS, largest)
    return largest


def _assert_same_training(run_dir: Path, other: Path) -> None:
    assert _largest_difference(run_dir, other) < 1e-5
    assert _logged(run_dir, "val/loss")[-1] == pytest.approx(
        _logged(other, "val/loss")[-1], abs=1e-5
    )
    one, two = (read_checkpoint(path / "checkpoints" / "last.ckpt") for path in (run_dir, other))
    assert one["global_step"] == two["global_step"] == STEPS
    assert one["network"] == two["network"]
    for key in ("state_dict", "ema"):
        weights, expected = (content[key].get("state_dict", content[key]) for content in (one, two))
        assert weights.keys() == expected.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.fixture(scope="module")
def reference(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, one pass."""
    return _run(shards, tmp_path_factory.mktemp("reference") / "one")


@pytest.mark.slow
def test_passes_of_a_step_change_no_loss(shards: Path, reference: Path, tmp_path: Path) -> None:
    _assert_same_training(
        _run(shards, tmp_path / "passes", "data.max_batch_per_device=2"), reference
    )


@pytest.mark.slow
def test_processes_of_a_step_change_no_loss(shards: Path, reference: Path, tmp_path: Path) -> None:
    (output,) = _finish(_start(shards, tmp_path / "two", "trainer.devices=2"))
    assert "8 samples = 1 node(s) x 2 device(s) x 4 samples x 1 pass(es)" in output
    _assert_same_training(tmp_path / "two", reference)


@pytest.mark.slow
def test_fsdp_under_slurm_changes_no_loss_and_its_checkpoints_are_those_of_all(
    shards: Path, reference: Path, tmp_path: Path
) -> None:
    """FSDP -> one process -> FSDP, in other passes each time and in the middle of epochs."""
    run_dir = tmp_path / "fsdp"
    sharded = "trainer.strategy=fsdp"
    _finish(*_srun(shards, run_dir, sharded, "data.max_batch_per_device=2", steps=18))
    _run(shards, run_dir, "data.max_batch_per_device=4", steps=31)
    _finish(*_srun(shards, run_dir, sharded))
    saved: dict[str, Any] = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert (saved["trainer"]["devices"], saved["trainer"]["num_nodes"]) == (2, 1)
    _assert_same_training(run_dir, reference)


@pytest.mark.slow
def test_a_process_that_differs_is_refused(shards: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    outputs = _finish(*_srun(shards, run_dir, of_rank="data.seed={rank}"), code=1)
    assert "1 processes cannot join" in outputs[0]
    assert re.search(r"process 1 cannot join: .*data\.seed is 1, there 0", outputs[1])
    assert not (run_dir / "metrics.csv").exists()


@pytest.mark.slow
def test_the_comparison_sees_other_samples_and_other_noise(
    shards: Path, reference: Path, tmp_path: Path
) -> None:
    """Negative control: what the tests above compare depends on every sample and its noise."""
    expected = _logged(reference, "train/loss")
    for name, override in (("samples", "data.seed=1"), ("noise", "module.seed=1")):
        losses = _logged(_run(shards, tmp_path / name, override, steps=4), "train/loss")
        assert min(abs(a - b) for a, b in zip(losses, expected, strict=False)) > 1e-4


def _srun(
    shards: Path, run_dir: Path, *overrides: str, of_rank: str = "", steps: int = STEPS
) -> list[subprocess.Popen[str]]:
    """Start two processes with the variables that srun sets for two tasks on this machine.

    Args:
        of_rank: an override that differs between them, with ``{rank}`` in it.
    """
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(_free_port()),
    }
    processes = []
    for rank in (0, 1):
        own = [of_rank.format(rank=rank)] if of_rank else []
        environ = {**job, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        processes.append(_start(shards, run_dir, *overrides, *own, steps=steps, **environ))
    return processes


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_slurm_jobs_have_a_gpu_for_each_process() -> None:
    overrides = ["data.shards=shards", *SETTINGS, "hydra/launcher=slurm"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(
            "train", [*overrides, "hydra.launcher.tasks_per_node=4"], return_hydra_config=True
        )
    launcher = cfg.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.name, launcher.gpus_per_node, launcher.nodes) == ("demo_ddpm", 4, 1)
