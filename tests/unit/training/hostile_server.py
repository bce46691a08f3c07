"""Servers at the tracker's address that are of no use to it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOSTILITIES = ("refuses connections", "answers 500", "answers 401", "never answers", "trickles")


@contextmanager
def hostile_server(hostility: str) -> Iterator[str]:
    """Yield the address of a server on this machine with one of the `HOSTILITIES`."""
    if hostility == "refuses connections":
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # Bound, but nobody listens.
            yield f"http://127.0.0.1:{unused.getsockname()[1]}"
        return
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            if hostility == "never answers":
                released.wait()
            elif hostility == "trickles":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not released.wait(0.5):
                    self.wfile.write(b" ")
            else:
                self.send_error(int(hostility.removeprefix("answers ")))

        do_GET = do_PUT = do_POST  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing: clients give up on this one."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()
