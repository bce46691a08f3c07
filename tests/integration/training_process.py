"""The documented training command in processes of its own, to be signaled and killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import torch

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.training.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN_MODULE = ("-m", "neural_photo_editor.training.torchrun")
TORCHRUN = (*TORCHRUN_MODULE, "--standalone")
KILLS = int(os.environ.get("NPE_TEST_KILLS", "2"))
STEPS = 20 + 5 * KILLS
SETTINGS = (
    "experiment=demo_ddpm",
    "optimizer@module.optimizer=adam",  # Muon magnifies the rounding of sums in another order.
    "network.widths=[32,64]",
    "network.attention_levels=[1]",
    "data.batch_size=4",
    "data.resolution=32",
    "data.num_workers=1",
    "module.sample_steps=1",
    "module.num_samples=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.strategy=ddp",
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=10",
    "callbacks.last.every_n_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=1",
    "logger=csv",
    "+callbacks.record._target_=tests.integration.sample_record.SampleRecord",
    "+callbacks.record.folder=${run_dir}/record",
)


def write_small_shards(folder: Path) -> Path:
    """Write 30 portraits of 32 pixels in uneven shards: epochs of 7 steps that drop 2 samples."""
    source = SyntheticPortraits(seed=0, count=40, resolution=32)
    write_shards(source, out_dir=folder, name="portraits", samples_per_shard=7, val_fraction=0.25)
    return folder


class Training:
    """A run of the command in a session of its own, so that all of it can be killed.

    Args:
        launcher: what stands between Python and the script, such as torchrun and its arguments.
        prefix: a command that runs all of it.
        environment: variables besides this process's own.
    """

    def __init__(
        self,
        shards: Path,
        run_dir: Path,
        *overrides: str,
        launcher: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        run_dir.mkdir(exist_ok=True)
        self.run_dir = run_dir
        self.log = run_dir / "output.log"
        script = "pipelines/train.py"
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        settings = [f"data.shards={shards}", f"run_dir={run_dir}", *SETTINGS, *overrides]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *launcher, script, *settings],
                cwd=ROOT,
                env={**os.environ, **own, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, *, exit_code: int = 0, timeout_s: float = 150.0) -> None:
        try:
            assert self.process.wait(timeout=timeout_s) == exit_code, self.log.read_text()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill the process, the other ranks and all loader workers at once."""
        descendants = []
        with contextlib.suppress(psutil.NoSuchProcess):  # torchrun's are in sessions of their own.
            descendants = psutil.Process(self.process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def wait_until(self, instant: Callable[[], bool]) -> None:
        """Wait; kill and fail if the training ends or errs before."""
        deadline = time.monotonic() + 100
        try:
            while not instant():
                assert self.process.poll() is None, f"ended early:\n{self.log.read_text()}"
                assert time.monotonic() < deadline, f"no progress:\n{self.log.read_text()}"
        except BaseException:
            self.kill()
            raise

    def kill_when(self, instant: Callable[[], bool]) -> None:
        """Kill all of it when `instant` is true; fail if the training ends or errs before."""
        self.wait_until(instant)
        self.kill()

    def rank(self, rank: int) -> psutil.Process:
        """Return the process of a rank: the first one itself, or a child that has its number."""
        children = psutil.Process(self.process.pid).children()
        for process in children:
            if process.environ().get("LOCAL_RANK") == str(rank):
                return process
        assert rank == 0, f"no process of rank {rank} among {children}"
        return psutil.Process(self.process.pid)


def steps_done(run_dir: Path) -> int:
    """Return how many steps rank 0 has taken, repeated ones included."""
    path = run_dir / "record" / "rank0.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def after_steps(run_dir: Path, *, steps: int, delay_s: float = 0.0) -> Callable[[], bool]:
    """Return a condition that becomes true some steps from its first use, after a delay."""
    start = None

    def instant() -> bool:
        nonlocal start
        if start is None:
            start = steps_done(run_dir)
        time.sleep(0.001)
        if steps_done(run_dir) < start + steps:
            return False
        time.sleep(delay_s)
        return True

    return instant


def during_save(run_dir: Path, *, saves: int) -> Callable[[], bool]:
    """Return a condition that is true while the `saves`-th checkpoint from now is written."""
    partial = run_dir / "checkpoints" / "last.ckpt.partial"
    seen, before = 0, False

    def instant() -> bool:
        nonlocal seen, before
        time.sleep(0.0003)
        now = partial.exists()
        seen += now and not before
        before = now
        return seen == saves

    return instant


def after_time(delay_s: float) -> Callable[[], bool]:
    """Return a condition that becomes true in some seconds."""
    end = time.monotonic() + delay_s
    return lambda: time.sleep(0.01) or time.monotonic() >= end


def still_running(processes: list[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Wait for the end of processes, not only of our children, and return those that go on."""
    end = time.monotonic() + timeout_s
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_same_weights(run_dir: Path, other: Path) -> None:
    """Compare the bits of weights and averages in the last checkpoints of two runs."""
    one, two = (read_checkpoint(path / "checkpoints" / "last.ckpt") for path in (run_dir, other))
    assert one["global_step"] == two["global_step"]
    for key in ("state_dict", "ema"):
        expected, actual = (content[key].get("state_dict", content[key]) for content in (one, two))
        assert expected.keys() == actual.keys()
        for name, weight in expected.items():
            assert torch.equal(weight, actual[name]), f"{key}: {name} differs"
