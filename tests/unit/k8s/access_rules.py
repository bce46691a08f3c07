"""What serving may reach and be asked for: written out here once more, and compared exactly."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from serve.gateway.app import create_app
from serve.gateway.internal import create_internal_app
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.pool import BackendPool
from serve.gateway.service import EditService
from serve.gateway.settings import GatewaySettings
from serve.worker import _parse as parse_worker
from tests.unit.k8s.manifests import Manifest, Pod, name_of, pods, whole_spec
from tests.unit.k8s.network_rules import of_kind, selects
from tests.unit.k8s.settings_rules import WORKER_IMAGE

Flows = dict[str, set[str]]  # ports by who is at the other end

# By the label app.kubernetes.io/component.
INCOMING: dict[str, Flows] = {
    "gateway": {"the cluster": {"8080/TCP", "8082/TCP"}, "Prometheus": {"8081/TCP"}},
    "torchserve": {"its gateways": {"8085/TCP", "8086/TCP"}, "Prometheus": {"8086/TCP"}},
    "kserve": {"the cluster": {"8080/TCP"}},
    "registry": {},
}
NAMES = {"name servers": {"53/UDP", "53/TCP"}}
TLS = {"public addresses": {"443/TCP"}}
OUTGOING: dict[str, Flows] = {
    "gateway": {**NAMES, "its workers": {"8085/TCP", "8086/TCP"}},
    "torchserve": {**NAMES, **TLS},
    "kserve": {**NAMES, **TLS},
    "registry": {},
}
# Where a component is left out, so is what it needs.
WITH = {
    ("torchserve", "public addresses"): "NetworkPolicy/npe-torchserve-object-store",
    ("torchserve", "Prometheus"): "NetworkPolicy/npe-metrics",
    ("gateway", "Prometheus"): "NetworkPolicy/npe-metrics",
}

# Which containers have what is in a Secret.
READERS = {
    "npe-control": {"gateway", "kserve-container", "torchserve"},
    "npe-keys": {"gateway", "kserve-container"},
    "npe-receipt-key": {"torchserve"},
    "npe-registry": {"bundle"},
}


def policies_allow_what_is_written(objects: Sequence[Manifest]) -> list[str]:
    """All policies of a pod together allow what the tables here say, no more and no less."""
    found = []
    there = {name_of(one) for one in objects}
    for pod in pods(objects):
        if pod.owner["kind"] == "InferenceService":  # Its ports are the runtime's.
            continue
        component = pod.labels.get("app.kubernetes.io/component", "")
        for direction, table in (("ingress", INCOMING), ("egress", OUTGOING)):
            wanted = {
                peer: ports
                for peer, ports in table.get(component, {}).items()
                if WITH.get((component, peer)) in {None, *there}
            }
            given = _flows(objects, pod, direction)
            for peer in sorted(wanted.keys() | given.keys()):
                more = given.get(peer, set()) - wanted.get(peer, set())
                less = wanted.get(peer, set()) - given.get(peer, set())
                found += [f"{pod.name}: {direction} of {one} with {peer}" for one in sorted(more)]
                found += [f"{pod.name}: no {direction} of {one} with {peer}" for one in less]
    return found


def secrets_reach_their_readers(objects: Sequence[Manifest]) -> list[str]:
    """A container has those Secrets that it reads: what decodes photos not the store's keys."""
    return [
        f"{pod.name}/{container['name']}: has {secret}"
        for pod in pods(objects)
        for container in pod.containers()
        for secret in _secrets(pod, container)
        if container["name"] not in READERS.get(secret, set())
    ]


def pages_are_there(objects: Sequence[Manifest]) -> list[str]:
    """Probes and monitors ask for pages that the code has, at the port that has them."""
    found = []
    for pod in pods(objects):
        for container in pod.containers(with_init=False):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(probe, {}).get("httpGet")
                if asked is None:
                    continue
                where = f"{pod.name}/{container['name']}: {probe}"
                number = _number(pod, asked["port"])
                if asked["path"] not in _pages().get(number, set()):
                    found.append(f"{where} asks {number} for {asked['path']}, which is not there")
                # It refuses connections when it has many: no reason to kill it.
                if probe == "livenessProbe" and number == GatewaySettings().port:
                    found.append(f"{where} asks the public port")
    for monitor in of_kind(objects, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            for pod in pods(objects):
                number = _number(pod, endpoint["targetPort"])
                if number and endpoint["path"] not in _pages().get(number, set()):
                    found.append(f"{name_of(monitor)}: {number} has no {endpoint['path']}")
    return found


def bundles_are_pulled_first(objects: Sequence[Manifest]) -> list[str]:
    """A worker's archive is where an init container of its pod puts it, in a volume of both."""
    found = []
    for pod in pods(objects):
        for container in pod.containers(with_init=False):
            if WORKER_IMAGE not in container["image"] or "command" in container:
                continue
            folder = str(PurePosixPath(parse_worker(container["args"]).mar).parent)
            if not any(
                first.get("command", [])[:3] == ["npe", "registry", "pull"]
                and first["command"][-2:] == ["--to", folder]
                and _volume(first, folder) == _volume(container, folder) != ""
                for first in whole_spec(pod, objects).get("initContainers", [])
            ):
                found.append(f"{pod.name}: nothing puts a bundle into {folder}")
    return found


def _flows(objects: Sequence[Manifest], pod: Pod, direction: str) -> Flows:
    """Return what the policies that select a pod allow it, "ingress" or "egress"."""
    found: Flows = {}
    for policy in of_kind(objects, "NetworkPolicy"):
        if not selects(policy["spec"]["podSelector"], pod.labels):
            continue
        for rule in policy["spec"].get(direction, []):
            peers = rule.get("from" if direction == "ingress" else "to", [])
            for peer in [_peer(one, pod) for one in peers] or ["anybody"]:
                found.setdefault(peer, set()).update(_ports(rule, pod))
    return {peer: ports for peer, ports in found.items() if ports}


def _peer(peer: Manifest, pod: Pod) -> str:
    def labels(**given: str) -> Manifest:
        return {"matchLabels": {f"app.kubernetes.io/{name}": one for name, one in given.items()}}

    def space(name: str) -> Manifest:
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}

    release = pod.labels.get("app.kubernetes.io/instance", "")
    private = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
    known: dict[str, Manifest] = {
        "the cluster": {"namespaceSelector": {}},
        "name servers": space("kube-system"),
        "Prometheus": {**space("monitoring"), "podSelector": labels(name="prometheus")},
        "its gateways": {"podSelector": labels(name="npe-gateway", instance=release)},
        "its workers": {"podSelector": labels(name="npe-torchserve", instance=release)},
        "public addresses": {"ipBlock": {"cidr": "0.0.0.0/0", "except": private}},
    }
    return next((name for name, one in known.items() if one == peer), str(peer))


def _ports(rule: Manifest, pod: Pod) -> Iterator[str]:
    if not rule.get("ports"):
        yield "every port"
    for one in rule.get("ports", []):
        number = one.get("port") if isinstance(one.get("port"), int) else _number(pod, one["port"])
        if number is not None:  # A name that no container of the pod has allows nothing.
            yield f"{number}{'-' if 'endPort' in one else ''}/{one.get('protocol', 'TCP')}"


def _number(pod: Pod, port: int | str) -> int | None:
    if isinstance(port, int):
        return port
    for container in pod.containers(with_init=False):
        for one in container.get("ports", []):
            if one["name"] == port:
                return int(one["containerPort"])
    return None


def _secrets(pod: Pod, container: Manifest) -> Iterator[str]:
    for one in container.get("env", []):
        if "secretKeyRef" in one.get("valueFrom", {}):
            yield one["valueFrom"]["secretKeyRef"]["name"]
    for one in container.get("envFrom", []):
        if "secretRef" in one:
            yield one["secretRef"]["name"]
    mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
    for volume in pod.spec.get("volumes", []):
        if "secret" in volume and volume["name"] in mounted:
            yield volume["secret"]["secretName"]


def _volume(container: Manifest, folder: str) -> str:
    """Return the name of the volume that a folder is on, "" where it is on none."""
    for mount in container.get("volumeMounts", []):
        if PurePosixPath(folder).is_relative_to(mount["mountPath"]):
            return str(mount["name"])
    return ""


@functools.cache
def _pages() -> dict[int | None, set[str]]:
    """Return the paths that can be asked for without a key or a token, by port."""
    settings, metrics = GatewaySettings(), GatewayMetrics()
    pool = BackendPool(settings, metrics, token=None)
    public = create_app(settings, EditService(settings, pool, metrics)).openapi()["paths"]
    inner = {str(getattr(one, "path", "")) for one in create_internal_app(pool, metrics).routes}
    return {
        settings.port: {path for path, verbs in public.items() if "get" in verbs},
        settings.internal_port: inner,
        8085: {"/ping"},  # TorchServe's own
        8086: {"/ready", "/metrics"},  # neural_photo_editor.serving.control_server
    }


ACCESS_RULES = (
    policies_allow_what_is_written,
    secrets_reach_their_readers,
    pages_are_there,
    bundles_are_pulled_first,
)
