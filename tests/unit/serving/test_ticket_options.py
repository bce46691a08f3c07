"""A header that is wrong counts as absent; a setting that is wrong is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from neural_photo_editor.editing.acceleration import Acceleration
from neural_photo_editor.serving.options import ControlAddress, HandlerOptions
from neural_photo_editor.serving.ticket import Ticket

MODEL_CONFIG = Path(__file__).resolve().parents[3] / "serve" / "model-config.yaml"
ONE = "0123456789abcdef" * 2


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_headers_are_found_in_any_case(change: Any) -> None:
    headers = {
        "X-NPE-Request-Id": ONE.upper(),
        "X-NPE-Deadline": " 1763740000.25 ",
        "X-NPE-Sent": "1763739999",
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }
    ticket = Ticket.read({change(name): value for name, value in headers.items()})
    assert ticket == Ticket(ONE, 1763740000.25, 1763739999.0, headers["traceparent"])


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "-inf", "1e999", "0x10", "1 2", "ü"])
def test_what_is_no_time_is_absent(value: str) -> None:
    assert Ticket.read({"x-npe-deadline": value, "x-npe-sent": value}) == Ticket()


@pytest.mark.parametrize("value", ["", "abc", ONE + "0", "../../etc/passwd"])
def test_what_is_no_id_is_absent(value: str) -> None:
    assert Ticket.read({"x-npe-request-id": value}) == Ticket()


def test_the_settings_that_are_shipped_are_valid() -> None:
    options = HandlerOptions.read(yaml.safe_load(MODEL_CONFIG.read_text()))
    assert options.acceleration == Acceleration()
    assert options.max_batch_pixels == 36_000_000
    assert options.control_port is None
    assert HandlerOptions.read(None) == HandlerOptions()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "float16"),
        ("compile", "fastest"),
        ("compile", True),
        ("channels_last", "maybe"),
        ("max_batch_pixels", 0),
        ("torch_threads", "many"),
        ("control_port", 70_000),
        ("precison", "auto"),
    ],
)
def test_a_wrong_setting_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"handler\.{key} "):
        HandlerOptions.read({"handler": {key: value}})


def test_compilation_modes() -> None:
    options = HandlerOptions.read({"handler": {"compile": "max-autotune", "precision": "bfloat16"}})
    assert options.acceleration == Acceleration("bfloat16", True, "max-autotune")


def test_where_the_control_server_listens() -> None:
    with_port = HandlerOptions(control_port=8086)
    assert ControlAddress.choose(HandlerOptions(), {}) is None
    assert ControlAddress.choose(with_port, {}) == ControlAddress("127.0.0.1", 8086, None)
    environment = {"NPE_CONTROL_PORT": "9000", "NPE_CONTROL_TOKEN": "secret"}
    assert ControlAddress.choose(with_port, environment) == ControlAddress(
        "127.0.0.1", 9000, "secret"
    )
    environment["NPE_CONTROL_HOST"] = "0.0.0.0"
    address = ControlAddress.choose(HandlerOptions(), environment)
    assert address == ControlAddress("0.0.0.0", 9000, "secret")


@pytest.mark.parametrize("port", ["0", "-1", "65536", "http", "80.0", "²"])
def test_a_wrong_port_is_refused(port: str) -> None:
    with pytest.raises(ValueError, match="NPE_CONTROL_PORT"):
        ControlAddress.choose(HandlerOptions(), {"NPE_CONTROL_PORT": port})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "worker.internal"])
def test_others_are_let_in_with_a_token_only(host: str) -> None:
    environment = {"NPE_CONTROL_PORT": "9000", "NPE_CONTROL_HOST": host, "NPE_CONTROL_TOKEN": ""}
    with pytest.raises(ValueError, match="NPE_CONTROL_TOKEN"):
        ControlAddress.choose(HandlerOptions(), environment)
    for inside in ("127.0.0.1", "::1", "localhost"):
        environment["NPE_CONTROL_HOST"] = inside
        assert ControlAddress.choose(HandlerOptions(), environment) is not None
