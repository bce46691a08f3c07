"""The public application: paths, and what wraps them all."""

from fastapi import FastAPI

from serve.gateway.edits import edit_router
from serve.gateway.problems import install_error_handlers
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings


def create_app(settings: GatewaySettings, service: EditService) -> FastAPI:
    """Build the application that faces the network."""
    app = FastAPI(title="Neural Photo Editor", version="1")
    app.state.settings = settings
    app.state.service = service
    app.include_router(edit_router(service, settings))
    install_error_handlers(app)
    return app
