"""A local stack (sandbox vendor, ledger, Envoy) out of a checkout of Keybrake, on free ports, for one test session."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from keybrake.client import Client
from keybrake.settings import URL_VARIABLE, Role
from keybrake.testing.sandbox import Sandbox

__all__ = ["LocalStack", "StackFailed"]

# Building everything from nothing takes minutes.
START_PATIENCE_S = 1800
END_PATIENCE_S = 120
FREE_PORTS = """
import dataclasses, json
from stack.ports import VARIABLES, Ports
print(json.dumps({VARIABLES[name]: str(port) for name, port in dataclasses.asdict(Ports.free()).items()}))
"""
# Waits for the end of its input, that is of the test session, however that ends; then for the end of the stack.
KEEPER = """
import subprocess, sys
sys.stdin.read()
sys.exit(subprocess.call([sys.executable, "-m", "stack", "down"]))
"""


class StackFailed(Exception):
    """The local stack did not start; the message has what it said."""


@dataclasses.dataclass(frozen=True)
class LocalStack:
    """A running stack, of ours or somebody else's."""

    url: str
    admin_key: str = dataclasses.field(repr=False)
    audit_key: str = dataclasses.field(repr=False)
    control_url: Optional[str]
    """The sandbox vendor's control API; None: the vendor is not a sandbox that is known here."""
    keeper: Optional[subprocess.Popen[bytes]] = dataclasses.field(default=None, repr=False)

    @classmethod
    def start(cls, checkout: Path, run_dir: Path) -> LocalStack:
        """Builds what has to be built and starts it. It ends with `stop`, or with this process.

        Raises `StackFailed`.
        """
        if not (checkout / "stack" / "__main__.py").is_file():
            raise StackFailed(f"{checkout} is not a checkout of Keybrake")
        # What the shell knows of a real vendor or of another stack stays out.
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("KEYBRAKE_", "STRIPE_"))}
        ports = json.loads(_python(checkout, clean, "-c", FREE_PORTS))
        environment = {**clean, **ports, "KEYBRAKE_RUN_DIR": str(run_dir)}
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _python(checkout, environment, "-m", "stack", "up")
            said = dict(re.findall(r"^export (\w+)=(.*)$", (run_dir / "env").read_text(), re.MULTILINE))
            ready = (run_dir / "logs" / "sandbox.log").read_text().splitlines()
            control = next(json.loads(line)["control"] for line in reversed(ready) if line.startswith('{"ready"'))
        except BaseException:
            _end(keeper)
            raise
        return cls(said[URL_VARIABLE], said[Role.ADMIN.value], said[Role.AUDIT.value], f"http://{control}", keeper)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that `Client` and `stripe_client` read."""
        return {URL_VARIABLE: self.url, Role.ADMIN.value: self.admin_key, Role.AUDIT.value: self.audit_key}

    def client(self) -> Client:
        """A client of this stack."""
        return Client(self.url, admin_key=self.admin_key, audit_key=self.audit_key)

    def sandbox(self) -> Sandbox:
        """Its vendor's books. Raises `StackFailed` when they are not known here."""
        if self.control_url is None:
            raise StackFailed("the sandbox's control API is not known: set KEYBRAKE_SANDBOX_CONTROL_URL")
        return Sandbox(self.control_url)

    def stop(self) -> None:
        """Ends what `start` started."""
        if self.keeper is not None:
            _end(self.keeper)


def _python(checkout: Path, environment: Mapping[str, str], *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_PATIENCE_S,
        check=False,
    )
    if ended.returncode != 0:
        raise StackFailed(f"the local stack does not start:\n{ended.stderr.strip()}")
    return ended.stdout


def _end(keeper: subprocess.Popen[bytes]) -> None:
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait(END_PATIENCE_S)
