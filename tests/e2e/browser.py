"""The system's Chromium, without a window, for tests of the editor's page."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_S = 60


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser with a profile of its own, or skip the test where none is installed.

    Not for longer than a module: while it runs, no test can start an event loop of its own.
    """
    program = next((path for path in map(shutil.which, _NAMES) if path), None)
    if program is None:
        pytest.skip("no Chromium: install it (Debian and Ubuntu: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def wait_until(page: Page, is_so: Callable[[], bool], what: str) -> None:
    """Let the page go on until something is so; after a minute the test fails, and says what."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        page.wait_for_timeout(10)
