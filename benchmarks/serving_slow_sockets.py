"""Sockets that send slowly, in a process of their own: one byte a second each, until stdin closes.

    python benchmarks/serving_slow_sockets.py HOST PORT COUNT BODY_FILE CONTENT_TYPE

Every second one sends its request's head so, the others a whole head and then the body. One that
is cut connects again. Prints how often that was, as JSON.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import uvloop


class SlowSockets:
    """Keeps up a number of slow connections."""

    def __init__(self, host: str, port: int, body: bytes, content_type: str) -> None:
        self.cut = 0
        self._address = host, port
        head = (
            f"POST /v1/edit HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._head, self._body = head.encode("ascii"), body

    async def hold(self, *, slow_head: bool) -> None:
        """Send slowly, for ever."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*self._address)
                sending = asyncio.create_task(self._send(writer, slow_head=slow_head))
                await reader.read()  # returns when the other side has closed
                sending.cancel()
                writer.close()
            self.cut += 1
            await asyncio.sleep(0.1)

    async def _send(self, writer: asyncio.StreamWriter, *, slow_head: bool) -> None:
        slow = self._head if slow_head else self._body
        if not slow_head:
            writer.write(self._head)
        for byte in slow:
            if writer.is_closing():
                return
            writer.write(bytes([byte]))
            await asyncio.sleep(1.0)


async def main() -> None:
    host, port, count, body, content_type = sys.argv[1:]
    sockets = SlowSockets(host, int(port), Path(body).read_bytes(), content_type)
    tasks = [
        asyncio.create_task(sockets.hold(slow_head=number % 2 == 0)) for number in range(int(count))
    ]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    print(json.dumps({"cut": sockets.cut}))


if __name__ == "__main__":
    uvloop.run(main())
