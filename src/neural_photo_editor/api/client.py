"""Clients of the editing endpoint, blocking and asynchronous, with the same methods.

A request is sent again only where that is safe: when no connection could be made, so that nothing
was sent, and when the server declined with 429 or 503, after its ``Retry-After`` where it gives
one. All three operations leave nothing behind on the server, so a repeat does no harm; an edit
without a seed may then come out with another seed. Timeouts and connections that break half-way
are not retried: the server may still be at work on the first copy.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from neural_photo_editor.api.envelope import operation_of, read_result, to_form
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_input import ImageInput, encode_image
from neural_photo_editor.api.schema import (
    EditRequest,
    EditResult,
    Request,
    RequestT,
    Result,
    SegmentRequest,
    SegmentResult,
    UpscaleRequest,
    UpscaleResult,
)
from neural_photo_editor.api.validation import validate_request

DEFAULT_URL = "http://127.0.0.1:8080"
API_KEY_VARIABLE = "NPE_API_KEY"

_CONNECT_TIMEOUT_S = 10.0
_FIRST_BACKOFF_S = 0.5
_MAX_WAIT_S = 30.0
_RETRIED_STATUS = (429, 503)
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class EditError(Exception):
    """The server refused or failed, or could not be reached.

    Attributes:
        status: HTTP status, or None when no answer came.
        detail: what is wrong.
        field: name of the request field at fault, if one is.
        remedy: what to do about it, if known.
    """

    def __init__(
        self,
        status: int | None,
        detail: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        status = f"[{self.status}] " if self.status else ""
        return f"{status}{where}{self.detail}{remedy}"


class _BaseClient:
    """What both clients share: where the endpoint is, and when to try again."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        model: str | None,
        timeout_s: float,
        max_retries: int,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._model = model
        if api_key is None:
            api_key = os.environ.get(API_KEY_VARIABLE, "")
        # TorchServe itself knows no keys.
        wants_key = api_key and model is None
        self._headers = {"Authorization": f"Bearer {api_key}"} if wants_key else {}
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        self._max_retries = max_retries

    def _call(self, request: Request) -> dict[str, Any]:
        texts, files = to_form(request)
        if self._model is None:
            url = f"{self._base_url}/v1/{texts.pop('operation')}"
        else:
            url = f"{self._base_url}/predictions/{self._model}"
        return {"url": url, "data": texts, "files": _file_parts(files), "headers": self._headers}

    def _wait_before_retry_s(
        self, attempt: int, outcome: httpx.Response | httpx.HTTPError
    ) -> float | None:
        """Return how long to wait before sending again, or None when this outcome is final."""
        if attempt >= self._max_retries:
            return None
        backoff_s: float = _FIRST_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5)
        if isinstance(outcome, httpx.Response):
            if outcome.status_code not in _RETRIED_STATUS:
                return None
            asked_s = _retry_after_s(outcome)
            if asked_s is None:
                return backoff_s
            # Jitter on top, so that clients turned away together do not come back together.
            return asked_s + backoff_s if asked_s <= _MAX_WAIT_S else None
        return backoff_s if isinstance(outcome, _NOTHING_SENT) else None


class EditClient(_BaseClient):
    """Blocking client; safe to share between threads; use it as a context manager.

    Images may be given as a path, the bytes of a file, a PIL image or a uint8 array (H, W, 3 or 4).

    Args:
        base_url: address of the server, such as ``http://127.0.0.1:8080``.
        api_key: the gateway's key; left out, that of the environment variable NPE_API_KEY.
        model: ask TorchServe itself for this model, without a gateway; for tests.
        timeout_s: longest silence to wait for while an answer is being made, in seconds.
        max_retries: how often a request is sent again where that is safe.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(
            base_url, api_key=api_key, model=model, timeout_s=timeout_s, max_retries=max_retries
        )
        self._http = httpx.Client(timeout=self._timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._http.close()

    def segment(self, photo: ImageInput) -> SegmentResult:
        """Return the label map of a photo and a table of its regions; raises EditError."""
        result = self._send(_segment_request(photo))
        assert isinstance(result, SegmentResult)
        return result

    def edit(
        self,
        photo: ImageInput,
        *,
        mask: ImageInput | None = None,
        regions: Sequence[str] = (),
        strokes: ImageInput | None = None,
        color: str | None = None,
        strength: float | None = None,
        strength_map: ImageInput | None = None,
        timestep: int | None = None,
        steps: int | None = None,
        resamples: int | None = None,
        sampler: str | None = None,
        seed: int | None = None,
        variations: int = 1,
        detail: str | None = None,
        blend: str | None = None,
        format: str | None = None,
        receipt: bool = False,
    ) -> EditResult:
        """Return the photo with its marked pixels repainted; raises EditError.

        The arguments are those of :class:`~neural_photo_editor.api.schema.EditRequest`; all
        variations are in the result's ``images``, their signed receipts in its ``receipts``.
        """
        result = self._send(
            _edit_request(
                photo,
                mask=mask,
                regions=regions,
                strokes=strokes,
                color=color,
                strength=strength,
                strength_map=strength_map,
                timestep=timestep,
                steps=steps,
                resamples=resamples,
                sampler=sampler,
                seed=seed,
                variations=variations,
                detail=detail,
                blend=blend,
                format=format,
                receipt=receipt,
            )
        )
        assert isinstance(result, EditResult)
        return result

    def upscale(self, photo: ImageInput) -> UpscaleResult:
        """Return the photo enlarged by the server's upscaler; raises EditError."""
        result = self._send(_upscale_request(photo))
        assert isinstance(result, UpscaleResult)
        return result

    def _send(self, request: Request) -> Result:
        call = self._call(request)
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.HTTPError
            try:
                outcome = self._http.post(**call)
            except httpx.HTTPError as error:
                outcome = error
            wait_s = self._wait_before_retry_s(attempt, outcome)
            if wait_s is None:
                return _read_outcome(request, outcome)
            time.sleep(wait_s)
            attempt += 1


class AsyncEditClient(_BaseClient):
    """Asynchronous client: the methods of :class:`EditClient` as coroutines."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            base_url, api_key=api_key, model=model, timeout_s=timeout_s, max_retries=max_retries
        )
        self._http = httpx.AsyncClient(timeout=self._timeout, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._http.aclose()

    async def segment(self, photo: ImageInput) -> SegmentResult:
        """Return the label map of a photo and a table of its regions; raises EditError."""
        result = await self._send(_segment_request(photo))
        assert isinstance(result, SegmentResult)
        return result

    async def edit(
        self,
        photo: ImageInput,
        *,
        mask: ImageInput | None = None,
        regions: Sequence[str] = (),
        strokes: ImageInput | None = None,
        color: str | None = None,
        strength: float | None = None,
        strength_map: ImageInput | None = None,
        timestep: int | None = None,
        steps: int | None = None,
        resamples: int | None = None,
        sampler: str | None = None,
        seed: int | None = None,
        variations: int = 1,
        detail: str | None = None,
        blend: str | None = None,
        format: str | None = None,
        receipt: bool = False,
    ) -> EditResult:
        """Return the photo with its marked pixels repainted; raises EditError.

        The arguments are those of :class:`~neural_photo_editor.api.schema.EditRequest`; all
        variations are in the result's ``images``, their signed receipts in its ``receipts``.
        """
        result = await self._send(
            _edit_request(
                photo,
                mask=mask,
                regions=regions,
                strokes=strokes,
                color=color,
                strength=strength,
                strength_map=strength_map,
                timestep=timestep,
                steps=steps,
                resamples=resamples,
                sampler=sampler,
                seed=seed,
                variations=variations,
                detail=detail,
                blend=blend,
                format=format,
                receipt=receipt,
            )
        )
        assert isinstance(result, EditResult)
        return result

    async def upscale(self, photo: ImageInput) -> UpscaleResult:
        """Return the photo enlarged by the server's upscaler; raises EditError."""
        result = await self._send(_upscale_request(photo))
        assert isinstance(result, UpscaleResult)
        return result

    async def _send(self, request: Request) -> Result:
        call = self._call(request)
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.HTTPError
            try:
                outcome = await self._http.post(**call)
            except httpx.HTTPError as error:
                outcome = error
            wait_s = self._wait_before_retry_s(attempt, outcome)
            if wait_s is None:
                return _read_outcome(request, outcome)
            await asyncio.sleep(wait_s)
            attempt += 1


def _segment_request(photo: ImageInput) -> SegmentRequest:
    return _build(SegmentRequest, {"photo": encode_image(photo)})


def _upscale_request(photo: ImageInput) -> UpscaleRequest:
    return _build(UpscaleRequest, {"photo": encode_image(photo)})


def _edit_request(
    photo: ImageInput,
    *,
    mask: ImageInput | None,
    strokes: ImageInput | None,
    strength_map: ImageInput | None,
    variations: int,
    receipt: bool,
    **options: Any,
) -> EditRequest:
    images = {"mask": mask, "strokes": strokes, "strength_map": strength_map}
    fields = {"photo": encode_image(photo), "variations": variations, "receipt": receipt, **options}
    fields |= {name: encode_image(image) for name, image in images.items() if image is not None}
    if variations != 1 or receipt:
        fields["response"] = "json"
    return _build(EditRequest, fields)


def _build(model: type[RequestT], fields: dict[str, Any]) -> RequestT:
    """Refuse a wrong request before it is sent, with the error the server would give."""
    try:
        return validate_request(model, fields)
    except RequestError as error:
        raise EditError(
            int(error.status), error.detail, field=error.field, remedy=error.remedy
        ) from None


def _file_parts(files: dict[str, bytes]) -> dict[str, tuple[str, bytes, str]]:
    # The server decides by content; a content type of text/* or JSON would make it decode them.
    return {name: (name, data, "application/octet-stream") for name, data in files.items()}


def _read_outcome(request: Request, outcome: httpx.Response | httpx.HTTPError) -> Result:
    if isinstance(outcome, httpx.HTTPError):
        kind = type(outcome).__name__
        raise EditError(
            None,
            f"no answer from the server: {outcome or kind} ({kind})",
            remedy="check that the server runs at this address, or allow a longer timeout",
        ) from outcome
    if outcome.status_code != 200:
        raise _error_from(outcome)
    try:
        return read_result(operation_of(request), outcome.headers, outcome.content)
    except (ValueError, KeyError, TypeError) as error:
        raise EditError(
            200,
            "the answer is not one of this program's",
            remedy="check that the address is a Neural Photo Editor server of this version",
        ) from error


def _error_from(response: httpx.Response) -> EditError:
    """Read a problem document, or make the best of another body (proxies, TorchServe itself)."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    detail = problem.get("detail") or problem.get("message") or response.reason_phrase
    remedy = problem.get("remedy")
    if response.status_code == 413 and remedy is None:
        remedy = "send smaller images: the server reads at most 32 MiB in one request"
    return EditError(
        response.status_code,
        str(detail or f"status {response.status_code}"),
        field=problem.get("field"),
        remedy=remedy,
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """Read Retry-After, given in seconds or as a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
