"""The yardsticks beside the ledger: Redis and PostgreSQL, both synced on each write, on loopback and in a folder of
their own. Installed from Debian's packages on demand."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from stack.polling import eventually
from stack.ports import LOOPBACK, free_ports

START_DEADLINE_S = 20.0

CAPS = (
    "CREATE TABLE caps (id int PRIMARY KEY, free bigint NOT NULL);"
    "INSERT INTO caps SELECT n, 1000000000000 FROM generate_series(1, 64) n;"
)


class NotHere(Exception):
    """A rival cannot be had on this machine; says why."""


def _installed(package: str, program: str) -> str:
    """Path of a program, installing its Debian package when that is possible."""
    found = _find(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # Only the programs are wanted: no service may be started by the package.
        environment = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], env=environment, capture_output=True, check=False)
        install = ["apt-get", "install", "-y", "--no-install-recommends", package]
        subprocess.run(install, env=environment, capture_output=True, check=False)
        found = _find(program)
    if found is None:
        raise NotHere(f"{program} is not installed (Debian package {package})")
    return found


def _find(program: str) -> Optional[str]:
    newest = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"))
    return shutil.which(program) or (newest[-1] if newest else None)


def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    """Waits until it does. Raises `NotHere`."""

    def connects() -> bool:
        if process.poll() is not None:
            raise NotHere(f"the server ended at once with status {process.returncode}")
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, port)) == 0

    try:
        eventually(connects, START_DEADLINE_S, "a server that listens")
    except TimeoutError as error:
        raise NotHere(str(error)) from error


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis with an append-only log synced on each write; gives its address."""
    server = _installed("redis-server", "redis-server")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(dir=folder) as home:
        options = ["--bind", LOOPBACK, "--port", str(port), "--dir", home, "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--logfile", "redis.log"]
        process = subprocess.Popen([server, *options])
        try:
            _listens(port, process)
            yield f"{LOOPBACK}:{port}"
        finally:
            process.terminate()
            process.wait()


class Postgres:
    """A running PostgreSQL with one table of caps, and an empty database for a ledger."""

    def __init__(self, pgbench: str, port: int, home: Path, user: Optional[str]) -> None:
        self._pgbench, self._port, self._home, self._user = pgbench, port, home, user
        self.ledger_url = f"postgres://keybrake@{LOOPBACK}:{port}/keybrake"

    def debit(self, clients: int, seconds: float, keys: int) -> dict[str, Any]:
        """Conditional updates of a row for a while: per_second, p50_us, p99_us."""
        script = self._home / "debit.sql"
        row = "1" if keys == 1 else f"(:client_id % {keys}) + 1"
        script.write_text(f"UPDATE caps SET free = free - 1 WHERE id = {row} AND free >= 1;\n")
        argv = [self._pgbench, "-h", LOOPBACK, "-p", str(self._port), "-U", "keybrake", "-n", "-M", "prepared"]
        argv += ["-c", str(clients), "-j", "1", "-T", str(max(1, round(seconds))), "-f", str(script), "-l", "postgres"]
        for old in self._home.glob("pgbench_log.*"):
            old.unlink()
        subprocess.run(argv, cwd=self._home, user=self._user, check=True, capture_output=True)
        latencies, start, end = [], float("inf"), 0.0
        for log in self._home.glob("pgbench_log.*"):
            for line in log.read_text().splitlines():
                fields = line.split()
                finished = int(fields[4]) + int(fields[5]) / 1e6
                latencies.append(int(fields[2]))
                start, end = min(start, finished), max(end, finished)
        latencies.sort()
        count = len(latencies)
        if count < 2:
            raise NotHere("pgbench made no transactions")
        return {
            "count": count,
            "failures": 0,
            "per_second": count / max(end - start, 1e-9),
            "p50_us": latencies[(count - 1) // 2],
            "p99_us": latencies[(count - 1) * 99 // 100],
        }


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL with its defaults for durability."""
    programs = {name: _installed("postgresql", name) for name in ("initdb", "postgres", "psql", "pgbench")}
    user = "postgres" if os.geteuid() == 0 else None
    (port,) = free_ports(1)
    # Not below our own folder: the server's user may not look into it.
    home = Path(tempfile.mkdtemp(prefix="keybrake-bench-"))
    try:
        if user:
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        cluster = str(home / "cluster")
        _quietly([programs["initdb"], "-D", cluster, "-U", "keybrake", "-A", "trust"], home, user)
        argv = [programs["postgres"], "-D", cluster, "-h", LOOPBACK, "-p", str(port), "-k", str(home)]
        with open(home / "server.log", "wb") as log:
            process = subprocess.Popen(argv, cwd=home, user=user, stdout=log, stderr=log)
        try:
            _listens(port, process)
            ask = [programs["psql"], "-h", LOOPBACK, "-p", str(port), "-U", "keybrake", "-d", "postgres"]
            ask += ["-v", "ON_ERROR_STOP=1", "-c"]
            eventually(lambda: _answers([*ask, "SELECT 1"], home, user), START_DEADLINE_S, "PostgreSQL's first answer")
            _quietly([*ask, CAPS], home, user)
            _quietly([*ask, "CREATE DATABASE keybrake"], home, user)
            yield Postgres(programs["pgbench"], port, home, user)
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _answers(argv: list[str], home: Path, user: Optional[str]) -> bool:
    return subprocess.run(argv, cwd=home, user=user, check=False, capture_output=True).returncode == 0


def _quietly(argv: list[str], home: Path, user: Optional[str]) -> None:
    subprocess.run(argv, cwd=home, user=user, check=True, capture_output=True)
