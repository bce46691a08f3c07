"""Each way in which an object can be wrong by its schema is found."""

import copy
from typing import Any

import pytest

from tests.unit.k8s.manifests import Manifest
from tests.unit.k8s.validation import lost, schema_problems

GOOD: list[Manifest] = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 80, "targetPort": "http"}]},
    },
    {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "a"},
        "spec": {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "up", "for": "5m"}]}]},
    },
    {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "a"},
        "spec": {
            "scaleTargetRef": {"name": "b"},
            "triggers": [{"type": "prometheus", "metadata": {"threshold": "1"}}],
        },
    },
    {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "endpoints": [{"path": "/metrics"}]},
    },
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "a"},
        "spec": {
            "parentRefs": [{"name": "b"}],
            "rules": [{"timeouts": {"request": "9s"}, "backendRefs": [{"name": "c", "port": 80}]}],
        },
    },
    {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "a"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "b"}, "runtime": "c"}}},
    },
    {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": "a"},
        "spec": {
            "supportedModelFormats": [{"name": "b"}],
            "containers": [{"name": "kserve-container", "image": "c"}],
        },
    },
]


@pytest.mark.parametrize("manifest", GOOD, ids=lambda manifest: manifest["kind"])
def test_a_good_object_passes(manifest: Manifest) -> None:
    assert schema_problems(manifest) == []


@pytest.mark.parametrize("manifest", GOOD, ids=lambda manifest: manifest["kind"])
def test_an_unknown_field_and_an_unknown_version_are_found(manifest: Manifest) -> None:
    bad = copy.deepcopy(manifest)
    bad["spec"]["replicaCount"] = 1
    assert schema_problems(bad)
    assert schema_problems({**manifest, "apiVersion": "v99"})


@pytest.mark.parametrize(
    ("number", "path", "value"),
    [
        (0, ("spec", "ports", 0, "port"), "eighty"),
        (0, ("spec", "ports", 0, "targetport"), 80),
        (1, ("spec", "groups", 0, "rules", 0, "expr"), None),
        (1, ("spec", "groups", 0, "rules", 0, "labls"), {}),
        (2, ("spec", "triggers"), None),
        (2, ("spec", "triggers", 0, "metadat"), {}),
        (3, ("spec", "selector"), None),
        (3, ("spec", "endpoints", 0, "targetport"), "control"),
        (3, ("spec", "endpoints", 0, "path"), 8086),
        (4, ("spec", "rules", 0, "backendRefs"), []),
        (4, ("spec", "rules", 0, "backendRefs", 0, "port"), "http"),
        (4, ("spec", "rules", 0, "timeouts", "request"), "9 seconds"),
        (5, ("spec", "predictor", "model", "runtime"), None),
        (5, ("spec", "predictor", "minReplicas"), "2"),
        (5, ("spec", "predictor", "tolerations"), [{"keys": "a"}]),
        (6, ("spec", "terminationGracePeriodSeconds"), 170),
        (6, ("spec", "containers", 0, "name"), "gateway"),
        (6, ("spec", "containers", 0, "lifecycle"), {"preStop": {"sleep": 20}}),
    ],
)
def test_a_wrong_field_is_found(number: int, path: tuple[Any, ...], value: Any) -> None:
    bad = copy.deepcopy(GOOD[number])
    parent: Any = bad
    for step in path[:-1]:
        parent = parent[step]
    if value is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    assert schema_problems(bad)


def test_an_unknown_kind_is_a_problem_not_a_warning() -> None:
    manifest = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}
    assert "no schema for Thing" in schema_problems(manifest)[0]


@pytest.mark.parametrize(
    ("written", "understood"),
    [({"a": 1, "b": 2}, {"a": 1}), ({"a": [1, 2]}, {"a": [1]}), ({"a": "1"}, {"a": 1})],
)
def test_what_a_model_does_not_give_back_is_found(written: Any, understood: Any) -> None:
    assert lost(written, understood)
    assert not lost(written, written)
