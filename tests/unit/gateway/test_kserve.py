"""The Open Inference Protocol at the gateway's application."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, SegmentRequest
from serve.gateway.access import Principal
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import MASK, PHOTO, SmallGateway
from tests.unit.gateway.test_gateway_app import problem_of, run

INFER = "/v2/models/neural_photo_editor/infer"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def tensor(name: str, datatype: str, *data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data, **changes}


PHOTO_TENSOR = tensor("photo", "BYTES", text(PHOTO), parameters={"content_type": "base64"})
MASK_TENSOR = tensor("mask", "BYTES", text(MASK))
FILES = [PHOTO_TENSOR, MASK_TENSOR]


async def infer(gateway: SmallGateway, inputs: list[Any], **members: Any) -> httpx.Response:
    return await gateway.client.post(INFER, json={"inputs": inputs, **members})


def outputs_of(reply: httpx.Response) -> dict[str, dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    return {output["name"]: output for output in reply.json()["outputs"]}


def protocol_error(reply: httpx.Response, status: int, field: str | None) -> None:
    problem = problem_of(reply, status)
    assert problem["field"] == field
    assert problem["detail"] in problem["error"]


def test_an_edit_in_tensors(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        given = [
            *FILES,
            tensor("strength", "FP32", 0.5),
            tensor("steps", "INT64", 9),
            tensor("sampler", "BYTES", "ddpm"),
            tensor("receipt", "BOOL", False),
        ]
        reply = await infer(gateway, given, parameters={"seed": 7, "color": "#00ff00"}, id="mine")
        outputs = outputs_of(reply)
        assert set(outputs) == {"image", "metadata"}
        assert outputs["image"]["datatype"] == outputs["metadata"]["datatype"] == "BYTES"
        assert outputs["image"]["shape"] == [1]
        assert outputs["image"]["parameters"] == {"content_type": "base64"}
        assert base64.b64decode(outputs["image"]["data"][0]) == PHOTO
        assert json.loads(outputs["metadata"]["data"][0])["seed"] == 7
        document = reply.json()
        assert (document["id"], document["model_name"]) == ("mine", "neural_photo_editor")
        assert document["model_version"] == reply.headers["x-npe-bundle"] == backend.digest
        assert backend.received == [
            EditRequest(
                photo=PHOTO, mask=MASK, strength=0.5, steps=9, sampler="ddpm", seed=7,
                color="#00ff00", response="json",
            )
        ]  # fmt: skip

    run(tmp_path, case)


def test_regions_are_a_tensor_of_any_length_or_a_parameter(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        one = tensor("regions", "BYTES", "hair", "hat")
        nested = tensor("regions", "BYTES", ["hair"], ["hat"], shape=[2, 1])
        for regions in (one, nested):
            await infer(gateway, [PHOTO_TENSOR, regions])
        await infer(gateway, [PHOTO_TENSOR], parameters={"regions": "hair, hat"})
        found = [r.regions for r in backend.received if isinstance(r, EditRequest)]
        assert found == [("hair", "hat")] * 3

    run(tmp_path, case)


def test_the_operation_is_an_input(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await infer(gateway, [PHOTO_TENSOR], parameters={"operation": "segment"})
        assert json.loads(outputs_of(reply)["metadata"]["data"][0])["operation"] == "segment"
        operation = tensor("operation", "BYTES", "segment")
        await infer(gateway, [PHOTO_TENSOR, operation], outputs=[{"name": "image"}])
        assert backend.received == [SegmentRequest(photo=PHOTO, response="json")] * 2

    run(tmp_path, case)


def test_only_wanted_outputs_come_back(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await infer(gateway, FILES, outputs=[{"name": "metadata"}])
        assert set(outputs_of(reply)) == {"metadata"}

    run(tmp_path, case)


REFUSED: dict[str, tuple[dict[str, Any], int, str | None]] = {
    "no inputs": ({}, 400, "inputs"),
    "an unknown member": ({"inputs": FILES, "model": "x"}, 400, "model"),
    "an unknown input": ({"inputs": [*FILES, tensor("zoom", "FP32", 2.0)]}, 400, "zoom"),
    "an unknown parameter": ({"inputs": FILES, "parameters": {"zoom": 2}}, 400, "zoom"),
    "a file as a parameter": ({"inputs": FILES, "parameters": {"strokes": "x"}}, 400, "strokes"),
    "an unknown output": ({"inputs": FILES, "outputs": [{"name": "logits"}]}, 400, "logits"),
    "another datatype": ({"inputs": [*FILES, tensor("steps", "FP32", 9)]}, 400, "steps"),
    "data of another type": ({"inputs": [*FILES, tensor("steps", "INT64", "9")]}, 400, "steps"),
    "a truth for a number": ({"inputs": [*FILES, tensor("steps", "INT64", True)]}, 400, "steps"),
    "a parameter of another type": ({"inputs": FILES, "parameters": {"seed": "7"}}, 400, "seed"),
    "two values": ({"inputs": [*FILES, tensor("seed", "INT64", 1, 2)]}, 400, "seed"),
    "another shape": ({"inputs": [*FILES, tensor("seed", "INT64", 1, shape=[2])]}, 400, "seed"),
    "no value": ({"inputs": [*FILES, tensor("seed", "INT64")]}, 400, "seed"),
    "a negative shape": (
        {"inputs": [tensor("seed", "INT64", 1, shape=[-1])]}, 400, "inputs.0.shape.0",
    ),
    "twice": ({"inputs": [*FILES, PHOTO_TENSOR]}, 400, "photo"),
    "twice, once as a parameter": (
        {"inputs": [*FILES, tensor("seed", "INT64", 1)], "parameters": {"seed": 1}}, 400, "seed",
    ),
    "binary tensors": (
        {"inputs": [{**PHOTO_TENSOR, "parameters": {"binary_data_size": 9}}]}, 400, "photo",
    ),
    "deep data": (
        {"inputs": [*FILES, tensor("seed", "INT64", [[[[1]]]])]}, 400, "seed",
    ),
    "no base64": ({"inputs": [tensor("photo", "BYTES", "%%")]}, 422, "photo"),
    "no image": (
        {"inputs": [tensor("photo", "BYTES", text(b"GIF89a")), MASK_TENSOR]}, 415, "photo",
    ),
    "no photo": ({"inputs": [MASK_TENSOR]}, 422, "photo"),
    "out of range": ({"inputs": FILES, "parameters": {"strength": 1.5}}, 422, "strength"),
    "no such operation": ({"inputs": FILES, "parameters": {"operation": "draw"}}, 422, "operation"),
    "of another operation": (
        {"inputs": FILES, "parameters": {"operation": "segment"}}, 422, "mask",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    document, status, field = REFUSED[name]

    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        protocol_error(await gateway.client.post(INFER, json=document), status, field)
        assert backend.received == []

    run(tmp_path, case)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"inputs": [[[1]]]}'])
def test_bodies_that_are_none_are_refused(tmp_path: Path, body: bytes) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        headers = {"content-type": "application/json"}
        reply = await gateway.client.post(INFER, content=body, headers=headers)
        assert problem_of(reply, 400)["error"]
        for content_type in ("application/octet-stream", "multipart/form-data; boundary=b", ""):
            reply = await gateway.client.post(
                INFER, content=b"x", headers={"content-type": content_type}
            )
            protocol_error(reply, 415, None)

    run(tmp_path, case)


class OneKey:
    """Knows one key, which may only segment."""

    def authenticate(self, secret: str | None) -> Principal:
        if secret != "npe_right":
            raise RequestError(401, "no", field=None, remedy="send a key")
        return Principal("k1", frozenset({"segment"}))


def test_keys_hold_for_the_operation_inside(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        protocol_error(await infer(gateway, FILES), 401, None)
        protocol_error(await gateway.client.get(INFER.removesuffix("/infer")), 401, None)
        gateway.client.headers["x-api-key"] = "npe_right"
        protocol_error(await infer(gateway, FILES), 403, None)
        reply = await infer(gateway, [PHOTO_TENSOR], parameters={"operation": "segment"})
        assert reply.status_code == 200
        assert len(backend.received) == 1

    run(tmp_path, case, keys=OneKey())


def test_the_model_describes_itself(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        get = gateway.client.get
        model = (await get("/v2/models/neural_photo_editor")).json()
        assert (model["name"], model["versions"]) == ("neural_photo_editor", [backend.digest])
        inputs = {one["name"]: (one["datatype"], one["shape"]) for one in model["inputs"]}
        assert inputs["photo"] == ("BYTES", [1])
        assert inputs["regions"] == ("BYTES", [-1])
        assert inputs["strength"] == ("FP32", [1])
        assert inputs["seed"] == ("INT64", [1])
        assert set(inputs) == {"operation", *EditRequest.model_fields} - {"response"}
        assert [one["name"] for one in model["outputs"]] == ["image", "metadata", "receipt"]
        server = (await get("/v2")).json()
        assert set(server) == {"name", "version", "extensions"}

    run(tmp_path, case)


def test_health_and_readiness(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        get = gateway.client.get
        ready, model_ready = "/v2/health/ready", "/v2/models/neural_photo_editor/ready"
        assert (await get("/v2/health/live")).json() == {"live": True}
        assert (await get(ready)).json() == {"ready": True}
        assert (await get(model_ready)).json() == {"name": "neural_photo_editor", "ready": True}
        gateway.service.draining = True
        for path in (ready, model_ready):
            protocol_error(await get(path), 503, None)
        assert (await get("/v2/health/live")).status_code == 200
        protocol_error(await get("/v2/models/other/ready"), 404, None)
        protocol_error(await get(INFER), 405, None)

    run(tmp_path, case)
