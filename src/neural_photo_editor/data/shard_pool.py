"""Several processes that write shards, each of them whole ones."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

from neural_photo_editor.data.shard_file import ShardFileWriter
from neural_photo_editor.data.shard_journal import FinishedShard
from neural_photo_editor.data.shard_plan import PlannedShard


class WorkerKilledError(RuntimeError):
    """A worker process ended without a word. The message names the remedy."""


# Set once in each worker: a source with 200,000 file names is too much to send with every shard.
_writer: ShardFileWriter | None = None


def write_all(
    writer: ShardFileWriter, plans: list[PlannedShard], *, num_workers: int
) -> Generator[tuple[PlannedShard, FinishedShard], None, None]:
    """Write every planned shard and yield each as soon as it is finished, in no fixed order.

    Closing the generator ends the processes at once.

    Args:
        num_workers: processes; 1 writes in this one.

    Raises:
        ValueError, OSError: see `ShardFileWriter.write`.
        WorkerKilledError: a worker process was killed, for instance because memory ran out.
    """
    if num_workers == 1 or len(plans) <= 1:
        for plan in plans:
            yield plan, writer.write(plan)
        return
    # Spawned, not forked: the caller may hold threads and locks.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(
        min(num_workers, len(plans)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(writer,),
    ) as pool:
        # Ctrl-C reaches every process, and this one decides: workers inherit what is blocked, so
        # that not even one that is still starting is interrupted.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = {pool.submit(_write, plan): plan for plan in plans}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise WorkerKilledError(
                "a worker process was killed, perhaps for its memory: run the same command again, "
                f"with num_workers below {num_workers}; finished shards are kept"
            ) from error
        except BaseException:
            # The shards begun are lost: waiting for them could take minutes.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def _start_worker(writer: ShardFileWriter) -> None:
    global _writer
    _writer = writer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: the pool would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _write(plan: PlannedShard) -> FinishedShard:
    assert _writer is not None
    return _writer.write(plan)
