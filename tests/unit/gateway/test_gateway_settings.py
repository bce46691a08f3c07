"""The settings file: every key explained, unknown ones refused."""

import re
from pathlib import Path

import pytest
import yaml

from serve.gateway.settings import DEFAULT_FILE, GatewaySettings, load_settings


def test_the_file_that_comes_along_explains_every_key() -> None:
    text = DEFAULT_FILE.read_text()
    assert list(yaml.safe_load(text)) == list(GatewaySettings.model_fields)
    for line in text.splitlines():
        if re.match(r"[a-z]", line) and not line.startswith("internal_port"):
            assert "# " in line, line


def test_the_file_says_what_applies_without_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert load_settings() == load_settings(empty) == GatewaySettings()


def test_flags_replace_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("port: 9000\nhost: 10.0.0.1\n")
    settings = load_settings(file, port=9001, host=None)
    assert (settings.host, settings.port) == ("10.0.0.1", 9001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 9000", r"no setting 'prot': take it out, or choose from host, port"),
        ("port: 70000", r"port: .*65535.*gateway\.yaml"),
        ("max_in_flight: 0", r"max_in_flight: "),
        ("- port", r"not a mapping"),
        ("a: [", r"not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_what_to_do(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        load_settings(file)
    assert str(file) in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read .*--config"):
        load_settings(tmp_path / "none.yaml")
