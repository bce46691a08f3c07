"""Blocking client of the editing endpoint; :mod:`api.client_async` has the same methods.

A request is sent again only where that is safe: when no connection could be made, so that nothing
was sent, and when the server declined with 429 or 503, after its ``Retry-After`` where it gives one
of at most 30 seconds. Timeouts, connections that break half-way and streams of events that were
begun are not retried: the server may still be at work on the first copy.
"""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from neural_photo_editor.api.client_answers import AnswerReader, wait_before_retry_s
from neural_photo_editor.api.client_calls import (
    DEFAULT_URL,
    WITHOUT_PROXY,
    Call,
    EditOptions,
    Endpoint,
    edit_request,
)
from neural_photo_editor.api.client_errors import EditCanceled, EditError, no_answer
from neural_photo_editor.api.image_input import ImageInput
from neural_photo_editor.api.schema import EditRequest, EditResult, SegmentResult, UpscaleResult
from neural_photo_editor.api.stream import Progress

T = TypeVar("T")
OnProgress = Callable[[Progress], bool | None]


class EditClient:
    """Blocking client; safe to share between threads; use it as a context manager.

    >>> with EditClient() as client:  # the key is in the environment variable NPE_API_KEY
    ...     edit = client.edit("portrait.png", regions=["hair"], color="#8a3ffc", seed=7)
    ...     edit.save("edited.png")

    Images may be given as a path, the bytes of a file, a PIL image or a uint8 array (H, W, 3 or 4).

    Args:
        base_url: address of the gateway.
        api_key: its key; left out, that of the environment variable NPE_API_KEY, if set.
        model: ask TorchServe itself for this model, without a gateway and its keys; for tests.
        timeout_s: longest silence to wait for while an answer is being made, in seconds.
        connect_timeout_s: longest wait for a connection.
        events_timeout_s: longest silence between events; the gateway breaks it every 10 s.
        max_retries: how often a request is sent again where that is safe.
        transport: of httpx, instead of the network.

    Raises:
        ValueError: base_url is no address, or the key has characters that keys do not have.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        events_timeout_s: float = 30.0,
        max_retries: int = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._endpoint = Endpoint(
            base_url,
            api_key=api_key,
            model=model,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            events_timeout_s=events_timeout_s,
        )
        self._max_retries = max_retries
        self._http = httpx.Client(transport=transport, mounts=WITHOUT_PROXY)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._endpoint)!r})"

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
        return self._send(self._endpoint.segment(photo), None)

    def upscale(self, photo: ImageInput) -> UpscaleResult:
        """Return the photo enlarged by the server's upscaler; raises EditError."""
        return self._send(self._endpoint.upscale(photo), None)

    def info(self) -> dict[str, Any]:
        """Return the server's limits, regions, bundles and receipt keys; raises EditError."""
        return self._send(self._endpoint.info(), None)

    def edit(
        self,
        photo: ImageInput,
        *,
        on_progress: OnProgress | None = None,
        **options: Unpack[EditOptions],
    ) -> EditResult:
        """Return the photo with its marked pixels repainted.

        >>> def show(progress):
        ...     print(f"{progress.step} of {progress.total_steps}")
        ...     return not stop_button.pressed
        >>> client.edit("portrait.png", mask="mask.png", on_progress=show).save("edited.png")

        Args:
            on_progress: is called while the edit is made, at most about 8 times a second, with a
                preview; when it returns False, the edit is given up, on the server, too.
            options: as in :class:`~neural_photo_editor.api.schema.EditRequest`. All variations are
                in the result's ``images``, their signed receipts in its ``receipts``.

        Raises:
            EditError: the server refused or failed, or cannot be reached.
            EditCanceled: ``on_progress`` returned False.
        """
        return self.send_edit(edit_request(photo, **options), on_progress=on_progress)

    def send_edit(
        self, request: EditRequest, *, on_progress: OnProgress | None = None
    ) -> EditResult:
        """Send an edit that was built before, such as a recipe's; otherwise like :meth:`edit`."""
        call = self._endpoint.edit(request, wants_events=on_progress is not None)
        return self._send(call, on_progress)

    def _send(self, call: Call[T], on_progress: OnProgress | None) -> T:
        # Outside of what reads: errors of the caller's function are not the connection's.
        receiving = self._receive(call)
        with closing(receiving) as received:
            for item in received:
                if not isinstance(item, Progress):
                    return item
                if on_progress is not None and on_progress(item) is False:
                    raise EditCanceled
        raise AssertionError("an answer ends with its result")

    def _receive(self, call: Call[T]) -> Generator[Progress | T, None, None]:
        """Send, again where that is safe, and yield what comes back, the result at last."""
        attempt = 0
        while True:
            try:
                with self._http.stream(**call.options) as response:
                    reader = AnswerReader(call, response)
                    for chunk in response.iter_bytes():
                        yield from reader.feed(chunk)
                result = reader.finish()
                break
            except EditError as error:
                failure = error
            except httpx.HTTPError as error:
                failure = no_answer(error)
            wait_s = wait_before_retry_s(failure, attempt=attempt, max_retries=self._max_retries)
            if wait_s is None:
                raise failure
            time.sleep(wait_s)
            attempt += 1
        yield result
