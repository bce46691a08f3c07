"""Signals while the main thread waits in a call that never returns, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from queue import Empty, Queue

import psutil
import pytest

from neural_photo_editor.training import preemption
from neural_photo_editor.training.exit_codes import STOPPED
from neural_photo_editor.training.preemption import StopRequest

# Python's handlers do not run while the main thread waits for a key in a store.
SCRIPT = """
import sys
import time
from datetime import timedelta
from torch.distributed import TCPStore
from neural_photo_editor.training import preemption

preemption.SAME_SIGNAL_S = float(sys.argv[1])
preemption.START_GRACE_S = float(sys.argv[2])
preemption.exit_on_signals()
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print("waiting", flush=True)
store.wait(["never"], timedelta(hours=1))
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes = []

    def run(*, same_signal_s: float, grace_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(same_signal_s), str(grace_s)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        # A signal before the wait would be the handler's.
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            time.sleep(0.01)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_the_grace_ends_a_wait_that_no_handler_interrupts(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start(same_signal_s=60.0, grace_s=0.2)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # The same request, passed on by a launcher.
    assert process.wait(timeout=30) == STOPPED
    assert process.stderr is not None
    assert "no step ended in time" in process.stderr.read()


def test_a_second_signal_ends_at_once(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(same_signal_s=0.0, grace_s=600.0)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # Another number: the kernel merges equal ones.
    assert process.wait(timeout=30) in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_what_another_process_heard_is_no_signal_of_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preemption, "SAME_SIGNAL_S", 0.0)
    ends: Queue[int] = Queue()

    def end(code: int, message: str) -> None:
        ends.put(code)

    monkeypatch.setattr(preemption, "_end", end)
    watch = preemption.SignalWatch(grace_s=600.0)
    watch.start()
    try:
        watch.notice()
        os.write(watch._writing, bytes([signal.SIGTERM]))  # as set_wakeup_fd does
        with pytest.raises(Empty):  # In the grace: the other process's signal was not the first.
            ends.get(timeout=0.5)
        os.write(watch._writing, bytes([signal.SIGTERM]))
        assert ends.get(timeout=60) == 128 + signal.SIGTERM
    finally:
        watch.stop()


def test_a_grace_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="grace_s is 0"):
        StopRequest(grace_s=0)
