"""What every child process of the supervisor has in common: few secrets, and no longer life."""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping

CONTROL_TOKEN_VARIABLE = "NPE_CONTROL_TOKEN"  # noqa: S105 -- the variable's name

_SECRET = re.compile(
    r"(AWS|AZURE|GCS|GOOGLE|FSSPEC|WANDB)_|.*(CREDENTIAL|PASSW|SECRET|TOKEN|_KEY\b)|SSH_AUTH_SOCK",
    re.IGNORECASE,
)
_NO_SECRET = "OTEL_"  # noqa: S105 -- where traces go, and with which header: both children send some

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def environment_for_child(
    needs: frozenset[str], *, own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return our environment without the secrets that a child has no use for.

    Whoever breaks into a child, which reads foreign images, finds no keys of object stores and of
    other services.

    Args:
        needs: secrets that it has a use for, by name.
        own: instead of this process's environment.
    """
    return {
        name: value
        for name, value in (os.environ if own is None else own).items()
        if name in needs or name.startswith(_NO_SECRET) or not _SECRET.match(name)
    }


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child is to run before its program so that it gets SIGTERM when we are gone.

    Whatever ends us, SIGKILL included. The system means the thread that starts the child: it has
    to be one that stays. Elsewhere than on Linux there is no such thing.
    """
    parent, libc = os.getpid(), _LIBC
    if libc is None:
        return None

    def before_program() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # Gone before it was asked for.
            os._exit(1)

    return before_program
