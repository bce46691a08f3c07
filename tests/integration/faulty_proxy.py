"""A TCP proxy that cuts or holds back what a server sends, as a bad network does."""

import contextlib
import socket
import threading
from typing import Self


class FaultyProxy:
    """Forwards connections to a local port; a context manager.

    Attributes:
        port: where it listens on 127.0.0.1.
        cut_after: bytes of the server that each connection delivers before it is reset; None:
            all. May be changed at any time.
        stop_after: bytes that all connections together deliver before everything stalls; None.
        sent: bytes delivered to clients so far.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.cut_after: int | None = None
        self.stop_after: int | None = None
        self.sent = 0
        self.stalled = threading.Event()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target_port))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._replies, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        delivered = 0
        with contextlib.suppress(OSError):
            while data := server.recv(16384):
                if self.stop_after is not None and self.sent >= self.stop_after:
                    self.stalled.set()
                    self._closing.wait()
                client.sendall(data)
                delivered += len(data)
                self.sent += len(data)
                if self.cut_after is not None and delivered >= self.cut_after:
                    break
        # shutdown, not only close: the other thread still waits in recv on these sockets.
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
