"""Kustomizations rendered by kubectl, and the pods that their objects make.

An object is a plain dictionary, as YAML gives it.
"""

import copy
import functools
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
K8S = REPOSITORY / "k8s"

Manifest = dict[str, Any]

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is missing: install it from https://kubernetes.io/docs/tasks/tools",
)


@dataclass(frozen=True)
class Pod:
    """What an object makes pods from.

    Attributes:
        owner: the object that makes them.
        labels: of the pods; those of a controller such as KServe's come on top.
        spec: a pod's specification, or the part of it that the object has.
    """

    owner: Manifest
    labels: dict[str, str]
    spec: Manifest = field(repr=False)

    @property
    def name(self) -> str:
        return name_of(self.owner)

    def containers(self, *, with_init: bool = True) -> list[Manifest]:
        found: list[Manifest] = list(self.spec.get("containers", []))
        if "container" in self.spec:  # a template of Argo's
            found.append(self.spec["container"])
        return [*(self.spec.get("initContainers", []) if with_init else []), *found]


def kustomizations(below: str) -> list[str]:
    """Return every folder with a kustomization.yaml below a folder of k8s/, relative to it.

    Components are left out: they render only inside an overlay.
    """
    found = []
    for file in sorted((K8S / below).rglob("kustomization.yaml")):
        if yaml.safe_load(file.read_text())["kind"] != "Component":
            found.append(str(file.parent.relative_to(K8S)))
    return found


def components(below: str) -> list[str]:
    """Return every kustomize Component below a folder of k8s/, relative to it."""
    return [
        str(file.parent.relative_to(K8S))
        for file in sorted((K8S / below).rglob("kustomization.yaml"))
        if yaml.safe_load(file.read_text())["kind"] == "Component"
    ]


def render(folder: str) -> list[Manifest]:
    """Return the objects of a kustomization, a folder relative to k8s/."""
    return copy.deepcopy(_rendered(folder))


def render_with(base: str, parts: Sequence[str], *, scratch: Path) -> list[Manifest]:
    """Return the objects of a kustomization with components, all relative to k8s/.

    Args:
        base: the kustomization.
        parts: components added to it.
        scratch: an empty folder for the kustomization that names both.
    """
    paths = {name: _path_between(scratch, K8S / name) for name in [base, *parts]}
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [paths[base]],
        "components": [paths[part] for part in parts],
    }
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return _kustomize(scratch)


def pods(objects: Sequence[Manifest]) -> list[Pod]:
    """Return everything among the objects that pods are made from, custom kinds included."""
    return [pod for owner in objects for pod in _pods_in(owner, owner, _own_labels(owner))]


def whole_spec(pod: Pod, objects: Sequence[Manifest]) -> Manifest:
    """Return a pod's specification, a ServingRuntime's with what its InferenceService adds."""
    for one in objects:
        if one["kind"] == "InferenceService" and pod.owner["kind"] == "ServingRuntime":
            predictor = one["spec"]["predictor"]
            if predictor["model"]["runtime"] == pod.owner["metadata"]["name"]:
                return {**pod.spec, **predictor}
    return pod.spec


def name_of(manifest: Manifest) -> str:
    """Return "Kind/name"."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _own_labels(owner: Manifest) -> dict[str, str]:
    labels: dict[str, str] = owner["metadata"].get("labels", {}) if owner["kind"] == "Pod" else {}
    return labels


def _pods_in(owner: Manifest, part: Any, labels: dict[str, str]) -> Iterator[Pod]:
    if isinstance(part, list):
        for item in part:
            yield from _pods_in(owner, item, labels)
    if not isinstance(part, dict):
        return
    metadata = part.get("metadata")
    if isinstance(metadata, dict) and part is not owner:
        labels = metadata.get("labels", {})
    if _is_pod_spec(part):
        yield Pod(owner, part.get("labels", labels), part)
        return
    for value in part.values():
        yield from _pods_in(owner, value, labels)


def _is_pod_spec(part: Manifest) -> bool:
    several, single = part.get("containers"), part.get("container")
    several = several or part.get("initContainers")
    return (isinstance(several, list) and bool(several) and isinstance(several[0], dict)) or (
        isinstance(single, dict) and "image" in single
    )


@functools.cache
def _rendered(folder: str) -> list[Manifest]:
    return _kustomize(K8S / folder)


def _kustomize(folder: Path) -> list[Manifest]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise ValueError(f"{folder} does not render: {done.stderr.strip()}")
    # The loader in C is ten times as fast, where PyYAML was built with it.
    return list(yaml.load_all(done.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def _path_between(start: Path, target: Path) -> str:
    # kustomize takes no absolute paths.
    ups = len(start.resolve().parts) - 1
    return "/".join([".."] * ups + list(target.resolve().parts[1:]))
