"""An Envoy of the user's own: the configurations in `envoy/` as they are shipped, put in place for a test.

Only places change (ports, paths, addresses), by exact text: a line that the files no longer hold fails the test.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness import Keybrake

from stack.calls import NoAnswer, call
from stack.child import Child
from stack.envoy_config import ENVOY_FOLDER
from stack.ports import LOOPBACK, free_ports

START_DEADLINE_S = 30.0
VALIDATE_DEADLINE_S = 120.0
# Of the shipped files.
CONFIG_FOLDER = "/etc/keybrake"
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
VENDOR_ADDRESS = "socket_address: {address: api.stripe.com, port_value: 443}"


def shipped(name: str) -> str:
    """The text of a file in `envoy/`."""
    return (ENVOY_FOLDER / name).read_text()


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """The text with each key replaced wherever it stands; each must stand somewhere."""
    for old, new in changes.items():
        assert old in text, f"the configuration no longer holds {old!r}"
        text = text.replace(old, new)
    return text


def in_front_of(kb: Keybrake, port: int, text: str) -> str:
    """`minimal.yaml`, or what a test made of it, in front of a stack's ledger and sandbox, listening on this port."""
    stack = kb.stack
    assert stack.sandbox is not None
    return replaced(
        text,
        {
            f"{CONFIG_FOLDER}/keybrake_filter.wasm": str(stack.artifacts.wasm),
            f"{CONFIG_FOLDER}/sds": str(stack.folder.sds),
            "/run/keybrake/ledger.sock": str(stack.socket),
            SYSTEM_CA: str(stack.sandbox.ca),
            VENDOR_ADDRESS: f"socket_address: {{address: {LOOPBACK}, port_value: {stack.options.ports.sandbox}}}",
            "port_value: 10001": f"port_value: {port}",
        },
    )


def validated(envoy: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """What `envoy --mode validate` says. It loads the filter and lets it read its configuration."""
    argv = [str(envoy), "--mode", "validate", "-c", str(config), "--disable-hot-restart", "-l", "warning"]
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=False,
        timeout=VALIDATE_DEADLINE_S,
        stdin=subprocess.DEVNULL,
        env={},
    )


@contextlib.contextmanager
def running(envoy: Path, config: Path, ready: str) -> Iterator[Child]:
    """An Envoy on this configuration, from when `ready`, a URL, answers in some way until the end of the block."""
    argv = [envoy, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    child = Child(
        config.stem,
        argv,
        pid_file=config.with_suffix(".pid.json"),
        log_file=config.with_suffix(".log"),
    )

    def answers() -> bool:
        try:
            return call("GET", ready, timeout_s=2).status > 0
        except NoAnswer:
            return False

    child.start()
    try:
        child.until(answers, START_DEADLINE_S, f"an answer from {ready}")
        yield child
    finally:
        child.stop(5)


@contextlib.contextmanager
def minimal(kb: Keybrake, envoy: Path, text: str) -> Iterator[str]:
    """`minimal.yaml`, or what a test made of it, at work in front of a stack; gives its URL."""
    (port,) = free_ports(1)
    config = kb.stack.folder.path / "minimal.yaml"
    config.write_text(in_front_of(kb, port, text))
    url = f"http://{LOOPBACK}:{port}"
    with running(envoy, config, url):
        yield url
