"""Every change of an alias, in order: what rollback goes by. Needs no torch.

An entry is a file ``NAME/history/ALIAS/000001.json`` that is created and never changed. It is
written before the alias itself, so an alias never says what the history does not know.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from neural_photo_editor.artifacts.names import first_problem
from neural_photo_editor.artifacts.store import Store, numbers
from neural_photo_editor.common.fingerprint import canonical_json

ACTOR_VARIABLES = ("NPE_ACTOR", "GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER", "LOGNAME")
"""Environment variables that may say who changes an alias; the first that is set counts."""


class Change(BaseModel):
    """One change of an alias.

    Attributes:
        time: when, UTC, ISO 8601 in whole seconds.
        action: "set", or "rollback" to an earlier version.
        from_version: the version it named until then; None for a new alias.
        to_version: the version it names since.
        by: who changed it, as far as the environment says.
        reason: in words, as far as one was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str
    alias: str
    action: Literal["set", "rollback"]
    from_version: int | None
    to_version: int
    by: str | None = None
    reason: str | None = None


def read_history(store: Store, name: str, alias: str) -> list[Change]:
    """Return the changes of an alias, oldest first.

    Raises:
        ValueError: an entry is damaged; names it.
    """
    return [_read(store, name, alias, number) for number in _numbers(store, name, alias)]


def newest_change(store: Store, name: str, alias: str) -> tuple[int, Change | None]:
    """Return the last change and its number; 0 and None where there is no history.

    Raises:
        ValueError: that entry is damaged; names it.
    """
    number = max(_numbers(store, name, alias), default=0)
    return number, _read(store, name, alias, number) if number else None


def add_change(store: Store, name: str, change: Change, *, number: int) -> bool:
    """Add a change as the one of that number, counted from 1.

    Returns:
        False: somebody else was faster, so this one was decided without knowing theirs.
    """
    content = canonical_json(change.model_dump(mode="json")) + b"\n"
    return store.create(_path(name, change.alias, number), content)


def new_change(
    alias: str,
    *,
    action: Literal["set", "rollback"],
    before: int | None,
    after: int,
    reason: str | None,
) -> Change:
    """Return a change as of now, by whom the environment names."""
    named = (os.environ.get(variable) for variable in ACTOR_VARIABLES)
    return Change(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        alias=alias,
        action=action,
        from_version=before,
        to_version=after,
        by=next(filter(None, named), None),
        reason=reason,
    )


def earlier_versions(history: Sequence[Change]) -> list[int]:
    """Return the versions that rollbacks would go to, the nearest first.

    A rollback takes back the newest change that no rollback has taken back, so one after the other
    goes further back; forward goes only a change by "set".
    """
    stack: list[int] = []
    for change in history:
        if not stack and change.from_version is not None:
            stack.append(change.from_version)
        if change.action == "set":
            stack += [change.to_version] if stack[-1:] != [change.to_version] else []
            continue
        while len(stack) > 1:
            stack.pop()
            if stack[-1] == change.to_version:
                break
    return stack[-2::-1]


def _path(name: str, alias: str, number: int) -> str:
    return f"{name}/history/{alias}/{number:06}.json"


def _numbers(store: Store, name: str, alias: str) -> list[int]:
    """Return the numbers of the entries, ascending; one may be missing."""
    return numbers(file.removesuffix(".json") for file in store.files(f"{name}/history/{alias}"))


def _read(store: Store, name: str, alias: str, number: int) -> Change:
    path = _path(name, alias, number)
    try:
        return Change.model_validate_json(store.read(path))
    except ValidationError as error:
        raise ValueError(f"{store}/{path} is not valid: {first_problem(error)}") from error
