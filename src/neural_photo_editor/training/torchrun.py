"""torchrun that ends with the exit code of the processes it started, and knows which are final.

``python -m neural_photo_editor.training.torchrun`` takes torchrun's arguments. torchrun itself ends
with 1 whatever happened, so that a scheduler cannot tell a wrong configuration from a preemption,
and starts processes again whose next attempt can only end like the last one.

Processes that torchrun starts again may find the addresses of those before them, and fail, because
its agent keeps one store for all attempts (pytorch#135712). Here each attempt has its own.
"""

import os
import sys
from collections.abc import Iterable, Sequence

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher import api

from neural_photo_editor.training.exit_codes import NONFINITE, STOPPED

FINAL = (os.EX_CONFIG, NONFINITE)
"""What the same command would end with again."""


class _Agent(LocalElasticAgent):
    """Starts processes again, but not after a final exit code: then no attempts are left."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if _final_code(result.failures.values()) is not None:
            self._remaining_restarts = 0
        return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run torchrun and return the exit code of the process that failed first, else 0.

    A final one goes before: other processes may fail within the same second because of it.
    """
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    api.LocalElasticAgent = _Agent  # type: ignore[attr-defined] # torchrun asks for no class.
    try:
        run.main(None if arguments is None else list(arguments))
    except ChildFailedError as error:
        return _exit_code(error)
    except SignalException:  # It was passed on, and the processes have ended.
        return STOPPED
    return 0


def _exit_code(error: ChildFailedError) -> int:
    final = _final_code(error.failures.values())
    if final is not None:
        return final
    _, failure = error.get_first_failure()
    code: int = failure.exitcode
    return code if code >= 0 else 128 - code  # Killed by a signal: the shell's convention.


def _final_code(failures: Iterable[ProcessFailure]) -> int | None:
    codes = {failure.exitcode for failure in failures}
    return next((code for code in FINAL if code in codes), None)


if __name__ == "__main__":
    sys.exit(main())
