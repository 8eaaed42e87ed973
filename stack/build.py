"""Builds the filter, the ledger and the sandbox with cargo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from stack.errors import StackError

ROOT = Path(__file__).resolve().parent.parent
TARGET = "wasm32-wasip1"
# Of what runs on this machine rather than in Envoy.
HOST_PROFILE = ("--profile", "host")


@dataclass(frozen=True)
class Artifacts:
    """What the stack runs."""

    wasm: Path
    ledger: Path
    sandbox: Path

    def missing(self) -> list[Path]:
        """Those that are not there."""
        return [path for path in (self.wasm, self.ledger, self.sandbox) if not path.is_file()]


def check_tools() -> None:
    """Raises `StackError` naming the first tool that is missing."""
    if shutil.which("cargo") is None:
        raise StackError("cargo is missing: install Rust (https://rustup.rs)")
    if shutil.which(os.environ.get("CC", "cc")) is None:
        raise StackError("a C compiler is missing (cc), SQLite needs one: install gcc or clang")


def build() -> Artifacts:
    """Builds what is not up to date, in release mode; cargo writes to standard error. Raises `StackError`."""
    add_target()
    cargo("the filter", ["build", "--release", "--target", TARGET, "-p", "keybrake-module"])
    cargo("ledger and sandbox", ["build", *HOST_PROFILE, "-p", "keybrake-ledger", "-p", "keybrake-sandbox"])
    made = artifacts()
    if made.missing():
        raise StackError(f"cargo has built, but {made.missing()[0]} is not there")
    return made


def artifacts() -> Artifacts:
    """Where cargo puts what `build` makes."""
    asked = _captured(["cargo", "metadata", "--format-version", "1", "--no-deps"])
    try:
        target = Path(json.loads(asked)["target_directory"])
    except (ValueError, KeyError):
        raise StackError("cargo metadata cannot read the workspace: run `cargo metadata` to see why") from None
    host = target / "host"
    return Artifacts(target / TARGET / "release" / "keybrake_filter.wasm", host / "keybrake", host / "keybrake-sandbox")


def host() -> str:
    """What Rust calls machines like this one. Raises `StackError`."""
    for line in _captured(["rustc", "-vV"]).splitlines():
        if line.startswith("host: "):
            return line.removeprefix("host: ")
    raise StackError("rustc does not say for what machine it builds: run `rustc -vV` to see why")


def add_target() -> None:
    """Sees to it that Rust can build for `TARGET`. Raises `StackError`."""
    libraries = _captured(["rustc", "--print", "target-libdir", "--target", TARGET]).strip()
    if libraries and Path(libraries).is_dir():
        return
    if shutil.which("rustup") is None:
        raise StackError(f"Rust's target {TARGET} is missing and there is no rustup to add it")
    if subprocess.run(["rustup", "target", "add", TARGET], cwd=ROOT, check=False).returncode != 0:
        raise StackError(f"rustup could not add the target {TARGET}")


def _captured(argv: list[str]) -> str:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def cargo(
    what: str, arguments: list[str], *, source: Path = ROOT, environment: Optional[Mapping[str, str]] = None
) -> None:
    """Runs cargo on the workspace in `source`, with this process's environment or another one; `what` names in the
    error what could not be built. Raises `StackError`."""
    # Progress is for somebody who watches; without a terminal only what is wrong is said.
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    asked = ["cargo", *arguments, *quiet]
    if subprocess.run(asked, cwd=source, env=environment, check=False, stdin=subprocess.DEVNULL).returncode != 0:
        raise StackError(f"{what} could not be built: `cargo {' '.join(arguments)}` says why above")
