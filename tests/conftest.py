"""Fast tests first, so that a mistake shows within seconds."""

import signal
from collections.abc import Callable

import psutil
import pytest

# A shell starts background jobs deaf to Ctrl-C, and so would be the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def started_processes() -> Callable[[], list[psutil.Process]]:
    """Return what lists our processes that this test has started and that still run."""
    before = set(psutil.Process().children(recursive=True))

    def list_them() -> list[psutil.Process]:
        found = psutil.Process().children(recursive=True)
        return [process for process in found if process not in before and not _is_pythons(process)]

    return list_them


def _is_pythons(process: psutil.Process) -> bool:
    """Whether multiprocessing started it for itself; then it lives as long as we do."""
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:  # It has just ended.
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
