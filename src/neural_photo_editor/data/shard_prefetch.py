"""Remote shards fetched into the cache before a training asks for them."""

import threading
from collections.abc import Sequence
from typing import NamedTuple, Self

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_manifest import ShardInfo
from neural_photo_editor.data.storage import ShardStorage

_log = get_logger(__name__)


class Window(NamedTuple):
    """The shards of a window, which may be fetched once the training has reached a step."""

    from_step: int
    shards: Sequence[ShardInfo]


class ShardPrefetcher:
    """A thread that fetches each window while the one before it is read; a context manager.

    What goes wrong is left to the reader, which comes to the same shard and knows what to do.
    """

    def __init__(self, storage: ShardStorage, windows: Sequence[Window]) -> None:
        self.storage = storage
        self.windows = windows
        self._step = -1
        self._closing = False
        self._changed = threading.Condition()
        # A daemon: a transfer that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="shard-prefetch", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()

    def reached(self, step: int) -> None:
        """Tell that the training has got the batch of a step."""
        with self._changed:
            self._step = step
            self._changed.notify()
        if (
            self.windows and self._thread.ident is None
        ):  # Not before the loader has forked its workers.
            self._thread.start()

    def _run(self) -> None:
        for window in self.windows:
            for shard in window.shards:
                with self._changed:
                    while not self._closing and self._step < window.from_step:
                        self._changed.wait()
                    if self._closing:
                        return
                try:
                    self.storage.local(shard.file, size=shard.bytes, sha256=shard.sha256)
                except (ValueError, OSError) as error:
                    _log.warning("not fetched ahead: %s", error)
