"""What a user's shell has of the stack: the file to source, and colours."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from launcher import ROOT, Launcher, Launchers

from stack import build
from stack.calls import call

# Another stack's, in the same shell.
STALE = {
    "KEYBRAKE_URL": "http://127.0.0.1:1",
    "KEYBRAKE_RUN_DIR": "/nowhere",
    "KEYBRAKE_DATABASE_URL": "sqlite:/nowhere/keybrake.db",
    "KEYBRAKE_SANDBOX_CONTROL_URL": "http://127.0.0.1:2",
}
pytestmark = pytest.mark.usefixtures("artifacts", "envoy")


def sourced(launcher: Launcher, command: str) -> str:
    """What a command prints in a shell that has sourced the file, in a folder that is no checkout."""
    script = f'source "$0" && cd / && {command}'
    # No folder of ours is on this PATH.
    environment = {"PATH": os.environ["PATH"], **STALE}
    argv = ["bash", "-euc", script, str(launcher.run_dir / "env")]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended
    return ended.stdout.strip()


def test_a_sourced_shell_finds_this_stack_and_no_other(
    launchers: Launchers, tmp_path: Path, artifacts: build.Artifacts
) -> None:
    launcher = launchers(tmp_path / "the user's $HOME folder")
    assert launcher.run("up").code == 0
    assert sourced(launcher, "command -v keybrake") == str(artifacts.ledger)
    assert sourced(launcher, 'echo "$KEYBRAKE_URL"') == f"http://127.0.0.1:{launcher.ports.envoy}"
    assert sourced(launcher, 'echo "$KEYBRAKE_RUN_DIR"') == str(launcher.run_dir)
    assert "KEYBRAKE_DATABASE_URL" not in sourced(launcher, "env"), "a stack in another run folder would take it"
    issued = sourced(
        launcher, "keybrake keys issue --label l --vendor stripe --allow 'POST /v1/charges' --daily 1 --json"
    )
    assert "vault_key_" in issued
    assert "the audit chain is whole" in sourced(launcher, "keybrake audit verify")
    assert "ok " in sourced(launcher, 'keybrake doctor "$KEYBRAKE_URL/stripe/v1/charges"')
    control = sourced(launcher, 'echo "$KEYBRAKE_SANDBOX_CONTROL_URL"')
    assert call("GET", f"{control}/counts").status == 200
    assert launcher.run("down").code == 0


def test_a_database_elsewhere_is_named_by_its_whole_path(launchers: Launchers, tmp_path: Path) -> None:
    file = tmp_path / "kept here" / "k.db"
    file.parent.mkdir()
    launcher = launchers(KEYBRAKE_DATABASE_URL=f"sqlite:{os.path.relpath(file, ROOT)}")
    assert launcher.run("up").code == 0
    assert sourced(launcher, 'echo "$KEYBRAKE_DATABASE_URL"') == f"sqlite:{file}"
    assert "the audit chain is whole" in sourced(launcher, "keybrake audit verify")
    assert launcher.run("down").code == 0


@pytest.mark.parametrize(
    ("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)], ids=["", "set", "empty"]
)
def test_colours_are_for_a_terminal_that_wants_them(launchers: Launchers, more: dict[str, str], coloured: bool) -> None:
    launcher = launchers(**{"KEYBRAKE_VENDOR": "paypal", **more})
    environment = {name: value for name, value in launcher.environment().items() if name != "NO_COLOR" or more}
    ours, theirs = pty.openpty()
    try:
        argv = [sys.executable, "-m", "stack", "up"]
        ended = subprocess.run(argv, cwd=ROOT, env=environment, stderr=theirs, timeout=60, check=False)
        said = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == 1
    assert "KEYBRAKE_VENDOR must be" in said
    assert ("\x1b[" in said) == coloured
