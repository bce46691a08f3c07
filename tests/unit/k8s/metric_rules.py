"""Expressions for Prometheus: they parse, and ask for metrics and labels that the code gives."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import promql_parser
import torch
import yaml
from prometheus_client.parser import text_string_to_metric_families

from neural_photo_editor.serving.worker_metrics import WorkerMetrics
from serve.gateway.backends import BackendState
from serve.gateway.metrics import GatewayMetrics
from tests.unit.k8s.manifests import K8S, REPOSITORY, Manifest, name_of
from tests.unit.k8s.network_rules import of_kind

OF_PROMETHEUS = {"job", "instance", "service", "namespace", "pod", "le"}
# Not probes and pages, which fail while a release starts.
OPERATIONS = 'operation=~"edit|segment|upscale|infer"'
COMPARISONS = {">", "<", ">=", "<=", "==", "!="}
ADAPTER = K8S / "serving/components/hpa/prometheus-adapter-values.yaml"


def expressions_are_known(objects: Sequence[Manifest]) -> list[str]:
    """Rules, alerts and triggers of autoscalers ask for what exists or is recorded."""
    recorded = {
        rule["record"]: set[str]()
        for manifest in of_kind(objects, "PrometheusRule")
        for rule in _rules(manifest)
        if "record" in rule
    }
    return [
        f"{where}: {problem}"
        for where, expression in _expressions(objects)
        for problem in expression_problems(expression, samples() | recorded)
    ]


def alerts_fire_by_what_they_say(objects: Sequence[Manifest]) -> list[str]:
    """Alerts and rules count edits alone, tell releases apart, and compare with what is there."""
    found = []
    for where, expression in _expressions(objects):
        selectors = re.findall(r"\bnpe_gateway_request(?:s|_seconds)_\w+(?:{[^}]*})?", expression)
        if any(OPERATIONS not in selector for selector in selectors):
            found.append(f"{where}: probes are counted, too")
        if "npe_gateway_backend_ready" in expression and "service" not in expression:
            found.append(f"{where}: a release's gateways hide that another's workers are gone")
        if _compares_with_nothing(promql_parser.parse(expression)):
            found.append(f"{where}: it is silent where its right side has no series")
    return found


def alerts_can_be_acted_on(objects: Sequence[Manifest]) -> list[str]:
    """Each alert has a severity, a summary, and a section of the runbook that is there."""
    found = []
    for manifest in of_kind(objects, "PrometheusRule"):
        for rule in _rules(manifest):
            if "alert" not in rule:
                continue
            if rule.get("labels", {}).get("severity") not in ("page", "ticket"):
                found.append(f"{rule['alert']}: no severity")
            notes = rule.get("annotations", {})
            found += [
                f"{rule['alert']}: no {name}"
                for name in ("summary", "description", "runbook")
                if name not in notes
            ]
            path, _, anchor = notes.get("runbook", "").partition("#")
            if anchor not in _anchors(REPOSITORY / path):
                found.append(f"{rule['alert']}: {path} has no section {anchor!r}")
    return found


def external_metrics_are_adapted(objects: Sequence[Manifest]) -> list[str]:
    """What an HPA asks for is what prometheus-adapter is told to give, from what is recorded."""
    adapted = {
        rule["name"]["as"]: rule["metricsQuery"]
        for rule in yaml.safe_load(ADAPTER.read_text())["rules"]["external"]
    }
    return [
        f"{name_of(scaler)}: prometheus-adapter gives no {metric['external']['metric']['name']}"
        for scaler in of_kind(objects, "HorizontalPodAutoscaler")
        for metric in scaler["spec"]["metrics"]
        if metric["external"]["metric"]["name"] not in adapted
    ]


def expression_problems(expression: str, known: dict[str, set[str]]) -> list[str]:
    """Return what is wrong with an expression: syntax, unknown metrics, unknown labels.

    Args:
        known: labels by metric; a recorded one has none.
    """
    try:
        tree = promql_parser.parse(expression)
    except ValueError as error:
        return [f"{expression!r} does not parse: {error}"]
    names = set(re.findall(r"\bnpe[_:][\w:]+", str(tree)))
    if not names:
        return [f"{expression!r} asks for nothing of ours"]
    found = [f"no metric {name}" for name in sorted(names - set(known))]
    labels = OF_PROMETHEUS.union(*(known.get(name, set()) for name in names))
    grouped = re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", expression)
    used = {label.strip() for group in grouped for label in group.split(",")}
    inside = re.findall(r"\{([^}]*)\}", expression)
    used |= {label for part in inside for label in re.findall(r"(\w+)\s*(?:=|!)", part)}
    return found + [f"no label {label}" for label in sorted(used - labels)]


@functools.cache
def samples() -> dict[str, set[str]]:
    """Return every sample that gateway and worker can give, with its labels."""
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
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def buckets(metric: str) -> set[str]:
    """Return the upper bounds of one of the gateway's histograms, as Prometheus writes them."""
    gateway = GatewayMetrics()
    gateway.latency.labels("edit").observe(1.0)
    return set(re.findall(rf'^{metric}_bucket{{.*le="([^"]+)"', gateway.render().decode(), re.M))


def _compares_with_nothing(tree: Any) -> bool:
    """Tell whether a comparison's right side may have no series, so that nothing follows."""
    parts = [*getattr(tree, "args", ())]
    parts += [part for name in ("expr", "lhs", "rhs") if (part := getattr(tree, name, None))]
    own = str(getattr(tree, "op", "")) in COMPARISONS and _may_be_empty(tree.rhs)
    return own or any(_compares_with_nothing(part) for part in parts)


def _may_be_empty(tree: Any) -> bool:
    if isinstance(tree, promql_parser.NumberLiteral):
        return False
    if isinstance(tree, promql_parser.ParenExpr):
        return _may_be_empty(tree.expr)
    if isinstance(tree, promql_parser.BinaryExpr):
        sides = [_may_be_empty(tree.lhs), _may_be_empty(tree.rhs)]
        return all(sides) if str(tree.op) == "or" else any(sides)
    return not (isinstance(tree, promql_parser.Call) and tree.func.name == "vector")


def _rules(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for group in manifest["spec"]["groups"]:
        yield from group["rules"]


def _expressions(objects: Sequence[Manifest]) -> Iterator[tuple[str, str]]:
    for manifest in of_kind(objects, "PrometheusRule"):
        for rule in _rules(manifest):
            yield rule.get("alert") or rule["record"], rule["expr"]
    for scaled in of_kind(objects, "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            yield name_of(scaled), trigger["metadata"]["query"]
    if of_kind(objects, "HorizontalPodAutoscaler"):
        for rule in yaml.safe_load(ADAPTER.read_text())["rules"]["external"]:
            yield str(ADAPTER.name), rule["metricsQuery"]


def _anchors(page: Path) -> set[str]:
    if not page.is_file():
        return set()
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


METRIC_RULES = (
    expressions_are_known,
    alerts_fire_by_what_they_say,
    alerts_can_be_acted_on,
    external_metrics_are_adapted,
)
