import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from neural_photo_editor.training.metrics_csv import MetricsCSV, read_metrics
from neural_photo_editor.training.wandb_tracker import WandbTracker, finish_wandb, start_wandb
from tests.unit.artifacts.wandb_server import WandbServer, serve_wandb
from tests.unit.training.conftest import fill
from tests.unit.training.hostile_server import HOSTILITIES, hostile_server
from tests.unit.training.wandb_file import wandb_history, wandb_records

KEY = "0" * 40


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "MODE", "BASE_URL", "RUN_ID", "SWEEP_ID"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run folder as it is when the training begins."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("name: run\nseed: 7\n")
    origin = {"git_commit": "abc", "data_manifest_digest": "d" * 64, "licenses": ["CC0-1.0"]}
    (folder / "origin.json").write_text(json.dumps(origin))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with serve_wandb() as server:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def start(run_dir: Path, **settings: Any) -> WandbTracker | None:
    defaults: dict[str, Any] = {"resumed_from": None, "init_timeout_s": 30, "finish_timeout_s": 30}
    return start_wandb(
        project="test",
        name="run",
        run_dir=run_dir,
        **{"upload_checkpoints": False, **defaults, **settings},
    )


def train(run_dir: Path, *, steps: range, **settings: Any) -> None:
    """Log a loss at each step, a validation with its picture at the last, and a checkpoint."""
    tracker = start(run_dir, **settings)
    assert tracker is not None
    metrics = MetricsCSV(run_dir, resumed_from=settings.get("resumed_from"))
    for step in steps:
        metrics.log_metrics({"train/loss": 1 / (1 + step)}, step=step)
    last = steps[-1]
    (run_dir / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(run_dir / "samples" / f"step-{last + 1:06d}.png")
    metrics.log_metrics({"val/loss": 0.5}, step=last)
    (run_dir / "checkpoints").mkdir(exist_ok=True)
    checkpoint = {"epoch": 0, "global_step": last + 1, "state_dict": {"w": torch.zeros(3)}}
    torch.save(checkpoint, run_dir / "checkpoints" / "best.ckpt")
    finish_wandb([tracker])


def offline_runs(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"))


def assert_complete(history: list[dict[str, Any]], run_dir: Path) -> None:
    """Assert that every row of metrics.csv is there, and each step's row once."""
    rows = read_metrics(run_dir / "metrics.csv")
    assert [sent["_step"] for sent in history] == list(range(len(history)))
    for name in ("train/loss", "val/loss"):
        sent = {row["trainer/global_step"]: row[name] for row in history if name in row}
        expected = {row["step"]: row[name] for row in rows if name in row}
        assert expected.items() <= sent.items()
        assert len(sent) == len([row for row in history if name in row])
    assert len(history) >= len(rows) > 0
    assert all(row["_timestamp"] > 1e9 for row in history)


def mode(run_dir: Path) -> str:
    content: dict[str, str] = json.loads((run_dir / "tracker.json").read_text())
    return content["mode"]


@pytest.mark.slow
def test_offline_without_a_key_and_a_resumed_training_keeps_the_run(run_dir: Path) -> None:
    train(run_dir, steps=range(4))
    (first,) = offline_runs(run_dir)
    train(run_dir, steps=range(2, 6), resumed_from="last.ckpt")
    (second,) = offline_runs(run_dir)  # It is complete, and so the first one is no longer needed.
    assert first.name == second.name
    assert first.parent != second.parent
    assert_complete(wandb_history(second), run_dir)
    assert mode(run_dir) == "offline"
    (pictures,) = [row["samples/filenames"] for row in wandb_history(second) if "val/loss" in row]
    assert (second.parent / "files" / pictures[0]).is_file()
    records = list(wandb_records(second))
    config = {i.key: json.loads(i.value_json) for r in records for i in r.config.update}
    assert config["seed"] == 7
    assert config["data"]["data_manifest_digest"] == "d" * 64
    (artifact,) = [r.request.log_artifact.artifact for r in records if r.HasField("request")] or [
        r.artifact for r in records if r.HasField("artifact")
    ]
    assert artifact.type == "checkpoint"


@pytest.mark.slow
def test_online_run_is_complete_and_a_resumed_one_repeats_nothing(
    server: WandbServer, run_dir: Path
) -> None:
    train(run_dir, steps=range(4))
    train(run_dir, steps=range(2, 7), resumed_from="last.ckpt")
    ((run_id, history),) = server.history.items()
    assert_complete(history, run_dir)
    assert server.exit_codes[run_id] == 0
    assert mode(run_dir) == "online"
    assert offline_runs(run_dir) == []
    config = server.configs[run_id]
    assert config["seed"]["value"] == 7
    assert config["data"]["value"]["git_commit"] == "abc"
    assert [artifact["artifactTypeName"] for artifact in server.artifacts] == ["checkpoint"] * 2
    described = json.loads(server.artifacts[1]["metadata"])
    assert described["step"] == 7
    assert described["metrics"] == {"val/loss": 0.5}
    assert described["data_manifest_digest"] == "d" * 64
    assert described["run_id"] == run_id
    assert len(described["sha256"]) == 64
    assert {"best", "step-7"} <= server.aliases_of(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostility",
    # That one meets a whole training in tests/integration.
    [hostility for hostility in HOSTILITIES if hostility != "never answers"],
)
def test_every_metric_is_kept_whatever_the_server_does(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    heard: pytest.LogCaptureFixture,
    started_processes: Callable[[], list[psutil.Process]],
    hostility: str,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with hostile_server(hostility) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        # It would take an hour if anything waited for the server to begin a run.
        train(run_dir, steps=range(30), init_timeout_s=3600, finish_timeout_s=5)
        psutil.wait_procs(started_processes())  # The offline run may take its time.
        assert len(read_metrics(run_dir / "metrics.csv")) == 31
        (file,) = offline_runs(run_dir)
        assert_complete(wandb_history(file), run_dir)
    assert mode(run_dir) == "offline"
    assert "W&B did not take all of the run" in heard.text
    assert not started_processes()


@pytest.mark.slow
def test_a_server_lost_on_the_way_leaves_a_complete_offline_run(
    server: WandbServer,
    run_dir: Path,
    started_processes: Callable[[], list[psutil.Process]],
) -> None:
    tracker = start(run_dir, finish_timeout_s=5)
    assert tracker is not None
    metrics = MetricsCSV(run_dir)
    metrics.log_metrics({"train/loss": 1.0}, step=0)
    while tracker.version not in server.configs:  # W&B's run has begun.
        assert tracker.is_running
    server.fails_at = "everything"
    for step in range(1, 20):
        metrics.log_metrics({"train/loss": 1.0}, step=step)
    tracker.finish()
    psutil.wait_procs(started_processes())
    (file,) = offline_runs(run_dir)
    assert_complete(wandb_history(file), run_dir)
    # The server is back, and the training goes on.
    server.fails_at = None
    train(run_dir, steps=range(10, 25), resumed_from="last.ckpt")
    assert_complete(server.history[tracker.version], run_dir)
    assert offline_runs(run_dir) == []


@pytest.mark.slow
def test_a_full_disk_changes_neither_the_record_nor_how_the_training_ends(
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    heard: pytest.LogCaptureFixture,
    started_processes: Callable[[], list[psutil.Process]],
) -> None:
    (small_disk / "config.yaml").write_text("name: run\n")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    tracker = start(small_disk, finish_timeout_s=30)
    assert tracker is not None
    fill(small_disk)
    finish_wandb([tracker])  # Nothing is raised: it would replace the training's exit code.
    psutil.wait_procs(started_processes())
    assert "tracker.json was not written" in heard.text
    assert mode(small_disk) == "online"


def test_wandb_mode_decides(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    started: list[bool] = []
    monkeypatch.setattr(WandbTracker, "__init__", lambda _, s: started.append(s["online"]))
    for wandb_mode, key, online in (
        ("", "", False),
        ("", KEY, True),
        ("online", KEY, True),
        ("offline", KEY, False),
        ("online", "", False),  # Without a key W&B would ask for one.
    ):
        monkeypatch.setenv("WANDB_MODE", wandb_mode)
        monkeypatch.setenv("WANDB_API_KEY", key)
        assert start(run_dir) is not None
        assert started.pop() is online
    assert "WANDB_API_KEY is not set" in heard.text
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert start(run_dir) is None
    assert started == []


def test_without_the_package_a_warning_is_all(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert start(run_dir) is None
    assert "wandb is not installed" in heard.text


@pytest.mark.parametrize("field", ["init_timeout_s", "finish_timeout_s"])
def test_time_limits_are_checked(run_dir: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"logger.wandb.{field} is 0"):
        start(run_dir, **{field: 0})


def test_a_trial_of_a_sweep_that_has_no_key_is_refused(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    with pytest.raises(ValueError, match="export it before `wandb agent`"):
        start(run_dir)
    assert not (run_dir / "tracker.json").exists()
    monkeypatch.setattr(WandbTracker, "__init__", lambda *_: None)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert start(run_dir) is not None


@pytest.mark.slow
def test_a_killed_training_leaves_no_process_behind(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"run_dir": str(run_dir), "online": True, "finish_timeout_s": 1}
    program = (
        "import json, os, subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'neural_photo_editor.training.wandb_follower']\n"
        "follower = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)\n"
        f"settings = {settings!r} | {{'parent_pid': os.getpid()}}\n"
        "follower.stdin.write(json.dumps(settings).encode() + b'\\n')\n"
        "follower.stdin.flush()\n"
        "print('started', flush=True)\n"
        "time.sleep(3600)\n"
    )
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with hostile_server("never answers") as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as training:
            assert training.stdout is not None
            assert training.stdout.readline() == b"started\n"
            (follower,) = psutil.Process(training.pid).children()
            training.kill()
        _, alive = psutil.wait_procs([follower], timeout=60)
    assert not alive
