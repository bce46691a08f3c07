"""``serve/start.py`` as a process with a registry, and clients that never stop asking."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait

START = Path(__file__).resolve().parents[2] / "serve" / "start.py"
PHOTO = encode_png(generate_portrait(seed=5, index=0, resolution=64).photo)
MASK = np.zeros((64, 64), np.uint8)
MASK[20:40, 20:40] = 255
FILES = {"photo": ("photo.png", PHOTO), "mask": ("mask.png", encode_png(MASK))}
EDIT = {"strength": "0.5", "steps": "3", "seed": "1"}
# 600 network calls: seconds, in which a test does what it does.
LONG = {"timestep": "500", "steps": "300", "resamples": "2", "seed": "1"}


def until(condition: Callable[[], Any], within_s: float = 90.0, *, say: Callable[[], str]) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, say()
        time.sleep(0.02)


@dataclass
class Deployment:
    """A running ``serve/start.py``."""

    process: "subprocess.Popen[str]"
    folder: Path

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Wait until the state file says all of this, and return what it says."""

        def arrived() -> bool:
            assert self.process.poll() is None, self.said()
            state = self.state()
            return all(state.get(name) == value for name, value in wanted.items())

        until(arrived, say=self.said)
        return self.state()

    def until_alone(self, version: int) -> float:
        """Wait until a version is in production and no other server runs; return when it was."""
        self.until(production=version, canary=None)
        until(lambda: len(self.state()["servers"]) == 1, say=self.said)
        return time.monotonic()

    def server(self, version: int) -> dict[str, Any]:
        return next(one for one in self.state()["servers"] if one["version"] == version)

    @property
    def url(self) -> str:
        url: str = self.state()["gateway"]["url"]
        return url

    @property
    def internal_url(self) -> str:
        lines = (self.folder / "gateway.log").read_text().splitlines()
        listening = [json.loads(line) for line in lines if '"internal"' in line]
        return f"http://{listening[-1]['internal']}"

    @property
    def key(self) -> str:
        return (self.folder / "development.key").read_text().strip()


@contextmanager
def deployed(folder: Path, *arguments: str) -> Iterator[Deployment]:
    """Start on free ports, wait until requests are answered, and end it."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(START), "--port", "0", "--workdir", str(folder), *arguments]
    with (folder / "said").open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, text=True, env={**os.environ}
        )
    try:
        deployment = Deployment(process, folder)
        deployment.until(phase="serving")
        yield deployment
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            process.kill()


@dataclass
class Load:
    """Threads that send edits and regions one after the other; a context manager.

    Attributes:
        statuses: how often which came; 0 for a broken connection.
        bundles: pairs of when a request was sent and which bundle answered it.
    """

    url: str
    key: str | None = None
    threads: int = 3
    statuses: "Counter[int]" = field(default_factory=Counter)
    bundles: list[tuple[float, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._workers = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self.threads)
        ]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for worker in self._workers:
            worker.join()

    @property
    def failures(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)

    def answered_since(self, moment: float) -> list[str]:
        """Return the bundles that answered what was sent after a moment."""
        return [bundle for sent, bundle in list(self.bundles) if sent > moment]

    def until_answered(self, count: int) -> None:
        """Wait for so many further answers."""
        goal = len(self.bundles) + count
        until(lambda: len(self.bundles) >= goal, say=lambda: f"{self.statuses}")

    def _ask(self, number: int) -> None:
        headers = {"X-API-Key": self.key} if self.key else {}
        with httpx.Client(base_url=self.url, headers=headers, timeout=120.0) as client:
            while not self._stopping.is_set():
                sent = time.monotonic()
                try:
                    if number:
                        reply = client.post("/v1/segment", files={"photo": FILES["photo"]})
                    else:
                        reply = client.post("/v1/edit", data=EDIT, files=FILES)
                except httpx.HTTPError:
                    self.statuses[0] += 1
                    continue
                self.statuses[reply.status_code] += 1
                if reply.status_code == 200:
                    self.bundles.append((sent, self._bundle_of(reply)))

    @staticmethod
    def _bundle_of(reply: httpx.Response) -> str:
        named: str = json.loads(reply.headers["x-npe-metadata"])["bundle_digest"]
        assert reply.headers["x-npe-bundle"] == named
        return named
