"""A relay between Envoy and the ledger's command socket that can lose, keep and delay what passes.

Bytes pass untouched, whatever they say. Only the frame headers of the answers (HTTP/2, RFC 9113 section 4.1) are read,
to know when one begins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Optional

FRAME_HEADER_BYTES = 9
HEADERS_FRAME = 1
CHUNK = 65_536
SOCKET_IN_CONFIG = re.compile(r'(pipe: \{path: )"([^"]+)"')


class Answers:
    """Counts the answers that begin in what a server sends over HTTP/2."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0

    def begun(self, sent: bytes) -> list[int]:
        """Where in these bytes the heads of answers end, one place for each that begins in them."""
        found = []
        before = len(self._buffer)
        self._buffer += sent
        whole = len(self._buffer)
        while self._buffer:
            passed = min(self._skip, len(self._buffer))
            self._buffer, self._skip = self._buffer[passed:], self._skip - passed
            if self._skip or len(self._buffer) < FRAME_HEADER_BYTES:
                break
            length, kind = int.from_bytes(self._buffer[:3], "big"), self._buffer[3]
            self._skip = FRAME_HEADER_BYTES + length
            if kind == HEADERS_FRAME:
                found.append(whole - len(self._buffer) - before + self._skip)
        return found


@dataclasses.dataclass(eq=False)
class Connection:
    """One connection of Envoy's, and ours to the ledger behind it."""

    envoy: socket.socket
    ledger: socket.socket
    # Bytes that were kept, in order: for the ledger, for Envoy.
    requests: bytearray = dataclasses.field(default_factory=bytearray)
    answers: bytearray = dataclasses.field(default_factory=bytearray)
    # What came from the ledger after Envoy's side was cut.
    unheard: bytearray = dataclasses.field(default_factory=bytearray)
    cut: bool = False

    def cut_envoy(self) -> None:
        """Envoy loses the connection; the ledger does not notice."""
        self.cut = True
        _shut(self.envoy)

    def close(self) -> None:
        """Both lose it. What was kept is gone."""
        self.cut = True
        _shut(self.envoy)
        _shut(self.ledger)


class Relay:
    """Passes everything on until it is told otherwise. Use `edit` as the configuration's last word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        self._ledger = ""
        self._lock = threading.RLock()
        self._lose = 0
        self._lose_every = 1
        self._lose_after_head = False
        self._begun = 0
        self._keeps_requests = False
        self._keeps_answers = False
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._start(self._accept)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        _shut(self._listener)
        for connection in self.connections():
            connection.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the relay does not end"

    def edit(self, config: str) -> str:
        """Puts this relay between Envoy and the ledger's socket."""
        found = SOCKET_IN_CONFIG.findall(config)
        assert len(found) == 1, found
        self._ledger = found[0][1]
        return SOCKET_IN_CONFIG.sub(rf'\1"{self.path}"', config)

    # What it is told

    def lose_answers(self, count: int, every: int = 1, after_head: bool = False) -> None:
        """Cuts the connection when an answer begins, so many times, each time with the next one, or with the second,
        … The ledger has executed by then. With `after_head` its headers are passed on before."""
        with self._lock:
            self._lose, self._lose_every, self._begun = count, every, 0
            self._lose_after_head = after_head

    def _loses(self, begun: list[int]) -> bool:
        self._begun += len(begun)
        if not begun or not self._lose or self._begun < self._lose_every:
            return False
        self._lose, self._begun = self._lose - 1, 0
        self.lost += 1
        return True

    @contextlib.contextmanager
    def keeping_requests(self) -> Iterator[None]:
        """A black hole in here: nothing reaches the ledger. What was kept is passed on at the end, where its
        connection still stands."""
        self._keeps_requests = True
        try:
            yield
        finally:
            with self._lock:
                self._keeps_requests = False
                for connection in self.connections():
                    if not connection.cut:
                        self.pass_kept_requests(connection)

    @contextlib.contextmanager
    def keeping_answers(self) -> Iterator[None]:
        """The ledger executes in here and nobody hears of it until the end."""
        self._keeps_answers = True
        try:
            yield
        finally:
            with self._lock:
                self._keeps_answers = False
                for connection in self.connections():
                    _send(connection.envoy, bytes(connection.answers))
                    connection.answers.clear()

    def pass_kept_requests(self, connection: Connection) -> None:
        """Lets the ledger have what was kept of this connection."""
        with self._lock:
            _send(connection.ledger, bytes(connection.requests))
            connection.requests.clear()

    def connections(self) -> list[Connection]:
        """Those that stand, or that Envoy alone has lost, oldest first."""
        with self._lock:
            return list(self._connections)

    def keeping(self) -> list[Connection]:
        """Those that keep requests back and that Envoy has not lost."""
        return [connection for connection in self.connections() if connection.requests and not connection.cut]

    # How it passes

    def _start(self, run: object, *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                envoy, _ = self._listener.accept()
            except OSError:
                return
            ledger = socket.socket(socket.AF_UNIX)
            try:
                ledger.connect(self._ledger)
            except OSError:
                _shut(envoy)
                ledger.close()
                continue
            connection = Connection(envoy, ledger)
            with self._lock:
                self._connections.append(connection)
            self._start(self._pass_requests, connection)
            self._start(self._pass_answers, connection)

    def _pass_requests(self, connection: Connection) -> None:
        while arrived := _receive(connection.envoy):
            with self._lock:
                if self._keeps_requests or connection.requests:
                    connection.requests += arrived
                else:
                    _send(connection.ledger, arrived)
        if not connection.cut:
            self._end(connection)

    def _pass_answers(self, connection: Connection) -> None:
        answers = Answers()
        while arrived := _receive(connection.ledger):
            begun = answers.begun(arrived)
            with self._lock:
                if connection.cut:
                    connection.unheard += arrived
                elif self._loses(begun):
                    if self._lose_after_head:
                        _send(connection.envoy, arrived[: begun[-1]])
                    break
                elif self._keeps_answers or connection.answers:
                    connection.answers += arrived
                else:
                    _send(connection.envoy, arrived)
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        connection.close()
        with self._lock:
            if connection in self._connections:
                self._connections.remove(connection)


def _receive(from_: socket.socket) -> bytes:
    try:
        return from_.recv(CHUNK)
    except OSError:
        return b""


def _send(to: socket.socket, sent: bytes) -> None:
    """To whoever is there still."""
    with contextlib.suppress(OSError):
        to.sendall(sent)


def _shut(end: socket.socket) -> None:
    """Wakes the thread that reads from it, and closes it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
