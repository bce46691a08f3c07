"""The gRPC port: its limits and its health."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from neural_photo_editor.api.errors import RequestError
from serve.gateway.connections import MAX_HEAD_BYTES
from serve.gateway.grpc_service import SERVICE, EditorService
from serve.gateway.health import check_ready
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings

_CONNECTION_AGE_S = 600.0
_HEALTH = "grpc.health.v1.Health"


class Health:
    """The standard health service, grpc.health.v1. Watch, which holds calls open, is left out."""

    def __init__(self, service: EditService) -> None:
        self._service = service

    def handlers(self) -> grpc.GenericRpcHandler:
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=health_pb2.HealthCheckRequest.FromString,
            response_serializer=health_pb2.HealthCheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_HEALTH, {"Check": check})

    async def _check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        status = "SERVING"
        try:
            check_ready(self._service)
        except RequestError:
            status = "NOT_SERVING"
        return health_pb2.HealthCheckResponse(status=status)


def create_grpc_server(settings: GatewaySettings, service: EditService) -> grpc.aio.Server:
    """Return a server that listens nowhere yet; call it in the loop that it will run in."""
    longest_call_s = settings.body_timeout_s + settings.request_timeout_s
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_send_message_length", -1),  # ours to choose, as over HTTP
            ("grpc.max_metadata_size", MAX_HEAD_BYTES // 2),
            ("grpc.absolute_max_metadata_size", MAX_HEAD_BYTES),
            ("grpc.max_allowed_incoming_connections", settings.max_connections),
            ("grpc.server_handshake_timeout_ms", round(settings.head_timeout_s * 1000)),
            ("grpc.max_connection_idle_ms", round(settings.keep_alive_s * 1000)),
            # The only limit on how slowly an answer is read. Callers connect again by themselves.
            ("grpc.max_connection_age_ms", round(_CONNECTION_AGE_S * 1000)),
            ("grpc.max_connection_age_grace_ms", round(longest_call_s * 1000)),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ],
        maximum_concurrent_rpcs=settings.max_connections,
    )
    editor, health = EditorService(settings, service), Health(service)
    server.add_generic_rpc_handlers((editor.handlers(), health.handlers()))
    return server


def listen_for_grpc(server: grpc.aio.Server, host: str, port: int) -> int:
    """Take an address, 0 for a free port, and return the port; raises ValueError if taken."""
    where = f"[{host}]" if ":" in host else host
    try:
        return server.add_insecure_port(f"{where}:{port}")
    except RuntimeError:
        raise ValueError(
            f"port {port} of {host} cannot be used: stop what listens there, or choose another"
        ) from None
