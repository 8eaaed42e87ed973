"""Two Envoys, each before a ledger of its own, and one PostgreSQL behind both."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from harness import Keybrake, fresh_key
from ledger_side import audited, expect_balance
from postgres_server import PASSWORD, postgres
from shape import expect_refusal
from test_money import burst, each_carries
from vendor_side import nothing_reaches_the_vendor

from stack.ports import free_ports


@contextlib.contextmanager
def second_ledger(kb: Keybrake, url: str) -> Iterator[Path]:
    """One more ledger on the stack's database; gives its command socket."""
    stack = kb.stack
    folder = stack.folder.path / "second"
    folder.mkdir()
    socket = folder / "ledger.sock"
    (port,) = free_ports(1)
    environment = stack.child_environment(
        KEYBRAKE_RUN_DIR=folder,
        KEYBRAKE_LEDGER_PORT=port,
        KEYBRAKE_LEDGER_SOCKET=socket,
        KEYBRAKE_DATABASE_URL=url,
        KEYBRAKE_TEST_CLOCK=kb.clock,
        KEYBRAKE_ADMIN_KEY_FILE=stack.folder.key_file("admin"),
        KEYBRAKE_AUDIT_KEY_FILE=stack.folder.key_file("audit"),
        KEYBRAKE_INTERNAL_KEY_FILE=stack.folder.key_file("internal"),
    )
    command = [str(stack.artifacts.ledger), "serve"]
    with (
        open(folder / "ledger.log", "wb") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            assert b'"ready":true' in process.stdout.readline(), (folder / "ledger.log").read_text()
            yield socket
        finally:
            process.terminate()


def test_two_envoys_with_two_ledgers_on_one_postgresql_spend_what_the_cap_allows(
    fresh: Callable[..., Keybrake],
) -> None:
    with postgres() as url:
        kb = fresh(database_url=url)
        with second_ledger(kb, url) as socket:
            kb.stack.socket = socket
            second = kb.second_envoy()
            burst(kb, [kb.url, second.url])
            each_carries(kb)
            # Revoked through one, refused at once through the other.
            key = kb.issue()
            name = fresh_key()
            answer = kb.charge(key, 299, idempotency_key=name, url=f"{second.url}/stripe")
            assert answer.status_code == 200
            again = kb.charge(key, 299, idempotency_key=name)
            assert again.json()["id"] == answer.json()["id"]
            expect_balance(kb, key, free="8", settled="2.99")
            assert [entry[2] for entry in audited(kb, key)] == ["settled"]
            kb.revoke(key)
            with nothing_reaches_the_vendor(kb):
                expect_refusal(kb.charge(key, 1, url=f"{second.url}/stripe"), 401, "vault_key_revoked")
        verified = subprocess.run(
            [kb.stack.artifacts.ledger, "audit", "verify", "--database-url", url],
            capture_output=True,
            text=True,
            check=False,
        )
        assert verified.returncode == 0, verified.stderr
        assert "the audit chain is whole" in verified.stdout
        logs = [kb.stack.folder.log_file("ledger"), kb.stack.folder.path / "second" / "ledger.log"]
        for log in logs:
            assert PASSWORD not in log.read_text(errors="replace")
        kb.stop()
