"""A real API server takes every overlay, without keeping anything; where there is one."""

import os
import subprocess

import pytest

from tests.unit.k8s.manifests import K8S, kustomizations, needs_kubectl

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
    """Namespaces have to be there already: a dry run makes none for what follows."""
    done = subprocess.run(
        ["kubectl", "apply", "--dry-run=server", "-k", str(K8S / overlay)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
