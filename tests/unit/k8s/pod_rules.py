"""What must hold for every pod, whatever makes it. A rule returns what is wrong, one line each."""

import re
from collections.abc import Iterator, Sequence

from tests.unit.k8s.manifests import Manifest, Pod, name_of, pods

# Kinds whose pods run until they are told to stop, and answer probes meanwhile.
LONG_RUNNING = {"Deployment", "Pod", "StatefulSet", "ServingRuntime"}
USER = 10001  # of all images
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|^[^@]+:(?!latest$)[\w.-]+$")
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def images_are_pinned(objects: Sequence[Manifest]) -> list[str]:
    """Every image has a digest or a tag that is not "latest"."""
    return [
        f"{where}: image {image!r} is not pinned"
        for where, _, container in _containers(objects)
        if not _PINNED.search(image := container["image"])
    ]


def resources_are_bounded(objects: Sequence[Manifest]) -> list[str]:
    """Every container asks for CPU and memory and has limits of both."""
    found = []
    for where, _, container in _containers(objects):
        for part in ("requests", "limits"):
            given = container.get("resources", {}).get(part, {})
            missing = {"cpu", "memory"} - set(given)
            found += [f"{where}: no {part} of {name}" for name in sorted(missing)]
    return found


def containers_are_hardened(objects: Sequence[Manifest]) -> list[str]:
    """What the restricted Pod Security asks for, and a root file system that is read-only."""
    found = []
    for where, pod, container in _containers(objects):
        own = container.get("securityContext", {})
        context = {**pod.spec.get("securityContext", {}), **own}
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        found += [
            f"{where}: securityContext.{name} is {context.get(name)!r}, not {value!r}"
            for name, value in wanted.items()
            if context.get(name) != value
        ]
    return found


def pods_are_nobody(objects: Sequence[Manifest]) -> list[str]:
    """No token of the API server, nothing of the node, and the images' own user."""
    found = []
    for pod in pods(objects):
        spec = pod.spec
        if pod.owner["kind"] == "ServingRuntime":  # KServe's InferenceService says this.
            continue
        if spec.get("automountServiceAccountToken") is not False:
            found.append(f"{pod.name}: a token is mounted")
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(name):
                found.append(f"{pod.name}: {name}")
        user = spec.get("securityContext", {}).get("runAsUser")
        if user != USER:
            found.append(f"{pod.name}: runs as {user}, and the images are {USER}'s")
        for volume in spec.get("volumes", []):
            if "hostPath" in volume:
                found.append(f"{pod.name}: volume {volume['name']} is the node's")
    return found


def probes_are_distinct(objects: Sequence[Manifest]) -> list[str]:
    """Containers that keep running are kept alive by another answer than makes them ready."""
    found = []
    for pod in pods(objects):
        if pod.owner["kind"] not in LONG_RUNNING:
            continue
        for container in pod.containers(with_init=False):
            where = f"{pod.name}/{container['name']}"
            found += [f"{where}: no {name}" for name in _PROBES[1:] if name not in container]
            if _asked(container, "readinessProbe") == _asked(container, "livenessProbe"):
                found.append(f"{where}: readiness and liveness ask the same")
            found += [
                f"{where}: {name} asks a port {port} that the container does not name"
                for name in _PROBES
                if isinstance(port := container.get(name, {}).get("httpGet", {}).get("port"), str)
                and port not in port_names(container)
            ]
    return found


def port_names(container: Manifest) -> set[str]:
    return {port["name"] for port in container.get("ports", [])}


def _asked(container: Manifest, probe: str) -> object:
    given = container.get(probe, {})
    return given.get("httpGet", {}).get("path", given.get("exec"))


def _containers(objects: Sequence[Manifest]) -> Iterator[tuple[str, Pod, Manifest]]:
    for pod in pods(objects):
        for container in pod.containers():
            yield f"{name_of(pod.owner)}/{container['name']}", pod, container


POD_RULES = (
    images_are_pinned,
    resources_are_bounded,
    containers_are_hardened,
    pods_are_nobody,
    probes_are_distinct,
)
