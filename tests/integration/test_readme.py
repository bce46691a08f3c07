"""The README's commands are the project's: each one is parsed by what would run it."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from neural_photo_editor.cli.command import _parser

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


def words(command: str) -> list[str]:
    return shlex.split(command, comments=True)


def commands_of(*programs: str) -> list[str]:
    found = [command for command in commands() if words(command)[0] in programs]
    assert found, f"the README shows no {programs[0]} command"
    return found


@pytest.mark.parametrize("command", commands_of("python", "torchrun"))
def test_python_commands_name_existing_files_and_valid_overrides(command: str) -> None:
    arguments = words(command)
    script = next(word for word in arguments if word.endswith(".py"))
    assert (REPOSITORY / script).is_file()
    if not script.startswith("pipelines/"):
        return
    overrides = arguments[arguments.index(script) + 1 :]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base=None):
        cfg = compose(Path(script).stem, overrides)
    if "source.labels=labels" in overrides:
        assert cfg.source.labels == "labels"
    missing = OmegaConf.missing_keys(cfg)
    assert not missing, f"{command} leaves {missing} open"


@pytest.mark.parametrize("command", commands_of("npe"))
def test_npe_commands_parse(command: str) -> None:
    options = _parser().parse_args(words(command)[1:])
    assert getattr(options, "photo", Path("portrait.png")) == Path("portrait.png")


def test_npe_commands_in_the_text_exist() -> None:
    texts = re.findall(r"`npe ([a-z-]+)((?: [a-z]+)?)", README)
    assert len(texts) >= 3
    for command, action in texts:
        with pytest.raises(SystemExit) as caught:
            _parser().parse_args([command, *action.split(), "--help"])
        assert caught.value.code == 0


@pytest.mark.parametrize("command", commands_of("make"))
def test_make_targets_exist(command: str) -> None:
    target = words(command)[1]
    assert re.search(rf"^{target}:.*## ", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)


def test_continuous_integration_runs_the_readme_test_command() -> None:
    assert "make test" in {" ".join(words(command)) for command in commands_of("make")}
    assert "\nmake test\n" in (REPOSITORY / ".ci" / "run").read_text()


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (REPOSITORY / link).is_file(), link
