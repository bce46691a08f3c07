"""The public application: paths, and what wraps them all."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve.gateway.callers import Callers
from serve.gateway.editor import editor_router, read_files
from serve.gateway.edits import edit_router
from serve.gateway.forwarding import BUNDLE_HEADER, CHANNEL_HEADER, REQUEST_ID_HEADER
from serve.gateway.health import health_router
from serve.gateway.kserve import kserve_router
from serve.gateway.lingering import LingeringMiddleware
from serve.gateway.middleware import RequestMiddleware
from serve.gateway.openapi import install_openapi
from serve.gateway.problems import install_error_handlers
from serve.gateway.records import CLIENT_GONE
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings
from serve.gateway.tracing import NO_TELEMETRY
from serve.gateway.uploads import Uploads

_EXPOSED_HEADERS = (
    "X-NPE-Metadata",
    BUNDLE_HEADER,
    CHANNEL_HEADER,
    REQUEST_ID_HEADER,
    "Retry-After",
)


def create_app(settings: GatewaySettings, service: EditService) -> FastAPI:
    """Build the application that faces the network."""
    app = FastAPI(
        title="Neural Photo Editor",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # redirects would name the host that the client claims
        telemetry=NO_TELEMETRY,
    )
    uploads = Uploads(settings, service.metrics)
    callers = Callers(service)
    app.include_router(edit_router(service, callers, uploads, settings))
    app.include_router(kserve_router(service, callers, uploads, settings))
    app.include_router(health_router(service, callers, settings))
    if settings.editor:
        app.include_router(editor_router(read_files()))
    install_openapi(app)
    install_error_handlers(app)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key"],
            expose_headers=_EXPOSED_HEADERS,
        )
    # The last one added is the outermost.
    app.add_middleware(
        RequestMiddleware,
        metrics=service.metrics,
        tracing=service.tracing,
        is_draining=lambda: service.draining,
    )
    app.add_middleware(LingeringMiddleware)
    return app


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)  # for the log: nobody is left to read it
