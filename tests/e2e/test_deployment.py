"""Versions switched, tried and rolled back under load, as ``serve/start.py`` does it."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from neural_photo_editor.artifacts.archive import publish_bundle
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.artifacts.bundle_spec import MODEL_NAME
from neural_photo_editor.artifacts.registry import rollback, set_alias
from serve.gateway.routes import BackendRoute, Routes
from serve.gateway.settings import GatewaySettings
from serve.gateway_process import GatewayProcess, write_routes
from tests.e2e.deployment_process import FILES, LONG, Deployment, Load, deployed, until

pytestmark = pytest.mark.slow

SERVE = Path(__file__).resolve().parents[2] / "serve"
WEIGHT = 0.5
BROKEN_HANDLER = "def handle(data, context):\n    raise ValueError('a handler of the test')\n"


@pytest.fixture(scope="module")
def registry(tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions: two that differ in a default, and one whose handler fails."""
    folder = tmp_path_factory.mktemp("versions")
    registry = folder / "registry"
    shutil.copytree(tiny_archive.parent.parent / "registry", registry)
    broken = folder / "broken" / "handler.py"
    broken.parent.mkdir()
    broken.write_text(BROKEN_HANDLER)
    publish_bundle(registry, tiny_archive)
    for steps, handler in ((3, SERVE / "handler.py"), (2, broken)):
        archive = build_bundle(
            registry,
            denoiser="denoiser@latest",
            segmenter="segmenter@latest",
            upscaler="upscaler@latest",
            defaults=ServingDefaults(sampler="ddim", steps=steps),
            handler=handler,
            model_config=SERVE / "model-config.yaml",
            out_dir=folder / "out",
        )
        publish_bundle(registry, archive)
    set_alias(registry, MODEL_NAME, "production", 1)
    return registry


@pytest.fixture(scope="module")
def deployment(registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    arguments = ("--registry", str(registry), "--canary-weight", str(WEIGHT))
    with deployed(folder, *arguments) as running:
        yield running


@pytest.fixture
def first_version(deployment: Deployment, registry: Path) -> Deployment:
    """The deployment with version 1 in production and nothing else."""
    for alias in ("production", "canary"):
        set_alias(registry, MODEL_NAME, alias, 1)
    deployment.until(failed=[])
    deployment.until_alone(1)
    return deployment


def digest_of(registry: Path, version: int) -> str:
    file = registry / MODEL_NAME / "versions" / str(version) / "bundle.json"
    digest: str = json.loads(file.read_bytes())["digest"]
    return digest


def test_canary_promotion_and_rollback_under_load(
    first_version: Deployment, registry: Path
) -> None:
    deployment = first_version
    old, new = digest_of(registry, 1), digest_of(registry, 2)
    with Load(deployment.url, deployment.key) as load:
        load.until_answered(5)
        assert {bundle for _, bundle in load.bundles} == {old}

        set_alias(registry, MODEL_NAME, "canary", 2)
        deployment.until(production=1, canary=2)
        until(lambda: load.bundles[-1][1] == new, say=deployment.said)
        begun = time.monotonic()
        until(lambda: len(load.answered_since(begun)) >= 60, say=deployment.said)
        answers = load.answered_since(begun)
        # Five standard deviations of a binomial distribution: wrong once in a million runs.
        deviation = (WEIGHT * (1 - WEIGHT) * len(answers)) ** 0.5
        assert abs(answers.count(new) - WEIGHT * len(answers)) < 5 * deviation
        assert set(answers) == {old, new}

        pid = deployment.server(2)["pid"]
        set_alias(registry, MODEL_NAME, "production", 2)
        switched = deployment.until_alone(2)
        load.until_answered(10)
        assert set(load.answered_since(switched)) == {new}
        assert deployment.server(2)["pid"] == pid

        assert rollback(registry, MODEL_NAME, "production").to_version == 1
        rolled_back = deployment.until_alone(1)
        load.until_answered(10)
        # The alias canary names version 2 still, which was taken out.
        assert set(load.answered_since(rolled_back)) == {old}
    assert load.failures == 0, load.statuses
    assert {bundle for _, bundle in load.bundles} == {old, new}


def test_a_version_that_fails_is_not_switched_to(first_version: Deployment, registry: Path) -> None:
    deployment = first_version
    pid = deployment.server(1)["pid"]
    with Load(deployment.url, deployment.key, threads=2) as load:
        set_alias(registry, MODEL_NAME, "production", 3)
        until(lambda: deployment.state()["failed"], say=deployment.said)
        until(lambda: len(deployment.state()["servers"]) == 1, say=deployment.said)
        load.until_answered(5)
    (failure,) = deployment.state()["failed"]
    assert (failure["alias"], failure["version"]) == ("production", 3)
    assert "failed to load" in failure["reason"]
    assert "version 3 does not become production" in deployment.said()
    assert load.failures == 0, load.statuses
    assert {bundle for _, bundle in load.bundles} == {digest_of(registry, 1)}
    assert deployment.server(1)["pid"] == pid


def test_a_killed_worker_and_a_killed_server_fail_no_request(first_version: Deployment) -> None:
    deployment = first_version
    java = psutil.Process(deployment.server(1)["pid"])
    with Load(deployment.url, deployment.key) as load:
        load.until_answered(5)
        (worker,) = java.children()
        worker.kill()
        load.until_answered(10)
        java.kill()
        load.until_answered(10)
        until(lambda: httpx.get(f"{deployment.url}/readyz").status_code == 200, say=deployment.said)
    assert load.failures == 0, load.statuses
    assert deployment.server(1)["pid"] != java.pid


def test_a_killed_gateway_is_started_again(first_version: Deployment) -> None:
    deployment = first_version
    url, pid = deployment.url, deployment.state()["gateway"]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: deployment.state()["gateway"]["pid"] not in (pid, None), say=deployment.said)
    deployment.until(phase="serving")
    assert deployment.url == url
    with Load(url, deployment.key, threads=1) as load:
        load.until_answered(1)
    assert load.failures == 0


def test_the_control_a_careless_switch_fails_requests(
    first_version: Deployment, tmp_path: Path
) -> None:
    """Routes that name a server which nobody has seen ready: the load notices."""
    server = first_version.server(1)
    good = BackendRoute(url=server["url"], control_url=server["control_url"])
    unseen = BackendRoute(url="http://127.0.0.1:9", control_url="http://127.0.0.1:9")
    routes = tmp_path / "routes.json"
    settings = GatewaySettings(
        port=0, internal_port=0, grpc_port=None, routes_file=routes, drain_delay_s=0
    )
    write_routes(routes, Routes(production=(good,)))
    with (
        GatewayProcess(settings, workdir=tmp_path, keys=False) as gateway,
        Load(gateway.url) as load,
    ):
        load.until_answered(5)
        assert load.failures == 0
        write_routes(routes, Routes(production=(unseen,)))
        until(lambda: load.failures, within_s=20.0, say=gateway.log_tail)
        write_routes(routes, Routes(production=(good,)))
        load.until_answered(1)
    assert load.statuses[503] > 0


def test_a_damaged_archive_ends_the_command(tiny_archive: Path, tmp_path: Path) -> None:
    damaged = tmp_path / tiny_archive.name
    damaged.write_bytes(tiny_archive.read_bytes()[:-100])
    with (
        pytest.raises(AssertionError, match=r"the archive cannot be served: .* no whole archive"),
        deployed(tmp_path / "work", "--mar", str(damaged)),
    ):
        pass


def test_sigterm_answers_what_was_begun_and_leaves_nothing(first_version: Deployment) -> None:
    """The last test: the others' deployment ends here."""
    running = first_version
    url, key, folder = running.url, running.key, running.folder
    assert key not in running.said()
    assert f"export NPE_API_KEY=$(cat {folder}/development.key)" in running.said()
    assert (folder / "development.key").stat().st_mode & 0o777 == 0o600
    for headers in ({}, {"X-API-Key": f"{key[:-1]}!"}):
        reply = httpx.post(f"{url}/v1/segment", files=FILES, headers=headers)
        assert reply.status_code == 401
    children = psutil.Process(running.process.pid).children(recursive=True)
    with ThreadPoolExecutor() as executor:
        answer = executor.submit(
            httpx.post, f"{url}/v1/edit", data=LONG, files=FILES,
            headers={"X-API-Key": key}, timeout=120.0,
        )  # fmt: skip
        backends = f"{running.internal_url}/backends"
        until(lambda: httpx.get(backends).json()[0]["in_flight"], say=running.said)
        running.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
    assert running.process.wait(timeout=60) == 0
    assert len(children) >= 3
    assert not [child for child in children if child.is_running()]
    assert running.state()["phase"] == "stopped"
    assert "stopped" in running.said()
