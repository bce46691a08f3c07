"""Names and labels: what an object refers to is there, and is called as everything else is."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.unit.k8s.manifests import Manifest, name_of, pods, whole_spec
from tests.unit.k8s.network_rules import of_kind, selects

LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/part-of")
# Whoever installs makes these himself: nothing secret is in a manifest.
SECRETS = {"npe-control", "npe-keys", "npe-receipt-key", "npe-registry", "npe-tls"}
SECRETS |= {"npe-object-store", "npe-tracker"}  # of trainings
UNLABELED = {"ConfigMap", "Namespace"}  # of generated ones, and of what is everybody's


def labels_are_complete(objects: Sequence[Manifest]) -> list[str]:
    """Every object and every pod has the labels by which the others are found."""
    found = []
    for manifest in objects:
        if manifest["kind"] in UNLABELED or name_of(manifest) == "NetworkPolicy/default-deny":
            continue
        labels = manifest["metadata"].get("labels", {})
        found += [f"{name_of(manifest)}: no label {name}" for name in LABELS if name not in labels]
    for pod in pods(objects):
        found += [f"{pod.name}: pods without {name}" for name in LABELS if name not in pod.labels]
    return found


def namespaces_are_ours(objects: Sequence[Manifest]) -> list[str]:
    """Everything lives in a namespace that is among the objects and keeps pods restricted."""
    spaces = {one["metadata"]["name"]: one for one in of_kind(objects, "Namespace")}
    found = [
        f"{name_of(space)}: {mode} is not restricted"
        for space in spaces.values()
        for mode in ("enforce", "warn", "audit")
        if space["metadata"].get("labels", {}).get(f"pod-security.kubernetes.io/{mode}")
        != "restricted"
    ]
    for manifest in objects:
        space = manifest["metadata"].get("namespace")
        if manifest["kind"] != "Namespace" and space not in spaces:
            found.append(f"{name_of(manifest)}: the namespace {space} is not among the objects")
    return found


def names_are_unique(objects: Sequence[Manifest]) -> list[str]:
    """No two objects of a kind have one name."""
    names = [name_of(manifest) for manifest in objects]
    return [f"{name}: there are two" for name in sorted(set(names)) if names.count(name) > 1]


def selectors_find_their_pods(objects: Sequence[Manifest]) -> list[str]:
    """Deployments own their pods and no other's; monitors have something to select."""
    found = []
    for deployment in of_kind(objects, "Deployment"):
        selector = deployment["spec"]["selector"]
        owners = {pod.name for pod in pods(objects) if selects(selector, pod.labels)}
        if owners != {name_of(deployment)}:
            found.append(f"{name_of(deployment)}: selects the pods of {sorted(owners)}")
    for monitor in of_kind(objects, "ServiceMonitor"):
        chosen = [
            service
            for service in of_kind(objects, "Service")
            if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
        ]
        if not chosen:
            found.append(f"{name_of(monitor)}: selects no Service")
        for endpoint in monitor["spec"]["endpoints"]:
            for service in chosen:
                if not _has_port(objects, service, endpoint["targetPort"]):
                    found.append(f"{name_of(monitor)}: no port {endpoint['targetPort']}")
    return found


def nodes_can_be_drained(objects: Sequence[Manifest]) -> list[str]:
    """What serves is spread over nodes, which may take its pods away, one at a time."""
    found = []
    budgets = of_kind(objects, "PodDisruptionBudget")
    for pod in pods(objects):
        if pod.owner["kind"] not in {"Deployment", "ServingRuntime"}:
            continue
        own = [one["spec"] for one in budgets if selects(one["spec"]["selector"], pod.labels)]
        if len(own) != 1:
            found.append(f"{pod.name}: {len(own)} PodDisruptionBudgets are for it")
        found += [
            f"{pod.name}: no pod may be taken away, or all"
            for budget in own
            if budget.get("maxUnavailable") != 1
        ]
        spread = whole_spec(pod, objects).get("topologySpreadConstraints", [])
        if not spread or any(
            one["labelSelector"] not in [b["selector"] for b in own] for one in spread
        ):
            found.append(f"{pod.name}: is not spread by its own pods")
    return found


def references_lead_somewhere(objects: Sequence[Manifest]) -> list[str]:
    """ConfigMaps, Secrets, volumes, accounts, targets and Services that are named are there."""
    there = {name_of(manifest) for manifest in objects}
    ports = {
        one["metadata"]["name"]: {port[key] for port in one["spec"]["ports"] for key in _PORT_KEYS}
        for one in of_kind(objects, "Service")
    }
    found = [
        f"{name_of(manifest)}: Service {name} has no port {port}"
        for manifest in of_kind(objects, "HTTPRoute") + of_kind(objects, "Ingress")
        for name, port in _backends(manifest["spec"])
        if port not in ports.get(name, set())
    ]
    for manifest in objects:
        for kind, name in _references(manifest):
            known = name in SECRETS if kind == "Secret" else f"{kind}/{name}" in there
            if not known:
                found.append(f"{name_of(manifest)}: there is no {kind} {name}")
        found += _mounts(manifest)
    return found


def one_autoscaler_each(objects: Sequence[Manifest]) -> list[str]:
    """A Deployment is scaled by one autoscaler at most, and then names no number itself."""
    scalers = of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject")
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    found = [
        f"Deployment/{name}: two autoscalers" for name in set(targets) if targets.count(name) > 1
    ]
    return found + [
        f"{name_of(deployment)}: replicas, though it is scaled"
        for deployment in of_kind(objects, "Deployment")
        if deployment["metadata"]["name"] in targets and "replicas" in deployment["spec"]
    ]


def _has_port(objects: Sequence[Manifest], service: Manifest, port: object) -> bool:
    selector = {"matchLabels": service["spec"]["selector"]}
    return any(
        port in (one["name"], one["containerPort"])
        for pod in pods(objects)
        if selects(selector, pod.labels)
        for container in pod.containers(with_init=False)
        for one in container.get("ports", [])
    )


_NAMED_BY: dict[str, Callable[[Any], tuple[str, str]]] = {
    "configMapRef": lambda value: ("ConfigMap", value["name"]),
    "configMapKeyRef": lambda value: ("ConfigMap", value["name"]),
    "configMap": lambda value: ("ConfigMap", value["name"]),
    "secretRef": lambda value: ("Secret", value["name"]),
    "secretKeyRef": lambda value: ("Secret", value["name"]),
    "secretName": lambda value: ("Secret", value),
    "persistentVolumeClaim": lambda value: ("PersistentVolumeClaim", value["claimName"]),
    "serviceAccountName": lambda value: ("ServiceAccount", value),
    "scaleTargetRef": lambda value: (value["kind"], value["name"]),
    "service": lambda value: ("Service", value["name"]),
    "runtime": lambda value: ("ServingRuntime", value),
}


_PORT_KEYS = ("name", "port")


def _references(part: Any) -> Iterator[tuple[str, str]]:
    """Return kind and name of everything that a part of an object refers to."""
    if isinstance(part, list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, dict):
        for name, value in part.items():
            if name in _NAMED_BY:
                yield _NAMED_BY[name](value)
            elif name == "backendRefs":
                yield from (("Service", one["name"]) for one in value)
            else:
                yield from _references(value)


def _backends(part: Any) -> Iterator[tuple[str, int | str]]:
    """Return Service and port, by number or name, of everything that a way in leads to."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict) and "port" in value and "name" in value:
            port = value["port"]
            yield (
                value["name"],
                port.get("name", port.get("number")) if isinstance(port, dict) else port,
            )
        elif isinstance(value, dict | list):
            yield from _backends(value)


def _mounts(manifest: Manifest) -> list[str]:
    """Return mounts without a volume, and volumes that nothing mounts."""
    found = []
    for pod in pods([manifest]):
        if pod.owner["kind"] == "InferenceService":  # Its volumes are the runtime's.
            continue
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        mounts = {
            mount["name"]
            for container in pod.containers()
            for mount in container.get("volumeMounts", [])
        }
        found += [f"{pod.name}: no volume {name}" for name in sorted(mounts - volumes)]
        found += [f"{pod.name}: nothing mounts {name}" for name in sorted(volumes - mounts)]
    return found


REFERENCE_RULES = (
    labels_are_complete,
    namespaces_are_ours,
    names_are_unique,
    selectors_find_their_pods,
    nodes_can_be_drained,
    references_lead_somewhere,
    one_autoscaler_each,
)
