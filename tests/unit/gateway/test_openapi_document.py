"""The OpenAPI document and its page say everything, and the page needs nothing from elsewhere."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neural_photo_editor.api.schema import EditRequest
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import SmallGateway
from tests.unit.gateway.test_gateway_app import run

OPEN = {
    "/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready",
    "/v2/models/neural_photo_editor/ready",
}  # fmt: skip


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


async def openapi(gateway: SmallGateway) -> dict[str, Any]:
    document: dict[str, Any] = (await gateway.client.get("/openapi.json")).json()
    return document


def test_every_operation_is_described_with_its_statuses(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        document = await openapi(gateway)
        for path, operation in operations(document):
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["operationId"], path
            assert operation["tags"], path
            for status, response in operation["responses"].items():
                assert "X-NPE-Request-Id" in response["headers"]
                if status != "200":
                    assert set(response["content"]) == {"application/problem+json"}, (path, status)
            wants_key = operation.get("security", document["security"]) != []
            assert wants_key == (path not in OPEN)
            assert ("401" in operation["responses"]) == wants_key

    run(tmp_path, case)


def test_both_bodies_of_an_edit_have_every_field(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        document = await openapi(gateway)
        body = document["paths"]["/v1/edit"]["post"]["requestBody"]["content"]
        for kind in ("multipart/form-data", "application/json"):
            schema = body[kind]["schema"]
            assert set(schema["properties"]) == set(EditRequest.model_fields)
            assert schema["additionalProperties"] is False
            for name, field in schema["properties"].items():
                assert field["description"], name
                assert "``" not in field["description"], name
        form = body["multipart/form-data"]["schema"]["properties"]
        assert form["photo"]["format"] == "binary"
        assert form["seed"]["anyOf"][0]["maximum"] == 2**63 - 1
        assert body["application/json"]["example"]["photo"]

    run(tmp_path, case)


def test_the_examples_are_taken(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        sent = 0
        for path, operation in operations(await openapi(gateway)):
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                example = content["application/json"]["example"]
                reply = await gateway.client.post(path, json=example)
                assert reply.status_code == 200, reply.text
                sent += 1
        assert sent == len(backend.received) == 4

    run(tmp_path, case)


def test_references_lead_somewhere(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        reply = await gateway.client.get("/openapi.json")
        named = set(re.findall(r'"#/components/schemas/(\w+)"', reply.text))
        assert named <= set(reply.json()["components"]["schemas"])
        assert {"Problem", "InferRequest", "EditMetadata"} <= named

    run(tmp_path, case)


def test_the_page_shows_all_and_loads_nothing(tmp_path: Path) -> None:
    async def case(gateway: SmallGateway, backend: SmallBackend) -> None:
        page = await gateway.client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"
        for forbidden in ("<script", "<style", "style=", "<link", "<img", "src=", "://"):
            assert forbidden not in page.text
        document = await openapi(gateway)
        for shown in (*document["paths"], *EditRequest.model_fields, "href=/openapi.json"):
            assert shown in page.text
        assert (await gateway.client.get("/redoc")).status_code == 404

    run(tmp_path, case)
