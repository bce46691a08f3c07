"""Keys reach the server and nothing else: no message, traceback or representation shows one."""

import traceback

import httpx
import pytest

from neural_photo_editor.api import AsyncEditClient, EditClient, EditError

KEY = "npe_0123456789ab_hunter2hunter2"


def refuse(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401, json={"detail": "the API key is not valid"})


def fail(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("reset", request=request)


def test_the_key_is_an_argument_or_else_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={})

    monkeypatch.setenv("NPE_API_KEY", "npe_env\n")
    for key in (None, KEY, ""):
        EditClient("http://server", api_key=key, transport=httpx.MockTransport(answer)).info()
    monkeypatch.delenv("NPE_API_KEY")
    EditClient("http://server", transport=httpx.MockTransport(answer)).info()
    assert seen == ["Bearer npe_env", f"Bearer {KEY}", None, None]


@pytest.mark.parametrize("answer", [refuse, fail])
def test_errors_and_representations_show_no_key(answer: object) -> None:
    client = EditClient(
        "http://user:password@server",
        api_key=KEY,
        transport=httpx.MockTransport(answer),  # type: ignore[arg-type]
    )
    with pytest.raises(EditError) as caught:
        client.edit(b"photo", regions=["hair"])
    shown = repr(client) + repr(caught.value) + str(caught.value)
    shown += "".join(traceback.format_exception(caught.value))
    shown += repr(AsyncEditClient("http://user:password@server", api_key=KEY))
    assert "EditClient('http://server')" in shown
    assert "hunter2" not in shown
    assert "password" not in shown


@pytest.mark.parametrize("key", ["npe_hunter2\r\nHost: a", "npe hunter2", "npe_hunter2\u00e9"])
def test_a_key_that_cannot_be_sent_is_not_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="copy it again") as caught:
        EditClient(api_key=key)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("address", ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a:b:c"])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="base_url is no address"):
        EditClient(address)
