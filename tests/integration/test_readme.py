"""What the README names besides commands, which test_documented_commands.py has, is there."""

import re

import pytest

from neural_photo_editor.cli.command import _parser
from tests.integration.documented_commands import ROOT, commands_in_markdown

README = (ROOT / "README.md").read_text()


def test_every_part_of_the_project_is_shown() -> None:
    programs = {command.split()[0] for command in commands_in_markdown(README)}
    assert {"make", "npe", "python", "torchrun", "curl"} <= programs


def test_npe_commands_in_the_text_exist() -> None:
    texts = re.findall(r"`npe ([a-z-]+)((?: [a-z]+)?)", README)
    assert len(texts) >= 3
    for command, action in texts:
        with pytest.raises(SystemExit) as caught:
            _parser().parse_args([command, *action.split(), "--help"])
        assert caught.value.code == 0


def test_continuous_integration_runs_the_readme_test_command() -> None:
    assert any(command.split()[:2] == ["make", "test"] for command in commands_in_markdown(README))
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()
