"""Alive, ready, and what is served: /healthz, /readyz and /v1/info."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from neural_photo_editor.api import schema
from neural_photo_editor.api.errors import RequestError
from serve.gateway.callers import Callers
from serve.gateway.documentation import Info, Status, problem_responses
from serve.gateway.records import record_of
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings


def check_ready(service: EditService) -> None:
    """Raise RequestError 503, with the reason, unless new requests are welcome."""
    if service.draining:
        reason = "the server is shutting down"
    elif not service.pool.production():
        reason = "no production backend is ready"
    else:
        return
    raise RequestError(503, reason, field=None, remedy="ask again later", retry_after_s=1.0)


def health_router(service: EditService, callers: Callers, settings: GatewaySettings) -> APIRouter:
    """Return the probes and the description of what is served."""
    router = APIRouter()

    status: dict[int | str, dict[str, Any]] = {200: {"model": Status}}

    @router.get("/healthz", tags=["health"], operation_id="healthz", responses=status)
    async def healthz(request: Request) -> JSONResponse:
        """Tell that the process answers."""
        record_of(request).operation = "healthz"
        return JSONResponse({"status": "alive"})

    @router.get(
        "/readyz",
        tags=["health"],
        operation_id="readyz",
        responses={**status, **problem_responses(503)},
    )
    async def readyz(request: Request) -> JSONResponse:
        """Tell whether requests are taken: a backend has been ready lately and no end is near."""
        record_of(request).operation = "readyz"
        check_ready(service)
        return JSONResponse({"status": "ready"})

    @router.get(
        "/v1/info",
        tags=["images"],
        operation_id="info",
        responses={200: {"model": Info}, **problem_responses(401)},
    )
    async def info(request: Request) -> JSONResponse:
        """Tell limits, regions, bundles and what a request that is silent gets."""
        record_of(request).operation = "info"
        callers.authenticate(request)
        return JSONResponse(describe(service, settings))

    return router


def describe(service: EditService, settings: GatewaySettings) -> dict[str, Any]:
    """Return limits, regions, keys of receipts, and what the backends say of each bundle."""
    bundles = {backend.bundle_digest: backend.info for backend in service.pool.production()}
    keys = [backend.info.get("receipt_key") for backend in service.pool.production()]
    names = ("bundle_digest", "resolution", "licenses", "defaults")
    return {
        "limits": {
            "max_request_bytes": settings.max_request_bytes,
            "max_image_bytes": settings.max_image_bytes,
            "max_image_pixels": settings.max_image_pixels,
            "max_variations": schema.MAX_VARIATIONS,
            "max_steps": schema.MAX_STEPS,
            "max_resamples": schema.MAX_RESAMPLES,
            "request_timeout_s": settings.request_timeout_s,
        },
        "regions": list(schema.REGION_NAMES),
        "bundles": [
            {name: info[name] for name in names if name in info} for info in bundles.values()
        ],
        "receipt_keys": list({key["key_id"]: key for key in keys if key is not None}.values()),
    }
