"""The package as it is published."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from built import PACKAGE, pip


def test_the_wheel_has_types_the_extension_and_metaflows_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "keybrake/py.typed",
        "metaflow_extensions/keybrake/plugins/mfextinit_keybrake.py",
        "metaflow_extensions/keybrake/plugins/spend_cap.py",
    } <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "metaflow_extensions/__init__.py" not in names, "it is a namespace that others share"
    [marker] = [name for name in names if name.endswith("/top_level.txt")]
    assert marker.replace("top_level.txt", "METADATA") in names, "in the folder of the distribution's own version"
    sources = {
        str(path.relative_to(PACKAGE / "src"))
        for path in (PACKAGE / "src").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if ".dist-info/" not in name} == sources


def test_it_installs_alone_into_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean"], check=True)
    python = tmp_path / "clean" / "bin" / "python"
    constraints = str(PACKAGE / "tests" / "requirements.txt")
    pip("--python", str(python), "install", "--quiet", "--constraint", constraints, str(wheel))
    pip("--python", str(python), "check")
    code = """
import importlib.util, keybrake
assert not any(importlib.util.find_spec(name) for name in ("stripe", "metaflow", "pytest"))
print(keybrake.idempotency_key("cus_aaa", 999, "2026-07"), keybrake.Client("http://127.0.0.1:1").url)
try:
    keybrake.stripe_client("vault_key_fake", url="http://127.0.0.1:1")
except ImportError as missing:
    print(missing.name)
"""
    ended = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split()[1:] == ["http://127.0.0.1:1", "stripe"]
