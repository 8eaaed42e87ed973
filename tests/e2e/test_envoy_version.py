"""On which Envoy this run's stacks stand: the one that `--envoy` names, by its own word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import Keybrake
from launcher import Launchers

from stack import envoy_binary
from stack.calls import call

pytestmark = pytest.mark.gate


def version_said_at(admin_url: str) -> str:
    """The version that a running Envoy gives on its admin port."""
    said = str(call("GET", f"{admin_url}/server_info").json()["version"])
    found = re.search(r"/([0-9]+\.[0-9]+\.[0-9]+)[^/]*/", said)
    assert found is not None, said
    return found[1]


def wanted(config: pytest.Config, envoy: Path) -> str:
    """The version that this run is about: the pin, unless the shell names a binary of its own."""
    if config.getoption("--envoy") == "oldest":
        return envoy_binary.pinned(envoy_binary.OLDEST_REQUIREMENTS)
    return envoy_binary.check_version(envoy)


def test_the_envoy_that_this_run_is_about_serves(keybrake: Keybrake, envoy: Path, pytestconfig: pytest.Config) -> None:
    assert version_said_at(keybrake.stack.envoy.admin_url) == wanted(pytestconfig, envoy)


def test_the_launchers_of_this_run_start_the_same(
    launchers: Launchers, envoy: Path, pytestconfig: pytest.Config
) -> None:
    launcher = launchers()
    up = launcher.run("up")
    assert up.code == 0, up
    assert version_said_at(f"http://127.0.0.1:{launcher.ports.envoy_admin}") == wanted(pytestconfig, envoy)
    assert launcher.run("down").code == 0


def test_the_oldest_that_is_tested_is_the_oldest_that_is_taken() -> None:
    oldest = tuple(int(number) for number in envoy_binary.pinned(envoy_binary.OLDEST_REQUIREMENTS).split("."))
    assert oldest[:2] == envoy_binary.OLDEST
