"""The stack of the compose file, and how a check of it is told."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any, Optional

from engine import Docker

from stack import demo
from stack.polling import eventually

SETTINGS = {"KEYBRAKE_BINARIES": "prebuilt", "KEYBRAKE_GATE_URLS": "http://envoy:10000/stripe/v1/charges"}
HEALTHY_DEADLINE_S = 120.0


class Failed(Exception):
    """A check that does not hold."""


def require(holds: bool, what: object) -> None:
    """Raises `Failed` unless it holds."""
    if not holds:
        raise Failed(str(what))


@dataclasses.dataclass(frozen=True)
class Gate:
    """The gate as a workload on this machine reaches it."""

    folder: Path
    url: str = "http://127.0.0.1:10000"
    sandbox: Optional[demo.Controlled] = None

    def secret(self, name: str) -> str:
        """The text of a file that make-secrets made."""
        return (self.folder / "secrets" / name).read_text().strip()

    @property
    def admin_key(self) -> str:
        """May issue and revoke."""
        return self.secret("admin_key")

    @property
    def audit_key(self) -> str:
        """May read the audit."""
        return self.secret("audit_key")


class Compose:
    """The stack of a compose file."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self.docker = docker
        self.folder = folder
        self.settings = dict(SETTINGS)

    def __call__(self, *argv: str, check: bool = True) -> str:
        """Runs docker-compose; what it printed."""
        file = self.folder / "docker-compose.yml"
        base = ["docker-compose", "-f", file, "--project-directory", self.folder]
        return self.docker.run(*base, *argv, check=check, **self.settings).stdout

    def container(self, service: str) -> str:
        """Its id."""
        return self("ps", "-q", service).strip()

    def within(self, service: str, script: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a script in a service's container, as the service's user."""
        return self.docker.run("docker", "exec", self.container(service), "bash", "-c", script, check=check)

    def is_ready(self) -> bool:
        """Whether the ledger says so."""
        return self.within("ledger", "answers 9080 /readyz", check=False).returncode == 0

    def about(self, service: str) -> dict[str, Any]:
        """`docker inspect`."""
        shown: list[dict[str, Any]] = json.loads(self.docker.run("docker", "inspect", self.container(service)).stdout)
        return shown[0]

    def vendor_counts(self) -> dict[str, Any]:
        """What the sandbox has seen and done."""
        ask = r"exec 3<>/dev/tcp/127.0.0.1/12112; printf 'GET /counts HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; cat <&3"
        counts: dict[str, Any] = json.loads(self.within("sandbox", ask).stdout.partition("\n\n")[2])
        return counts


def tell(what: str) -> None:
    """One line of progress."""
    print(f"  ✓ {what}", flush=True)


def await_health(compose: Compose, *services: str) -> None:
    """Until all of them are healthy. Raises `TimeoutError`."""

    def healthy() -> bool:
        return all(compose.about(name)["State"]["Health"]["Status"] == "healthy" for name in services)

    eventually(healthy, HEALTHY_DEADLINE_S, f"healthy: {', '.join(services)}")
