"""The gateway kept alive: started again when it has died or is silent."""

import time
from typing import Any

from neural_photo_editor.common.log import get_logger
from serve.gateway_process import GatewayProcess
from serve.managed_server import Backoff

_log = get_logger(__name__)

_SILENCE_S = 30.0
_STEADY_S = 60.0  # answered for so long, the next failure is the first again


class ManagedGateway:
    """Looks at a gateway whenever it is told to."""

    def __init__(self, process: GatewayProcess) -> None:
        self.process = process
        self._backoff = Backoff()
        self._launched_at = 0.0
        self._answered_at = 0.0
        self._answered_once = False
        self._next_start: float | None = None

    def launch(self) -> None:
        """Start it and return at once."""
        self.process.launch()
        self._launched_at = self._answered_at = time.monotonic()
        self._next_start = None

    def tend(self) -> list[dict[str, Any]] | None:
        """Return the backends it lists, or None while it does not answer.

        Raises:
            RuntimeError: it ended without ever having answered: its settings are at fault.
        """
        now = time.monotonic()
        if self._next_start is not None:
            if now >= self._next_start:
                self.launch()
            return None
        listed = self.process.backends() if self.process.is_running() else None
        if listed is not None:
            self._answered_once, self._answered_at = True, now
            if now - self._launched_at > _STEADY_S:
                self._backoff.failures = 0
        elif not self.process.is_running():
            self._fail("has ended")
        elif now - self._answered_at > _SILENCE_S:
            self._fail(f"has not answered for {_SILENCE_S:.0f} s")
        return listed

    def _fail(self, what: str) -> None:
        said = f"the gateway {what}:\n{self.process.log_tail()}"
        if not self._answered_once:
            raise RuntimeError(said)
        _log.error("[deploy] %s", said)
        self.process.kill()
        self._next_start = time.monotonic() + self._backoff.next_s()
