"""How a training that did not reach its end says why; docs/restarts.md tells schedulers."""

import os

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

STOPPED = os.EX_TEMPFAIL
"""75: a signal asked for it. The same command goes on from the last checkpoint."""
NONFINITE = os.EX_DATAERR
"""65: losses or gradients stay NaN or infinite. The same command would end like this again."""


def exit_code_of(trainer: Trainer, code: int) -> int:
    """Return the exit code of this process when the run ends with ``code``.

    Processes that Lightning started itself end with 0: it kills the run's first process once
    another one has failed, and the first one's code is the run's.
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return code
    environment = launcher.cluster_environment
    started = not environment.creates_processes_externally and environment.local_rank() > 0
    return 0 if started else code
