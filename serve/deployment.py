"""What to do so that the versions which are wanted are those that are served: a pure function.

A switch: the new version is started beside the old one; once it is ready it is *staged*, which is
a canary that gets no request, until the gateway has found it ready too; then it takes the old
one's place in the routes, and the old one is stopped when the gateway has nothing there any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["production", "canary"]
ROLES: tuple[Role, ...] = ("production", "canary")


@dataclass(frozen=True, order=True)
class Wish:
    """That a version be served; the change of its alias tells it from an earlier one."""

    role: Role
    version: int
    change: int = 0


@dataclass(frozen=True)
class Desired:
    """The versions that the registry's aliases name; None for an alias that it does not have.

    ``changes`` has the numbers of the aliases' last changes, production's first. A new number for
    the same version asks for it once more.
    """

    production: int | None = None
    canary: int | None = None
    changes: tuple[int, int] = (0, 0)

    def wishes(self) -> dict[Role, Wish]:
        """Return what is wanted, by role."""
        versions = zip(ROLES, (self.production, self.canary), self.changes, strict=True)
        return {
            r: Wish(r, version, change) for r, version, change in versions if version is not None
        }


@dataclass(frozen=True)
class ServerView:
    """One running server as the decision sees it.

    Attributes:
        ready: it answers, with the bundle that it should have.
        broken: it could not be started, and never was ready.
        known: the gateway lists it: it may have requests there.
        seen: the gateway has found it ready.
    """

    ready: bool = False
    broken: bool = False
    known: bool = False
    seen: bool = False


def look_up(
    url: str | None,
    digest: str | None,
    listed: Sequence[Mapping[str, Any]],
    *,
    overdue: bool,
    serving: str | None,
) -> tuple[bool, bool]:
    """Return `known` and `seen` of one server by what the gateway lists at /backends.

    Args:
        url: its address, or None before it was started.
        digest: of its bundle.
        listed: the gateway's backends.
        overdue: it left the routes longer ago than any request may take. What the gateway says to
            have there is then not waited for, but it must have taken up the new routes.
        serving: address of the server that the routes name as production.
    """
    entries = {entry["url"]: entry for entry in listed}
    entry = entries.get(url) if url is not None else None
    if entry is None:
        return False, False
    seen = bool(entry["ready"] and entry["bundle_digest"] == digest)
    switched = serving in entries and entries[serving]["channel"] == "production"
    return not (overdue and switched), seen


Failures = frozenset[Wish]


@dataclass(frozen=True)
class Plan:
    """What is to be done now.

    Attributes:
        production, canary, staged: versions in the routes.
        start, stop: versions whose servers are to be started and stopped.
        failed: what is not tried again unless it is asked for once more.
    """

    production: int | None
    canary: int | None
    staged: int | None
    start: frozenset[int]
    stop: frozenset[int]
    failed: Failures


def decide(
    desired: Desired,
    servers: Mapping[int, ServerView],
    *,
    serving: int | None,
    failed: Failures = frozenset(),
) -> Plan:
    """Return the next steps towards what is desired.

    Args:
        desired: what should be served.
        servers: what runs, by version.
        serving: the version that the routes name as production.
        failed: what the last plan said.
    """
    failed = _failures(desired, servers, serving=serving, failed=failed)
    possible = {role: w.version for role, w in desired.wishes().items() if w not in failed}
    target, canary = possible.get("production"), possible.get("canary")
    staged = None
    production = serving
    if target is not None and target != serving and _is_ready(servers, target):
        if serving is None or servers[target].seen:
            production = target
        else:
            staged = target
    # One server besides production's at a time: a canary waits until a switch is over.
    switching = target not in (None, production)
    if production is None or switching or canary in (production, target):
        canary = None
    wanted = {version for version in (target, canary) if version is not None}
    kept = wanted | {production}
    return Plan(
        production=production,
        canary=canary if canary is not None and _is_ready(servers, canary) else None,
        staged=staged,
        start=frozenset(wanted - servers.keys()),
        stop=frozenset(v for v, server in servers.items() if v not in kept and not server.known),
        failed=failed,
    )


def _is_ready(servers: Mapping[int, ServerView], version: int) -> bool:
    return version in servers and servers[version].ready


def _failures(
    desired: Desired, servers: Mapping[int, ServerView], *, serving: int | None, failed: Failures
) -> Failures:
    if serving is None:
        return frozenset()  # There is nothing to fall back on: it is tried again and again.
    wanted = frozenset(desired.wishes().values())
    broken = {
        wish
        for wish in wanted
        if wish.version != serving and wish.version in servers and servers[wish.version].broken
    }
    return (failed & wanted) | broken
