"""What breaks each rule: one thing changed in a manifest that was right."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.unit.k8s.access_rules import (
    bundles_are_pulled_first,
    pages_are_there,
    policies_allow_what_is_written,
    secrets_reach_their_readers,
)
from tests.unit.k8s.manifests import Manifest
from tests.unit.k8s.metric_rules import (
    alerts_can_be_acted_on,
    expressions_are_known,
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
from tests.unit.k8s.release_rules import canary_is_apart, digests_are_given
from tests.unit.k8s.settings_rules import (
    arguments_are_known,
    routes_lead_to_workers,
    settings_fit,
    variables_are_read,
    workers_have_time_to_drain,
)

Rule = Callable[[Sequence[Manifest]], list[str]]
Change = tuple[Rule, str, tuple[Any, ...], Any]

GONE = object()
SPEC = ("spec", "template", "spec")
CONTAINER = (*SPEC, "containers", 0)
GATEWAY, WORKER = "Deployment/npe-gateway", "Deployment/npe-torchserve"
BUDGET = "PodDisruptionBudget/npe-torchserve"
POLICY = "NetworkPolicy/npe-torchserve"
FACE = "NetworkPolicy/npe-gateway"
PEERS = ("spec", "ingress", 0)
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
ANYBODY = {"podSelector": {"matchLabels": {NAME: "npe-gateway"}}}

# Of production: rule; object; where in it; the new value.
CHANGES: list[Change] = [
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
# Of KServe's overlay, where two objects together make a pod.
KSERVE_CHANGES: list[Change] = [
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


ROUTE = "HTTPRoute/npe-gateway"
BACKENDS = ("spec", "rules", 0, "backendRefs")
# Of the canary's, where there are two releases.
CANARY_CHANGES: list[Change] = [
    (digests_are_given, f"{WORKER}-canary", (*CONTAINER, "image"), "worker:0.1.0"),
    (digests_are_given, f"{GATEWAY}-canary", (*CONTAINER, "image"), "gateway@sha256:0"),
    (canary_is_apart, ROUTE, (*BACKENDS, 1), GONE),
    (canary_is_apart, ROUTE, (*BACKENDS, 1, "weight"), 100),
    (canary_is_apart, ROUTE, (*BACKENDS, 1, "weight"), 0),
    (
        canary_is_apart,
        "ConfigMap/npe-gateway-routes-canary",
        ("data", "routes.json"),
        '{"production": [{"url": "http://npe-torchserve:8085"}]}',
    ),
    (
        policies_allow_what_is_written,
        f"{POLICY}-canary",
        ("spec", "ingress", 0, "from", 0, "podSelector", "matchLabels", INSTANCE),
        "production",
    ),
]
