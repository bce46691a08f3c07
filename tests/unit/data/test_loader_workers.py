"""A loader worker in a process of its own, signaled by its parent and by others."""

import multiprocessing
import signal
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

from neural_photo_editor.data.loader_workers import start_worker


def _work(connection: Connection) -> None:
    start_worker(0)
    while (number := connection.recv()) is not None:
        connection.send(number)


@pytest.fixture
def worker() -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    ours.send(0)
    assert ours.recv() == 0
    return process, ours


def test_signals_of_others_are_ignored_and_the_parents_ends_it(
    worker: tuple[multiprocessing.process.BaseProcess, Connection],
) -> None:
    process, connection = worker
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        code = f"import os; os.kill({process.pid}, {int(number)})"
        subprocess.run([sys.executable, "-c", code], check=True)
        connection.send(number)
        assert connection.recv() == number
    process.terminate()
    process.join(timeout=30)
    assert process.exitcode == 0


def test_without_it_the_signal_of_another_ends_the_worker() -> None:
    _open, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=theirs.recv, daemon=True)
    process.start()
    assert process.pid is not None
    code = f"import os, signal; os.kill({process.pid}, signal.SIGTERM)"
    subprocess.run([sys.executable, "-c", code], check=True)
    process.join(timeout=30)
    assert process.exitcode == -signal.SIGTERM
