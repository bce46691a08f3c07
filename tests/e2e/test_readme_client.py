"""The client examples of README and docs/client.md, run as printed against a real server."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import KeyedGateway

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
URL = "http://127.0.0.1:8080"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    portrait = generate_portrait(seed=5, index=1, resolution=64)
    Image.fromarray(portrait.photo).save(tmp_path / "portrait.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (20, 30, 44, 50))
    mask.save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture
def regions(server: TorchServeProcess, folder: Path) -> list[str]:
    """Names of two regions that the server's untrained segmenter finds, largest first."""
    from neural_photo_editor.api import EditClient

    with EditClient(server.inference_url, model=server.model) as client:
        table = client.segment(folder / "portrait.png").metadata.regions
    return [region.name for region in sorted(table, key=lambda region: -region.pixels)[:2]]


def python_example(file: str, gateway: KeyedGateway, folder: Path, regions: list[str]) -> str:
    """Run the first Python example of a file and return its output."""
    text = (REPOSITORY / file).read_text()
    example = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    assert URL in example
    code = example.replace(URL, gateway.url).replace('["hair"]', f"{regions[:1]}")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=gateway.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_example(keyed_gateway: KeyedGateway, folder: Path, regions: list[str]) -> None:
    said = python_example("README.md", keyed_gateway, folder, regions)
    assert regions[0] in said
    assert "step 1 of 47\nstep" in said
    for name in ("edited.png", "refilled-1.png", "refilled-4.png"):
        assert Image.open(folder / name).size == (64, 64)


def test_python_example_of_the_docs(
    keyed_gateway: KeyedGateway, folder: Path, regions: list[str]
) -> None:
    said = python_example("docs/client.md", keyed_gateway, folder, regions)
    assert said.startswith("1 of ")
    assert Image.open(folder / "edited.png").size == (64, 64)


def test_command_line_examples(
    keyed_gateway: KeyedGateway, folder: Path, regions: list[str]
) -> None:
    lines = re.findall(r"^npe .*$", README, flags=re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        line = re.sub(r"--regions \w+", f"--regions {regions[0]}", line)
        arguments = shlex.split(line, comments=True)
        npe = str(Path(sys.executable).with_name(arguments[0]))
        done = subprocess.run(
            [npe, *arguments[1:], "--server", keyed_gateway.url],
            cwd=folder,
            env=keyed_gateway.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    sizes = {path.name: Image.open(path).size for path in folder.glob("*.png")}
    assert sizes["larger.png"] == (256, 256)
    assert sizes["edited.png"] == sizes["regions.png"] == sizes["again.png"] == (64, 64)
    assert sizes["both.png"] == (3 * 64 + 20, 94)
    assert sizes["now.png"] == (32, 32)
    first, again = folder / "portrait.edited.png", folder / "again.png"
    assert first.read_bytes() == again.read_bytes()
    assert {sizes[f"refilled-{number}.png"] for number in range(1, 5)} == {(64, 64)}
