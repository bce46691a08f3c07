"""The handler with a mock context: no item harms another, only clean text reaches TorchServe."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditRequest,
    Request,
    Result,
    UpscaleMetadata,
    UpscaleResult,
)
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.editing.acceleration import Acceleration
from neural_photo_editor.editing.network_time import NetworkTime
from neural_photo_editor.serving.edit_worker import EditWorker
from serve import handler as handler_module
from serve.handler import NeuralPhotoEditorHandler


class MockContext:
    """The part of TorchServe's context that a handler sees."""

    def __init__(self, size: int, headers: dict[str, str] | None = None) -> None:
        self.model_name = "editor"
        self.system_properties = {"model_dir": "/bundle", "gpu_id": None}
        self.model_yaml_config: dict[str, Any] = {"handler": {"torch_threads": 1}}
        self.statuses: dict[int, tuple[int, str]] = {}
        self.headers: list[dict[str, str]] = [{} for _ in range(size)]
        self._request_headers = headers or {}

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return self._request_headers

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.statuses[idx] = (code, phrase)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.headers[idx][key] = value


class EchoPipeline:
    """Answers with the photo; a photo of ``refuse`` is refused, one of ``crash`` raises."""

    bundle_digest = "d" * 64
    device = torch.device("cpu")
    network_time = NetworkTime({}, device)
    resolution = 32
    licenses = ("CC0-1.0",)
    defaults = ServingDefaults()

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def planned_steps(self, request: Request) -> int:
        return 0

    def run(self, requests: Sequence[Request], *_: Any, **__: Any) -> list[Result | RequestError]:
        self.batches.append([request.photo for request in requests])
        return [self._answer(request.photo) for request in requests]

    def _answer(self, photo: bytes) -> Result | RequestError:
        if photo == b"crash":
            raise MemoryError("out of memory")
        if photo == b"refuse":
            return RequestError(422, "bad photo", field="photo", remedy="take a better one")
        note = object() if photo == b"unwritable" else "line\r\nbreak ü"
        metadata = UpscaleMetadata(width=1, height=1, bundle_digest="d", scale=4, note=note)  # type: ignore[call-arg]
        return UpscaleResult(image=photo, metadata=metadata)


@pytest.fixture
def handler() -> NeuralPhotoEditorHandler:
    made = NeuralPhotoEditorHandler()
    made.worker = EditWorker(EchoPipeline())  # type: ignore[arg-type]
    return made


def row(photo: bytes, **fields: str) -> dict[str, Any]:
    return {"operation": "upscale", "photo": bytearray(photo), **fields}


def test_a_bad_request_does_not_fail_its_neighbors(handler: NeuralPhotoEditorHandler) -> None:
    rows = [row(b"one"), row(b"two", zoom="3"), row(b"refuse"), {}, row(b"five")]
    context = MockContext(len(rows))
    bodies = handler.handle(rows, context)
    assert [context.statuses[index][0] for index in range(5)] == [200, 422, 422, 400, 200]
    assert (bodies[0], bodies[4]) == (b"one", b"five")
    assert json.loads(bodies[1])["field"] == "zoom"
    assert json.loads(bodies[2])["remedy"] == "take a better one"
    assert context.headers[0]["content-type"] == "image/png"
    assert context.headers[1]["content-type"] == "application/problem+json"
    # The good ones went through the pipeline together.
    assert handler.worker.pipeline.batches == [[b"one", b"refuse", b"five"]]  # type: ignore[attr-defined]


def test_a_crash_fails_only_the_request_that_causes_it(handler: NeuralPhotoEditorHandler) -> None:
    context = MockContext(3)
    bodies = handler.handle([row(b"one"), row(b"crash"), row(b"three")], context)
    assert [context.statuses[index][0] for index in range(3)] == [200, 500, 200]
    assert (bodies[0], bodies[2]) == (b"one", b"three")
    assert b"out of memory" not in bodies[1]


def test_a_result_that_cannot_be_written_fails_alone(handler: NeuralPhotoEditorHandler) -> None:
    context = MockContext(2)
    bodies = handler.handle([row(b"unwritable"), row(b"two")], context)
    assert [context.statuses[index][0] for index in range(2)] == [500, 200]
    assert bodies[1] == b"two"


def test_only_single_lines_of_ascii_reach_the_server(handler: NeuralPhotoEditorHandler) -> None:
    context = MockContext(2)
    handler.handle([row(b"one"), row(b"refuse")], context)
    for headers in context.headers:
        for name, value in headers.items():
            assert isinstance(value, str)
            assert value.isascii()
            assert name == name.lower()
            assert not set("\r\n") & set(value)
    assert all(phrase.isascii() for _, phrase in context.statuses.values())


def test_json_replies_and_results_too_long_for_the_server(
    handler: NeuralPhotoEditorHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "MAX_REPLY_BYTES", 300)
    context = MockContext(2)
    bodies = handler.handle([row(b"one", response="json"), row(b"p" * 301)], context)
    assert json.loads(bodies[0])["image"] == "b25l"
    assert context.statuses[1][0] == 413
    assert json.loads(bodies[1])["field"] == "photo"


def test_the_content_type_header_is_found_in_any_case(handler: NeuralPhotoEditorHandler) -> None:
    context = MockContext(1, headers={"CONTENT-TYPE": "image/png"})
    body = handler.handle([{"body": bytearray(b"\x89PNG")}], context)[0]
    assert context.statuses[0][0] == 415
    assert "image/png" in json.loads(body)["detail"]


def test_initialize_loads_the_bundle_and_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = EchoPipeline()
    loaded: list[dict[str, Any]] = []

    def from_bundle(folder: Path, **options: Any) -> EchoPipeline:
        loaded.append({"folder": folder, **options})
        return pipeline

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(handler_module.EditPipeline, "from_bundle", from_bundle)
    context = MockContext(0)
    context.model_yaml_config["handler"] |= {"precision": "float32", "max_batch_pixels": 1000}
    NeuralPhotoEditorHandler().initialize(context)
    assert loaded == [
        {
            "folder": Path("/bundle"),
            "device": "cpu",
            "acceleration": Acceleration(precision="float32"),
            "max_batch_pixels": 1000,
            "edits_at_once": 1,
        }
    ]
    assert len(pipeline.batches[0]) == 3


def test_the_control_server_answers_once_the_worker_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("NPE_CONTROL_PORT", str(port))
    monkeypatch.delenv("NPE_RECEIPT_KEY", raising=False)
    pipeline = EchoPipeline()
    monkeypatch.setattr(handler_module.EditPipeline, "from_bundle", lambda folder, **_: pipeline)
    handler, context = NeuralPhotoEditorHandler(), MockContext(1)
    context.model_yaml_config["batchSize"] = 4
    handler.initialize(context)
    ready = httpx.get(f"http://127.0.0.1:{port}/ready").json()
    assert ready["bundle_digest"] == "d" * 64
    assert (ready["resolution"], ready["max_batch"], ready["licenses"]) == (32, 4, ["CC0-1.0"])
    assert ready["defaults"]["max_pixels"] == 36_000_000
    assert ready["receipt_key"] is None
    handler.handle([row(b"one")], context)
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'npe_worker_requests_total{operation="upscale",status="200"} 1.0' in metrics
    assert f'npe_model_info{{bundle_digest="{"d" * 64}",model_name="editor"}} 1.0' in metrics


def test_a_wrong_setting_is_refused_before_anything_is_loaded() -> None:
    context = MockContext(0)
    context.model_yaml_config["handler"]["precision"] = "float16"
    with pytest.raises(ValueError, match=r"handler\.precision"):
        NeuralPhotoEditorHandler().initialize(context)


def test_headers_of_a_request_reach_the_worker(handler: NeuralPhotoEditorHandler) -> None:
    job_id = "ab" * 16
    handler.worker.jobs.cancel(job_id)
    with handler.worker.jobs.listen(job_id) as stream:
        handler.handle([row(b"one")], MockContext(1, headers={"x-NPE-request-ID": job_id}))
        assert stream.ended


def test_a_failed_warm_up_keeps_the_worker_from_becoming_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(EchoPipeline):
        def _answer(self, photo: bytes) -> Result | RequestError:
            return RequestError(500, "no edit today", field=None, remedy="none")

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(handler_module.EditPipeline, "from_bundle", lambda folder, **_: Broken())
    with pytest.raises(RuntimeError, match="no edit today"):
        NeuralPhotoEditorHandler().initialize(MockContext(0))


def test_the_file_has_one_class_as_torchserve_demands() -> None:
    classes = [
        value
        for value in vars(handler_module).values()
        if isinstance(value, type) and value.__module__ == handler_module.__name__
    ]
    assert classes == [NeuralPhotoEditorHandler]
    assert not hasattr(handler_module, "handle")
    assert EditRequest in vars(handler_module).values()
