"""What a loader worker does with signals."""

import os
import signal
import threading


def start_worker(worker_id: int) -> None:  # noqa: ARG001
    """Keep signals to a whole group of processes from a DataLoader's worker; for worker_init_fn.

    Ctrl-C in a terminal and SLURM signal all processes at once. The training decides when to
    stop, and until then needs its workers; only its own SIGTERM ends them.
    """
    signal.set_wakeup_fd(-1)  # Forked: it would tell the training of the worker's signals.
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # Blocked signals are waited for, which tells who sent them; threads inherit what is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
