"""The worker's settings: ``handler`` in the model configuration, and its environment."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neural_photo_editor.editing.acceleration import Acceleration, CompileMode, Precision
from neural_photo_editor.editing.admission import MAX_BATCH_PIXELS

Port = Field(default=None, ge=1, le=65535)


class HandlerOptions(BaseModel):
    """What ``handler`` in ``model-config.yaml`` may say.

    Attributes:
        torch_threads: threads of a CPU's kernels, unless OMP_NUM_THREADS is set.
        edits_at_once: edits of a batch that a CPU computes at a time, each with so many threads.
        control_port: where the control server listens, unless NPE_CONTROL_PORT is set; without
            either there is none.
        max_batch_pixels: of photos and results that are worked on at a time.
        precision, channels_last, compile: see :class:`Acceleration`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    torch_threads: int = Field(default=1, ge=1)
    edits_at_once: int = Field(default=1, ge=1)
    control_port: int | None = Port
    max_batch_pixels: int = Field(default=MAX_BATCH_PIXELS, ge=1)
    precision: Precision = "auto"
    channels_last: bool = True
    compile: Literal[False] | CompileMode = False

    @classmethod
    def read(cls, model_config: Mapping[str, Any] | None) -> "HandlerOptions":
        """Read a model configuration; raises ValueError, which names the key that is wrong."""
        try:
            return cls.model_validate((model_config or {}).get("handler") or {})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["handler", *map(str, first["loc"][:1])])
            raise ValueError(f"{key} in the model configuration: {first['msg']}") from error

    @property
    def acceleration(self) -> Acceleration:
        return Acceleration(self.precision, self.channels_last, self.compile or None)


@dataclass(frozen=True)
class ControlAddress:
    """Where the control server listens, and the secret that callers need; None for none."""

    host: str
    port: int
    token: str | None

    @classmethod
    def choose(
        cls, options: HandlerOptions, environment: Mapping[str, str]
    ) -> "ControlAddress | None":
        """Read NPE_CONTROL_PORT, NPE_CONTROL_HOST and NPE_CONTROL_TOKEN; None without a port.

        Raises:
            ValueError: the port is none, or others could reach the server without a token.
        """
        text = environment.get("NPE_CONTROL_PORT", "")
        port = _port(text) if text else options.control_port
        if port is None:
            return None
        host = environment.get("NPE_CONTROL_HOST") or "127.0.0.1"
        token = environment.get("NPE_CONTROL_TOKEN") or None
        if token is None and not _is_loopback(host):
            raise ValueError(
                f"NPE_CONTROL_HOST is {host}, where others could cancel requests: "
                "set NPE_CONTROL_TOKEN, or listen at 127.0.0.1"
            )
        return cls(host, port, token)


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise ValueError(f"NPE_CONTROL_PORT is {text[:20]!r}: choose a port from 1 to 65535")
    return int(text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
