"""Which vendor gets what: a real secret in the shell never reaches anything but the vendor it was meant for, and only
when that vendor was asked for."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher import Launchers, end, wait_for_line
from test_main_job import STEPS, steps_of

from stack import build
from stack.child import Child
from stack.ports import LOOPBACK

# Looks live, is not.
LIVE = "sk_live_fake_not_a_key"
TEST = "sk_test_sandbox_" + "0" * 32

pytestmark = pytest.mark.usefixtures("artifacts", "envoy")


class Listener:
    """A loopback upstream that counts the connections it gets and answers none."""

    def __init__(self) -> None:
        self.socket = socket.create_server((LOOPBACK, 0))
        self.port: int = self.socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """An upstream that must hear nothing."""
    made = Listener()
    yield made
    made.socket.shutdown(socket.SHUT_RDWR)
    made.socket.close()


def files_that_hold(folder: Path, text: str) -> list[str]:
    """Files under this folder in which the text stands."""
    found = [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
    return sorted(str(path.relative_to(folder)) for path in found)


def environments_of(folder: Path) -> dict[str, bytes]:
    """Arguments and environment of each running part."""
    shown = {}
    for file in folder.glob("pids/*.json"):
        child = Child.found(file.stem, file, folder / "log")
        assert child is not None
        about = Path(f"/proc/{child.pid}")
        shown[child.name] = (about / "cmdline").read_bytes() + (about / "environ").read_bytes()
    return shown


def test_a_live_key_in_the_shell_counts_for_nothing(launchers: Launchers, listener: Listener) -> None:
    upstream = f"http://{LOOPBACK}:{listener.port}"
    shell = {"STRIPE_SECRET_KEY": LIVE, "STRIPE_UPSTREAM": upstream, "STRIPE_API_KEY": LIVE}
    launcher = launchers(**shell)
    with launcher.begin("run") as running:
        lines = wait_for_line(running, "$KEYBRAKE_URL/audit")
        assert len(steps_of("\n".join(lines))) == len(STEPS), "the demo ran, on the sandbox"
        for name, shown in environments_of(launcher.run_dir).items():
            assert b"sk_live_" not in shown, name
            assert b"STRIPE_" not in shown, name
        end(running)
    assert files_that_hold(launcher.run_dir, LIVE) == []
    assert files_that_hold(launcher.run_dir, upstream) == []
    assert listener.connections == 0


def test_a_live_key_gets_no_demo_charge(launchers: Launchers, listener: Listener) -> None:
    upstream = f"http://{LOOPBACK}:{listener.port}"
    shell = {"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": LIVE, "STRIPE_UPSTREAM": upstream}
    launcher = launchers(**shell)
    with launcher.begin("run") as running:
        lines = wait_for_line(running, "$KEYBRAKE_URL/audit")
        assert any("no demo: STRIPE_SECRET_KEY is not a test key" in line for line in lines)
        assert steps_of("\n".join(lines)) == []
        parts = environments_of(launcher.run_dir)
        assert sorted(parts) == ["envoy", "ledger"], "no sandbox"
        for name, shown in parts.items():
            assert b"sk_live_" not in shown, name
        assert files_that_hold(launcher.run_dir, LIVE) == ["sds/stripe_credential.json"]
        assert (launcher.run_dir / "sds/stripe_credential.json").stat().st_mode & 0o777 == 0o600
        ended = end(running)
    assert ended.code == 0
    assert LIVE not in "\n".join(lines) + ended.out + ended.err
    assert listener.connections == 0, "not even the proof of the gate reaches a real vendor"


def test_the_same_configuration_serves_a_vendor_that_is_not_the_sandbox(
    launchers: Launchers, tmp_path: Path, artifacts: build.Artifacts
) -> None:
    """`KEYBRAKE_VENDOR=stripe` with a test key: the demo runs, against the upstream that was named."""
    secret = tmp_path / "secret"
    secret.write_text(TEST)
    vendor = Child(
        "vendor",
        [artifacts.sandbox, "--plain", "--secret-file", secret, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"],
        pid_file=tmp_path / "vendor.json",
        log_file=tmp_path / "vendor.log",
        environment=dict(os.environ),
    )
    vendor.start()
    try:
        said = vendor.ready_line(10)
        shell = {"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": TEST, "STRIPE_UPSTREAM": f"http://{said['listen']}"}
        ended = launchers(**shell).run("run", "--once")
    finally:
        vendor.stop(5)
    assert ended.code == 0, ended
    assert len(steps_of(ended.out)) == len(STEPS)
