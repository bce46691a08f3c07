"""Each rule finds what it is for: a manifest that was right, with one thing changed."""

from typing import Any

import pytest

from tests.unit.k8s.access_rules import ACCESS_RULES
from tests.unit.k8s.manifests import Manifest, name_of, needs_kubectl, render, render_with
from tests.unit.k8s.metric_rules import (
    METRIC_RULES,
    alerts_fire_by_what_they_say,
    expression_problems,
    external_metrics_are_adapted,
    samples,
)
from tests.unit.k8s.network_rules import NETWORK_RULES
from tests.unit.k8s.pod_rules import POD_RULES
from tests.unit.k8s.reference_rules import REFERENCE_RULES, one_autoscaler_each
from tests.unit.k8s.release_rules import digests_are_given
from tests.unit.k8s.rule_changes import CANARY_CHANGES, CHANGES, GONE, KSERVE_CHANGES, Rule
from tests.unit.k8s.settings_rules import SETTINGS_RULES, settings_fit

pytestmark = needs_kubectl


@pytest.mark.parametrize(
    ("overlay", "rule", "name", "path", "value"),
    [
        *(("production", *change) for change in CHANGES),
        *(("kserve", *change) for change in KSERVE_CHANGES),
        *(("canary", *change) for change in CANARY_CHANGES),
    ],
)
def test_a_rule_finds_a_change(
    overlay: str, rule: Rule, name: str, path: tuple[Any, ...], value: Any
) -> None:
    objects = render(f"serving/overlays/{overlay}")
    assert rule(objects) == []
    _change(objects, name, path, value)
    assert rule(objects)


def test_every_rule_is_shown_what_breaks_it() -> None:
    rules = {*POD_RULES, *NETWORK_RULES, *REFERENCE_RULES, *SETTINGS_RULES, *ACCESS_RULES}
    rules |= {*METRIC_RULES} - {alerts_fire_by_what_they_say, external_metrics_are_adapted}  # below
    assert rules <= {rule for rule, *_ in [*CHANGES, *KSERVE_CHANGES, *CANARY_CHANGES]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batches_in_flight", "batches_ahead"),
        ("\nhost: 0.0.0.0", "\nhost: 127.0.0.1"),
        ("internal_host: 0.0.0.0", "internal_host: 127.0.0.1"),
        ("drain_timeout_s: 120", "drain_timeout_s: 60"),
        ("max_in_flight: 24", "max_in_flight: 64"),
        ("routes_poll_s: 2", "routes_poll_s: soon"),
        ("/etc/npe/routes/", "/etc/routes/"),
    ],
)
def test_settings_that_do_not_fit_are_found(old: str, new: str) -> None:
    objects = render("serving/overlays/production")
    config = next(
        one for one in objects if one["kind"] == "ConfigMap" and "gateway.yaml" in one["data"]
    )
    assert old in config["data"]["gateway.yaml"]
    config["data"]["gateway.yaml"] = config["data"]["gateway.yaml"].replace(old, new)
    assert settings_fit(objects)


def test_a_bundle_by_name_alone_is_found() -> None:
    objects = render("serving/overlays/production")
    (config,) = [one for one in objects if "NPE_BUNDLE" in one.get("data", {})]
    config["data"]["NPE_BUNDLE"] = "neural_photo_editor@production"
    assert digests_are_given(objects)


def test_an_hpa_and_keda_together_are_found(tmp_path: Any) -> None:
    objects = render_with("serving/overlays/production", [], scratch=tmp_path)
    assert not one_autoscaler_each(objects)
    scaler = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "second"},
        "spec": {"scaleTargetRef": {"name": "npe-torchserve"}},
    }
    assert one_autoscaler_each([*objects, scaler])


def test_a_metric_that_the_adapter_does_not_give_is_found(tmp_path: Any) -> None:
    objects = render_with("serving/base", ["serving/components/hpa"], scratch=tmp_path)
    assert not external_metrics_are_adapted(objects)
    metric = ("spec", "metrics", 0, "external", "metric", "name")
    _change(objects, "HorizontalPodAutoscaler/npe-torchserve", metric, "queue_wait")
    assert external_metrics_are_adapted(objects)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" or vector(0)", ""),
        (
            'service="npe-gateway-canary",operation=~"edit|segment|upscale|infer"',
            'operation=~"edit"',
        ),
        ("max by (service) (", "max("),
    ],
)
def test_an_alert_that_fires_wrongly_or_never_is_found(old: str, new: str) -> None:
    objects = render("serving/overlays/production")
    assert not alerts_fire_by_what_they_say(objects)
    manifest = next(one for one in objects if name_of(one) == "PrometheusRule/npe-alerts")
    rules = [rule for group in manifest["spec"]["groups"] for rule in group["rules"]]
    assert any(old in rule["expr"] for rule in rules)
    for rule in rules:
        rule["expr"] = rule["expr"].replace(old, new)
    assert alerts_fire_by_what_they_say(objects)


@pytest.mark.parametrize(
    "expression",
    [
        "sum(rate(npe_gateway_request_total[5m]))",
        "sum by (network) (rate(npe_gateway_requests_total[5m]))",
        'sum(rate(npe_gateway_requests_total{code="200"}[5m]))',
        "sum(rate(npe_gateway_requests_total[5m])",
        "rate(npe_gateway_requests_total[5 minutes])",
        "median(npe_gateway_in_flight)",
        "up == 0",
    ],
)
def test_a_wrong_expression_is_found(expression: str) -> None:
    assert expression_problems(expression, samples())


def _change(objects: list[Manifest], name: str, path: tuple[Any, ...], value: Any) -> None:
    part: Any = next(one for one in objects if name_of(one) == name)
    for step in path[:-1]:
        part = part[step]
    if value is GONE:
        del part[path[-1]]
    else:
        part[path[-1]] = value
