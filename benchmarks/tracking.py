"""What a tracker costs a training: ``python benchmarks/tracking.py``.

Steps of a small denoiser, each of which logs a row, with metrics.csv alone and with W&B beside it:
offline, or online with a server that refuses, fails or never answers. The cases take turns, so
that what else the machine does meets all of them; figures are ratios of medians to metrics.csv
alone, by wall clock and by the training process's own processor time.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.training.metrics_csv import MetricsCSV
from neural_photo_editor.training.wandb_tracker import WandbTracker, start_wandb
from tests.unit.training.hostile_server import hostile_server

CASES = ("metrics.csv alone", "offline", "refuses connections", "answers 500", "never answers")
KEPT = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE")


@contextmanager
def tracking(case: str, run_dir: Path) -> Iterator[tuple[WandbTracker | None, float]]:
    """Yield a case's tracker and the seconds that its start took."""
    for name in KEPT:
        os.environ.pop(name, None)
    (run_dir / "config.yaml").write_text("name: benchmark\n")
    if case == "metrics.csv alone":
        yield None, 0.0
        return
    with hostile_server("never answers" if case == "offline" else case) as url:
        if case != "offline":
            os.environ |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": url}
        start = time.perf_counter()
        tracker = start_wandb(
            project="benchmark",
            name="benchmark",
            run_dir=run_dir,
            resumed_from=None,
            init_timeout_s=30,
            finish_timeout_s=10,
            upload_checkpoints=False,
        )
        yield tracker, time.perf_counter() - start


class Training:
    """Steps of a small denoiser."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = DenoisingUNet(widths=(32, 64), attention_levels=(1,), blocks_per_level=1)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.images, self.t = torch.randn(4, 3, 32, 32), torch.tensor([1, 100, 300, 500])

    def step(self) -> float:
        loss = self.network(self.images, self.t).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def times(self, steps: int, metrics: MetricsCSV) -> list[tuple[float, float]]:
        """Return wall-clock and processor seconds of each step."""
        times = []
        for number in range(steps):
            wall, cpu = time.perf_counter(), time.process_time()
            metrics.log_metrics({"train/loss": self.step()}, step=number)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        return times


def measure(*, rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Return, by case, the seconds of every step and of every start and end."""
    training = Training()
    found: dict[str, dict[str, list[float]]] = {case: defaultdict(list) for case in CASES}
    for number in range(rounds + 1):
        # Another order every time; the first round only warms up.
        for case in (*CASES[number % len(CASES) :], *CASES[: number % len(CASES)]):
            with tempfile.TemporaryDirectory() as folder, tracking(case, Path(folder)) as started:
                tracker, start_s = started
                times = training.times(steps, MetricsCSV(folder))
                end = time.perf_counter()
                if tracker is not None:
                    tracker.finish()
                end_s = time.perf_counter() - end
            if number:
                found[case]["start"].append(start_s)
                found[case]["end"].append(end_s)
                found[case]["wall"] += [wall for wall, _ in times]
                found[case]["cpu"] += [cpu for _, cpu in times]
                found[case]["total"].append(sum(wall for wall, _ in times))
    return found


def other_processes_share(case: str, *, settle_s: float, measure_s: float) -> float:
    """Return what the tracker's processes take of one core once they run, 20 rows a second.

    Whatever else the machine does, they cannot slow a training by more.
    """
    with tempfile.TemporaryDirectory() as folder, tracking(case, Path(folder)) as (tracker, _):
        metrics = MetricsCSV(folder)
        spent: list[float] = []
        for seconds in (settle_s, measure_s):
            for step in range(int(20 * seconds)):
                metrics.log_metrics({"train/loss": 1.0}, step=step)
                time.sleep(0.05)
            times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
            spent.append(sum(t.user + t.system for t in times))
        if tracker is not None:
            tracker.finish()
    return (spent[1] - spent[0]) / measure_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of each case in each round")
    parser.add_argument("--seconds", type=float, default=20, help="to watch other processes")
    arguments = parser.parse_args()
    found = measure(rounds=arguments.rounds, steps=arguments.steps)
    reference = {
        name: statistics.median(found[CASES[0]][name]) for name in ("wall", "cpu", "total")
    }
    print(f"a step: {1e3 * reference['wall']:.1f} ms")
    print(f"{'':<22} {'step':>7} {'CPU':>7} {'all steps':>9} {'start':>8} {'end':>7}")
    for case, values in found.items():
        medians = {name: statistics.median(seconds) for name, seconds in values.items()}
        ratios = [medians[name] / reference[name] for name in ("wall", "cpu", "total")]
        print(
            f"{case:<22} {ratios[0]:7.3f} {ratios[1]:7.3f} {ratios[2]:9.3f} "
            f"{1e3 * max(values['start']):5.0f} ms {max(values['end']):5.1f} s"
        )

    print("share of one core that the tracker's processes take, 20 rows a second:")
    for case in CASES[1:]:
        share = other_processes_share(case, settle_s=12, measure_s=arguments.seconds)
        print(f"{case:<22} {100 * share:6.2f} %")


if __name__ == "__main__":
    main()
