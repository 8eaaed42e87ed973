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
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

from stack.ports import LOOPBACK, free_ports

START_DEADLINE_S = 20.0


class NotHere(Exception):
    """A rival cannot be had on this machine; says why."""


def _installed(package: str, program: str) -> str:
    """Path of a program, installing its Debian package when that is possible."""
    found = _find(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        # Only the programs are wanted: no service may be started by the package.
        environment = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], env=environment, **quiet)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", package], env=environment, **quiet)
        found = _find(program)
    if found is None:
        raise NotHere(f"{program} is not installed (Debian package {package})")
    return found


def _find(program: str) -> Optional[str]:
    newest = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"))
    return shutil.which(program) or (newest[-1] if newest else None)


def _listens(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotHere(f"{process.args[0]} ended at once with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.02)
    raise NotHere(f"{process.args[0]} did not listen in time")


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
    """A running PostgreSQL with one table of caps."""

    def __init__(self, pgbench: str, port: int, home: Path, user: Optional[str]) -> None:
        self._pgbench, self._port, self._home, self._user = pgbench, port, home, user

    def debit(self, clients: int, seconds: float, keys: int) -> dict[str, float]:
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
        at = lambda hundredth: latencies[(count - 1) * hundredth // 100]
        return {"count": count, "failures": 0, "per_second": count / max(end - start, 1e-9), "p50_us": at(50), "p99_us": at(99)}


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL with its defaults for durability."""
    programs = {name: _installed("postgresql", name) for name in ("initdb", "postgres", "psql", "pgbench")}
    user = "postgres" if os.geteuid() == 0 else None
    (port,) = free_ports(1)
    # Not below our own folder: the server's user may not look into it.
    home = Path(tempfile.mkdtemp(prefix="keybrake-bench-"))
    try:
        if user:
            os.chown(home, pwd.getpwnam(user).pw_uid, -1)
        cluster = home / "cluster"
        quiet = {"cwd": home, "user": user, "check": True, "capture_output": True}
        subprocess.run([programs["initdb"], "-D", cluster, "-U", "keybrake", "-A", "trust"], **quiet)
        with open(home / "server.log", "wb") as log:
            process = subprocess.Popen(
                [programs["postgres"], "-D", cluster, "-h", LOOPBACK, "-p", str(port), "-k", str(home)],
                cwd=home, user=user, stdout=log, stderr=log,
            )
        try:
            _listens(port, process)
            sql = "CREATE TABLE caps (id int PRIMARY KEY, free bigint NOT NULL);" \
                "INSERT INTO caps SELECT n, 1000000000000 FROM generate_series(1, 64) n;"
            ask = [programs["psql"], "-h", LOOPBACK, "-p", str(port), "-U", "keybrake", "-d", "postgres", "-v", "ON_ERROR_STOP=1"]
            deadline = time.monotonic() + START_DEADLINE_S
            while subprocess.run([*ask, "-c", "SELECT 1"], cwd=home, user=user, capture_output=True, check=False).returncode:
                if time.monotonic() > deadline:
                    raise NotHere("PostgreSQL did not answer in time")
                time.sleep(0.05)
            subprocess.run([*ask, "-c", sql], **quiet)
            yield Postgres(programs["pgbench"], port, home, user)
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)
