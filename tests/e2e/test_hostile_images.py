"""Hostile images through a gateway and a real TorchServe: refused, never an error of the server."""

from collections.abc import Iterator

import httpx
import pytest

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import GatewayProcess, route_to, running_gateway
from tests.e2e.hostile_images import SIZE, hostile_images

pytestmark = pytest.mark.slow

FILES = list(hostile_images())
PHOTO = encode_png(generate_portrait(seed=1, index=0, resolution=64).photo[: SIZE[1], : SIZE[0]])


@pytest.fixture(scope="module")
def gateway(
    server: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    routes = Routes(production=(route_to(server),))
    with running_gateway(tmp_path_factory.mktemp("hostile"), routes, "--no-keys") as process:
        process.wait_until_ready()
        yield process


def fault(reply: httpx.Response, allowed: set[int]) -> str | None:
    """Return what is wrong with an answer, or None."""
    if reply.status_code not in allowed:
        return f"{reply.status_code}: {reply.text[:200]}"
    if reply.status_code == 200:
        return None
    if reply.headers["content-type"] != "application/problem+json" or not reply.json()["field"]:
        return f"no problem document of a field: {reply.text[:200]}"
    return None


def worker_deaths(gateway: GatewayProcess) -> list[str]:
    """Return the gateway's counts of lost workers; none is written while there was none."""
    lines = httpx.get(f"{gateway.internal_url}/metrics").text.splitlines()
    return [line for line in lines if line.startswith("npe_gateway_retries_total{")]


def test_hostile_images_are_refused_and_the_worker_lives(
    gateway: GatewayProcess, server: TorchServeProcess
) -> None:
    worker = server.workers()[0]["pid"]
    faults = {}
    with httpx.Client(base_url=gateway.url, timeout=60.0) as client:
        for name, data, allowed in FILES:
            reply = client.post("/v1/segment", files={"photo": data})
            faults[name] = fault(reply, allowed)
            files = {"photo": PHOTO, "mask": data}
            reply = client.post("/v1/edit", files=files, data={"steps": "1"})
            faults[f"{name} as a mask"] = fault(reply, {200, 413, 415, 422})
        good = client.post("/v1/segment", files={"photo": PHOTO})
    assert {name: found for name, found in faults.items() if found} == {}
    assert len(faults) > 80
    assert good.status_code == 200
    assert server.workers()[0]["pid"] == worker
    assert worker_deaths(gateway) == []


@pytest.mark.parametrize("status", [200, 500, 503])
def test_other_answers_would_be_noticed(status: int) -> None:
    assert fault(httpx.Response(status, headers={"content-type": "text/html"}), {422})
