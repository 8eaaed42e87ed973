"""Further ledgers on a stack's PostgreSQL, beside the stack's own."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import Keybrake

from stack.envoy_config import LedgerAddress
from stack.ports import LOOPBACK


@dataclass(frozen=True)
class FurtherLedger:
    """A running one."""

    process: subprocess.Popen[bytes]
    socket: Path
    # Its API and its commands over TCP.
    address: LedgerAddress
    log: Path


@contextlib.contextmanager
def further_ledger(kb: Keybrake, url: str, name: str = "second", *flags: str) -> Iterator[FurtherLedger]:
    """One more ledger on the database, until the end of the block."""
    stack = kb.stack
    folder = stack.folder.path / name
    folder.mkdir()
    log_file = folder / "ledger.log"
    environment = stack.child_environment(
        KEYBRAKE_RUN_DIR=folder,
        KEYBRAKE_LEDGER_SOCKET=folder / "ledger.sock",
        KEYBRAKE_DATABASE_URL=url,
        KEYBRAKE_TEST_CLOCK=kb.clock,
        KEYBRAKE_ADMIN_KEY_FILE=stack.folder.key_file("admin"),
        KEYBRAKE_AUDIT_KEY_FILE=stack.folder.key_file("audit"),
        KEYBRAKE_INTERNAL_KEY_FILE=stack.folder.key_file("internal"),
    )
    doors = ["--listen", f"{LOOPBACK}:0", "--commands-listen", f"{LOOPBACK}:0"]
    command = [str(stack.artifacts.ledger), "serve", *doors, *flags]
    with (
        open(log_file, "wb") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert b'"ready":true' in line, log_file.read_text()
            said = json.loads(line)
            api_port, commands_port = (int(said[door].rpartition(":")[2]) for door in ("listen", "commands_listen"))
            address = LedgerAddress(LOOPBACK, api_port, commands_port)
            yield FurtherLedger(process, Path(said["socket"]), address, log_file)
        finally:
            process.terminate()
