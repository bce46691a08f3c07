"""The OpenAPI document as a whole, and /docs: a page of it that loads nothing from elsewhere."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from serve.gateway.documentation import METADATA, Problem, request_body
from serve.gateway.forwarding import REQUEST_ID_HEADER
from serve.gateway.kserve_tensors import MODEL, InferRequest

_REFERENCES = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (Problem, InferRequest, *METADATA.values())
_DESCRIPTION = """\
Edit portraits with strokes, colors and masks; every pixel outside the mask stays as uploaded.

Every answer has a request id, and every refusal is a problem document (RFC 9457), also those of
paths and methods that there are not. Any path may besides answer 400, 431 or 503 to what is no
HTTP, a head that is too long, or too many connections.
"""
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key: npe_..."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_TAGS = {
    "images": "Edits, regions, enlarged photos.",
    "inference protocol": "The same as tensors: KServe's Open Inference Protocol, version 2.",
    "health": "For probes; no key is needed.",
}
_WITHOUT_KEY = {
    "/healthz",
    "/readyz",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    f"/v2/models/{MODEL}/ready",
}
_ROLE = re.compile(r":\w+:(`[^`]+`)")


def install_openapi(app: FastAPI) -> None:
    """Serve the document at /openapi.json and a page of it at /docs."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=_DESCRIPTION,
                    routes=app.routes,
                    tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
                )
            )
        return app.openapi_schema

    async def docs() -> HTMLResponse:
        return HTMLResponse(render_page(document()))

    app.openapi = document  # type: ignore[method-assign]
    app.add_api_route("/docs", docs, include_in_schema=False)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add what holds for every path: schemas, keys, the request's id; and use plain code marks."""
    _, schemas = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template=_REFERENCES
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["securitySchemes"] = _SECURITY_SCHEMES
    document["security"] = [{name: []} for name in _SECURITY_SCHEMES]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # Not by way of FastAPI, to which every bound of a number is a float.
            if operation["operationId"] in METADATA:
                operation["requestBody"] = request_body(operation["operationId"])
            if path in _WITHOUT_KEY:
                operation["security"] = []
            for response in operation["responses"].values():
                response.setdefault("headers", {})[REQUEST_ID_HEADER] = {
                    "description": "names the request in the server's log",
                    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                }
    tidy: dict[str, Any] = _tidy(document)
    return tidy


def _tidy(value: Any) -> Any:
    """Turn the marks of docstrings into Markdown's."""
    if isinstance(value, dict):
        return {name: _tidy(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_tidy(inner) for inner in value]
    return _ROLE.sub(r"\1", value).replace("``", "`") if isinstance(value, str) else value


def render_page(document: dict[str, Any]) -> str:
    """Write the document as a page without scripts and styles: paths, fields and statuses."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>",
        f"<h1>{escape(info['title'])}</h1>{_text(info['description'])}",
        "<p>For tools: <a href=/openapi.json>openapi.json</a>. Keys: <code>Authorization: Bearer "
        "npe_...</code> or <code>X-API-Key: npe_...</code></p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('summary', ''))}</p>")
            parts.append(_text(operation.get("description", "")))
            parts.append(_bodies(operation))
            answers = operation["responses"].items()
            rows = [(status, answer["description"]) for status, answer in answers]
            parts.append(_table(("status", "meaning"), rows))
    return "\n".join(parts)


def _bodies(operation: dict[str, Any]) -> str:
    contents = operation.get("requestBody", {}).get("content", {})
    if not contents:
        return ""
    kind, content = next(iter(contents.items()))
    fields = content["schema"].get("properties", {})
    rows = [
        (name, _values(field.get("anyOf", [field])[0]), field.get("description", ""))
        for name, field in fields.items()
    ]
    also = "".join(f", also as {escape(other)}" for other in list(contents)[1:])
    table = _table(("field", "value", "meaning"), rows) if rows else ""
    return f"<p>Send {escape(kind)}{also}.</p>{table}"


def _values(field: dict[str, Any]) -> str:
    return ", ".join(field.get("enum", [field["type"]]))


def _text(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.strip().split("\n\n") if part)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"<tr>{''.join(f'<th align=left>{name}</th>' for name in head)}</tr>"]
    for row in rows:
        cells = "".join(f"<td valign=top>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"
