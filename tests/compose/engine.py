"""A Docker engine of the tests' own, in namespaces that end with it: no bridge, rule, container or mount of it is seen
outside, and none outlives it, however the run ends. It reaches no network but its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stack.polling import eventually

PACKAGES = {
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
}
START_DEADLINE_S = 60.0
# Debian's client, which fits Debian's engine.
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def install() -> None:
    """Installs what is missing from Debian's packages. No daemon is started by that."""
    missing = sorted(package for program, package in PACKAGES.items() if shutil.which(program, path=PATH) is None)
    if not missing:
        return
    print(f"compose test: installing {', '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    install_them = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    subprocess.run(install_them, check=True, env=environment, stdout=subprocess.DEVNULL)


def in_namespaces(argv: Sequence[str], cgroup: str) -> int:
    """Runs a program with network, mounts and processes of its own; its exit code. With it ends all that it started."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"]
    try:
        return subprocess.run([*unshare, *argv], check=False).returncode
    finally:
        # Empty by now, and the one thing that is not part of a namespace.
        for folder in sorted(Path("/sys/fs/cgroup").glob(f"**/{cgroup}/**"), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()


class Docker:
    """The engine's client."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            "PATH": PATH,
            "HOME": str(home),
            "DOCKER_HOST": f"unix://{home}/docker.sock",
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
            "BUILDKIT_PROGRESS": "plain",
        }

    def run(self, *argv: object, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a client (`docker`, `docker-compose`); `more` is added to its environment. Raises `RuntimeError`."""
        said = subprocess.run(
            [str(part) for part in argv],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and said.returncode != 0:
            raise RuntimeError(f"{' '.join(str(part) for part in argv)}:\n{said.stdout[-3000:]}{said.stderr[-5000:]}")
        return said


@contextlib.contextmanager
def engine(home: Path, cgroup: str) -> Iterator[Docker]:
    """A running engine with its files in `home`; to be used inside `in_namespaces`."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    argv = ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid"]
    argv += ["-H", f"unix://{home}/docker.sock", "--cgroup-parent", f"/{cgroup}", "--storage-driver", "overlay2"]
    docker = Docker(home)
    with open(home / "dockerd.log", "wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log, env={"PATH": PATH, "HOME": str(home)})
    try:
        await_answer(docker, daemon, home / "dockerd.log")
        yield docker
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def await_answer(docker: Docker, daemon: subprocess.Popen[bytes], log: Path) -> None:
    """Until the engine answers. Raises `RuntimeError` when it ends instead."""

    def answers() -> bool:
        if daemon.poll() is not None:
            raise RuntimeError(f"dockerd ended:\n{log.read_text()[-2000:]}")
        return docker.run("docker", "info", check=False).returncode == 0

    eventually(answers, START_DEADLINE_S, "the engine's first answer")


def require_root() -> None:
    """Ends the program unless it may do all this."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        sys.exit("keybrake: make test-compose starts a Docker engine of its own: it needs Linux and root")
