"""The examples, run as their first lines say, against a real gateway that asks for keys."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api import EditClient
from neural_photo_editor.cli import main as npe
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from tests.e2e.gateway_process import KeyedGateway

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PHOTO = generate_portrait(seed=5, index=1, resolution=64).photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(PHOTO).save(tmp_path / "portrait.png")
    return tmp_path


@pytest.fixture
def region(keyed_gateway: KeyedGateway, folder: Path) -> str:
    """Name of the largest region that the server's untrained segmenter finds."""
    with EditClient(keyed_gateway.url, api_key=keyed_gateway.key) as client:
        regions = client.segment(folder / "portrait.png").metadata.regions
    return max(regions, key=lambda one: one.pixels).name


def run(example: str, *arguments: str, gateway: KeyedGateway, folder: Path, status: int = 0) -> str:
    command = [str(EXAMPLES / example)]
    if example.endswith(".py"):
        command = [sys.executable, *command]
        arguments = (*arguments, "--server", gateway.url)
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**gateway.environment, "NPE_SERVER": gateway.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert gateway.key not in done.stdout + done.stderr
    return done.stdout


def changed(folder: Path, name: str) -> int:
    """Return how many pixels of a picture are not the photo's."""
    with Image.open(folder / name) as image:
        return int((np.asarray(image) != PHOTO).any(axis=-1).sum())


def test_curl(keyed_gateway: KeyedGateway, folder: Path, region: str) -> None:
    arguments = ("portrait.png", region, "#8a3ffc")
    shown = run("edit.sh", *arguments, gateway=keyed_gateway, folder=folder)
    assert json.loads(shown.splitlines()[0])["regions"]
    assert "x-npe-bundle: " in shown.lower()
    assert "event: progress" in shown
    assert changed(folder, "edited.png") > 0
    assert Image.open(folder / "regions.png").size == (64, 64)
    refused = run(
        "edit.sh", "portrait.png", "beard", "red", gateway=keyed_gateway, folder=folder, status=22
    )
    assert "event: " not in refused


def test_python(keyed_gateway: KeyedGateway, folder: Path, region: str) -> None:
    shown = run("edit.py", "portrait.png", region, gateway=keyed_gateway, folder=folder)
    assert "step 1 of 40\n" in shown
    assert changed(folder, "edited.png") > 0
    assert Image.open(folder / "preview.webp").size == (32, 32)
    files = [str(folder / name) for name in ("portrait.png", "edited.png", "receipt.json")]
    assert npe(["verify", *files]) == 7  # Nothing failed; no public key was given.
    refused = run(
        "edit.py", "portrait.png", "beard", gateway=keyed_gateway, folder=folder, status=1
    )
    assert "regions: unknown region 'beard'" in refused


def test_python_canceled(keyed_gateway: KeyedGateway, folder: Path, region: str) -> None:
    arguments = ("portrait.png", region, "--stop-at", "1")
    shown = run("edit.py", *arguments, gateway=keyed_gateway, folder=folder)
    assert shown == "step 1 of 40\ncanceled\n"
    assert not (folder / "edited.png").exists()


def test_python_async(keyed_gateway: KeyedGateway, folder: Path, region: str) -> None:
    colors = ("#8a3ffc", "#0f62fe", "#198038")
    run("edit_async.py", "portrait.png", region, *colors, gateway=keyed_gateway, folder=folder)
    images = {(folder / f"edited-{number}.png").read_bytes() for number in (1, 2, 3)}
    assert len(images) == 3
    arguments = ("portrait.png", region, "#8a3ffc", "purple")
    run("edit_async.py", *arguments, gateway=keyed_gateway, folder=folder, status=1)


def test_batch(keyed_gateway: KeyedGateway, folder: Path, region: str) -> None:
    photos = folder / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.png").write_bytes((folder / "portrait.png").read_bytes())
    (photos / "damaged.jpg").write_bytes(b"no photo")
    (photos / "notes.txt").write_bytes(b"no photo either")
    arguments = ("photos", "edited", "--regions", region, "--color", "#8a3ffc", "--at-once", "2")
    shown = run("batch.py", *arguments, gateway=keyed_gateway, folder=folder, status=1)
    assert "damaged.jpg: [415] photo: " in shown
    assert "3 of 4 photos are in edited" in shown
    assert sorted(path.name for path in (folder / "edited").iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
    ]
    assert changed(folder, "edited/0.png") > 0
    (photos / "damaged.jpg").unlink()
    again = run("batch.py", *arguments, gateway=keyed_gateway, folder=folder)
    assert "wrote" not in again


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    examples = [path for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")]
    assert len(examples) >= 5
    for path in examples:
        assert f'"{path.name}"' in tests or f"examples.{path.stem}" in tests, path.name
