"""Who may end a loader worker, in processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

ECHO = """
import sys
from neural_photo_editor.data.loader_workers import start_worker
if sys.argv[1] == "worker":
    start_worker(0)
for line in sys.stdin:
    print(line, end="", flush=True)
"""

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def run(kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ECHO, kind]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe)
        processes.append(process)
        assert _echo(process, "ready\n") == "ready\n"
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def _echo(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline()


def _send_from_elsewhere(process: subprocess.Popen[str], number: int) -> None:
    code = f"import os; os.kill({process.pid}, {number})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_signals_of_others_are_ignored_and_the_parents_ends_it(start: Start) -> None:
    worker = start("worker")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        _send_from_elsewhere(worker, number)
        assert _echo(worker, f"{number}\n") == f"{number}\n"
    worker.terminate()
    assert worker.wait(timeout=30) == 0


def test_without_it_the_signal_of_another_ends_the_worker(start: Start) -> None:
    other = start("other")
    _send_from_elsewhere(other, signal.SIGTERM)
    assert other.wait(timeout=30) == -signal.SIGTERM
