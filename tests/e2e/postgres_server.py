"""A real PostgreSQL in a folder of its own on a free port of loopback, from Debian's programs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from stack.polling import eventually
from stack.ports import LOOPBACK, free_ports

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
# Visibly fake.
PASSWORD = "sandbox-database-password-0001"


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "PostgreSQL is missing: apt-get install --no-install-recommends postgresql"
    return found[-1].parent


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A running server; gives the URL of a database. Ended and removed with the block."""
    programs = _programs()
    # The server does not run as root.
    user: Optional[str] = "postgres" if os.geteuid() == 0 else None
    (port,) = free_ports(1)
    home = Path(tempfile.mkdtemp(prefix="keybrake-e2e-"))
    environment = {"PATH": os.defpath, "LC_ALL": "C", "PGPASSWORD": PASSWORD}
    try:
        password = home / "password"
        password.write_text(PASSWORD)
        if user:
            owner = pwd.getpwnam(user)
            for path in (home, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        cluster = home / "data"
        initdb = [f"{programs}/initdb", "-D", str(cluster), "-U", "keybrake", "-A", "scram-sha-256", "--no-sync"]
        initdb.append(f"--pwfile={password}")
        subprocess.run(initdb, cwd=home, user=user, env=environment, check=True, capture_output=True)
        server = [f"{programs}/postgres", "-D", str(cluster), "-h", LOOPBACK, "-p", str(port), "-k", ""]
        with open(home / "server.log", "wb") as log:
            process = subprocess.Popen(server, cwd=home, user=user, env=environment, stdout=log, stderr=log)
        ask = [
            f"{programs}/psql",
            "-h",
            LOOPBACK,
            "-p",
            str(port),
            "-U",
            "keybrake",
            "-d",
            "postgres",
            "-c",
            "SELECT 1",
        ]

        def answers() -> bool:
            assert process.poll() is None, (home / "server.log").read_text()
            return subprocess.run(ask, env=environment, check=False, capture_output=True).returncode == 0

        try:
            eventually(answers, START_DEADLINE_S, "PostgreSQL's first answer")
            yield f"postgres://keybrake:{PASSWORD}@{LOOPBACK}:{port}/postgres"
        finally:
            # SIGTERM would wait for every client to leave, and a test that failed still has some.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)
