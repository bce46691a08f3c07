"""torchrun that ends with the exit code of the processes it started.

``python -m neural_photo_editor.training.torchrun`` takes torchrun's arguments. torchrun itself ends
with 1 whatever happened, so that a scheduler cannot tell a wrong configuration from a preemption.

Processes that torchrun starts again may find the addresses of those before them, and fail, because
its agent keeps one store for all attempts (pytorch#135712). Here each attempt has its own.
"""

import os
import sys
from collections.abc import Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from neural_photo_editor.training.exit_codes import STOPPED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run torchrun and return the exit code of the first process that failed, else 0."""
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    try:
        run.main(None if arguments is None else list(arguments))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        code: int = failure.exitcode
        return code if code >= 0 else 128 - code  # Killed by a signal: the shell's convention.
    except SignalException:  # It was passed on, and the processes have ended.
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
