"""The page on tracking, the panels and the metrics that trainings log agree."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from neural_photo_editor.metrics.upscaling import rate_beside_bicubic
from pipelines.wandb_panels import PANELS, workspace
from tests.unit.artifacts.wandb_server import serve_wandb

ROOT = PANELS.parents[1]
SPEC = yaml.safe_load(PANELS.read_text())
PAGE = (ROOT / "docs" / "tracking.md").read_text()
PANEL_LIST = [panel for section in SPEC["sections"] for panel in section["panels"]]


def shown(metric: str) -> bool:
    return any(
        metric in panel.get("metrics", ()) or re.fullmatch(panel.get("pattern", "-"), metric)
        for panel in PANEL_LIST
    )


def logged_metrics() -> set[str]:
    """Names in the source, as far as they are written out."""
    source = ROOT / "src" / "neural_photo_editor"
    files = [*source.glob("training/*.py"), *source.glob("data/*.py")]
    found = (re.findall(r'"((?:train|val|data)/[a-z0-9_]*[a-z0-9])"', f.read_text()) for f in files)
    return {name for names in found for name in names} | upscaler_metrics()


def upscaler_metrics() -> set[str]:
    """Names that the source puts together."""
    photo = torch.linspace(-1.0, 1.0, 3 * 32 * 32).reshape(1, 3, 32, 32)
    rated = rate_beside_bicubic(
        photo, photo, photo, scale=4, features=lambda x: [x], segmenter=lambda x: x
    )
    return {f"val/{name}" for name in rated}


def test_every_metric_has_a_panel() -> None:
    metrics = logged_metrics()
    assert {
        "train/loss",
        "train/d_real",
        "train/mfu",
        "val/psnr",
        "data/skipped_samples",
    } <= metrics
    # Stems to which the regions' names are added.
    missing = {name for name in metrics if not (shown(name) or shown(f"{name}/hair"))}
    assert missing == set()
    assert shown("train/loss_t001-125")
    assert shown("train/lr_adamw")
    assert shown("train/lr_discriminator")


def test_every_panel_s_metrics_are_explained() -> None:
    metrics = {name for panel in PANEL_LIST for name in panel.get("metrics", ())}
    metrics |= {"train/lr", "train/lr_adamw", "train/lr_discriminator"}
    for name in metrics:
        assert f"`{name.removesuffix('_bicubic')}`" in PAGE, name
    for picture in re.findall(r"\]\((images/[^)]+)\)", PAGE):
        assert (ROOT / "docs" / picture).is_file()
    for file in ("film.webp", "tracker.log", "hardware.json"):
        assert file in PAGE


def test_wandb_takes_the_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_wandb() as server:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        workspace(SPEC, entity="somebody", project="project", name="Training").save()
    bank: dict[str, Any] = server.views["Training"]["section"]["panelBankConfig"]
    saved = {s["name"]: [p["config"] for p in s["panels"]] for s in bank["sections"]}
    for section in SPEC["sections"]:
        for panel, config in zip(section["panels"], saved[section["name"]], strict=True):
            assert config["chartTitle"] == panel["title"]
            if "media" in panel:
                assert config["mediaKeys"] == panel["media"]
            elif "pattern" in panel:
                assert config["metricRegex"] == panel["pattern"]
            else:
                assert config["metrics"] == panel["metrics"]
                assert config["xAxis"] == "trainer/global_step"


@pytest.mark.parametrize("logger", ["default", "csv", "tensorboard", "all"])
def test_every_logger_of_the_page_exists(logger: str) -> None:
    assert f"`logger={logger}`" in PAGE
    assert (ROOT / "conf" / "logger" / f"{logger}.yaml").is_file()


def test_every_search_space_can_be_chosen() -> None:
    for file in Path(ROOT / "conf" / "sweep").glob("*.yaml"):
        assert yaml.safe_load(file.read_text())["hydra"]["sweeper"]["space"]
