"""Signals that ask a training to stop, and the step at which all its processes do so."""

import os
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

LOADER_FILE = "torch/utils/data/dataloader.py"


def exit_on_signals() -> None:
    """End with exit code 75 at a signal; for the time before the first step, when nothing is lost.

    Signal handlers belong to the main thread; elsewhere nothing happens.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _exit)


def _exit(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise SystemExit(STOPPED)


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
        self.grace_s = grace_s
        self.saving = threading.Lock()
        """Held while a checkpoint is written."""
        self._asked_at: float | None = None
        self._asked, self._over = threading.Event(), threading.Event()
        self._group: Any = None
        self._alone = True
        self._exit_code = STOPPED
        self._previous: dict[int, Any] = {}

    def install(self, trainer: Trainer) -> None:
        """Take over signals from Lightning, and make a channel between the processes."""
        # Replaces a broadcast that would make host and device wait for each other at each step.
        loop: Any = trainer.fit_loop.epoch_loop
        loop._broadcast_sigterm_tensor = lambda: None
        self._alone = trainer.world_size == 1
        self._exit_code = exit_code_of(trainer, STOPPED)
        if not self._alone:
            # On the host: asking the device would wait for all that it has been given to do.
            self._group = torch.distributed.new_group(backend="gloo")
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        threading.Thread(target=self._watch, daemon=True, name="stop-request").start()

    def uninstall(self) -> None:
        self._over.set()
        self._asked.set()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def agreed(self) -> bool:
        """Return whether any process was asked to stop; all of them get the same answer.

        Every process must call this at the same place.
        """
        if self._group is None:
            return self._asked_at is not None
        flag = torch.tensor([self._asked_at is not None], dtype=torch.int32)
        try:
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._group)
        except RuntimeError:
            if self._asked_at is None:
                raise
            # The others are gone already: what can be saved is saved.
            raise SystemExit(self._exit_code) from None
        if flag.item():
            self._asked.set()
        return bool(flag.item())

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked_at is not None:
            if time.monotonic() - self._asked_at > SAME_SIGNAL_S:
                os.write(2, b"a second signal: ending at once\n")
                os._exit(128 + number)
            return
        self._asked_at = time.monotonic()
        # The loader's workers may be dying of the same signal, which torch would raise here.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.write(2, f"{signal.Signals(number).name}: stopping after this step\n".encode())
        self._asked.set()
        if self._alone and _waits_for_data(frame):
            # The data may never come. Nothing has happened since the last step.
            raise SIGTERMException

    def _watch(self) -> None:
        self._asked.wait()
        if self._over.wait(self.grace_s):
            return
        with self.saving:
            os.write(2, b"no step ended in time: the last checkpoint stands\n")
            os._exit(self._exit_code)


def _waits_for_data(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__next__" and code.co_filename.endswith(LOADER_FILE):
            return True
        frame = frame.f_back
    return False
