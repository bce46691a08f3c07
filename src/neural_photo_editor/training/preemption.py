"""Signals that ask a training to stop, and the step at which all its processes do so."""

import os
import select
import signal
import threading
import time
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from neural_photo_editor.training.exit_codes import STOPPED, exit_code_of

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SAME_SIGNAL_S = 3.0
"""Launchers pass on what reached their workers already: so long it is the same request."""
START_GRACE_S = 5.0
_ELSEWHERE = 255  # No signal has this number.
LOADER_FILE = "torch/utils/data/dataloader.py"


def exit_on_signals() -> None:
    """End with exit code 75 at a signal; for the time before the first step, when nothing is lost.

    Signal handlers belong to the main thread; elsewhere nothing happens.
    """
    if threading.current_thread() is threading.main_thread():
        SignalWatch(grace_s=START_GRACE_S).start()
        for number in SIGNALS:
            signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise SystemExit(STOPPED)


class SignalWatch:
    """Ends the process some time after a signal, or at a second one.

    Python runs signal handlers in the main thread, between two of its instructions. A call that
    waits for another process may never return to it; this thread hears of signals all the same.

    Args:
        grace_s: seconds from a signal to the end of the process.
    """

    def __init__(self, *, grace_s: float) -> None:
        self.grace_s = grace_s
        self.exit_code = STOPPED
        self.busy = threading.Lock()
        """Whoever holds it is not interrupted by the end of the grace."""
        self._reading, self._writing = -1, -1
        self._previous = -1

    def start(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._previous = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._run, daemon=True, name="signal-watch").start()

    def stop(self) -> None:
        signal.set_wakeup_fd(self._previous)
        os.write(self._writing, b"\0")

    def notice(self) -> None:
        """Begin the grace: another process was asked to stop."""
        os.write(self._writing, bytes([_ELSEWHERE]))

    def _run(self) -> None:
        begun: float | None = None  # the grace
        first: float | None = None  # signal of this process's own
        while True:
            left = None if begun is None else max(0.0, begun + self.grace_s - time.monotonic())
            if not select.select([self._reading], [], [], left)[0]:
                with self.busy:
                    _end(self.exit_code, "no step ended in time: the last checkpoint stands")
            number = os.read(self._reading, 1)[0]
            if number == 0:
                return
            if number != _ELSEWHERE and number not in SIGNALS:
                continue
            begun = time.monotonic() if begun is None else begun
            if number == _ELSEWHERE:
                continue
            if first is None:
                first = time.monotonic()
            elif time.monotonic() - first > SAME_SIGNAL_S:
                _end(128 + number, "a second signal: ending at once")


def _end(code: int, message: str) -> NoReturn:
    os.write(2, f"{message}\n".encode())
    os._exit(code)


class StopRequest:
    """Whether the training should stop: this process notes signals, and all agree on the step.

    Lightning's own handling talks to the other processes inside the signal handler, where they
    may be in the middle of something else, and waits for the device at each step.

    Args:
        grace_s: seconds from a signal to the end of the process, whatever it is waiting for then;
            a checkpoint that is being written is finished first.
    """

    def __init__(self, *, grace_s: float) -> None:
        if grace_s <= 0:
            raise ValueError(f"grace_s is {grace_s}; give a positive number of seconds")
        self._watch = SignalWatch(grace_s=grace_s)
        self.saving = self._watch.busy
        """Held while a checkpoint is written."""
        self._asked = False
        self._group: Any = None
        self._alone = True
        self._previous: dict[int, Any] = {}

    def install(self, trainer: Trainer) -> None:
        """Take over signals from Lightning, and make a channel between the processes."""
        # Replaces a broadcast that would make host and device wait for each other at each step.
        loop: Any = trainer.fit_loop.epoch_loop
        loop._broadcast_sigterm_tensor = lambda: None
        self._alone = trainer.world_size == 1
        self._watch.exit_code = exit_code_of(trainer, STOPPED)
        if not self._alone:
            # On the host: asking the device would wait for all that it has been given to do.
            timeout = getattr(trainer.strategy, "_timeout", None)
            self._group = torch.distributed.new_group(backend="gloo", timeout=timeout)
        if threading.current_thread() is not threading.main_thread():
            return
        self._watch.start()
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)

    def uninstall(self) -> None:
        if self._previous:
            self._watch.stop()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def agreed(self) -> bool:
        """Return whether any process was asked to stop; all of them get the same answer.

        Every process must call this at the same place.
        """
        if self._group is None:
            return self._asked
        flag = torch.tensor([self._asked], dtype=torch.int32)
        try:
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._group)
        except RuntimeError:
            if not self._asked:
                raise
            # The others are gone already, and a checkpoint takes all: the last one stands.
            raise SystemExit(self._watch.exit_code) from None
        if flag.item() and not self._asked and self._previous:
            self._watch.notice()
        return bool(flag.item())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            return
        self._asked = True
        # The loader's workers may be dying of the same signal, which torch would raise here.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.write(2, f"{signal.Signals(number).name}: stopping after this step\n".encode())
        if self._alone and _waits_for_data(frame):
            # The data may never come. Nothing has happened since the last step.
            raise SIGTERMException


def _waits_for_data(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__next__" and code.co_filename.endswith(LOADER_FILE):
            return True
        frame = frame.f_back
    return False
