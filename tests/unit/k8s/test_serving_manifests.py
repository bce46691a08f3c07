"""Every overlay of serving, and the base with each component, by every rule."""

import re
from collections.abc import Callable, Sequence

import pytest

from tests.unit.k8s.manifests import (
    K8S,
    Manifest,
    kustomizations,
    needs_kubectl,
    render,
)
from tests.unit.k8s.metric_rules import METRIC_RULES, buckets
from tests.unit.k8s.network_rules import NETWORK_RULES
from tests.unit.k8s.pod_rules import POD_RULES
from tests.unit.k8s.reference_rules import REFERENCE_RULES
from tests.unit.k8s.settings_rules import SETTINGS_RULES
from tests.unit.k8s.validation import schema_problems

pytestmark = needs_kubectl

OVERLAYS = [name for name in kustomizations("serving/overlays") if not name.endswith("/release")]
RULES = [*POD_RULES, *NETWORK_RULES, *REFERENCE_RULES, *SETTINGS_RULES, *METRIC_RULES]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay: str) -> None:
    assert [problem for one in render(overlay) for problem in schema_problems(one)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_keeps_the_rules(
    overlay: str, rule: Callable[[Sequence[Manifest]], list[str]]
) -> None:
    assert rule(render(overlay)) == []


def test_the_objective_for_latency_is_a_bucket_of_the_histogram() -> None:
    rules = (K8S / "monitoring/rules.yaml").read_text()
    assert set(re.findall(r'le="([^"]+)"', rules)) <= buckets("npe_gateway_request_seconds")
