"""Calls of the endpoint before they are sent: addresses, headers, forms and timeouts."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import httpx

from neural_photo_editor.api.client_errors import WrongRequestError
from neural_photo_editor.api.envelope import operation_of, read_result, to_form
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_input import ImageInput, encode_image
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    Request,
    RequestT,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.api.stream import EVENT_CONTENT_TYPE
from neural_photo_editor.api.validation import validate_request

DEFAULT_URL = "http://127.0.0.1:8080"
API_KEY_VARIABLE = "NPE_API_KEY"
WITHOUT_PROXY = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}
"""Mounts of an httpx client: photos and keys for this machine must not leave it."""

T = TypeVar("T")

_IMAGES = ("mask", "strokes", "strength_map")


class EditOptions(TypedDict, total=False):
    """What may be said of an edit; see :class:`~neural_photo_editor.api.schema.EditRequest`.

    Images may be given in all forms of :func:`~neural_photo_editor.api.image_input.encode_image`.
    None stands for an option that is left out.
    """

    mask: ImageInput | None
    regions: Sequence[str]
    strokes: ImageInput | None
    color: str | None
    strength: float | None
    strength_map: ImageInput | None
    timestep: int | None
    steps: int | None
    resamples: int | None
    sampler: str | None
    seed: int | None
    variations: int
    detail: str | None
    blend: str | None
    format: str | None
    receipt: bool


def edit_request(photo: ImageInput, **options: Unpack[EditOptions]) -> EditRequest:
    """Build an edit to send, or to record as a recipe.

    Raises:
        WrongRequestError: an option is wrong, as the server would say; its status is 422.
        ValueError, OSError: an image cannot be read.
    """
    fields: dict[str, Any] = {"photo": encode_image(photo), **options}
    for name in _IMAGES:
        if fields.get(name) is not None:
            fields[name] = encode_image(fields[name])
    if fields.get("variations", 1) != 1 or fields.get("receipt"):
        fields["response"] = "json"
    return _build(EditRequest, fields)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One HTTP request, and how to read the body that comes back.

    Attributes:
        options: what ``stream`` of an httpx client takes.
        read: turns the headers and the body of an answer into the result.
    """

    options: dict[str, Any] = field(repr=False)
    read: Callable[[Mapping[str, str], bytes], T]


class Endpoint:
    """Where the server is, and what each call of it is.

    Raises:
        ValueError: the address is none, or the key cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        model: str | None,
        timeout_s: float,
        connect_timeout_s: float,
        events_timeout_s: float,
    ) -> None:
        self._url = _check_url(base_url)
        self._model = model
        self._timeout = httpx.Timeout(timeout_s, connect=connect_timeout_s)
        self._events_timeout = httpx.Timeout(
            timeout_s, connect=connect_timeout_s, read=events_timeout_s
        )
        # Packed answers could unpack to more than is allowed at once.
        self._headers = {"Accept-Encoding": "identity"}
        # TorchServe itself knows no keys.
        if model is None and (key := _checked_key(api_key)):
            self._headers["Authorization"] = f"Bearer {key}"

    def __str__(self) -> str:
        return str(httpx.URL(self._url).copy_with(userinfo=b""))

    def segment(self, photo: ImageInput) -> Call[SegmentResult]:
        """Return the call that asks for a label map."""
        request = _build(SegmentRequest, {"photo": encode_image(photo)})
        return self._post(request, SegmentResult)

    def upscale(self, photo: ImageInput) -> Call[UpscaleResult]:
        """Return the call that asks for a larger photo."""
        request = _build(UpscaleRequest, {"photo": encode_image(photo)})
        return self._post(request, UpscaleResult)

    def edit(self, request: EditRequest, *, wants_events: bool) -> Call[EditResult]:
        """Return the call that asks for an edit, as a stream of events or as one answer."""
        if wants_events and self._model is not None:
            raise ValueError("on_progress needs the gateway: leave model out")
        return self._post(request, EditResult, wants_events=wants_events)

    def info(self) -> Call[dict[str, Any]]:
        """Return the call that asks what is served."""
        if self._model is not None:
            raise ValueError("info needs the gateway: leave model out")
        return Call(self._options("GET", f"{self._url}/v1/info"), _read_object)

    def _post(self, request: Request, result: type[T], *, wants_events: bool = False) -> Call[T]:
        operation = operation_of(request)
        texts, files = to_form(request)
        url = f"{self._url}/predictions/{self._model}"
        if self._model is None:
            url = f"{self._url}/v1/{texts.pop('operation')}"
        options = self._options("POST", url) | {"data": texts, "files": _file_parts(files)}
        if wants_events:
            options["headers"] = {**self._headers, "Accept": EVENT_CONTENT_TYPE}
            options["timeout"] = self._events_timeout
        return Call(options, partial(_read, operation, result))

    def _options(self, method: str, url: str) -> dict[str, Any]:
        return {"method": method, "url": url, "headers": self._headers, "timeout": self._timeout}


def _build(model: type[RequestT], fields: dict[str, Any]) -> RequestT:
    """Refuse a wrong request before it is sent, with the error the server would give."""
    try:
        return validate_request(model, fields)
    except RequestError as error:
        raise WrongRequestError(
            int(error.status), error.detail, field=error.field, remedy=error.remedy
        ) from None


def _file_parts(files: dict[str, bytes]) -> dict[str, tuple[str, bytes, str]]:
    # The server decides by content; a content type of text/* or JSON would make it decode them.
    return {name: (name, data, "application/octet-stream") for name, data in files.items()}


def _read(operation: str, kind: type[T], headers: Mapping[str, str], body: bytes) -> T:
    result = read_result(operation, headers, body)
    assert isinstance(result, kind)
    return result


def _read_object(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:  # noqa: ARG001
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    return document


def _check_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url is no address: write one such as http://127.0.0.1:8080")
    return base_url.rstrip("/")


def _checked_key(api_key: str | None) -> str:
    """Return the key to send; an error must not quote it, as that of a bad header would."""
    key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if not all("!" <= character <= "~" for character in key):
        raise ValueError(
            f"the API key (api_key, {API_KEY_VARIABLE}) holds characters that keys do not have: "
            "copy it again"
        )
    return key
