"""Without trouble: what the endpoint adds to an edit, and its throughput beside others'."""

import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from serving_bundle import edit_request
from serving_deployment import (
    CORES,
    EDITS_AT_ONCE,
    HERE,
    Body,
    Deployment,
    OfflinePipeline,
    Part,
    Sample,
    answered,
    free_port,
    median_ms,
    quantile,
    send,
    throughput,
    wait_until,
    worker_environment,
)

from neural_photo_editor.evaluation.report import Check

OURS = "this project"
PEERS = {
    "FastAPI with a lock": (CORES, 1),
    "LitServe": (CORES, 1),
    "LitServe, our batches": (1, EDITS_AT_ONCE),
}
"""Threads of an edit, and edits at a time. The last is given the project's own way to compute a
batch, and shows what the server itself is worth."""
MOST_OVERHEAD = 0.1
LEAST_OF_OFFLINE = 0.9
SENT = 24  # by eight clients in a turn
STAGES = ("queue", "decode", "segment", "prepare", "diffuse", "encode")


def overhead(deployment: Deployment, *, requests: int) -> Part:
    """One client: the networks' share of the time a client waits."""
    send(deployment.edit_url, deployment.bodies["gateway"], concurrency=1, requests=2)
    samples = send(
        deployment.edit_url, deployment.bodies["gateway"], concurrency=1, requests=requests
    )
    good = answered(samples)
    total_ms = 1e3 * quantile(good, 0.5)
    networks_ms = median_ms(good, "networks")
    outside_ms = statistics.median(
        1e3 * sample["seconds"] - sum(sample["timings_ms"][stage] for stage in STAGES)
        for sample in good
    )
    around = [1 - sample["timings_ms"]["networks"] / (1e3 * sample["seconds"]) for sample in good]
    row = {
        "p50_ms": total_ms,
        "networks_ms": networks_ms,
        **{f"{stage}_ms": median_ms(good, stage) for stage in STAGES},
        "gateway_and_replies_ms": outside_ms,
        "share": statistics.median(around),
    }
    checks = [
        Check("share of all but the networks", row["share"], MOST_OVERHEAD, "at most"),
        Check("answered of sent", len(good) / len(samples), 1.0),
    ]
    return Part({"concurrency 1": row}, checks)


def beside_offline(deployment: Deployment, *, rounds: int) -> Part:
    """Eight clients, in turns with batches of eight in a process without any server."""
    served: list[tuple[float, float]] = []
    offline: list[tuple[float, float]] = []
    samples: list[Sample] = []
    body = deployment.bodies["gateway"]
    with OfflinePipeline(deployment.bundle) as pipeline:
        pipeline.batch_seconds(1)
        for _ in range(rounds):
            offline.append(pipeline.batch_seconds(8))
            before_s = _cpu_seconds(deployment)
            samples += send(deployment.edit_url, body, concurrency=8, requests=SENT)
            served.append((throughput(samples[-SENT:]), _cpu_seconds(deployment) - before_s))
            offline.append(pipeline.batch_seconds(8))
    row = {
        "served_per_s": statistics.median(per_s for per_s, _ in served),
        "offline_per_s": statistics.median(8 / seconds for seconds, _ in offline),
        "worker_cpu_s": statistics.median(cpu_s / SENT for _, cpu_s in served),
        "offline_cpu_s": statistics.median(cpu_s / 8 for _, cpu_s in offline),
        "p50_s": quantile(answered(samples), 0.5),
        "p99_s": quantile(answered(samples), 0.99),
    }
    row["ratio"] = row["served_per_s"] / row["offline_per_s"]
    checks = [
        Check("throughput / offline's", row["ratio"], LEAST_OF_OFFLINE),
        Check("answered of sent", len(answered(samples)) / len(samples), 1.0),
    ]
    return Part({"concurrency 8": row}, checks)


def _cpu_seconds(deployment: Deployment) -> float:
    times = deployment.worker.cpu_times()
    return float(times.user + times.system)


def beside_peers(deployment: Deployment, *, rounds: int) -> Part:
    """The same pipeline and the same documents; the servers take turns, the others are idle."""
    body = _json_body(deployment.folder)
    samples: dict[tuple[str, int], list[Sample]] = {}
    rates: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        urls = {OURS: deployment.edit_url}
        for name in PEERS:
            urls[name] = stack.enter_context(running_peer(name, deployment.bundle, body))
        for turn in range(rounds):
            names = list(urls) if turn % 2 == 0 else list(reversed(urls))
            for name in names:
                for concurrency, requests in ((1, 4), (8, SENT)):
                    latest = send(urls[name], body, concurrency=concurrency, requests=requests)
                    samples.setdefault((name, concurrency), []).extend(latest)
                    rates.setdefault((name, concurrency), []).append(throughput(latest))
    rows = {
        name: {
            f"{what}_at_{concurrency}": value
            for concurrency in (1, 8)
            for what, value in (
                ("per_s", statistics.median(rates[name, concurrency])),
                ("p50_s", quantile(answered(samples[name, concurrency]), 0.5)),
                ("p99_s", quantile(answered(samples[name, concurrency]), 0.99)),
            )
        }
        for name in urls
    }
    ours = rows[OURS]["per_s_at_8"]
    for name in PEERS:
        rows[name]["ours_at_8_times"] = ours / rows[name]["per_s_at_8"]
    checks = [
        Check(f"throughput at 8 / {name}'s", rows[name]["ours_at_8_times"], 1.0)
        for name, (_, edits_at_once) in PEERS.items()
        if edits_at_once == 1
    ]
    return Part(rows, checks)


@contextlib.contextmanager
def running_peer(name: str, bundle: Path, body: Body) -> Iterator[str]:
    """Start a peer; it has answered one edit when its address is returned."""
    port = free_port()
    threads, edits_at_once = PEERS[name]
    program = [sys.executable, str(HERE / "serving_peers.py")]
    command = [*program, name, str(bundle), str(port), str(edits_at_once)]
    path = os.pathsep.join(
        [str(HERE.parent / "outputs" / "peers"), os.environ.get("PYTHONPATH", "")]
    )
    process = subprocess.Popen(
        command,
        env={**worker_environment(threads=threads), "PYTHONPATH": path},
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/predict"

    def works() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended: install benchmarks/peers.txt as it says")
        try:
            headers = {"Content-Type": body.content_type}
            reply = httpx.post(url, content=body.path.read_bytes(), headers=headers, timeout=60.0)
            return reply.status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(works, name)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def _json_body(folder: Path) -> Body:
    request = edit_request()
    files = {"photo": request.photo, "mask": request.mask or b""}
    texts = request.model_dump(exclude_defaults=True, exclude=set(files))
    encoded = {name: base64.b64encode(data).decode("ascii") for name, data in files.items()}
    path = folder / "document.json"
    path.write_text(json.dumps({**texts, **encoded, "response": "json"}))
    return Body(path, "application/json")
