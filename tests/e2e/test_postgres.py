"""Two Envoys, each before a ledger of its own, and one PostgreSQL behind both."""

from __future__ import annotations

from typing import Callable

from harness import Keybrake, fresh_key
from ledger_side import audited, expect_balance, expect_whole_chain
from more_ledgers import further_ledger
from postgres_server import PASSWORD, postgres
from shape import expect_refusal
from test_money import burst, each_carries
from vendor_side import nothing_reaches_the_vendor


def test_two_envoys_with_two_ledgers_on_one_postgresql_spend_what_the_cap_allows(
    fresh: Callable[..., Keybrake],
) -> None:
    with postgres() as url:
        kb = fresh(database_url=url)
        with further_ledger(kb, url) as further:
            kb.stack.socket = further.socket
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
        expect_whole_chain(kb, url)
        for log in (kb.stack.folder.log_file("ledger"), further.log):
            assert PASSWORD not in log.read_text(errors="replace")
        kb.stop()
