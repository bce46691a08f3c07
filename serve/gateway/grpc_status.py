"""Refusals as gRPC statuses; the problem document travels in the trailing metadata."""

import json
import math
from http import HTTPStatus

import grpc

from neural_photo_editor.api.errors import RequestError

PROBLEM_METADATA = "x-npe-problem"
RETRY_METADATA = "retry-after"

_CODES = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.CANCELLED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def code_of(error: RequestError) -> grpc.StatusCode:
    """Return the gRPC status that says what the HTTP status says; INTERNAL for any other."""
    return _CODES.get(error.status, grpc.StatusCode.INTERNAL)


def metadata_of(error: RequestError) -> tuple[tuple[str, str], ...]:
    """Return the problem document, and when to come back, as trailing metadata."""
    problem = (PROBLEM_METADATA, json.dumps(error.to_problem()))
    if error.retry_after_s is None:
        return (problem,)
    return problem, (RETRY_METADATA, str(max(1, math.ceil(error.retry_after_s))))
