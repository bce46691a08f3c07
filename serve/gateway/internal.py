"""The internal application: life, metrics and backends, for a port that the public cannot reach."""

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from serve.gateway.metrics import METRICS_CONTENT_TYPE, GatewayMetrics
from serve.gateway.pool import BackendPool
from serve.gateway.problems import install_error_handlers
from serve.gateway.tracing import NO_TELEMETRY


def create_internal_app(pool: BackendPool, metrics: GatewayMetrics) -> FastAPI:
    """Build the application that monitoring and operators ask."""
    app = FastAPI(openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
    install_error_handlers(app)

    @app.get("/healthz")
    async def tell_life() -> JSONResponse:
        """Tell that the process answers, however many connections the public has open."""
        return JSONResponse({"status": "alive"})

    @app.get("/metrics")
    async def tell_metrics() -> Response:
        return Response(metrics.render(), headers={"Content-Type": METRICS_CONTENT_TYPE})

    @app.get("/backends")
    async def tell_backends() -> JSONResponse:
        return JSONResponse([state.to_json() for state in pool.states()])

    return app
