"""The wheel, and a folder that it is installed in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def pip(*arguments: str) -> str:
    """Runs pip; its output."""
    quiet = ["--disable-pip-version-check", "--no-input"]
    ended = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, *quiet], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def build_wheel(folder: Path) -> Path:
    """Builds the package as its `pyproject.toml` says."""
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PACKAGE))
    [wheel] = folder.glob("*.whl")
    return wheel


def install_beside_another_extension(wheel: Path, folder: Path) -> None:
    """Installs the wheel where another extension of Metaflow is installed as well."""
    pip("install", "--quiet", "--no-deps", "--target", str(folder), str(wheel))
    files = {
        "metaflow_extensions/other/plugins/mfextinit_other.py": "STEP_DECORATORS_DESC = []\n",
        "other-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
        "other-1.0.dist-info/top_level.txt": "metaflow_extensions\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    record = "".join(f"{name},,\n" for name in [*files, "other-1.0.dist-info/RECORD"])
    (folder / "other-1.0.dist-info" / "RECORD").write_text(record)
