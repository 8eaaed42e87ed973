"""Prometheus' own tool on the settings in deploy/compose/prometheus, and on what its alerts say of series like those of
the ledger (`alerts.test.yml`)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from engine import PATH

from stack.build import ROOT

FETCHED = ROOT / ".tools" / "compose"
SETTINGS = ROOT / "deploy" / "compose" / "prometheus" / "prometheus.yml"
CASES = Path(__file__).resolve().parent / "alerts.test.yml"


def program(name: str) -> Path:
    """`prometheus` or `promtool`: this machine's, or out of Debian's package, which is not installed: it would start a
    Prometheus."""
    here = shutil.which(name, path=PATH)
    if here is not None:
        return Path(here)
    if not (FETCHED / name).exists():
        print(f"compose test: fetching {name}", flush=True)
        FETCHED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="keybrake-promtool-") as folder:
            subprocess.run(["apt-get", "update", "-qq"], check=True)
            subprocess.run(["apt-get", "download", "-qq", "prometheus"], check=True, cwd=folder, capture_output=True)
            (package,) = Path(folder).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), f"{folder}/package"], check=True)
            shutil.move(f"{folder}/package/usr/bin/{name}", FETCHED / name)
    return FETCHED / name


def mistakes(promtool: Path) -> list[str]:
    """What is wrong with the settings and with the alerts."""
    said = [
        subprocess.run([promtool, *asked], capture_output=True, text=True, check=False)
        for asked in (["check", "config", str(SETTINGS)], ["test", "rules", str(CASES)])
    ]
    return [one.stdout + one.stderr for one in said if one.returncode != 0]
