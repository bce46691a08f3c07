"""Every overlay of serving, and the base with each component, by every rule."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.unit.k8s.access_rules import ACCESS_RULES
from tests.unit.k8s.manifests import (
    K8S,
    Manifest,
    components,
    kustomizations,
    needs_kubectl,
    render,
    render_with,
)
from tests.unit.k8s.metric_rules import METRIC_RULES, buckets
from tests.unit.k8s.network_rules import NETWORK_RULES
from tests.unit.k8s.pod_rules import POD_RULES
from tests.unit.k8s.reference_rules import REFERENCE_RULES
from tests.unit.k8s.release_rules import canary_is_apart, digests_are_given
from tests.unit.k8s.settings_rules import SETTINGS_RULES
from tests.unit.k8s.validation import schema_problems

pytestmark = needs_kubectl

OVERLAYS = [name for name in kustomizations("serving/overlays") if not name.endswith("/release")]
RULES = [*POD_RULES, *NETWORK_RULES, *REFERENCE_RULES, *SETTINGS_RULES]
RULES += [*ACCESS_RULES, *METRIC_RULES]

# What a component needs beside it; most need only the base.
KSERVE = "serving/components/kserve"
COMPANIONS = {
    "serving/components/hpa": ["monitoring"],
    "serving/components/keda": ["monitoring"],
}
# Not for kubectl: read by Helm.
NO_MANIFESTS = {"prometheus-adapter-values.yaml"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay: str) -> None:
    assert [problem for one in render(overlay) for problem in schema_problems(one)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_keeps_the_rules(
    overlay: str, rule: Callable[[Sequence[Manifest]], list[str]]
) -> None:
    assert rule(render(overlay)) == []


@pytest.mark.parametrize("component", [*components("serving/components"), "monitoring"])
def test_the_base_with_a_component_keeps_the_rules(component: str, tmp_path: Path) -> None:
    base = "serving/base/common" if component == KSERVE else "serving/base"
    parts = [*COMPANIONS.get(component, []), component]
    objects = render_with(base, parts, scratch=tmp_path)
    assert [problem for one in objects for problem in schema_problems(one)] == []
    assert [problem for rule in RULES for problem in rule(objects)] == []


@pytest.mark.parametrize("folder", ["serving", "monitoring"])
def test_no_file_is_left_out(folder: str) -> None:
    for file in (K8S / folder).rglob("*.*"):
        if file.name not in {"kustomization.yaml", *NO_MANIFESTS}:
            assert file.name in (file.parent / "kustomization.yaml").read_text(), file


@pytest.mark.parametrize("overlay", ["production", "canary"])
def test_images_and_bundles_of_production_have_digests(overlay: str) -> None:
    assert digests_are_given(render(f"serving/overlays/{overlay}")) == []


def test_the_canary_is_a_release_of_its_own() -> None:
    assert canary_is_apart(render("serving/overlays/canary")) == []


def test_the_objective_for_latency_is_a_bucket_of_the_histogram() -> None:
    rules = (K8S / "monitoring/rules.yaml").read_text()
    assert set(re.findall(r'le="([^"]+)"', rules)) <= buckets("npe_gateway_request_seconds")
