"""Fixtures of the end-to-end tests; `harness.py` says how to use them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import certifi
import pytest
from harness import Keybrake, fresh_key
from launcher import Launcher

from stack import build, envoy_binary, ports
from stack.run_folder import RunFolder
from stack.watchdog import watched

# Variables of the tests themselves: how many pairs of crashes, from which seed.
CRASHES = "KEYBRAKE_CRASH_"


def pytest_addoption(parser: pytest.Parser) -> None:
    """On which Envoy all stacks of this run stand."""
    parser.addoption(
        "--envoy",
        choices=("shipped", "oldest"),
        default="shipped",
        help="the Envoy that all stacks run: what `make run` takes, or the oldest that is supported",
    )


def pytest_configure(config: pytest.Config) -> None:
    """What the shell knows about a real vendor, or about a stack of its own, must not reach the tests. And a SIGTERM
    ends the run as a Ctrl-C does, with all fixtures torn down."""
    for name in [name for name in os.environ if name.startswith(("STRIPE_", "KEYBRAKE_"))]:
        if not name.startswith(CRASHES):
            del os.environ[name]
    # Processes that share a run draw the same.
    os.environ.setdefault(f"{CRASHES}SEED", fresh_key("seed"))
    if config.getoption("--envoy") == "oldest":
        # What the launchers that tests start go by, too.
        os.environ["ENVOY_BIN"] = str(envoy_binary.find({}, envoy_binary.OLDEST_REQUIREMENTS))
    take_ports_of_ones_own()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def take_ports_of_ones_own() -> None:
    """Of processes that share a run each draws from a part of the free ports: between the look whether a port is free
    and the listener on it another would take it now and then."""
    process = os.environ.get("PYTEST_XDIST_WORKER")
    if process is not None:
        first, end = ports.UNUSED_RANGE
        each = (end - first) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        first += each * int(process.removeprefix("gw"))
        ports.UNUSED_RANGE = (first, first + each)


@pytest.fixture(scope="session")
def stacks_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the run folders of this session are. A watchdog ends what is left there should this run be killed."""
    folder = tmp_path_factory.mktemp("stacks")
    with watched(folder):
        yield folder


@pytest.fixture(scope="session")
def artifacts() -> build.Artifacts:
    """The filter, the ledger and the sandbox, built in release mode as `make run` builds them."""
    return build.build()


@pytest.fixture(scope="session")
def envoy() -> Path:
    """The binary of the Envoy that `--envoy` names."""
    return envoy_binary.find(os.environ)


@pytest.fixture(scope="session")
def oldest_envoy() -> Path:
    """The binary of the oldest Envoy that is supported."""
    return envoy_binary.find({}, envoy_binary.OLDEST_REQUIREMENTS)


@pytest.fixture(scope="session")
def keybrake(stacks_folder: Path, artifacts: build.Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for the whole session, as shipped."""
    kb = Keybrake.start(stacks_folder / "shared", artifacts, envoy=envoy)
    yield kb
    kb.stop()


@pytest.fixture
def fresh(
    stacks_folder: Path, artifacts: build.Artifacts, envoy: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Keybrake]]:
    """Makes stacks for one test; arguments as of `Keybrake.start`."""
    started: list[Keybrake] = []

    def start(**options: Any) -> Keybrake:
        run_dir = stacks_folder / f"{request.node.name[:40].replace('/', '_')}-{len(started)}"
        options.setdefault("envoy", envoy)
        kb = Keybrake.start(run_dir, options.pop("artifacts", artifacts), **options)
        started.append(kb)
        return kb

    yield start
    for kb in started:
        kb.stop()


@pytest.fixture
def launchers(stacks_folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Launcher]]:
    """Makes launchers with run folders and ports of their own; arguments are the shell's variables."""
    made: list[Launcher] = []

    def make(run_dir: Optional[Path] = None, **more: str) -> Launcher:
        own = stacks_folder / f"{request.node.name[:40].replace('/', '_')}-user{len(made)}" / "run"
        made.append(Launcher(run_dir or own, more=more))
        return made[-1]

    yield make
    for launcher in made:
        launcher.end_leftovers()


@pytest.fixture
def place(tmp_path: Path, artifacts: build.Artifacts) -> Path:
    """What /etc/keybrake holds on a user's machine or in a pod, and a file of certificates to trust."""
    folder = RunFolder(tmp_path / "etc")
    folder.make()
    for name in ("stripe_credential", "internal_key"):
        folder.write_secret(name, "sandbox-secret")
    folder.write_trusted("vendor_ca", Path(certifi.where()))
    (folder.path / "keybrake_filter.wasm").symlink_to(artifacts.wasm)
    return folder.path
