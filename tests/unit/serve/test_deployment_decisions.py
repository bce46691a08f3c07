"""Which servers are started and stopped, and what the routes say, step by step."""

import itertools
from dataclasses import dataclass, field, replace

import pytest

from serve.deployment import Desired, Failures, Plan, ServerView, Wish, decide, look_up

READY = ServerView(ready=True)
LISTED = ServerView(ready=True, known=True, seen=True)
BROKEN = ServerView(broken=True)


def test_the_first_version_is_served_as_soon_as_it_is_ready() -> None:
    desired = Desired(production=1)
    assert decide(desired, {}, serving=None).start == {1}
    assert decide(desired, {1: ServerView()}, serving=None).production is None
    assert decide(desired, {1: READY}, serving=None).production == 1


def test_a_new_version_is_staged_until_the_gateway_has_seen_it() -> None:
    desired = Desired(production=2)
    starting = decide(desired, {1: LISTED}, serving=1)
    assert (starting.production, starting.start, starting.stop) == (1, {2}, frozenset())
    staged = decide(desired, {1: LISTED, 2: READY}, serving=1)
    assert (staged.production, staged.staged, staged.stop) == (1, 2, frozenset())
    listed = ServerView(ready=True, known=True)
    assert decide(desired, {1: LISTED, 2: listed}, serving=1).staged == 2
    switched = decide(desired, {1: LISTED, 2: LISTED}, serving=1)
    assert (switched.production, switched.staged, switched.stop) == (2, None, frozenset())


def test_the_old_version_is_stopped_when_the_gateway_has_nothing_there() -> None:
    desired = Desired(production=2)
    assert decide(desired, {1: LISTED, 2: LISTED}, serving=2).stop == frozenset()
    assert decide(desired, {1: READY, 2: LISTED}, serving=2).stop == {1}


def test_a_switch_that_is_taken_back_uses_the_server_that_still_runs() -> None:
    plan = decide(Desired(production=1), {1: LISTED, 2: LISTED}, serving=2)
    assert (plan.production, plan.start, plan.stop) == (1, frozenset(), frozenset())


def test_a_canary_starts_beside_production_and_becomes_it_without_another_start() -> None:
    both = Desired(production=1, canary=2)
    assert decide(both, {}, serving=None).start == {1}
    assert decide(both, {1: LISTED}, serving=1).start == {2}
    assert decide(both, {1: LISTED, 2: ServerView()}, serving=1).canary is None
    assert decide(both, {1: LISTED, 2: READY}, serving=1).canary == 2
    plan = decide(Desired(production=2, canary=2), {1: LISTED, 2: LISTED}, serving=1)
    assert (plan.production, plan.canary, plan.staged, plan.start) == (2, None, None, frozenset())


def test_a_canary_waits_for_a_switch_to_a_third_version() -> None:
    plan = decide(Desired(production=3, canary=2), {1: LISTED, 2: LISTED}, serving=1)
    assert (plan.production, plan.canary, plan.start) == (1, None, {3})
    gone = decide(Desired(production=3, canary=2), {1: LISTED, 2: READY}, serving=1)
    assert gone.stop == {2}


def test_a_canary_that_is_down_gets_nothing_and_is_kept() -> None:
    down = ServerView(known=True)
    plan = decide(Desired(production=1, canary=2), {1: LISTED, 2: down}, serving=1)
    assert (plan.production, plan.canary, plan.stop) == (1, None, frozenset())


def test_a_broken_version_leaves_the_old_one_and_is_not_tried_again() -> None:
    desired = Desired(production=2)
    plan = decide(desired, {1: LISTED, 2: BROKEN}, serving=1)
    assert (plan.production, plan.stop, plan.failed) == (1, {2}, {Wish("production", 2)})
    after = decide(desired, {1: LISTED}, serving=1, failed=plan.failed)
    assert (after.start, after.failed) == (frozenset(), plan.failed)


def test_a_broken_version_is_tried_again_when_its_alias_has_named_another() -> None:
    failed: Failures = frozenset({Wish("production", 2)})
    back = decide(Desired(production=1), {1: LISTED}, serving=1, failed=failed)
    assert back.failed == frozenset()
    assert decide(Desired(production=2), {1: LISTED}, serving=1, failed=back.failed).start == {2}


def test_a_broken_version_is_tried_again_when_it_is_promoted_once_more() -> None:
    failed = decide(Desired(2, changes=(4, 7)), {1: LISTED, 2: BROKEN}, serving=1).failed
    for changes, started in (((4, 7), frozenset()), ((4, 8), frozenset()), ((5, 7), {2})):
        plan = decide(Desired(2, changes=changes), {1: LISTED}, serving=1, failed=failed)
        assert plan.start == started


def test_a_broken_canary_may_still_be_tried_as_production() -> None:
    desired = Desired(production=1, canary=2)
    failed = decide(desired, {1: LISTED, 2: BROKEN}, serving=1).failed
    assert failed == {Wish("canary", 2)}
    plan = decide(Desired(production=2, canary=2), {1: LISTED}, serving=1, failed=failed)
    assert plan.start == {2}


def test_with_nothing_served_a_broken_version_is_kept_to_be_tried_again() -> None:
    plan = decide(Desired(production=1), {1: BROKEN}, serving=None)
    assert (plan.stop, plan.failed) == (frozenset(), frozenset())


def test_production_that_died_stays_in_the_routes_until_another_is_ready() -> None:
    down = ServerView(known=True)
    plan = decide(Desired(production=1), {1: down}, serving=1)
    assert (plan.production, plan.stop, plan.failed) == (1, frozenset(), frozenset())


def test_without_an_alias_what_is_served_stays() -> None:
    plan = decide(Desired(), {1: LISTED}, serving=1)
    assert (plan.production, plan.stop) == (1, frozenset())


def entry(url: str, channel: str = "production", *, ready: bool = True) -> dict[str, object]:
    return {"url": url, "channel": channel, "ready": ready, "bundle_digest": f"of {url}"}


@pytest.mark.parametrize(
    ("listed", "overdue", "found"),
    [
        ([], False, (False, False)),
        ([entry("old"), entry("new", "canary")], False, (True, True)),
        ([entry("old", ready=False), entry("new")], False, (True, False)),
        ([entry("new")], True, (False, False)),
        # A request of which the gateway never hears the end does not keep a server for ever,
        ([entry("old"), entry("new")], True, (False, True)),
        # but it stays as long as the gateway goes by routes that name it as production.
        ([entry("old"), entry("new", "canary")], True, (True, True)),
        ([entry("old")], True, (True, True)),
    ],
)
def test_the_gateway_says_where_it_has_requests(
    listed: list[dict[str, object]], overdue: bool, found: tuple[bool, bool]
) -> None:
    assert look_up("old", "of old", listed, overdue=overdue, serving="new") == found
    assert look_up(None, "of old", listed, overdue=overdue, serving="new") == (False, False)
    assert look_up("old", "another", listed, overdue=overdue, serving="new") == (found[0], False)


@dataclass
class World:
    """Servers that get ready, a gateway that reads routes a step later, requests that take one."""

    servers: dict[int, ServerView] = field(default_factory=dict)
    broken: frozenset[int] = frozenset()
    serving: int | None = None
    failed: Failures = frozenset()
    most: int = 0

    def step(self, desired: Desired) -> Plan:
        plan = decide(desired, self.servers, serving=self.serving, failed=self.failed)
        assert None in (plan.staged, plan.canary), "the routes have room for one of them"
        for version in plan.stop:
            assert not self.servers[version].known, "stopped under the gateway's eyes"
            del self.servers[version]
        in_routes = {plan.production, plan.canary, plan.staged}
        for version, view in self.servers.items():
            listed = version in in_routes
            self.servers[version] = ServerView(
                ready=version not in self.broken,
                broken=version in self.broken,
                known=listed,
                seen=listed and view.known,
            )
        if plan.production not in (None, self.serving) and self.serving is not None:
            assert self.servers[plan.production].seen, "requests would find nobody"
        self.servers |= dict.fromkeys(plan.start, ServerView())
        self.serving, self.failed = plan.production, plan.failed
        self.most = max(self.most, len(self.servers))
        return plan


@pytest.mark.parametrize("broken", [frozenset(), frozenset({3})])
def test_whatever_the_aliases_do_it_ends_as_they_say(broken: frozenset[int]) -> None:
    """All pairs of wishes, the second coming before, during and after the first one's switch."""
    wishes = [Desired(p, c) for p in (1, 2, 3) for c in (None, 1, 2, 3)]
    for first, second in itertools.product(wishes, repeat=2):
        for patience in range(1, 9):
            world = World(broken=broken)
            for _ in range(8):
                world.step(Desired(production=1))
            for wish, steps in ((first, patience), (second, 12)):
                for _ in range(steps):
                    plan = world.step(wish)
            if second.production not in broken:
                assert plan.production == second.production
                canary = second.canary if second.canary != second.production else None
                assert plan.canary == (None if canary in broken else canary)
            assert plan.production not in (None, *broken)
            assert world.servers.keys() == {plan.production, plan.canary} - {None}
            assert world.most <= 3


def test_the_walk_finds_a_switch_that_is_too_early() -> None:
    """The control: a plan that switches before the gateway has seen the new server is caught."""
    world = World(servers={1: LISTED, 2: replace(LISTED, seen=True, known=True)}, serving=1)
    world.servers[2] = replace(READY, seen=True)  # Seen, says the view; the gateway lists nothing.
    with pytest.raises(AssertionError, match="nobody"):
        world.step(Desired(production=2))
