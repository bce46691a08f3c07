"""The gateway's settings: one YAML file, checked once at the start. Secrets are not among them."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Count = Annotated[int, Field(ge=1)]

DEFAULT_FILE = Path(__file__).resolve().parent / "gateway.yaml"


class GatewaySettings(BaseModel):
    """What gateway.yaml says; each key is explained there. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Addresses.
    host: str = "127.0.0.1"
    port: Port = 8080
    internal_host: str = "127.0.0.1"
    internal_port: Port = 8081
    grpc_port: Port | None = 8082

    # Files.
    routes_file: Path = Path("outputs/serve/routes.json")
    keys_file: Path = Path("outputs/serve/keys.json")
    usage_file: Path = Path("outputs/serve/usage.sqlite")

    # Callers.
    cors_origins: tuple[str, ...] = ()
    editor: bool = True

    # Time.
    request_timeout_s: Seconds = 120.0
    backend_poll_s: Seconds = 1.0
    routes_poll_s: Seconds = 0.5
    recovery_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    drain_delay_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    drain_timeout_s: Seconds = 120.0

    # Load.
    max_in_flight: Count = 64
    batches_in_flight: Count = 2
    max_attempts: Count = 8
    retry_after_s: Seconds = 2.0

    # Input.
    max_request_bytes: Count = 32 * 2**20 - 2**16
    max_upload_bytes_total: Count = 512 * 2**20
    max_image_bytes: Count = 31 * 2**20
    max_image_pixels: Count = 6000 * 6000

    # Connections.
    max_connections: Count = 1000
    head_timeout_s: Seconds = 10.0
    keep_alive_s: Seconds = 30.0
    body_timeout_s: Seconds = 120.0
    min_bytes_per_s: Count = 8192
    rate_grace_s: Seconds = 10.0
    heartbeat_s: Seconds = 10.0


def load_settings(path: Path = DEFAULT_FILE, **overrides: Any) -> GatewaySettings:
    """Read a settings file; keys that it leaves out have their defaults.

    Args:
        path: the YAML file.
        overrides: values that replace the file's, None for those that do not.

    Raises:
        ValueError: the file is missing, is no YAML mapping, or a key is unknown or out of range;
            the message names the file, the key and what to do.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): name a file with --config"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} is not a mapping: write one 'key: value' a line")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return GatewaySettings(**{**document, **given})
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(GatewaySettings.model_fields)
        return f"there is no setting {name!r}: take it out, or choose from {known}"
    return f"{name}: {first['msg']}; see serve/gateway/gateway.yaml for what it means"
