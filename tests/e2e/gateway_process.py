"""A gateway as a process of its own, as it is started for users."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve.gateway.routes import BackendRoute, Routes
from serve.torchserve_process import TorchServeProcess

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = {"drain_delay_s": 0.0, "backend_poll_s": 0.1, "routes_poll_s": 0.1}


@dataclass
class GatewayProcess:
    """A running gateway.

    Attributes:
        url, internal_url: its two ports.
        log: the file that its stderr goes to.
    """

    process: "subprocess.Popen[bytes]"
    url: str
    internal_url: str
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return the log; every line of it must be JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wait_until_ready(self, within_s: float = 30.0) -> None:
        until = time.monotonic() + within_s
        while httpx.get(f"{self.url}/readyz").status_code != 200:
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)


@dataclass(frozen=True)
class KeyedGateway:
    """A gateway that asks for keys, and one that it takes.

    Attributes:
        environment: that of a client which has the key.
    """

    process: GatewayProcess
    key: str

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "NPE_API_KEY": self.key}


def route_to(server: TorchServeProcess) -> BackendRoute:
    return BackendRoute(
        url=server.inference_url, control_url=server.control_url, model=server.model
    )


@contextmanager
def running_gateway(
    folder: Path, routes: Routes, *flags: str, **settings: Any
) -> Iterator[GatewayProcess]:
    """Start a gateway on free ports and end it."""
    routes_file, config, log = folder / "routes.json", folder / "gateway.yaml", folder / "log"
    routes_file.write_text(routes.model_dump_json())
    files = {"routes_file": routes_file, "keys_file": folder / "keys.json"}
    files["usage_file"] = folder / "usage.sqlite"
    ports = {"port": 0, "internal_port": 0, "grpc_port": None}
    paths = {name: str(path) for name, path in files.items()}
    config.write_text(yaml.safe_dump({**QUICK, **ports, **paths, **settings}))
    command = [sys.executable, "-m", "serve.gateway", "--config", str(config), *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=REPOSITORY, stderr=output, env={**os.environ})
    try:
        addresses = _addresses(process, log)
        yield GatewayProcess(
            process, f"http://{addresses['public']}", f"http://{addresses['internal']}", log
        )
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()


def _addresses(process: "subprocess.Popen[bytes]", log: Path) -> dict[str, str]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            found: dict[str, str] = json.loads(line) if line.startswith("{") else {}
            if found.get("message") == "listening":
                return found
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(log.read_text())
