"""With trouble: far too many requests, slow senders, and a worker that is killed."""

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

import httpx
from serving_deployment import (
    HERE,
    PLACES,
    Deployment,
    Load,
    Part,
    Rows,
    Sample,
    answered,
    is_ready,
    quantile,
    running_gateway,
    send,
    throughput,
    wait_until,
)

from neural_photo_editor.evaluation.report import Check

OVERLOAD = 10  # times the capacity
CONTROL_S = 40.0  # of overload without admission
SLOW_SOCKETS = 200
SLOW_S = 25.0  # longer than a head and a body may take, so that some are cut
NORMAL = 1.5  # times the latency of a lone request

Row = dict[str, float]


def overload(deployment: Deployment, *, seconds: float) -> Part:
    """Ten times as many requests as can be answered, at the gateway and at TorchServe itself."""
    url, body = deployment.edit_url, deployment.bodies["gateway"]
    alone_s = quantile(answered(send(url, body, concurrency=1, requests=3)), 0.5)
    capacity = send(url, body, concurrency=PLACES, requests=4 * PLACES)
    rate = OVERLOAD * throughput(capacity)
    p99_s = quantile(answered(capacity), 0.99)
    samples = send(url, body, rate=rate, seconds=seconds)
    back_s = _seconds_until_normal(deployment, samples, alone_s=alone_s, seconds=seconds)
    row = {**_overload_row(samples, p99_s), "normal_after_s": back_s}
    control = send(
        deployment.prediction_url,
        deployment.bodies["torchserve"],
        rate=rate,
        seconds=min(seconds, CONTROL_S),
    )
    rows: Rows = {
        "at capacity": {**_overload_row(capacity, p99_s), "rate_per_s": throughput(capacity)},
        "overload": {**row, "rate_per_s": rate},
        "control: TorchServe itself": {**_overload_row(control, p99_s), "rate_per_s": rate},
    }
    checks = [
        Check("accepted p99 / p99 at capacity", row["p99_ratio"], 1.5, "at most"),
        Check("refusals' p99", row["refusal_p99_ms"], 100.0, "at most", "ms"),
        Check("refusals with Retry-After", row["with_retry_after"], 1.0),
        Check("other than 200 and 503", row["other"], 0, "at most"),
        Check("seconds until normal", back_s, 10.0, "at most"),
        Check("control's p99 ratio", rows["control: TorchServe itself"]["p99_ratio"], 1.5),
    ]
    return Part(rows, checks)


def _overload_row(samples: Sequence[Sample], p99_at_capacity_s: float) -> Row:
    statuses = Counter(sample["status"] for sample in samples)
    good = answered(samples)
    refused = [sample for sample in samples if sample["status"] == 503]
    told = sum(sample["retry_after"] is not None for sample in refused)
    return {
        "sent": len(samples),
        "200": statuses[200],
        "503": statuses[503],
        "other": len(samples) - statuses[200] - statuses[503],
        "p50_s": quantile(good, 0.5),
        "p99_s": quantile(good, 0.99),
        "p99_ratio": quantile(good, 0.99) / p99_at_capacity_s,
        "refusal_p50_ms": 1e3 * quantile(refused, 0.5) if refused else math.nan,
        "refusal_p99_ms": 1e3 * quantile(refused, 0.99) if refused else math.nan,
        "with_retry_after": told / len(refused) if refused else math.nan,
    }


def _seconds_until_normal(
    deployment: Deployment, samples: Sequence[Sample], *, alone_s: float, seconds: float
) -> float:
    """Return when, after the last arrival, a request was first answered as fast as alone."""
    ended_at = float(min(sample["sent_at"] for sample in samples)) + seconds
    body = deployment.bodies["gateway"]
    for _ in range(60):
        (sample,) = send(deployment.edit_url, body, concurrency=1, requests=1)
        if sample["status"] == 200 and sample["seconds"] <= NORMAL * alone_s:
            return max(0.0, sample["sent_at"] - ended_at)
    return math.inf


def slow_senders(deployment: Deployment) -> Part:
    """Two good clients beside many slow sockets; then without limits and with few connections."""
    body = deployment.bodies["gateway"]
    before = send(deployment.edit_url, body, concurrency=2, seconds=SLOW_S)
    with slow_sockets(deployment, deployment.edit_url) as finish:
        during = send(deployment.edit_url, body, concurrency=2, seconds=SLOW_S)
        cut = finish()
    few = {"max_connections": 150}
    endless = {"head_timeout_s": 3600, "body_timeout_s": 3600, "rate_grace_s": 3600}
    folder = deployment.folder / "unguarded"
    folder.mkdir(exist_ok=True)
    with (
        running_gateway(folder, deployment.server, **few, **endless) as gateway,
        slow_sockets(deployment, gateway.url) as finish,
    ):
        control = send(f"{gateway.url}/v1/edit", body, concurrency=2, requests=8)
        finish()
    rows = {
        "undisturbed": _slow_row(before),
        f"{SLOW_SOCKETS} slow sockets": {**_slow_row(during), "cut": cut},
        "control: no time limits, 150 connections": _slow_row(control),
    }
    checks = [
        Check("good traffic answered", rows[f"{SLOW_SOCKETS} slow sockets"]["success"], 1.0),
        Check("slow sockets cut", cut, 1),
        Check("control's good traffic answered", _slow_row(control)["success"], 0.99, "at most"),
    ]
    return Part(rows, checks)


def _slow_row(samples: Sequence[Sample]) -> Row:
    good = answered(samples)
    return {
        "sent": len(samples),
        "success": len(good) / len(samples),
        "p50_s": quantile(good, 0.5) if good else math.nan,
        "p99_s": quantile(good, 0.99) if good else math.nan,
    }


@contextlib.contextmanager
def slow_sockets(deployment: Deployment, url: str) -> Iterator[Callable[[], int]]:
    """Hold slow sockets open; what is given ends them and returns how often one was cut."""
    address, body = urlsplit(url), deployment.bodies["gateway"]
    process = subprocess.Popen(
        [
            sys.executable,
            str(HERE / "serving_slow_sockets.py"),
            str(address.hostname),
            str(address.port),
            str(SLOW_SOCKETS),
            str(body.path),
            body.content_type,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(2.0)  # until all are connected
        yield lambda: int(json.loads(process.communicate()[0])["cut"])
    finally:
        process.kill()
        process.wait()


def kills(deployment: Deployment, *, count: int) -> Part:
    """A worker killed again and again under four clients; then with no second attempt."""
    gateway = deployment.gateway
    alone = send(deployment.edit_url, deployment.bodies["gateway"], concurrency=1, requests=2)
    batch_s = 4 * quantile(answered(alone), 0.5)
    samples, back, loads = _kill_workers(deployment, deployment.edit_url, count, batch_s)
    folder = deployment.folder / "single"
    folder.mkdir(exist_ok=True)
    wait_until(lambda: is_ready(gateway), "the gateway")
    with running_gateway(folder, deployment.server, max_attempts=1) as single:
        control, _, _ = _kill_workers(deployment, f"{single.url}/v1/edit", 1, batch_s)
    lost = len(control) - len(answered(control))
    rows: Rows = {
        f"{count} kills": {
            "sent": len(samples),
            "200": len(answered(samples)),
            "p50_s": quantile(answered(samples), 0.5),
            "longest_s": quantile(answered(samples), 1.0),
            "ready_after_p50_s": statistics.median(back),
            "ready_after_longest_s": max(back),
            "load_p50_s": statistics.median(loads),
        },
        "control: one attempt": {"sent": len(control), "200": len(answered(control))},
    }
    beyond = max(total - load for total, load in zip(back, loads, strict=True))
    checks = [
        Check("requests answered 200", len(answered(samples)) / len(samples), 1.0),
        Check("ready after, without the load", beyond, 10.0, "at most", "s"),
        Check("control's requests lost", lost, 1),
    ]
    return Part(rows, checks)


def _kill_workers(
    deployment: Deployment, url: str, count: int, batch_s: float
) -> tuple[list[Sample], list[float], list[float]]:
    """Return the samples, and of each kill the seconds until ready, in all and of the load."""
    load = Load(url, deployment.bodies["gateway"], concurrency=4)
    back: list[float] = []
    loads: list[float] = []
    for number in range(count):
        # Each at another moment of a batch, and not before one could be answered.
        time.sleep((1.25 + number / count) * batch_s)
        killed_at = time.time()
        os.kill(deployment.worker.pid, signal.SIGKILL)
        wait_until(lambda: _is_up(deployment.server.control_url), "the worker")
        ready_at = time.time()
        back.append(ready_at - killed_at)
        loads.append(ready_at - deployment.worker.create_time())
    time.sleep(batch_s)
    return load.finish(now=True), back, loads


def _is_up(control_url: str) -> bool:
    try:
        return bool(httpx.get(f"{control_url}/ready", timeout=2.0).status_code == 200)
    except httpx.HTTPError:
        return False
