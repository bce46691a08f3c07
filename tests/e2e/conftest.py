"""A real server with a bundle of tiny, untrained networks, made once for all end-to-end tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_photo_editor.api.key_file import changed_keys, create_key
from neural_photo_editor.api.signing import KEY_VARIABLE, key_to_text
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import KeyedGateway, route_to, running_gateway
from tests.e2e.tiny_bundle import build_tiny_bundle

RESOLUTION = 32


@pytest.fixture(scope="session")
def tiny_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bundle(tmp_path_factory.mktemp("bundle"), resolution=RESOLUTION)


@pytest.fixture(scope="session")
def server(
    tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeProcess]:
    with (
        _signing(),
        TorchServeProcess(tiny_archive, workdir=tmp_path_factory.mktemp("serve")) as process,
    ):
        yield process


@pytest.fixture(scope="session")
def keyed_gateway(
    server: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedGateway]:
    with _gateway_with_key(tmp_path_factory.mktemp("keyed_gateway"), server) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def editor_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedGateway]:
    """Return what the editor's page is served by: behind it, hair is found in drawn portraits."""
    folder = tmp_path_factory.mktemp("editor")
    archive = build_tiny_bundle(folder, resolution=64, trains_segmenter=True)
    with (
        _signing(),
        TorchServeProcess(archive, workdir=folder / "serve") as server,
        _gateway_with_key(folder, server) as gateway,
    ):
        yield gateway


@contextmanager
def _signing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_VARIABLE, key_to_text(bytes(range(32))))
        yield


@contextmanager
def _gateway_with_key(folder: Path, server: TorchServeProcess) -> Iterator[KeyedGateway]:
    key, text = create_key("tests", now=datetime.now(UTC))
    with changed_keys(folder / "keys.json") as keys:
        keys.append(key)
    with running_gateway(folder, Routes(production=(route_to(server),))) as process:
        process.wait_until_ready()
        yield KeyedGateway(process, text)
