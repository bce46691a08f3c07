"""Who may reach whom: Services, network policies, and the selectors of both."""

from collections.abc import Sequence

from tests.unit.k8s.manifests import Manifest, Pod, name_of, pods

# Ports for monitoring and for the gateway's own use: reached by address, never through a Service.
INNER_PORTS = {"internal", "control"}
MANAGEMENT_PORTS = {7070, 7071, 8081, 8086, 8443}  # TorchServe's own beside ours


def of_kind(objects: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in objects if manifest["kind"] == kind]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Tell whether a label selector matches; an empty one matches everything."""
    for name, value in selector.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "In":
            raise NotImplementedError(f"operator {rule['operator']} of a selector")
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def services_show_no_inner_port(objects: Sequence[Manifest]) -> list[str]:
    """A Service is the cluster's alone, and leads to pods that exist and no inner port."""
    found = []
    for service in of_kind(objects, "Service"):
        chosen = _pods_of(objects, {"matchLabels": service["spec"]["selector"]})
        if not chosen:
            found.append(f"{name_of(service)}: selects no pod")
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            found.append(f"{name_of(service)}: opens the cluster itself, without TLS")
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            numbers = {number for pod in chosen for number in _numbers(pod, target)}
            if not numbers:
                found.append(f"{name_of(service)}: no pod has a port {target}")
            if target in INNER_PORTS or numbers & MANAGEMENT_PORTS:
                found.append(f"{name_of(service)}: leads to the inner port {target}")
    return found


def policies_cover_every_pod(objects: Sequence[Manifest]) -> list[str]:
    """Nothing is allowed by default, and each pod has a policy for each direction."""
    policies = of_kind(objects, "NetworkPolicy")
    found = []
    if not any(
        policy["spec"]["podSelector"] == {}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
        for policy in policies
    ):
        found.append("no policy denies everything by default")
    chosen = pods(objects)
    for pod in chosen:
        own = [
            policy["spec"]
            for policy in policies
            if policy["spec"]["podSelector"] and selects(policy["spec"]["podSelector"], pod.labels)
        ]
        for direction in ("Ingress", "Egress"):
            if not any(direction in policy["policyTypes"] for policy in own):
                found.append(f"{pod.name}: no {direction} policy of its own")
    for policy in policies:
        if chosen and not _pods_of(objects, policy["spec"]["podSelector"]):
            found.append(f"{name_of(policy)}: selects no pod")
        found += _unknown_ports(objects, policy)
    return found


def _pods_of(objects: Sequence[Manifest], selector: Manifest) -> list[Pod]:
    return [pod for pod in pods(objects) if selects(selector, pod.labels)]


def _unknown_ports(objects: Sequence[Manifest], policy: Manifest) -> list[str]:
    """Return the named ports of the policy's incoming rules that none of its pods has."""
    chosen = _pods_of(objects, policy["spec"]["podSelector"])
    wanted = {
        port["port"]
        for rule in policy["spec"].get("ingress", [])
        for port in rule.get("ports", [])
        if isinstance(port["port"], str)
    }
    return [
        f"{name_of(policy)}: no pod has a port {port}"
        for port in sorted(wanted)
        if chosen and not any(_numbers(pod, port) for pod in chosen)
    ]


def _numbers(pod: Pod, target: object) -> set[int]:
    return {
        port["containerPort"]
        for container in pod.containers(with_init=False)
        for port in container.get("ports", [])
        if target in (port["name"], port["containerPort"])
    }


NETWORK_RULES = (services_show_no_inner_port, policies_cover_every_pod)
