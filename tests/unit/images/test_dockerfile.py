"""What can be said of the images without building them."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.images.dockerfile import REPOSITORY, TARGETS, read_dockerfile

STAGES = read_dockerfile()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def installed_extras(target: str) -> set[str]:
    """Return the extras of this project that an image is built with."""
    found = re.search(r"pip install '\.\[(.+?)\]'", " ".join(STAGES[f"build-{target}"].all("RUN")))
    assert found
    return set(found[1].split(","))


def copied_files(target: str) -> list[Path]:
    """Return what an image has of the repository below /app, relative to the repository."""
    copies = [rest.split() for rest in STAGES[f"build-{target}"].all("COPY")]
    paths = [Path(source) for *sources, to in copies if to.startswith("/app") for source in sources]
    files = [
        path.relative_to(REPOSITORY)
        for named in paths
        for path in ([*(REPOSITORY / named).rglob("*")] or [REPOSITORY / named])
        if path.is_file()
    ]
    return [path for path in files if path != Path("pipelines/demo.py")]  # .dockerignore


@pytest.mark.parametrize("target", TARGETS)
def test_a_final_stage_has_no_rights_and_says_how_it_is(target: str) -> None:
    stage = STAGES[target]
    assert stage.all("USER") == ["10001:10001"]
    assert stage.entry_point[:2] == ["dumb-init", "--single-child"]
    assert (stage.health_command is None) == (target == "train")
    labels = " ".join(stage.all("LABEL"))
    for label in ("title", "description", "version", "revision", "licenses", "base.name"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f"image.version={PROJECT['version']} " in labels


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_installed_or_left_from_building_in_a_final_stage(target: str) -> None:
    stage = STAGES[target]
    assert not any("pip" in command or "apt" in command for command in stage.all("RUN"))
    for rest in stage.all("COPY"):
        assert re.fullmatch(rf"--from=build-{target} (/opt/venv|/app) \1", rest)


def test_every_stage_is_of_the_one_base_image() -> None:
    roots = {stage.base for stage in STAGES.values() if stage.parent is None}
    assert roots == {"${BASE_IMAGE}"}
    named = re.search(r"^ARG BASE_IMAGE=(\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.M)
    assert named
    assert re.search(r":[\w.-]*\d", named[1])
    assert not named[1].endswith(":latest")


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_copied_exists_and_reaches_the_build(target: str) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    for rest in STAGES[f"build-{target}"].all("COPY"):
        for source in rest.split()[:-1]:
            assert (REPOSITORY / source).exists(), source
            assert Path(source).parts[0] in allowed, f"{source} is missing in .dockerignore"


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_is_installed_is_pinned(target: str) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    assert canonicalize_name("dumb-init") in pins
    named = requirements_of(installed_extras(target))
    assert not {requirement.name for requirement in named} - pins - {"neural-photo-editor"}
    assert ("torch" in {requirement.name for requirement in named}) == (target != "gateway")


def requirements_of(extras: set[str]) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in optional[extra])]
    return [Requirement(text) for text in texts]


def closure(extras: set[str]) -> set[str]:
    """Return the names of all packages that come with some extras, as far as installed here."""
    waiting, found = requirements_of(extras), set[str]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        marked = [f"{name}[{extra}]" for extra in (requirement.extras or {""})]
        if found.issuperset(marked):
            continue
        found |= {name, *marked}
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for text in needed:
            one = Requirement(text)
            if one.marker is None or any(
                one.marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")
            ):
                waiting.append(one)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_what_runs_imports_nothing_else_than_what_is_installed(target: str) -> None:
    files = [path for path in copied_files(target) if path.suffix == ".py"]
    modules = [".".join(path.with_suffix("").parts) for path in files]
    handler = "serve.handler"  # It runs where its bundle is served.
    if target == "torchserve":
        modules.append(handler)
    if target == "train":
        modules.remove(handler)
        modules.append("neural_photo_editor.training.torchrun")
    there = closure(installed_extras(target))
    ours = [
        path
        for folder in ("src", "serve", "pipelines")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    imported = re.findall(
        r"^\s*(?:from|import) (\w+)", "\n".join(path.read_text() for path in ours), re.M
    )
    packages = importlib.metadata.packages_distributions()
    absent = {
        module
        for module in {*imported} & packages.keys() - {"neural_photo_editor"}
        if not {canonicalize_name(package) for package in packages[module]} & there
    }
    assert absent & {"optuna", "fastapi"}
    program = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({sorted(absent)}))
for name in {modules}:
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
