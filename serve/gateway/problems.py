"""Refusals as HTTP answers: problem documents for every error, whoever raises it."""

import json
from dataclasses import replace
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from neural_photo_editor.api.envelope import Reply, render_error
from neural_photo_editor.api.errors import RequestError

_PROTOCOL = "/v2"
_REMEDIES = {
    404: "see /docs for the paths that there are",
    405: "see /docs for the methods that each path takes",
}


def to_response(reply: Reply) -> Response:
    """Turn a rendered reply into an HTTP response."""
    return Response(reply.body, status_code=reply.status, headers=reply.headers)


def error_response(error: RequestError, *, path: str) -> Response:
    """Turn a refusal into a problem document with the headers its status calls for.

    Below /v2 it has a further member, ``error``: what the Open Inference Protocol asks for.
    """
    reply = render_error(error)
    if path == _PROTOCOL or path.startswith(f"{_PROTOCOL}/"):
        body = json.dumps({**error.to_problem(), "error": str(error)}).encode("ascii")
        reply = replace(reply, body=body)
    response = to_response(reply)
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def from_http_exception(error: HTTPException) -> RequestError:
    """Return the refusal that the framework meant."""
    return RequestError(
        error.status_code,
        str(error.detail),
        field=None,
        remedy=_REMEDIES.get(error.status_code, "change the request accordingly"),
    )


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error, path=request.url.path)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_response(from_http_exception(error), path=request.url.path)
    response.headers.update(error.headers or {})  # 405 names the methods in Allow.
    return response


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = str(first["loc"][-1])[:40] if first.get("loc") else None
    refusal = RequestError(422, str(first["msg"]), field=field, remedy="see /docs for its values")
    return error_response(refusal, path=request.url.path)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem document."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
