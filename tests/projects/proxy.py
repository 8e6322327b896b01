"""A reverse proxy in front of a test server: a sub-path, headers that it changes or leaves out."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

MAX_HEAD_BYTES = 64 * 1024


class ReverseProxy:
    """Serves `http_url`, which ends with the sub-path `prefix`, from port `target` on 127.0.0.1.

    It takes `prefix` off the paths if `strips`, and answers 404 to those without it. One request a
    connection, or a WebSocket.
    """

    def __init__(self, prefix: str = "", *, strips: bool = False) -> None:
        self.target = 0
        self._prefix = prefix
        self._strips = strips
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.http_url = f"http://127.0.0.1:{self.port}{prefix}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            method, _, rest = head.partition(b" ")
            prefix = self._prefix.encode()
            if not rest.startswith(prefix + b"/"):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            if self._strips:
                rest = rest[len(prefix) :]
            if b"upgrade: websocket" not in head.lower():
                rest = rest.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                server.sendall(method + b" " + rest)
                threading.Thread(target=_pump, args=(client, server), daemon=True).start()
                _pump(server, client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
