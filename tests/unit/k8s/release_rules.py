"""What holds for the overlays that releases are made of, production and canary."""

import re
from collections.abc import Sequence

from tests.unit.k8s.manifests import Manifest, name_of, pods

ROUTES = "ConfigMap/npe-gateway-routes"


def digests_are_given(objects: Sequence[Manifest]) -> list[str]:
    """Every image and every bundle has a digest, so that what was tried is what runs."""
    images = [one["image"] for pod in pods(objects) for one in pod.containers()]
    bundles = [one["data"]["NPE_BUNDLE"] for one in objects if "NPE_BUNDLE" in one.get("data", {})]
    found = [] if images and bundles else ["no image or no bundle"]
    return found + [
        f"{named} has no digest"
        for named in [*images, *bundles]
        if not re.search(r"@sha256:[0-9a-f]{64}$", named)
    ]


def canary_is_apart(objects: Sequence[Manifest]) -> list[str]:
    """No release's gateways lead to the other's workers; the route has both, the canary less."""
    (route,) = [one for one in objects if name_of(one) == "HTTPRoute/npe-gateway"]
    (rule,) = route["spec"]["rules"]
    weights = {one["name"]: one["weight"] for one in rule["backendRefs"]}
    found = []
    if set(weights) != {"npe-gateway", "npe-gateway-canary"}:
        found.append(f"the route leads to {sorted(weights)}")
    elif not weights["npe-gateway"] > weights["npe-gateway-canary"] > 0:
        found.append("the canary has no share, or the larger one")
    routes = {
        name_of(one).removeprefix(ROUTES): one["data"]["routes.json"]
        for one in objects
        if name_of(one).startswith(ROUTES)
    }
    if set(routes) != {"", "-canary"}:
        found.append(f"routes of {sorted(routes)}")
    return found + [
        f"{ROUTES}{release} leads to other workers"
        for release, text in routes.items()
        if set(re.findall(r"http://([\w-]+):", text)) != {f"npe-torchserve{release}"}
    ]
