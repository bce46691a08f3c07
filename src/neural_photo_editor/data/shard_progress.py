"""The log of a long preparation: what was refused, how fast it goes and how long it will take."""

import time

from neural_photo_editor.common.log import get_logger
from neural_photo_editor.data.shard_journal import FinishedShard

_log = get_logger(__name__)


class ShardProgress:
    """Counts samples of finished shards. Rate and time left are those of this run alone.

    Args:
        num_samples: of the whole preparation.
        num_done: samples that an earlier run finished.
    """

    def __init__(self, *, num_samples: int, num_done: int = 0) -> None:
        self.num_samples = num_samples
        self.num_done = num_done
        self._num_done_before = num_done
        self._start_s = time.monotonic()

    def add(self, shard: FinishedShard, *, num_samples: int) -> None:
        """Log a shard that has just been finished.

        Args:
            num_samples: planned for the shard, skipped ones included.
        """
        for file in shard.skipped:
            _log.warning("skipped %s: %s", file.file, file.reason)
        for file in shard.notes:
            _log.warning("kept %s: %s", file.file, file.reason)
        self.num_done += num_samples
        elapsed_s = max(time.monotonic() - self._start_s, 1e-9)
        rate = (self.num_done - self._num_done_before) / elapsed_s
        _log.info(
            "%s written, %d of %d samples, %.3g samples/s, %s left", shard.file, self.num_done,
            self.num_samples, rate, format_duration((self.num_samples - self.num_done) / rate),
        )  # fmt: skip


def format_duration(duration_s: float) -> str:
    """Format seconds for people: "42 s", "7 min", "3 h 05 min"."""
    if duration_s < 90:
        return f"{duration_s:.0f} s"
    minutes = round(duration_s / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
