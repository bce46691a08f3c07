"""A real API server takes every overlay, without keeping anything; where there is one."""

import os
import subprocess

import pytest

from tests.unit.k8s.manifests import K8S, kustomizations, needs_kubectl, render

pytestmark = [
    needs_kubectl,
    pytest.mark.skipif(
        not os.environ.get("KUBECONFIG"),
        reason="no cluster: set KUBECONFIG to one with the custom kinds in use installed",
    ),
]


@pytest.mark.parametrize(
    "overlay", [name for name in kustomizations("") if "/base" not in name and "/rel" not in name]
)
def test_the_server_takes_it(overlay: str) -> None:
    for name in {one["metadata"].get("namespace", "default") for one in render(overlay)}:
        if "NotFound" in kubectl("get", "namespace", name).stderr:
            pytest.skip(f"a dry run makes no namespaces: kubectl create namespace {name}")
    done = kubectl("apply", "--dry-run=server", "-k", str(K8S / overlay))
    assert done.returncode == 0, done.stderr
    assert "would violate PodSecurity" not in done.stderr


def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=120)
