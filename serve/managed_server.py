"""One version's TorchServe from fetching its archive to serving, kept alive until it is stopped."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from neural_photo_editor.common.log import get_logger
from serve.gateway.routes import BackendRoute
from serve.gateway_process import route_to
from serve.sources import Fetched, Source, in_background
from serve.torchserve_process import TorchServeProcess

_log = get_logger(__name__)

Phase = Literal["fetching", "starting", "ready", "down", "stopping"]

_ANSWER_S = 1.0
_LOOK_EVERY_S = 1.0
_FIRST_ANSWER_S = 10.0
_SILENCE_S = 180.0  # a worker that does not come back for so long does not come back by itself
_STEADY_S = 60.0  # served for so long, the next failure is the first again
_MAX_WAIT_S = 30.0
_FETCH_ATTEMPTS = 6  # within half a minute: a store that cannot be reached may come back


@dataclass
class Backoff:
    """How long to wait before the next of several attempts: 1 s, 2 s, 4 s ... 30 s."""

    failures: int = 0

    def next_s(self) -> float:
        self.failures += 1
        return float(min(_MAX_WAIT_S, 2.0 ** (self.failures - 1)))


class ManagedServer:
    """Fetched, started, watched and, when it dies, started again at the same address.

    Args:
        version: what to fetch from the source.
        workdir: receives the archive, the configuration and the logs.
        environment: of TorchServe, on top of our own.

    Attributes:
        phase: what it is doing.
        digest: of its bundle, once the archive was fetched.
        was_ready: it has been ready before.
        reason: why it is or was down, in one line.
        unwanted_since: when it was first found to be of no use any more, or None.
    """

    def __init__(
        self, version: int, source: Source, *, workdir: Path, environment: Mapping[str, str]
    ) -> None:
        self.version = version
        self.phase: Phase = "fetching"
        self.digest: str | None = None
        self.was_ready = False
        self.reason: str | None = None
        self.unwanted_since: float | None = None
        self._source = source
        self._workdir = workdir
        self._environment = environment
        self._fetching: Future[Fetched] | None = None
        self._fetched: Fetched | None = None
        self._process: TorchServeProcess | None = None
        self._ending: Future[None] | None = None
        self._client = httpx.Client(timeout=_ANSWER_S, trust_env=False)
        self._backoff = Backoff()
        self._next_start = 0.0
        self._transient = False
        self._ready_at = 0.0
        self._answered_at = 0.0
        self._next_look = 0.0
        self._begin()

    @property
    def route(self) -> BackendRoute | None:
        """Where the gateway finds it, once it was started."""
        return route_to(self._process) if self._process is not None else None

    @property
    def broken(self) -> bool:
        """Whether it failed, and not only for the moment, and never was ready."""
        return self.phase == "down" and not self.was_ready and not self._transient

    def tend(self) -> None:
        """Look at it and take the next step; never waits long."""
        try:
            if self.phase == "fetching":
                self._await_archive()
            elif self.phase == "starting":
                self._await_start()
            elif self.phase == "ready":
                self._watch()
            elif self.phase == "down" and time.monotonic() >= self._next_start and self._has_ended:
                self._begin()
        except Exception as error:  # noqa: BLE001 -- of one version; the others go on.
            self._fail(error)

    def stop(self) -> None:
        """Begin to end it, in the background: its copy of the archive goes, its logs stay."""
        if self.phase != "stopping":
            self.phase = "stopping"
            before = self._ending
            self._ending = in_background(lambda: self._end(before))

    @property
    def stopped(self) -> bool:
        """Whether nothing is left of it since it was told to stop."""
        return self.phase == "stopping" and self._has_ended

    @property
    def _has_ended(self) -> bool:
        """Whether what is ended in the background is gone."""
        return self._ending is None or self._ending.done()

    def wait_until_stopped(self) -> None:
        """Stop it and return when its processes are gone; while it is fetched there are none."""
        self.stop()
        if self._ending is not None and (self._fetching is None or self._fetching.done()):
            self._ending.result()

    def to_json(self) -> dict[str, Any]:
        """Return what the state file says of it."""
        route = self.route
        return {
            "version": self.version,
            "bundle_digest": self.digest,
            "phase": self.phase,
            "url": route.url if route else None,
            "control_url": route.control_url if route else None,
            "pid": self._process.pid if self._process else None,
            "reason": self.reason,
        }

    def _begin(self) -> None:
        if self._fetched is None:
            self._fetching = in_background(lambda: self._source.fetch(self.version, self._workdir))
            self.phase = "fetching"
        else:
            self._launch(self._fetched)

    def _await_archive(self) -> None:
        assert self._fetching is not None
        if self._fetching.done():
            self._fetched = self._fetching.result()
            self.digest = self._fetched.digest
            self._launch(self._fetched)

    def _launch(self, fetched: Fetched) -> None:
        if self._process is None:
            self._process = TorchServeProcess(
                fetched.archive, workdir=self._workdir, environment=self._environment
            )
        self._process.launch()
        self.phase, self._answered_at = "starting", 0.0

    def _await_start(self) -> None:
        assert self._process is not None
        if not self._process.check_ready():
            return
        found = self._served_digest()
        now = time.monotonic()
        if found is None:
            # A machine that is short of time may answer late; an old bundle never does.
            self._answered_at = self._answered_at or now
            if now - self._answered_at > _FIRST_ANSWER_S:
                raise RuntimeError(
                    "its worker does not say what it serves: if the bundle was packed before there "
                    "was a gateway, pack it again with pipelines/bundle.py"
                )
            return
        if found != self.digest:
            raise RuntimeError(f"it serves the bundle {found}, not {self.digest}")
        _log.info("[deploy] %s is ready at %s", self, self._process.inference_url)
        self.phase, self.was_ready = "ready", True
        self._ready_at = self._answered_at = now

    def _watch(self) -> None:
        assert self._process is not None
        if not self._process.is_running():
            raise RuntimeError(f"TorchServe ended:\n{self._process.log_tail()}")
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        if self._served_digest() is not None:
            self._answered_at = now
        elif now - self._answered_at > _SILENCE_S:
            raise RuntimeError(f"the worker has not answered for {_SILENCE_S:.0f} s")
        if now - self._ready_at > _STEADY_S:
            self._backoff.failures = 0

    def _served_digest(self) -> str | None:
        assert self._process is not None
        try:
            reply = self._client.get(f"{self._process.control_url}/ready")
            return str(reply.json()["bundle_digest"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None

    def _fail(self, error: Exception) -> None:
        said = f"{error}".strip() or type(error).__name__
        self.reason = said.splitlines()[0]
        wait_s = self._backoff.next_s()
        self._transient = isinstance(error, OSError) and self._backoff.failures < _FETCH_ATTEMPTS
        foreseen = isinstance(error, RuntimeError | ValueError | OSError)
        _log.error("[deploy] %s failed: %s", self, said, exc_info=None if foreseen else error)
        if self._process is not None:
            self._ending = in_background(self._process.stop)
            # Requests wait at the address of a server that they knew; any other may have failed
            # because its ports were taken meanwhile.
            if self.phase != "ready":
                self._process = None
        self.phase = "down"
        self._next_start = time.monotonic() + wait_s

    def _end(self, before: "Future[None] | None") -> None:
        for earlier in (before, self._fetching):
            if earlier is not None:
                earlier.exception()  # Waits.
        if self._process is not None:
            self._process.stop()
        self._client.close()
        for archive in self._workdir.glob("*.mar"):
            archive.unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"version {self.version}" if self.version else "TorchServe"
