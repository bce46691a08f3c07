"""The command line of ``serve/start.py``: ports, files, and what is refused at once."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.development_key import ensure_development_key
from serve.gateway_process import GatewayProcess
from serve.start import (
    _follow_signals,
    _newest_archive,
    _parse,
    _ready_text,
    _settings,
    main,
)


def test_ports_follow_the_public_one(tmp_path: Path) -> None:
    for arguments, ports in (
        ([], (8080, 8081, 8082)),
        (["--port", "9000"], (9000, 9001, 9002)),
        (["--port", "0"], (0, 0, 0)),
    ):
        settings = _settings(_parse([*arguments, "--workdir", str(tmp_path)]))
        assert (settings.port, settings.internal_port, settings.grpc_port) == ports


def test_a_settings_file_of_ones_own_keeps_its_values(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("host: 127.0.0.2\nport: 7000\ndrain_delay_s: 3\n")
    settings = _settings(_parse(["--config", str(own), "--workdir", str(tmp_path)]))
    assert (settings.host, settings.port, settings.drain_delay_s) == ("127.0.0.2", 7000, 3.0)
    assert settings.keys_file == tmp_path / "keys.json"
    assert _settings(_parse([])).drain_delay_s == 0.0


def test_the_newest_archive_is_found_but_not_a_copy_being_served(tmp_path: Path) -> None:
    for age, place in ((30, "old"), (20, "new"), (10, "serve/version-3")):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "neural_photo_editor.mar").touch()
        os.utime(folder / "neural_photo_editor.mar", (1e9 - age, 1e9 - age))
    assert _newest_archive(tmp_path).parent.name == "new"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bundle-dir", "{folder}"], "make demo"),
        (["--config", "{folder}/none.yaml"], "none.yaml cannot be read"),
        (["--port", "70000"], "port"),
    ],
)
def test_mistakes_are_told_with_a_remedy(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(folder=tmp_path) for argument in arguments]
    assert main([*given, "--workdir", str(tmp_path / "work")]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--canary-weight", "2"], ["--mar", "a", "--registry", "b"]])
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        _parse(arguments)


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("signal_handlers")
def test_signals_begin_the_end_and_a_second_ctrl_c_hurries_it(number: signal.Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stopping, hurry = threading.Event(), threading.Event()
    _follow_signals(stopping, hurry)
    assert callable(signal.getsignal(number))
    signal.raise_signal(number)
    assert (stopping.is_set(), hurry.is_set()) == (True, False)
    signal.raise_signal(number)
    assert hurry.is_set() == (number != signal.SIGHUP), "a shell sends SIGHUP a second time"


@pytest.mark.usefixtures("signal_handlers")
def test_what_nohup_started_stays_when_the_terminal_goes() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _follow_signals(threading.Event(), threading.Event())
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_editors_address_lets_those_in_who_read_it_on_a_terminal(
    is_terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    key_file = ensure_development_key(tmp_path / "keys.json")
    key = key_file.read_text().strip()
    settings = _settings(_parse(["--port", "7000", "--workdir", str(tmp_path)]))
    said = _ready_text(GatewayProcess(settings, workdir=tmp_path), "d" * 64, key_file, tmp_path)
    assert "the editor: http://127.0.0.1:7000/editor/" in said
    assert (f"/editor/#key={key}\n" in said, key in said) == (is_terminal, is_terminal)


def test_without_keys_or_an_editor_the_address_is_bare_or_missing(tmp_path: Path) -> None:
    settings = _settings(_parse(["--port", "7000", "--no-keys", "--workdir", str(tmp_path)]))
    said = _ready_text(GatewayProcess(settings, workdir=tmp_path), "d" * 64, None, tmp_path)
    assert "the editor: http://127.0.0.1:7000/editor/\n" in said
    off = settings.model_copy(update={"editor": False})
    said = _ready_text(GatewayProcess(off, workdir=tmp_path), "d" * 64, None, tmp_path)
    assert "the editor" not in said
