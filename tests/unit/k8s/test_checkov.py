"""checkov's policies for Kubernetes hold for all that is rendered, but for argued exceptions.

checkov pins older releases of packages that we use, so it has an environment of its own, which
`make` sets up: .venv/checkov.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.k8s.manifests import K8S, REPOSITORY, kustomizations, needs_kubectl

CHECKOV = os.environ.get("NPE_CHECKOV") or shutil.which(
    "checkov", path=str(REPOSITORY / ".venv/checkov/bin")
)

CONTROL = "control"  # a file that breaks policies

# Policy; where it does not hold (beginnings of kustomizations' paths); why.
EXCEPTIONS: list[tuple[str, tuple[str, ...], str]] = [
    (
        "CKV_K8S_15",
        ("serving/overlays/dev", "training/"),
        "pulling always: a tag is never used again, and dev's and the demo's images are put on the "
        "node, where there is no registry to pull them from",
    ),
    (
        "CKV_K8S_43",
        ("serving/overlays/dev", "training/"),
        "digests: images are built by who installs; production's overlays have a place for them, "
        "dev and the demo have no registry that would tell one",
    ),
    (
        "CKV_K8S_35",
        ("serving/", "training/"),
        "secrets as files: our programs, the tracker and object stores read secrets from the "
        "environment, and a worker's children get none that they have no use for",
    ),
]

pytestmark = [
    needs_kubectl,
    pytest.mark.skipif(
        CHECKOV is None,
        reason="checkov is missing: run make lint once, or set NPE_CHECKOV to its program",
    ),
]


def failures(folder: Path) -> set[tuple[str, str, str]]:
    """Return policy, file and object of every policy that does not hold below a folder."""
    options = ["--framework", "kubernetes", "--skip-download", "--quiet", "--output", "json"]
    done = subprocess.run(
        [str(CHECKOV), *options, "--directory", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": "", "LOG_LEVEL": "ERROR"},
    )
    report: Any = json.loads(done.stdout)
    assert report["summary"]["resource_count"] > 0, done.stderr
    return {
        (one["check_id"], Path(one["file_path"]).stem, one["resource"])
        for one in report["results"]["failed_checks"]
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str, str]]:
    folder = tmp_path_factory.mktemp("rendered")
    for name in kustomizations(""):
        if "/base" in name or name.endswith("/release"):  # Parts of overlays.
            continue
        command = ["kubectl", "kustomize", str(K8S / name)]
        rendered = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        (folder / f"{name.replace('/', '--')}.yaml").write_bytes(rendered)
    (folder / f"{CONTROL}.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: npe}\n"
        "spec: {containers: [{name: a, image: a, securityContext: {privileged: true}}]}\n"
    )
    return failures(folder)


def test_policies_hold(found: set[tuple[str, str, str]]) -> None:
    excepted = {
        one
        for one in found
        for check, places, _ in EXCEPTIONS
        if one[0] == check and one[1].replace("--", "/").startswith(places)
    }
    assert {one for one in found - excepted if one[1] != CONTROL} == set()


def test_every_exception_is_needed(found: set[tuple[str, str, str]]) -> None:
    for check, places, reason in EXCEPTIONS:
        assert reason
        for place in places:
            assert any(
                one == check and file.replace("--", "/").startswith(place) for one, file, _ in found
            ), (check, place)


def test_the_control_breaks_policies(found: set[tuple[str, str, str]]) -> None:
    broken = {check for check, file, _ in found if file == CONTROL}
    assert {"CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_13"} <= broken
