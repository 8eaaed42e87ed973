"""The loopback ports of the stack, and whether they are free."""

from __future__ import annotations

import random
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from stack.errors import StackError

LOOPBACK = "127.0.0.1"
# Below the ports that Linux and macOS give to outgoing connections. Tests that run at once take a part of it each.
UNUSED_RANGE = (20_000, 32_000)
# Given lately: somebody may be about to listen there.
_GIVEN: deque[int] = deque(maxlen=500)

# Field of `Ports` -> the environment variable that changes it.
VARIABLES = {
    "envoy": "KEYBRAKE_ENVOY_PORT",
    "stripe": "KEYBRAKE_STRIPE_PORT",
    "envoy_admin": "KEYBRAKE_ENVOY_ADMIN_PORT",
    "ledger": "KEYBRAKE_LEDGER_PORT",
    "sandbox": "KEYBRAKE_SANDBOX_PORT",
}


@dataclass(frozen=True)
class Ports:
    """One port per listener of the stack."""

    envoy: int = 10000
    stripe: int = 10001
    envoy_admin: int = 9901
    ledger: int = 9080
    sandbox: int = 12111

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Ports:
        """The defaults, changed by the environment."""
        return cls(
            **{field: _port(name, environment[name]) for field, name in VARIABLES.items() if environment.get(name)}
        )

    @classmethod
    def free(cls) -> Ports:
        """Ports that are free now."""
        return cls(*free_ports(len(VARIABLES)))

    def check_free(self, fields: Iterable[str] = tuple(VARIABLES)) -> None:
        """Raises `StackError` naming the first of these ports that is taken, or given twice."""
        seen: dict[int, str] = {}
        numbers = asdict(self)
        for field in fields:
            port, name = numbers[field], VARIABLES[field]
            if port in seen:
                raise StackError(f"port {port} is given twice: {seen[port]} and {name}")
            seen[port] = name
            if not is_free(port):
                raise StackError(
                    f"port {port} is taken: end what listens on {LOOPBACK}:{port}, or set {name} to another port"
                )


def is_free(port: int) -> bool:
    """Whether nobody listens there. Binding alone would not tell: two Envoys share a port without an error
    (SO_REUSEPORT), so this asks without that option, and tries to connect as well."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((LOOPBACK, port)) == 0:
            return False
    with socket.socket() as probe:
        # Else connections of the last run that are still winding down would count as a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """So many different ports that are free now, none of which the system would give to an outgoing connection."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*UNUSED_RANGE)
        if port not in found and port not in _GIVEN and is_free(port):
            found.append(port)
    _GIVEN.extend(found)
    return found


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise StackError(f"{name} must be a port from 1 to 65535, not {text!r}")
    return int(text)
