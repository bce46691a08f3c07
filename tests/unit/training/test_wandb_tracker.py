import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from neural_photo_editor.training.wandb_tracker import finish_wandb, start_wandb

KEY = "0" * 40


@pytest.fixture(autouse=True)
def heard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[pytest.LogCaptureFixture]:
    """No account, and the package's warnings in caplog, whoever configured logging before."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logging.getLogger("neural_photo_editor"), "propagate", True)
    yield caplog
    if wandb.run is not None:
        wandb.run.finish()


def start(run_dir: Path, **settings: Any) -> Any:
    defaults = {"resumed_from": None, "init_timeout_s": 30}
    return start_wandb(project="test", name="run", run_dir=run_dir, **{**defaults, **settings})


@pytest.mark.slow
def test_offline_without_a_key_and_a_resumed_training_keeps_the_run(tmp_path: Path) -> None:
    for resumed_from in (None, "last.ckpt"):
        logger = start(tmp_path, resumed_from=resumed_from)
        logger.log_metrics({"train/loss": 1.0}, step=0)
        finish_wandb([logger])
    assert json.loads((tmp_path / "tracker.json").read_text())["mode"] == "offline"
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert first.name == second.name


@pytest.mark.slow
def test_unreachable_server_means_offline_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # Nobody listens there.
    logger = start(tmp_path, init_timeout_s=2)
    finish_wandb([logger])
    assert json.loads((tmp_path / "tracker.json").read_text())["mode"] == "offline"
    assert "W&B did not start online" in heard.text


def test_training_goes_on_where_wandb_does_not_start_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    def fail(**settings: Any) -> None:
        raise wandb.Error("no service\nsecond line")

    monkeypatch.setattr(wandb, "init", fail)
    assert start(tmp_path) is None
    assert "did not start offline: no service" in heard.text
    assert "second line" not in heard.text
    assert not (tmp_path / "tracker.json").exists()


def test_wandb_mode_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    modes: list[str] = []

    def record(**settings: Any) -> None:
        modes.append(settings["mode"])
        raise wandb.Error("stop here")

    monkeypatch.setattr(wandb, "init", record)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert start(tmp_path) is None
    assert modes == []
    monkeypatch.setenv("WANDB_MODE", "online")  # Without a key W&B would ask for one.
    start(tmp_path)
    assert modes == ["offline"]
    assert "WANDB_API_KEY is not set" in heard.text
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start(tmp_path)
    assert modes == ["offline", "online", "offline"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    start(tmp_path)
    assert modes[3:] == ["offline"]
