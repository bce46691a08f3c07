"""The processes of the serving benchmarks: servers, the offline pipeline, and clients."""

import contextlib
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from serving_bundle import edit_request, make_bundle

from neural_photo_editor.api.envelope import to_form
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.evaluation.report import Check
from serve.gateway.routes import Routes
from serve.gateway.settings import GatewaySettings
from serve.gateway_process import GatewayProcess, route_to, write_routes
from serve.torchserve_process import TorchServeProcess

HERE = Path(__file__).resolve().parent
READY_S = 120.0
CORES = os.cpu_count() or 1
EDITS_AT_ONCE = min(4, CORES)  # of the four in a batch
PLACES = 8  # requests that the gateway lets in for one worker: two batches of four

Sample = dict[str, Any]
Rows = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Part:
    """What a part found: rows of a table, and what must hold."""

    rows: Rows
    checks: list[Check]


@dataclass(frozen=True)
class Body:
    """A request's body in a file, as all clients send it."""

    path: Path
    content_type: str


@dataclass(frozen=True)
class Deployment:
    """What the parts measure.

    Attributes:
        folder: for files of theirs.
        bundle: the unpacked bundle.
        bodies: the edit as the "gateway" takes it, and as "torchserve" does.
    """

    folder: Path
    bundle: Path
    bodies: Mapping[str, Body]
    server: TorchServeProcess
    gateway: GatewayProcess

    @property
    def worker(self) -> psutil.Process:
        """The worker below the Java process, which now and then has other children."""
        children = psutil.Process(self.server.pid).children()
        return next(one for one in children if "model_service_worker" in " ".join(one.cmdline()))

    @property
    def edit_url(self) -> str:
        return f"{self.gateway.url}/v1/edit"

    @property
    def prediction_url(self) -> str:
        return f"{self.server.inference_url}/predictions/{self.server.model}"


@contextlib.contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Make the bundle, and start TorchServe and a gateway in front of it."""
    mar = make_bundle(folder / "store", edits_at_once=EDITS_AT_ONCE)
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder / "bundle")
    bodies = write_bodies(folder, edit_request())
    one_thread = {"OMP_NUM_THREADS": "1"}
    with (
        TorchServeProcess(mar, workdir=folder / "torchserve", environment=one_thread) as server,
        running_gateway(folder, server) as gateway,
    ):
        yield Deployment(folder, folder / "bundle", bodies, server, gateway)


def write_bodies(folder: Path, request: EditRequest) -> dict[str, Body]:
    """Write the request as the gateway takes it and as TorchServe does."""
    texts, files = to_form(request)
    bodies = {}
    for name, without in (("gateway", "operation"), ("torchserve", "")):
        fields = {key: text for key, text in texts.items() if key != without}
        form = httpx.Request("POST", "http://any", data=fields, files=files)
        path = folder / f"{name}.form"
        path.write_bytes(form.read())
        bodies[name] = Body(path, form.headers["content-type"])
    return bodies


@contextlib.contextmanager
def running_gateway(
    folder: Path, server: TorchServeProcess, **settings: Any
) -> Iterator[GatewayProcess]:
    """Start a gateway with the default settings, but for those given; ready when it returns."""
    routes = folder / "routes.json"
    write_routes(routes, Routes(production=(route_to(server),)))
    ports = {"port": 0, "internal_port": 0, "grpc_port": None, "drain_delay_s": 0.0}
    files = {
        "routes_file": routes,
        "keys_file": folder / "keys.json",
        "usage_file": folder / "usage.sqlite",
    }
    chosen = GatewaySettings(**{**ports, **files, **settings})
    with GatewayProcess(chosen, workdir=folder, keys=False) as gateway:
        wait_until(lambda: is_ready(gateway), "the gateway")
        yield gateway


def is_ready(gateway: GatewayProcess) -> bool:
    """Tell whether the gateway's only backend is ready."""
    backends = gateway.backends()
    return bool(backends) and backends is not None and bool(backends[0]["ready"])


def wait_until(condition: Callable[[], bool], what: str, *, within_s: float = READY_S) -> float:
    """Return after how many seconds a condition held; raises RuntimeError if it does not."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start + within_s:
            raise RuntimeError(f"{what} was not ready after {within_s:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - start


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Load:
    """Clients at work in another process, see serving_load.py; ``finish`` waits for them."""

    def __init__(self, url: str, body: Body, **how: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "serving_load.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        specification = {
            "url": url,
            "body": str(body.path),
            "content_type": body.content_type,
            **how,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(specification) + "\n")
        self._process.stdin.flush()

    def finish(self, *, now: bool = False) -> list[Sample]:
        """Return all samples, in the order of their answers.

        Args:
            now: send no further request.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if now:
            self._process.stdin.close()
        text = self._process.stdout.read()
        if self._process.wait() != 0:
            raise RuntimeError("the clients failed; see above")
        samples: list[Sample] = json.loads(text)
        return samples


def send(url: str, body: Body, **how: float) -> list[Sample]:
    """Return the samples of a load once it is over."""
    return Load(url, body, **how).finish()


class OfflinePipeline:
    """The pipeline alone in a process; a context manager."""

    def __init__(self, bundle: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "serving_offline.py"), str(bundle), str(EDITS_AT_ONCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=worker_environment(threads=1),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def batch_seconds(self, size: int) -> tuple[float, float]:
        """Run a batch of edits; returns how long it took, and its CPU time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        seconds, cpu_s = self._process.stdout.readline().split()
        return float(seconds), float(cpu_s)


def worker_environment(*, threads: int) -> dict[str, str]:
    """Return an environment in which others compute under the conditions of our worker."""
    return {
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "2000000000",
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
    }


def quantile(samples: Sequence[Sample], share: float) -> float:
    """Return a quantile of the latencies of answered requests, in seconds."""
    seconds = sorted(sample["seconds"] for sample in samples)
    return float(seconds[max(0, math.ceil(share * len(seconds)) - 1)])


def answered(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with status 200."""
    return [sample for sample in samples if sample["status"] == 200]


def throughput(samples: Sequence[Sample]) -> float:
    """Return answers per second, from the first request to the last answer."""
    first = min(sample["sent_at"] for sample in samples)
    last = max(sample["sent_at"] + sample["seconds"] for sample in samples)
    return len(answered(samples)) / float(last - first)


def median_ms(samples: Sequence[Sample], stage: str) -> float:
    """Return the median of a stage's milliseconds, as the worker says."""
    return float(statistics.median(sample["timings_ms"][stage] for sample in samples))
