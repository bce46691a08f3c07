import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neural_photo_editor.api.key_file import ApiKey, read_keys
from neural_photo_editor.cli import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def npe(file: Path, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["keys", *arguments, "--file", str(file)])
        return status, *capsys.readouterr()

    return run


def _only(file: Path) -> ApiKey:
    (key,) = read_keys(file)
    return key


def test_create_writes_the_key_alone_to_the_output(npe, file: Path) -> None:
    status, out, err = npe("create", "--name", "Anna's phone")
    key = _only(file)
    assert status == 0
    assert key.secret_of(out.rstrip("\n")) is not None
    assert out.strip()[-64:] not in err
    assert (key.name, key.allows, key.expires) == (
        "Anna's phone",
        ("edit", "segment", "upscale"),
        None,
    )
    limits = (key.requests_per_minute, key.burst, key.requests_per_day, key.max_in_flight)
    assert limits == (60, 10, 1000, 4)


def test_create_takes_every_limit(npe, file: Path) -> None:
    options = ["--allow", "segment,edit", "--expires", "90d", "--per-minute", "7", "--burst", "2"]
    npe("create", "--name", "a", *options, "--per-day", "unlimited", "--in-flight", "1")
    key = _only(file)
    assert key.allows == ("edit", "segment")
    assert key.expires == key.created + timedelta(days=90)
    assert abs(key.created - datetime.now(UTC)) < timedelta(minutes=5)
    limits = (key.requests_per_minute, key.burst, key.requests_per_day, key.max_in_flight)
    assert limits == (7, 2, None, 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--allow", "edit,fly"), ("--expires", "soon"), ("--per-day", "many"), ("--burst", "x")],
)
def test_wrong_options_are_named_and_make_no_key(
    file: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["keys", "create", "--name", "a", option, value, "--file", str(file)])
    assert caught.value.code == 2
    assert f"argument {option}" in capsys.readouterr().err
    assert not file.exists()


def test_a_limit_of_zero_is_refused(npe, file: Path) -> None:
    status, out, err = npe("create", "--name", "a", "--per-minute", "0")
    assert (status, out) == (1, "")
    assert "requests_per_minute" in err
    assert not file.exists()


def test_list_shows_states_and_no_secret(npe, file: Path) -> None:
    texts = [npe("create", "--name", name, "--expires", "1d")[1].strip() for name in "abc"]
    ids = [text.split("_")[1] for text in texts]
    npe("revoke", ids[1])
    status, out, _ = npe("list")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert status == 0
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        (ids[0], "active", "a"),
        (ids[1], "revoked", "b"),
        (ids[2], "active", "c"),
    ]
    for key, text in zip(read_keys(file), texts, strict=True):
        assert text[-64:] not in out
        assert key.secrets[0].sha256 not in out


def test_revoke_stops_one_key_and_keeps_when(npe, file: Path) -> None:
    for name in "ab":
        npe("create", "--name", name)
    first, second = read_keys(file)
    assert npe("revoke", first.id)[0] == 0
    revoked = read_keys(file)[0].revoked
    assert revoked is not None
    npe("revoke", first.id)
    assert read_keys(file) == (first.model_copy(update={"revoked": revoked}), second)


def test_rotate_gives_a_new_secret_and_a_grace_period(npe, file: Path) -> None:
    old = npe("create", "--name", "a")[1].strip()
    before = _only(file)
    status, out, err = npe("rotate", before.id, "--grace", "30m")
    key = _only(file)
    assert status == 0
    assert key.secret_of(out.strip()) == key.secrets[0]
    expires = key.secret_of(old).expires
    assert timedelta(minutes=25) < expires - datetime.now(UTC) <= timedelta(minutes=30)
    assert f"{expires:%Y-%m-%d %H:%M} UTC" in err
    assert key.model_copy(update={"secrets": before.secrets}) == before


@pytest.mark.parametrize("action", ["revoke", "rotate"])
def test_an_unknown_id_is_refused_and_not_repeated(npe, action: str) -> None:
    text = npe("create", "--name", "a")[1].strip()
    status, out, err = npe(action, text)  # the whole key by mistake
    assert (status, out) == (1, "")
    assert "no key with this id" in err
    assert text not in err


def test_list_without_a_file_says_so(npe, file: Path) -> None:
    status, _, err = npe("list")
    assert status == 1
    assert str(file) in err


def test_the_command_needs_neither_the_server_nor_torch() -> None:
    code = (
        "import sys, neural_photo_editor.cli.keys;"
        "sys.exit(any(name in sys.modules for name in ('serve', 'torch', 'fastapi')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
