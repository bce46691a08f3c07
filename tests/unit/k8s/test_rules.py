"""Each rule finds what it is for: a manifest that was right, with one thing changed."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.unit.k8s.access_rules import (
    bundles_are_pulled_first,
    pages_are_there,
    policies_allow_what_is_written,
    secrets_reach_their_readers,
)
from tests.unit.k8s.manifests import Manifest, name_of, needs_kubectl, render, render_with
from tests.unit.k8s.metric_rules import (
    alerts_can_be_acted_on,
    alerts_fire_by_what_they_say,
    expression_problems,
    expressions_are_known,
    external_metrics_are_adapted,
    samples,
)
from tests.unit.k8s.network_rules import (
    policies_cover_every_pod,
    services_show_no_inner_port,
)
from tests.unit.k8s.pod_rules import (
    containers_are_hardened,
    images_are_pinned,
    pods_are_nobody,
    probes_are_distinct,
    resources_are_bounded,
)
from tests.unit.k8s.reference_rules import (
    labels_are_complete,
    names_are_unique,
    namespaces_are_ours,
    nodes_can_be_drained,
    one_autoscaler_each,
    references_lead_somewhere,
    selectors_find_their_pods,
)
from tests.unit.k8s.settings_rules import (
    arguments_are_known,
    routes_lead_to_workers,
    settings_fit,
    variables_are_read,
    workers_have_time_to_drain,
)

pytestmark = needs_kubectl

Rule = Callable[[Sequence[Manifest]], list[str]]

GONE = object()
SPEC = ("spec", "template", "spec")
CONTAINER = (*SPEC, "containers", 0)
GATEWAY, WORKER = "Deployment/npe-gateway", "Deployment/npe-torchserve"
BUDGET = "PodDisruptionBudget/npe-torchserve"
POLICY = "NetworkPolicy/npe-torchserve"
FACE = "NetworkPolicy/npe-gateway"
PEERS = ("spec", "ingress", 0)
NAME = "app.kubernetes.io/name"
ANYBODY = {"podSelector": {"matchLabels": {NAME: "npe-gateway"}}}

# Rule; object; where in it; the new value.
CHANGES: list[tuple[Rule, str, tuple[Any, ...], Any]] = [
    (images_are_pinned, GATEWAY, (*CONTAINER, "image"), "registry.example.com/gateway:latest"),
    (images_are_pinned, GATEWAY, (*CONTAINER, "image"), "registry.example.com:5000/gateway"),
    (images_are_pinned, WORKER, (*SPEC, "initContainers", 0, "image"), "worker@sha256:0"),
    (resources_are_bounded, WORKER, (*CONTAINER, "resources", "limits", "memory"), GONE),
    (resources_are_bounded, WORKER, (*CONTAINER, "resources", "limits", "cpu"), GONE),
    (resources_are_bounded, WORKER, (*SPEC, "initContainers", 0, "resources"), GONE),
    (containers_are_hardened, GATEWAY, (*SPEC, "securityContext", "runAsNonRoot"), GONE),
    (containers_are_hardened, GATEWAY, (*SPEC, "securityContext", "seccompProfile"), GONE),
    (
        containers_are_hardened,
        GATEWAY,
        (*CONTAINER, "securityContext", "readOnlyRootFilesystem"),
        False,
    ),
    (
        containers_are_hardened,
        GATEWAY,
        (*CONTAINER, "securityContext", "allowPrivilegeEscalation"),
        GONE,
    ),
    (
        containers_are_hardened,
        GATEWAY,
        (*CONTAINER, "securityContext", "capabilities", "add"),
        ["NET_ADMIN"],
    ),
    (pods_are_nobody, WORKER, (*SPEC, "automountServiceAccountToken"), GONE),
    (pods_are_nobody, WORKER, (*SPEC, "hostNetwork"), True),
    (pods_are_nobody, WORKER, (*SPEC, "securityContext", "runAsUser"), 0),
    (pods_are_nobody, WORKER, (*SPEC, "volumes", 0), {"name": "state", "hostPath": {"path": "/"}}),
    (probes_are_distinct, GATEWAY, (*CONTAINER, "livenessProbe"), GONE),
    (probes_are_distinct, GATEWAY, (*CONTAINER, "livenessProbe", "httpGet", "path"), "/readyz"),
    (probes_are_distinct, GATEWAY, (*CONTAINER, "readinessProbe", "httpGet", "port"), "https"),
    (
        services_show_no_inner_port,
        "Service/npe-gateway",
        ("spec", "ports", 0, "targetPort"),
        "internal",
    ),
    (services_show_no_inner_port, "Service/npe-gateway", ("spec", "ports", 0, "targetPort"), 8081),
    (services_show_no_inner_port, "Service/npe-gateway", ("spec", "ports", 0, "targetPort"), 9000),
    (services_show_no_inner_port, "Service/npe-gateway", ("spec", "selector", NAME), "gateway"),
    (policies_cover_every_pod, "NetworkPolicy/default-deny", ("spec", "policyTypes"), ["Ingress"]),
    (policies_cover_every_pod, "NetworkPolicy/default-deny", ("spec", "egress"), [{}]),
    (policies_cover_every_pod, POLICY, ("spec", "podSelector", "matchLabels", NAME), "torchserve"),
    (policies_cover_every_pod, WORKER, (*SPEC[:2], "metadata", "labels", NAME), "torchserve"),
    (
        policies_cover_every_pod,
        POLICY,
        ("spec", "ingress", 0, "ports", 0, "port"),
        "management",
    ),
    (services_show_no_inner_port, "Service/npe-gateway", ("spec", "type"), "LoadBalancer"),
    (policies_allow_what_is_written, POLICY, ("spec", "ingress", 0, "from"), GONE),
    (policies_allow_what_is_written, POLICY, ("spec", "ingress", 0, "from", 0), ANYBODY),
    (policies_allow_what_is_written, POLICY, ("spec", "egress"), [{}]),
    (policies_allow_what_is_written, POLICY, ("spec", "ingress", 0, "ports"), GONE),
    (policies_allow_what_is_written, FACE, ("spec", "ingress", 0, "ports", 0, "port"), "internal"),
    (policies_allow_what_is_written, FACE, ("spec", "ingress", 0, "ports", 0, "endPort"), 8090),
    (policies_allow_what_is_written, FACE, ("spec", "egress", 0), GONE),
    (policies_allow_what_is_written, FACE, ("spec", "egress", 1), GONE),
    (policies_allow_what_is_written, "NetworkPolicy/npe-metrics", (*PEERS, "from"), GONE),
    (
        policies_allow_what_is_written,
        "NetworkPolicy/npe-metrics",
        (*PEERS, "from", 0, "podSelector"),
        GONE,
    ),
    (
        policies_allow_what_is_written,
        "NetworkPolicy/npe-torchserve-object-store",
        ("spec", "egress", 0, "to", 0, "ipBlock", "except", 2),
        GONE,
    ),
    (
        secrets_reach_their_readers,
        WORKER,
        (*CONTAINER, "envFrom"),
        [{"secretRef": {"name": "npe-registry"}}],
    ),
    (
        secrets_reach_their_readers,
        GATEWAY,
        (*CONTAINER, "env", 0, "valueFrom", "secretKeyRef", "name"),
        "npe-receipt-key",
    ),
    (secrets_reach_their_readers, GATEWAY, (*CONTAINER, "name"), "sidecar"),
    (pages_are_there, WORKER, (*CONTAINER, "readinessProbe", "httpGet", "path"), "/nothing"),
    (pages_are_there, WORKER, (*CONTAINER, "readinessProbe", "httpGet", "port"), "inference"),
    (pages_are_there, GATEWAY, (*CONTAINER, "livenessProbe", "httpGet", "port"), "http"),
    (pages_are_there, "ServiceMonitor/npe-gateway", ("spec", "endpoints", 0, "path"), "/metric"),
    (bundles_are_pulled_first, WORKER, (*SPEC, "initContainers"), GONE),
    (bundles_are_pulled_first, WORKER, (*SPEC, "initContainers", 0, "command", 5), "/tmp/bundle"),
    (bundles_are_pulled_first, WORKER, (*SPEC, "initContainers", 0, "volumeMounts", 0), GONE),
    (labels_are_complete, GATEWAY, ("metadata", "labels", "app.kubernetes.io/part-of"), GONE),
    (labels_are_complete, GATEWAY, (*SPEC[:2], "metadata", "labels", NAME), GONE),
    (namespaces_are_ours, GATEWAY, ("metadata", "namespace"), "default"),
    (
        namespaces_are_ours,
        "Namespace/npe",
        ("metadata", "labels", "pod-security.kubernetes.io/enforce"),
        "baseline",
    ),
    (names_are_unique, WORKER, ("metadata", "name"), "npe-gateway"),
    (selectors_find_their_pods, WORKER, ("spec", "selector", "matchLabels", NAME), "npe-gateway"),
    (nodes_can_be_drained, WORKER, (*SPEC, "topologySpreadConstraints"), GONE),
    (nodes_can_be_drained, BUDGET, ("spec", "selector", "matchLabels", NAME), "torchserve"),
    (nodes_can_be_drained, BUDGET, ("spec", "maxUnavailable"), 0),
    (nodes_can_be_drained, BUDGET, ("spec", "maxUnavailable"), "100%"),
    (
        selectors_find_their_pods,
        "ServiceMonitor/npe-gateway",
        ("spec", "selector", "matchLabels", NAME),
        "gateway",
    ),
    (
        selectors_find_their_pods,
        "ServiceMonitor/npe-gateway",
        ("spec", "endpoints", 0, "targetPort"),
        "metrics",
    ),
    (references_lead_somewhere, GATEWAY, (*SPEC, "serviceAccountName"), "default"),
    (references_lead_somewhere, GATEWAY, (*SPEC, "volumes", 0, "configMap", "name"), "npe"),
    (references_lead_somewhere, GATEWAY, (*SPEC, "volumes", 2, "secret", "secretName"), "keys"),
    (references_lead_somewhere, GATEWAY, (*SPEC, "volumes", 3), GONE),
    (references_lead_somewhere, GATEWAY, (*CONTAINER, "volumeMounts", 4), GONE),
    (
        references_lead_somewhere,
        "HTTPRoute/npe-gateway",
        ("spec", "rules", 0, "backendRefs", 0, "name"),
        "gateway",
    ),
    (
        references_lead_somewhere,
        "HTTPRoute/npe-gateway",
        ("spec", "rules", 0, "backendRefs", 0, "port"),
        81,
    ),
    (
        references_lead_somewhere,
        "ScaledObject/npe-torchserve",
        ("spec", "scaleTargetRef", "name"),
        "torchserve",
    ),
    (one_autoscaler_each, WORKER, ("spec", "replicas"), 2),
    (variables_are_read, GATEWAY, (*CONTAINER, "env", 0, "name"), "NPE_TOKEN"),
    (variables_are_read, WORKER, (*SPEC, "initContainers", 0, "envFrom", 0), GONE),
    (arguments_are_known, WORKER, (*CONTAINER, "args", 0), "--archive=model.mar"),
    (arguments_are_known, GATEWAY, (*CONTAINER, "args", 0), "--settings"),
    (arguments_are_known, WORKER, (*SPEC, "initContainers", 0, "command", 2), "fetch"),
    (settings_fit, GATEWAY, (*CONTAINER, "args", 1), "/etc/npe/gateway.yaml"),
    (settings_fit, GATEWAY, (*CONTAINER, "volumeMounts", 2, "mountPath"), "/keys"),
    (settings_fit, GATEWAY, (*CONTAINER, "ports", 1, "containerPort"), 9090),
    (settings_fit, GATEWAY, (*CONTAINER, "resources", "limits", "memory"), "1Gi"),
    (settings_fit, GATEWAY, (*SPEC, "terminationGracePeriodSeconds"), 30),
    (settings_fit, GATEWAY, ("spec", "replicas"), 9),
    (routes_lead_to_workers, "Service/npe-torchserve", ("spec", "clusterIP"), GONE),
    (routes_lead_to_workers, "Service/npe-torchserve", ("spec", "publishNotReadyAddresses"), GONE),
    (routes_lead_to_workers, "Service/npe-torchserve", ("spec", "ports", 0, "port"), 80),
    (
        routes_lead_to_workers,
        "ConfigMap/npe-gateway-routes",
        ("data", "routes.json"),
        '{"production": []}',
    ),
    (workers_have_time_to_drain, WORKER, (*SPEC, "terminationGracePeriodSeconds"), 120),
    (
        expressions_are_known,
        "PrometheusRule/npe-rules",
        ("spec", "groups", 0, "rules", 0, "record"),
        "npe:wait",
    ),
    (
        expressions_are_known,
        "ScaledObject/npe-torchserve",
        ("spec", "triggers", 0, "metadata", "query"),
        "sum(npe_worker_waiting)",
    ),
    (
        alerts_can_be_acted_on,
        "PrometheusRule/npe-alerts",
        ("spec", "groups", 0, "rules", 0, "labels", "severity"),
        GONE,
    ),
    (
        alerts_can_be_acted_on,
        "PrometheusRule/npe-alerts",
        ("spec", "groups", 0, "rules", 0, "annotations", "runbook"),
        "docs/kubernetes.md#no-such-section",
    ),
]


RUNTIME, SERVICE = "ServingRuntime/npe-kserve", "InferenceService/npe-kserve"
# The same for KServe's overlay, where two objects together make a pod.
KSERVE_CHANGES: list[tuple[Rule, str, tuple[Any, ...], Any]] = [
    (workers_have_time_to_drain, RUNTIME, ("spec", "containers", 1, "lifecycle"), GONE),
    (
        workers_have_time_to_drain,
        SERVICE,
        ("spec", "predictor", "terminationGracePeriodSeconds"),
        150,
    ),
    (settings_fit, SERVICE, ("spec", "predictor", "terminationGracePeriodSeconds"), GONE),
    (policies_allow_what_is_written, "NetworkPolicy/npe-kserve", ("spec", "egress"), [{}]),
    (pages_are_there, RUNTIME, ("spec", "containers", 0, "livenessProbe", "httpGet", "port"), 8080),
    (bundles_are_pulled_first, SERVICE, ("spec", "predictor", "initContainers"), GONE),
    (nodes_can_be_drained, SERVICE, ("spec", "predictor", "topologySpreadConstraints"), GONE),
    (nodes_can_be_drained, "PodDisruptionBudget/npe-kserve", ("spec", "maxUnavailable"), 0),
]


@pytest.mark.parametrize(
    ("overlay", "rule", "name", "path", "value"),
    [
        *(("production", *change) for change in CHANGES),
        *(("kserve", *change) for change in KSERVE_CHANGES),
    ],
)
def test_a_rule_finds_a_change(
    overlay: str, rule: Rule, name: str, path: tuple[Any, ...], value: Any
) -> None:
    objects = render(f"serving/overlays/{overlay}")
    assert rule(objects) == []
    _change(objects, name, path, value)
    assert rule(objects)


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
