"""POST /v1/edit, /v1/segment and /v1/upscale."""

import uuid

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serve.gateway.access import secret_from
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings


def edit_router(service: EditService, settings: GatewaySettings) -> APIRouter:  # noqa: ARG001
    """Return the three operations."""
    router = APIRouter(prefix="/v1")

    for operation in ("edit", "segment", "upscale"):

        @router.post(f"/{operation}", name=operation)
        async def answer(request: Request, operation: str = operation) -> Response:
            principal = service.authenticate(secret_from(request.headers))
            service.admit(principal, operation, bytes=0)
            return Response(uuid.uuid4().hex)

    return router
