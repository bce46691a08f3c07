"""REST, the inference protocol and gRPC of a gateway process before a real TorchServe."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.key_file import changed_keys, create_key
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.protos import editor_pb2 as pb
from serve.gateway.protos import editor_pb2_grpc
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import GatewayProcess, route_to, running_gateway
from tests.e2e.test_gateway import in_flight, until

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PHOTO = encode_png(generate_portrait(seed=5, index=0, resolution=64).photo)
MASK = encode_png(np.pad(np.full((30, 30), 255, np.uint8), 17))
EDIT: dict[str, Any] = {"photo": PHOTO, "mask": MASK, "strength": 0.6, "steps": 3, "seed": 4}
# 200 network calls: a second or more, in which a test does what it does.
LONG = {"photo": PHOTO, "mask": MASK, "timestep": 500, "steps": 100, "resamples": 2, "seed": 1}
# In the documentation, examples are what stands in these.
EXAMPLES = re.findall(
    r"```bash\n(.*?)```", (REPOSITORY / "docs" / "interfaces.md").read_text(), re.DOTALL
)


class Face:
    """A gateway with a key and a gRPC port."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self.gateway = gateway
        self.key = key
        [listening] = [line for line in gateway.lines() if line.get("message") == "listening"]
        self.grpc_address: str = listening["grpc"]

    @contextmanager
    def stub(self) -> Iterator[Any]:
        with grpc.insecure_channel(self.grpc_address) as channel:
            yield editor_pb2_grpc.EditorStub(channel)  # type: ignore[no-untyped-call]

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("x-api-key", self.key)]


@contextmanager
def running_face(folder: Path, server: TorchServeProcess, **settings: Any) -> Iterator[Face]:
    key, text = create_key("test", now=datetime.now(UTC))
    with changed_keys(folder / "keys.json") as keys:
        keys.append(key)
    routes = Routes(production=(route_to(server),))
    with running_gateway(folder, routes, grpc_port=0, **settings) as gateway:
        gateway.wait_until_ready()
        yield Face(gateway, text)


@pytest.fixture(scope="module")
def face(server: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    with running_face(tmp_path_factory.mktemp("interfaces"), server) as running:
        yield running


def test_all_interfaces_make_the_same_edit(face: Face) -> None:
    client = httpx.Client(base_url=face.gateway.url, headers={"X-API-Key": face.key}, timeout=60)
    files = {name: EDIT[name] for name in ("photo", "mask")}
    numbers = {name: value for name, value in EDIT.items() if name not in files}
    rest = client.post("/v1/edit", files=files, data={k: str(v) for k, v in numbers.items()})
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(data).decode()]}
        for name, data in files.items()
    ]
    infer = client.post(
        "/v2/models/neural_photo_editor/infer", json={"inputs": inputs, "parameters": numbers}
    )
    image, metadata = infer.json()["outputs"]
    with face.stub() as stub:
        response = stub.Edit(pb.EditRequest(**EDIT), metadata=face.metadata)
    assert rest.status_code == infer.status_code == 200
    assert rest.content == base64.b64decode(image["data"][0]) == response.images[0]
    told = [rest.headers["x-npe-metadata"], metadata["data"][0], response.metadata_json]
    assert len({json.loads(text)["bundle_digest"] for text in told}) == 1


def test_segment_and_upscale_over_grpc(face: Face) -> None:
    with face.stub() as stub:
        regions = stub.Segment(pb.SegmentRequest(photo=PHOTO), metadata=face.metadata)
        larger = stub.Upscale(pb.UpscaleRequest(photo=PHOTO), metadata=face.metadata)
    assert len(json.loads(regions.metadata_json)["regions"]) == 11
    assert json.loads(larger.metadata_json)["width"] == 256


def test_previews_over_grpc(face: Face) -> None:
    with face.stub() as stub:
        events = list(stub.EditStream(pb.EditRequest(**LONG), metadata=face.metadata))
    assert events[-1].WhichOneof("event") == "result"
    progress = [event.progress for event in events[:-1]]
    assert len(progress) >= 2
    assert [one.step for one in progress] == sorted({one.step for one in progress})
    assert all(one.preview.startswith(b"RIFF") and len(one.crop) == 4 for one in progress)


def test_nobody_gets_in_without_a_key(face: Face) -> None:
    with face.stub() as stub:
        for metadata in ([], [("x-api-key", "npe_guessed")]):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Edit(pb.EditRequest(**EDIT), metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "npe_guessed" not in face.gateway.log.read_text()


def test_work_ends_when_its_caller_leaves(face: Face) -> None:
    with face.stub() as stub:
        call = stub.EditStream(pb.EditRequest(**LONG), metadata=face.metadata)
        assert next(call).WhichOneof("event") == "progress"
        assert in_flight(face.gateway) == 1
        call.cancel()
        until(lambda: in_flight(face.gateway) == 0, within_s=20.0)
    # C code may write to stderr, too: what is there must be ours.
    assert all(line["level"] in {"info", "warning"} for line in face.gateway.lines())


def test_sigterm_lets_calls_finish(server: TorchServeProcess, tmp_path: Path) -> None:
    with (
        running_face(tmp_path, server) as face,
        face.stub() as stub,
        ThreadPoolExecutor(1) as executor,
    ):
        held = executor.submit(stub.Edit, pb.EditRequest(**LONG), metadata=face.metadata)
        until(lambda: in_flight(face.gateway) == 1)
        face.gateway.process.terminate()
        assert held.result().images
        with pytest.raises(grpc.RpcError) as refused:
            stub.Edit(pb.EditRequest(**EDIT), metadata=face.metadata)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert face.gateway.process.wait(timeout=20) == 0


@pytest.mark.parametrize("script", EXAMPLES)
def test_the_documented_commands_work(face: Face, script: str, tmp_path: Path) -> None:
    (tmp_path / "portrait.png").write_bytes(PHOTO)
    for command in script.strip().split("\n\n"):
        if command.startswith("grpcurl"):
            continue  # No package of Python brings it.
        sent = command.replace("http://127.0.0.1:8080", face.gateway.url).replace(
            "python -m examples.grpc_client",
            f"{sys.executable} -m examples.grpc_client --address {face.grpc_address}",
        )
        environment = {**os.environ, "NPE_API_KEY": face.key, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            ["bash", "-euc", sent], cwd=tmp_path, env=environment, capture_output=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        if "edited.png" in command:
            assert (tmp_path / "edited.png").read_bytes().startswith(b"\x89PNG")
        else:
            assert b'"status"' not in done.stdout
            assert b"metadata" in done.stdout


def test_the_grpc_example_says_what_is_wrong(face: Face, tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_text("no image")
    command = [sys.executable, "-m", "examples.grpc_client", "--address", face.grpc_address]
    files = [str(tmp_path / "photo.txt"), str(tmp_path / "out.png")]
    environment = {**os.environ, "NPE_API_KEY": face.key}
    done = subprocess.run(
        [*command, *files], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "INVALID_ARGUMENT: the file is not a JPEG, PNG or WebP image" in done.stderr
