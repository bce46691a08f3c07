"""The Grafana dashboard asks for metrics and labels that exist, in expressions that can be read."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from neural_photo_editor.serving.worker_metrics import WorkerMetrics
from serve.gateway.backends import BackendState
from serve.gateway.metrics import GatewayMetrics

REPOSITORY = Path(__file__).resolve().parents[3]
DASHBOARD = json.loads((REPOSITORY / "k8s/monitoring/grafana-dashboard.json").read_text())
EXPRESSIONS: list[str] = [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
FUNCTIONS = {"sum", "max", "rate", "histogram_quantile"}
OF_PROMETHEUS = {"job", "instance"}


@pytest.fixture(scope="module")
def labels_of() -> dict[str, set[str]]:
    """Every sample that gateway and worker can give, with its labels."""
    gateway = GatewayMetrics()
    gateway.watch_backends(lambda: [BackendState("http://backend", "canary", True, 1, "digest")])
    gateway.requests.labels("edit", "200", "canary").inc()
    gateway.latency.labels("edit").observe(1.0)
    for counter in (gateway.refusals, gateway.retries):
        counter.labels("reason").inc()
    worker = WorkerMetrics({"bundle_digest": "digest"}, device=torch.device("cuda", 0))
    worker.requests.labels("edit", "200").inc()
    worker.stage_seconds.labels("diffuse").observe(1.0)
    worker.network_seconds.labels("denoiser").inc()
    found: dict[str, set[str]] = {}
    for text in (gateway.render(), worker.render()):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels, OF_PROMETHEUS)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_what_exists(expression: str, labels_of: dict[str, set[str]]) -> None:
    assert problems(expression, labels_of) == []


@pytest.mark.parametrize(
    "expression",
    [
        "sum(rate(npe_gateway_request_total[5m]))",
        "sum by (network) (rate(npe_gateway_requests_total[5m]))",
        'sum(rate(npe_gateway_requests_total{code="200"}[5m]))',
        "sum(rate(npe_gateway_requests_total[5m])",
        "avg_by(npe_gateway_in_flight)",
    ],
)
def test_the_control_a_wrong_expression_is_found(
    expression: str, labels_of: dict[str, set[str]]
) -> None:
    assert problems(expression, labels_of)


def problems(expression: str, labels_of: dict[str, set[str]]) -> list[str]:
    """Return what is wrong with an expression, as far as names and brackets tell."""
    selectors = re.findall(r"(npe_\w+)(?:\{([^}]*)\})?", expression)
    found = [f"no metric {name}" for name, _ in selectors if name not in labels_of]
    known = set.intersection(*(labels_of.get(name, set()) for name, _ in selectors))
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    used = {label.strip() for group in grouped for label in group.split(",")}
    used |= {label for _, inner in selectors for label in re.findall(r"(\w+)\s*[=!]", inner)}
    found += [f"no label {label}" for label in used - known]
    for opened, closed in ("()", "[]", "{}"):
        if expression.count(opened) != expression.count(closed):
            found.append(f"unbalanced {opened}{closed}")
    called = set(re.findall(r"\b(\w+)\s*\(", expression)) - {"by"}
    found += [f"no function {name}" for name in called - FUNCTIONS]
    return found


def test_every_panel_has_a_place_a_unit_and_an_explanation() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
