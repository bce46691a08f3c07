"""Clients, in a process of their own so that they take no server's interpreter.

    python benchmarks/serving_load.py < SPECIFICATION > SAMPLES

The specification is one line of JSON: ``url``, ``body`` (a file), ``content_type``, and either
``concurrency`` (that many clients send their next request when the last was answered) or
``rate`` (requests a second, whatever is answered). It ends after ``requests``, after ``seconds``,
or when stdin is closed. Each sample is of one request: when it was sent, how long it took, the
status (0: no answer), Retry-After, and what the worker says of its time.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

TIMEOUT_S = 150.0
PAUSE_S = 0.2  # of a client after a refusal


class Clients:
    """Sends one and the same request as a specification says."""

    def __init__(self, specification: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.samples: list[dict[str, Any]] = []
        self._specification = specification
        self._session = session
        self._body = Path(specification["body"]).read_bytes()
        self._closed = asyncio.Event()
        self._left = int(specification.get("requests") or sys.maxsize)
        self._until = time.monotonic() + float(specification.get("seconds") or 86400.0)

    async def run(self) -> None:
        """Return when everything that was sent is answered."""
        watch = asyncio.create_task(self._watch_stdin())
        rate = self._specification.get("rate")
        if rate:
            async with asyncio.TaskGroup() as group:
                async for _ in self._arrivals(float(rate)):
                    group.create_task(self._send())
        else:
            count = int(self._specification["concurrency"])
            await asyncio.gather(*(self._client() for _ in range(count)))
        watch.cancel()

    async def _client(self) -> None:
        while self._goes_on():
            self._left -= 1
            if await self._send() != 200:
                await asyncio.sleep(PAUSE_S)

    async def _arrivals(self, rate: float) -> AsyncIterator[None]:
        """Poisson arrivals, the same each time."""
        generator = random.Random(0)
        due = time.monotonic()
        while self._goes_on():
            yield
            due += generator.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _goes_on(self) -> bool:
        return self._left > 0 and time.monotonic() < self._until and not self._closed.is_set()

    async def _send(self) -> int:
        sent_at, start = time.time(), time.perf_counter()
        sample: dict[str, Any] = {"sent_at": sent_at, "status": 0}
        try:
            headers = {"Content-Type": self._specification["content_type"]}
            url = self._specification["url"]
            async with self._session.post(url, data=self._body, headers=headers) as reply:
                await reply.read()
                sample["status"] = reply.status
                sample["retry_after"] = reply.headers.get("Retry-After")
                metadata = json.loads(reply.headers.get("X-NPE-Metadata", "{}"))
                sample["timings_ms"] = metadata.get("timings_ms")
        except (aiohttp.ClientError, TimeoutError) as error:
            sample["error"] = repr(error)
        sample["seconds"] = time.perf_counter() - start
        self.samples.append(sample)
        return int(sample["status"])

    async def _watch_stdin(self) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        await reader.read()
        self._closed.set()


async def main() -> None:
    specification = json.loads(sys.stdin.readline())
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = Clients(specification, session)
        await clients.run()
    json.dump(clients.samples, sys.stdout)


if __name__ == "__main__":
    uvloop.run(main())
