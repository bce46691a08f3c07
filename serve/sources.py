"""Where the versions that are served come from: a registry's aliases, or one archive."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from neural_photo_editor.artifacts import registry as registries
from neural_photo_editor.artifacts.archive import fetch_bundle, read_bundle, verify_archive
from neural_photo_editor.artifacts.bundle_spec import MODEL_NAME
from neural_photo_editor.common.log import get_logger
from serve.deployment import Desired

T = TypeVar("T")
CANARY = "canary"
_log = get_logger(__name__)


@dataclass(frozen=True)
class _Named:
    """What an alias names, and the number of the change since when it does."""

    change: int = 0
    version: int | None = None


@dataclass(frozen=True)
class Fetched:
    """A verified archive on this machine and the digest of the bundle in it."""

    archive: Path
    digest: str


class Source(Protocol):
    """Tells which versions are wanted and fetches them."""

    def desired(self) -> Desired:
        """Return what is wanted, as far as it is known; never waits."""

    def fetch(self, version: int, folder: Path) -> Fetched:
        """Copy a version's archive into a folder, verified; may take long.

        Raises:
            ValueError, OSError: it is damaged or cannot be had.
        """


class ArchiveSource:
    """One archive, which stays where it is; its version is 0."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive

    def desired(self) -> Desired:
        return Desired(production=0)

    def fetch(self, version: int, folder: Path) -> Fetched:  # noqa: ARG002
        return Fetched(self._archive, verify_archive(self._archive).digest)


class RegistrySource:
    """What a registry's aliases name, looked up in the background.

    A registry that cannot be read changes nothing: what it said last stays wanted.

    Args:
        registry: a folder or the address of an object store.
        alias: what production follows.
        canary: whether the alias ``canary`` is followed too.
        poll_s: between two looks, in seconds.
    """

    def __init__(self, registry: str, *, alias: str, canary: bool, poll_s: float = 2.0) -> None:
        self._registry = registry
        self._alias = alias
        self._canary = canary
        self._poll_s = poll_s
        self._desired = Desired()
        self._named: tuple[_Named, _Named] | None = None
        self._reading: Future[Desired] | None = None
        self._read_at = 0.0
        self._complaint = ""

    def desired(self) -> Desired:
        if self._reading is None:
            if time.monotonic() >= self._read_at:
                self._reading = in_background(self._read)
        elif self._reading.done():
            self._note(self._reading)
            self._reading = None
            self._read_at = time.monotonic() + self._poll_s
        return self._desired

    def fetch(self, version: int, folder: Path) -> Fetched:
        reference = f"{MODEL_NAME}@{version}"
        digest = read_bundle(self._registry, reference)[0].digest
        return Fetched(fetch_bundle(self._registry, reference, folder), digest)

    def _note(self, reading: "Future[Desired]") -> None:
        error = reading.exception()
        complaint = ""
        if error is not None:
            complaint = f"the registry cannot be read: {error}"
        else:
            self._desired = reading.result()
            if self._desired.production is None:
                complaint = (
                    f"{MODEL_NAME} has no alias {self._alias!r} yet: npe registry promote "
                    f"{MODEL_NAME}@N {self._alias} --registry {self._registry}"
                )
        if complaint and complaint != self._complaint:
            _log.warning("[deploy] %s", complaint)
        self._complaint = complaint

    def _read(self) -> Desired:
        production = self._look_up(self._alias)
        canary = self._look_up(CANARY) if self._canary else _Named()
        # The histories are many small files: they are read when an alias has changed.
        if (production, canary) == self._named:
            return self._desired
        wanted: int | None = canary.version
        if wanted is not None and (wanted == production.version or self._was_taken_out(wanted)):
            wanted = None
        self._named = (production, canary)
        return Desired(production.version, wanted, (production.change, canary.change))

    def _look_up(self, alias: str) -> _Named:
        number, newest = registries.newest_change(self._registry, MODEL_NAME, alias)
        if newest is not None:
            return _Named(number, newest.to_version)
        # Older than the history, or not there.
        return _Named(0, registries.list_aliases(self._registry, MODEL_NAME).get(alias))

    def _was_taken_out(self, canary: int) -> bool:
        """Tell whether a canary became production and was replaced, mostly because it is bad.

        The alias ``canary`` still names it then, and it should not get a share of the requests
        unless it is promoted to canary once more.
        """
        named = registries.newest_change(self._registry, MODEL_NAME, CANARY)[1]
        since = named.time if named is not None else ""
        once_more = named is not None and named.from_version == named.to_version
        # Times are in whole seconds: within one, a canary named once more comes last.
        return any(
            change.from_version == canary != change.to_version
            and (change.time > since or (change.time == since and not once_more))
            for change in registries.list_changes(self._registry, MODEL_NAME, self._alias)
        )


def in_background(work: Callable[[], T]) -> "Future[T]":
    """Run a function in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 -- whoever asks for the result gets it.
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
