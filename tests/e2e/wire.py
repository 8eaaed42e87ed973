"""A client that writes requests as no ordinary one does: HTTP/1.1 and HTTP/2 with prior knowledge, repeated headers,
trailers, and whatever else a library would refuse to send.

Text goes out as Latin-1: each character up to U+00FF is the byte of its number. What a caller says about the framing
(`content-length`, `transfer-encoding`) goes out as it is, and the body after it byte for byte.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import h2.config
import h2.connection
import h2.events
import h11

DEADLINE_S = 30.0
CHUNK = 16_384

Protocol = Literal["h1", "h2"]
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """An answer. Header names are lower case. Status 0: the stream or connection was ended without one."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.content)


def exchange(
    protocol: Protocol,
    port: int,
    method: str,
    path: str,
    headers: Headers,
    body: bytes = b"",
    *,
    trailers: Headers = (),
    host: Optional[str] = None,
) -> Reply:
    """One request on a connection of its own, and its answer. With trailers an HTTP/1.1 body goes in chunks."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.settimeout(DEADLINE_S)
        speak = _http1 if protocol == "h1" else _http2
        return speak(connection, method, path, host or f"127.0.0.1:{port}", headers, body, trailers)


def _http1(
    connection: socket.socket,
    method: str,
    path: str,
    host: str,
    headers: Headers,
    body: bytes,
    trailers: Headers,
) -> Reply:
    told = {name.lower() for name, _ in headers}
    framing: list[tuple[str, str]] = []
    if not told & {"transfer-encoding", "content-length"}:
        if trailers:
            framing, body = [("transfer-encoding", "chunked")], _chunked(body, trailers)
        elif body or method == "POST":
            framing = [("content-length", str(len(body)))]
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in [("host", host), *headers, *framing])]
    with contextlib.suppress(ConnectionError):  # It may answer before it has read all.
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    return _http1_answer(connection, method)


def _chunked(body: bytes, trailers: Headers) -> bytes:
    parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return chunks + b"0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1") + b"\r\n"


def _http1_answer(connection: socket.socket, method: str) -> Reply:
    """Reads the answer to a request of this method; status 0: the connection ended without one."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(
        h11.Request(method=method if method in ("HEAD", "CONNECT") else "GET", target="/", headers=[("host", "h")])
    )
    reader.send(h11.EndOfMessage())
    status, content = 0, b""
    found: dict[str, str] = {}
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            try:
                reader.receive_data(connection.recv(65_536))
            except ConnectionError:
                return Reply(status, found, content)
        elif isinstance(event, h11.Response):
            status = event.status_code
            found = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return Reply(status, found, content)


def _http2(
    connection: socket.socket,
    method: str,
    path: str,
    host: str,
    headers: Headers,
    body: bytes,
    trailers: Headers,
) -> Reply:
    configuration = h2.config.H2Configuration(
        header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    speaker = h2.connection.H2Connection(configuration)
    speaker.initiate_connection()
    pseudo = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]
    ends = not body and not trailers
    speaker.send_headers(1, _bytes([*pseudo, *headers]), end_stream=ends)
    stream = _Http2Stream(speaker, connection, body, _bytes(trailers), sent_all=ends)
    with contextlib.suppress(ConnectionError):
        while not stream.ended:
            stream.send()
            arrived = connection.recv(65_536)
            if not arrived:
                break
            stream.receive(arrived)
    return Reply(stream.status, stream.found, stream.content)


def _bytes(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


class _Http2Stream:
    """The one stream of a connection."""

    def __init__(
        self,
        speaker: h2.connection.H2Connection,
        connection: socket.socket,
        body: bytes,
        trailers: list[tuple[bytes, bytes]],
        sent_all: bool,
    ) -> None:
        self.speaker = speaker
        self.connection = connection
        self.left = body
        self.trailers = trailers
        self.sent_all = sent_all
        self.ended = False
        self.status = 0
        self.found: dict[str, str] = {}
        self.content = b""

    def send(self) -> None:
        """Sends what the windows allow."""
        while not self.sent_all:
            most = min(self.speaker.local_flow_control_window(1), self.speaker.max_outbound_frame_size)
            if self.left and most == 0:
                break
            part, self.left = self.left[:most], self.left[most:]
            if part:
                last = not self.left and not self.trailers
                self.speaker.send_data(1, part, end_stream=last)
                self.sent_all = last
            if not self.left and not self.sent_all:
                self.speaker.send_headers(1, self.trailers, end_stream=True)
                self.sent_all = True
        self.connection.sendall(self.speaker.data_to_send())

    def receive(self, arrived: bytes) -> None:
        """Takes in what came."""
        for event in self.speaker.receive_data(arrived):
            if isinstance(event, h2.events.ResponseReceived):
                pairs = [(_text(name), _text(value)) for name, value in event.headers]
                self.status = int(dict(pairs)[":status"])
                self.found = {name: value for name, value in pairs if not name.startswith(":")}
            elif isinstance(event, h2.events.DataReceived):
                self.content += event.data
                self.speaker.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.ConnectionTerminated)):
                self.ended = True
            elif isinstance(event, h2.events.StreamReset):
                self.ended = self.sent_all = True
        self.connection.sendall(self.speaker.data_to_send())


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
