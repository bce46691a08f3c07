"""One search space, two ways to search it: Hydra's multirun with Optuna, and W&B."""

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from neural_photo_editor.data.shard_writer import write_shards
from neural_photo_editor.data.synthetic_source import SyntheticPortraits
from neural_photo_editor.training.metrics_csv import best_value, read_metrics
from pipelines.hydra_plugins.optuna_sweeper import OptunaSweeper
from pipelines.wandb_sweep import CONF, wandb_sweep

ROOT = CONF.parent
SPACES = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
TINY = (
    "experiment=demo_segmenter",
    "sweep=segmenter",
    "network.widths=[8,16]",
    "optimizer@module.optimizer=adamw",
    "data.resolution=32",
    "trainer.accelerator=cpu",
    "trainer.max_steps=2",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "logger=csv",
)


def multirun(shards: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "pipelines/train.py", "-m", *TINY, f"data.shards={shards}",
         f"hydra.sweeper.folder={folder}", *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(
        SyntheticPortraits(seed=0, count=88, resolution=32),
        out_dir=folder,
        name="portraits",
        val_fraction=0.25,
    )
    return folder


@pytest.mark.slow
def test_optuna_runs_the_trials_and_names_the_best(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    done = multirun(shards, folder, "hydra.sweeper.trials=2")
    assert done.returncode == 0, done.stdout + done.stderr
    values, rates = [], []
    for number in (0, 1):
        run_dir = folder / str(number)
        values.append(best_value(run_dir / "metrics.csv", "val/mean_iou", mode="max"))
        config = yaml.safe_load((run_dir / "config.yaml").read_text())
        rates.append(config["module"]["optimizer"]["lr"])
        assert 1e-4 <= rates[-1] <= 5e-3
        assert len([row for row in read_metrics(run_dir / "metrics.csv") if "train/loss" in row])
    assert rates[0] != rates[1]
    assert not (folder / "2").exists()
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["value"] == max(values)
    assert best["trial"] == values.index(max(values))
    assert best["overrides"]["module.optimizer.lr"] == rates[best["trial"]]


@pytest.mark.slow
def test_a_trial_that_diverges_does_not_end_the_others(shards: Path, tmp_path: Path) -> None:
    done = multirun(
        shards,
        tmp_path,
        "hydra.sweeper.trials=2",
        "hydra.sweeper.space={module.optimizer.lr:{low:1e30,high:1e31}}",
        "trainer.max_steps=6",
        "callbacks.nonfinite.skips_before_rollback=1",
        "callbacks.nonfinite.max_rollbacks=1",
    )
    assert done.returncode == 1
    assert "trial 0 failed: losses stay NaN or infinite" in done.stdout + done.stderr
    assert "all 2 trials failed" in done.stderr
    assert (tmp_path / "1" / "nonfinite-batch.json").is_file()


class Parabola(Launcher):
    """Runs a trial by reading its overrides; 0.5 is best, and above 0.9 there are failures."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.seen: list[dict[str, str]] = []

    def setup(self, **_: Any) -> None:
        pass

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        self.batches.append(len(job_overrides))
        results = []
        for overrides in job_overrides:
            chosen = dict(override.split("=") for override in overrides)
            self.seen.append(chosen)
            x = float(chosen["x"])
            result = JobReturn(status=JobStatus.COMPLETED)
            result.return_value = math.nan if x < 0.1 else (x - 0.5) ** 2
            if x > 0.9:
                result.status, result.return_value = JobStatus.FAILED, RuntimeError("x is large")
            results.append(result)
        return results


def sweep_parabola(folder: Path, *, trials: int, parallel: int = 1, low: float = 0.0) -> Parabola:
    space = {"x": {"low": low, "high": 1.0}, "n": {"low": 1, "high": 3}, "k": {"choices": [4, 8]}}
    sweeper = OptunaSweeper(
        folder=str(folder), mode="min", space=space, trials=trials, parallel=parallel, seed=0
    )
    sweeper.launcher = launcher = Parabola()
    sweeper.sweep(["fixed=1"])
    return launcher


def test_a_sweep_continues_where_it_was_stopped(tmp_path: Path) -> None:
    first = sweep_parabola(tmp_path, trials=8)
    then = sweep_parabola(tmp_path, trials=20, parallel=5)
    assert first.batches == [1] * 8
    assert then.batches == [5, 5, 2]
    seen = [*first.seen, *then.seen]
    assert len({trial["x"] for trial in seen}) == 20
    assert [trial["run_dir"] for trial in seen] == [str(tmp_path / str(n)) for n in range(20)]
    assert all(trial["fixed"] == "1" and trial["n"] in "123" for trial in seen)
    values = [abs(float(trial["x"]) - 0.5) for trial in seen]
    assert min(values) < 0.1
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert best["trial"] == values.index(min(values))
    assert sweep_parabola(tmp_path, trials=20).seen == []


def test_a_sweep_whose_trials_all_fail_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 3 trials failed"):
        sweep_parabola(tmp_path, trials=3, low=0.95)


@pytest.mark.parametrize(
    ("experiment", "space"),
    [("ddpm_128", "denoiser"), ("segmenter_128", "segmenter"), ("srgan_x4", "upscaler")],
)
def test_wandb_gets_the_same_space_and_its_agent_a_command_that_composes(
    experiment: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = wandb_sweep([f"experiment={experiment}", f"sweep={space}", "data.shards=data/x"])
    expected = yaml.safe_load((CONF / "sweep" / f"{space}.yaml").read_text())
    ranges = expected["hydra"]["sweeper"]["space"]
    assert sweep["parameters"].keys() == ranges.keys()
    chosen = {}
    for name, parameter in sweep["parameters"].items():
        if "choices" in ranges[name]:
            assert parameter["values"] == ranges[name]["choices"]
            chosen[name] = {"value": parameter["values"][0]}
        else:
            assert parameter["distribution"] == "log_uniform_values"
            assert (parameter["min"], parameter["max"]) == (
                ranges[name]["low"],
                ranges[name]["high"],
            )
            chosen[name] = {"value": parameter["min"]}

    # What W&B's agent makes of it.
    arguments = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    command = create_sweep_command(sweep["command"])
    assert command[:3] == ["${env}", "python", "${program}"]
    assert command[-1] == "${args_no_hyphens}"
    monkeypatch.setenv("WANDB_RUN_ID", "trial7")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [*command[3:-1], *arguments])
    assert cfg.run_dir == f"outputs/sweeps/{experiment}/trial7"
    assert cfg.module.optimizer.lr == chosen["module.optimizer.lr"]["value"]


@pytest.mark.parametrize("space", SPACES)
def test_all_trials_see_the_same_photos(space: str) -> None:
    ranges = yaml.safe_load((CONF / "sweep" / f"{space}.yaml").read_text())["hydra"]["sweeper"]
    # Steps and validation count batches.
    assert not [name for name in ranges["space"] if name.startswith(("data.", "trainer."))]


@pytest.mark.parametrize(
    "changes", [[], ["module.pretrain_steps=10000", "trainer.max_steps=15000"]]
)
def test_an_upscaler_s_trial_is_judged_once_at_its_end(changes: list[str]) -> None:
    overrides = ["experiment=srgan_x4", "sweep=upscaler", "data.shards=data/x", *changes]
    sweep = wandb_sweep(overrides)
    assert sweep["metric"] == {"name": "val/perceptual", "goal": "minimize"}
    assert "module.perceptual_weight" not in sweep["parameters"]
    assert set(overrides) < set(sweep["command"])  # The agent's trials are judged alike.
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
    assert cfg.hydra.sweeper.mode == "min"
    assert cfg.callbacks.best.monitor == cfg.monitor.metric == "val/perceptual"
    assert cfg.trainer.val_check_interval == cfg.trainer.max_steps > cfg.module.pretrain_steps


def test_a_sweep_without_a_space_is_refused() -> None:
    with pytest.raises(ValueError, match="sweep=NAME"):
        wandb_sweep(["experiment=ddpm_128"])
