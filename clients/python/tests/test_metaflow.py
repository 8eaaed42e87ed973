"""The Metaflow extension, in a real run of Metaflow, from the installed wheel, beside another extension."""

from __future__ import annotations

import gzip
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import keybrake
import pytest
from keybrake.testing import LocalStack, Sandbox

FLOWS = Path(__file__).resolve().parent / "flows"


def run_flow(
    flow: Path, *arguments: str, installed: Path, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Runs a flow to its end; its artifacts are then in `folder`."""
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(installed),
        "METAFLOW_USER": "tester",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder),
        **environment,
    }
    return subprocess.run(
        [sys.executable, str(flow), "--no-pylint", "run", "--max-workers", "3", *arguments],
        env=own,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )


def written(folder: Path) -> bytes:
    """Everything that Metaflow wrote, unpacked."""
    parts = []
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            parts.append(gzip.decompress(held) if held.startswith(b"\x1f\x8b") else held)
    return b"\n".join(parts)


def test_a_flow_in_which_everything_fails_once_charges_once(
    kb: keybrake.Client, keybrake_stack: LocalStack, sandbox: Sandbox, installed: Path, tmp_path: Path
) -> None:
    customers = [f"cus_{secrets.token_hex(8)}" for _ in range(3)]
    ended = run_flow(
        FLOWS / "billing_flow.py", f"--customers={','.join(customers)}", installed=installed, folder=tmp_path,
        environment=keybrake_stack.environment,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert "is not revoked" not in ended.stdout

    charges = [sandbox.charges(customer) for customer in customers]
    assert [[one["amount_captured"] for one in found] for found in charges] == [[999], [2999], [500]]

    run_id = (tmp_path / ".metaflow" / "BillingFlow" / "latest_run").read_text()
    keys = list(kb.keys(label_prefix=f"metaflow/BillingFlow/{run_id}/"))
    assert {key.status for key in keys} == {"revoked"}, "also that of the killed attempt"
    caps: dict[str, list[str]] = {customer: [] for customer in customers}
    for key in keys:
        if key.label.split("/")[3] == "charge":
            [customer] = key.shown["constraints"]["customer"]
            caps[customer].append(key.shown["lifetime_usd_cap"])
    assert list(caps.values()) == [["9.99", "9.99"], ["29.99", "29.99"], ["5.00"]], "one key for each attempt"

    kept = written(tmp_path)
    assert all(found[0]["id"].encode() in kept for found in charges), "what was read are the artifacts"
    for secret in ("vault_key_", keybrake_stack.admin_key, keybrake_stack.audit_key):
        assert secret.encode() not in kept
    assert "vault_key_" not in ended.stdout


def test_a_key_is_no_artifact_and_a_fallback_gets_none(
    kb: keybrake.Client, keybrake_stack: LocalStack, installed: Path, tmp_path: Path
) -> None:
    environment = keybrake_stack.environment
    ended = run_flow(FLOWS / "careless_flow.py", installed=installed, folder=tmp_path, environment=environment)
    assert ended.returncode != 0 and 'Cannot pickle dump artifact named "key"' in ended.stdout, ended.stdout
    keys = list(kb.keys(label_prefix="metaflow/CarelessFlow/"))
    assert [(key.label.rpartition("/")[2], key.status) for key in keys] == [("0", "revoked")]
    assert b"vault_key_" not in written(tmp_path)


def test_a_step_without_a_cap_does_not_begin(installed: Path, tmp_path: Path) -> None:
    ended = run_flow(FLOWS / "one_step_flow.py", installed=installed, folder=tmp_path, environment={})
    assert ended.returncode != 0 and "@spend_cap needs one of daily_usd_cap" in ended.stdout
    assert "began" not in ended.stdout


def test_a_step_does_not_begin_when_no_key_can_be_issued(
    keybrake_stack: LocalStack, installed: Path, tmp_path: Path
) -> None:
    environment = {**keybrake_stack.environment, "KEYBRAKE_ADMIN_KEY": keybrake_stack.audit_key, "CAP": "1"}
    ended = run_flow(FLOWS / "one_step_flow.py", installed=installed, folder=tmp_path, environment=environment)
    assert ended.returncode != 0 and "These credentials may not do this" in ended.stdout
    assert "began with" not in ended.stdout


@pytest.mark.parametrize("what", ["spend_cap", "secrets"])
def test_metaflow_finds_the_plugins_and_other_flows_do_not_need_keybrake(
    what: str, installed: Path, tmp_path: Path
) -> None:
    code = {
        "spend_cap": "from metaflow import spend_cap; print(spend_cap)",
        "secrets": "from metaflow.plugins import SECRETS_PROVIDERS as s; print([p.TYPE for p in s])",
    }[what]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(installed)}
    hidden = "import sys; sys.modules['keybrake'] = None; " + code
    ended = subprocess.run([sys.executable, "-c", hidden], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "WARNING" not in ended.stdout + ended.stderr, ended.stdout + ended.stderr
    assert {"spend_cap": "spend_cap", "secrets": "vault-key"}[what] in ended.stdout


def test_a_cap_takes_every_field_of_a_key_but_a_fixed_end(installed: Path, tmp_path: Path) -> None:
    code = (
        "import metaflow; from keybrake.keys import NewKey; "
        "from metaflow_extensions.keybrake.plugins.spend_cap import GRANT; "
        "print(sorted(NewKey.__annotations__.keys() ^ set(GRANT)))"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(installed)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "['expires_at', 'label']", ended.stderr
