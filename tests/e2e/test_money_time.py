"""What time does: windows of caps, the end of keys, and replays past the vendor's own idempotency window.

One stack of its own, whose clock moves (forward only); every test has its own keys.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness import Keybrake, VaultKey, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import arrives_at_the_vendor, nothing_reaches_the_vendor, vendor_sees

from stack.build import Artifacts

DAY = datetime.timedelta(days=1)
NINETY_DAYS_S = 90 * 24 * 3600


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack whose clock may be moved."""
    made = Keybrake.start(stacks_folder / "time", artifacts, envoy=envoy)
    yield made
    made.stop()


def now(kb: Keybrake) -> datetime.datetime:
    """The moved time."""
    return kb.moved_clock.now()


def move_to(kb: Keybrake, when: datetime.datetime) -> None:
    """Moves the clock there."""
    kb.advance(seconds=(when - now(kb)).total_seconds())


def next_midnight(kb: Keybrake) -> datetime.datetime:
    """The next one in UTC."""
    return now(kb).replace(hour=0, minute=0, second=0, microsecond=0) + DAY


def move_to_noon(kb: Keybrake) -> None:
    """So that a test's requests all fall on one day."""
    move_to(kb, next_midnight(kb) + DAY / 2)


def instant(text: str) -> datetime.datetime:
    """An RFC 3339 time as the ledger writes it."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_a_daily_cap_is_whole_again_after_midnight(kb: Keybrake) -> None:
    move_to_noon(kb)
    key = kb.issue(daily_usd_cap="10.00", lifetime_usd_cap="12.00", expires_in_seconds=NINETY_DAYS_S)
    midnight = next_midnight(kb)
    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 1000).status_code == 200
    with nothing_reaches_the_vendor(kb):
        extra = expect_refusal(kb.charge(key, 1), 402, "spend_cap_exceeded")
        assert instant(extra["resets_at"]) == midnight
        move_to(kb, midnight - datetime.timedelta(seconds=20))
        expect_refusal(kb.charge(key, 1), 402, "spend_cap_exceeded")
    move_to(kb, midnight + datetime.timedelta(seconds=1))
    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 150).status_code == 200
    expect_balance(kb, key, free="8.50", settled="1.50", window=f"day:{midnight:%Y-%m-%d}")
    expect_balance(kb, key, free="0.50", settled="11.50", window="lifetime")
    with nothing_reaches_the_vendor(kb):
        extra = expect_refusal(kb.charge(key, 51), 402, "spend_cap_exceeded")
    assert (extra["limit"], extra["left"]) == ("lifetime_usd_cap", "0.500000")


def test_a_charge_over_midnight_settles_on_the_day_of_its_reserve(kb: Keybrake) -> None:
    move_to_noon(kb)
    key, name = kb.issue(expires_in_seconds=NINETY_DAYS_S), fresh_key()
    midnight = next_midnight(kb)
    move_to(kb, midnight - datetime.timedelta(seconds=20))
    kb.fault({"kind": "delay", "delay_ms": 2000}, idempotency_key=name)
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(kb.charge(key, 299, idempotency_key=name)))
    client.start()
    arrives_at_the_vendor(kb, name)
    expect_balance(kb, key, free="8", held="2.99", window=f"day:{midnight - DAY:%Y-%m-%d}")
    move_to(kb, midnight + datetime.timedelta(seconds=5))
    assert kb.charge(key, 100).status_code == 200
    client.join(20)
    assert [answer.status_code for answer in answers] == [200]
    assert only_entry(kb, idempotency_key=name)["outcome"] == "settled"
    expect_balance(kb, key, free="9.99", settled="1", window=f"day:{midnight:%Y-%m-%d}")
    assert kb.charge(key, 999).status_code == 200, "the new day's cap is whole"


def test_a_monthly_cap_outlasts_the_day_and_is_whole_after_the_month(kb: Keybrake) -> None:
    move_to_noon(kb)
    # To the first of a month, so that neither this day's end nor the next is the month's.
    first = (now(kb).replace(day=1) + 32 * DAY).replace(day=1)
    move_to(kb, first)
    key = kb.issue(daily_usd_cap="6.00", monthly_usd_cap="10.00", expires_in_seconds=NINETY_DAYS_S)
    assert kb.charge(key, 600).status_code == 200
    move_to(kb, first + DAY)
    with nothing_reaches_the_vendor(kb):
        extra = expect_refusal(kb.charge(key, 500), 402, "spend_cap_exceeded")
    next_month = (first + 32 * DAY).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert (extra["limit"], extra["left"]) == ("monthly_usd_cap", "4.000000")
    assert instant(extra["resets_at"]) == next_month
    expect_balance(kb, key, free="4", settled="6", window="month:")
    move_to(kb, next_month + datetime.timedelta(hours=1))
    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 500).status_code == 200
    expect_balance(kb, key, free="5", settled="5", window=f"month:{next_month:%Y-%m}")
    expect_balance(kb, key, free="1", settled="5", window=f"day:{next_month:%Y-%m-%d}")


def test_a_key_ends_when_its_time_is_over(kb: Keybrake) -> None:
    key, name = kb.issue(expires_in_seconds=3600), fresh_key()
    kb.advance(seconds=3580)
    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 100, idempotency_key=name).status_code == 200
    kb.advance(seconds=21)
    with nothing_reaches_the_vendor(kb):
        expect_refusal(kb.charge(key, 100), 401, "vault_key_expired")
        expect_refusal(kb.charge(key, 100, idempotency_key=name), 401, "vault_key_expired")
    assert audited(kb, key) == [
        ("admitted", "charges.create", "settled", "1.000000"),
        ("refused", "charges.create", "vault_key_expired", None),
        ("refused", "charges.create", "vault_key_expired", None),
    ]


def resumed(kb: Keybrake, cap: str) -> VaultKey:
    """The key of a resumed run: new, for the same purchase."""
    return kb.issue(daily_usd_cap=cap, expires_in_seconds=NINETY_DAYS_S)


def test_a_charge_is_replayed_after_25_hours_and_after_31_days(kb: Keybrake) -> None:
    move_to_noon(kb)
    name, key = fresh_key("resumed"), resumed(kb, "2.99")
    with vendor_sees(kb, requests=1, executions=1):
        first = kb.charge(key, 299, idempotency_key=name)
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (200, None)
    expect_balance(kb, key, free="0", settled="2.99")
    with nothing_reaches_the_vendor(kb):
        again = kb.charge(key, 299, idempotency_key=name)
        assert (again.status_code, again.content) == (200, first.content), "also with the cap used up"
        for times, hours in enumerate((25, 30 * 24), start=1):
            kb.advance(hours=hours)
            later = resumed(kb, "2.99")
            replayed = kb.charge(later, 299, idempotency_key=name)
            assert (replayed.status_code, replayed.content) == (200, first.content)
            assert replayed.headers["idempotent-replayed"] == "true"
            assert replayed.headers["request-id"] == first.headers["request-id"]
            expect_balance(kb, later, free="2.99")
            poor = resumed(kb, "0.00")
            assert kb.charge(poor, 299, idempotency_key=name).json()["id"] == first.json()["id"]
            entry = only_entry(kb, idempotency_key=name)
            assert (entry["stripe_charge_id"], entry["replays"]) == (first.json()["id"], 1 + 2 * times)
    assert kb.executions(name) == 1


def test_other_parameters_are_refused_after_31_days_too(kb: Keybrake) -> None:
    name = fresh_key()
    assert kb.charge(kb.issue(), 299, idempotency_key=name).status_code == 200
    kb.advance(hours=31 * 24)
    later = kb.issue()
    with nothing_reaches_the_vendor(kb):
        answer = kb.charge(later, 298, idempotency_key=name)
    expect_refusal(answer, 400, "idempotency_error", kind="idempotency_error")
    expect_balance(kb, later, free="10.99")


def test_an_authorisation_is_replayed_and_stays_held_for_days(kb: Keybrake) -> None:
    move_to_noon(kb)
    key = kb.issue(lifetime_usd_cap="5.00", daily_usd_cap=None, expires_in_seconds=NINETY_DAYS_S)
    name = fresh_key()
    first = kb.charge(key, 500, idempotency_key=name, form={"capture": "false"})
    assert (first.status_code, first.json()["captured"]) == (200, False)
    kb.advance(hours=6 * 24)
    # The sweeper has had its time; what is answered is never swept.
    with nothing_reaches_the_vendor(kb):
        again = kb.charge(key, 500, idempotency_key=name, form={"capture": "false"})
    assert again.json()["id"] == first.json()["id"]
    expect_balance(kb, key, free="0", held="5", window="lifetime")
    assert only_entry(kb, idempotency_key=name)["outcome"] == "held"


def test_time_alone_never_frees_an_unknown(kb: Keybrake) -> None:
    move_to_noon(kb)
    key = kb.issue(lifetime_usd_cap="5.00", daily_usd_cap=None, expires_in_seconds=NINETY_DAYS_S)
    name = fresh_key()
    kb.fault({"kind": "reset_before_answer"}, idempotency_key=name)
    lost = kb.charge(key, 299, idempotency_key=name)
    expect_refusal(lost, 502, "outcome_unknown", kind="api_error", retry="true")
    expect_balance(kb, key, free="2.01", unknown="2.99", window="lifetime")
    kb.advance(hours=22)
    with vendor_sees(kb, requests=1, executions=0):
        found = kb.charge(key, 299, idempotency_key=name)
    assert found.status_code == 200, "within the vendor's window it is asked again, under the same key"
    expect_balance(kb, key, free="2.01", settled="2.99", window="lifetime")

    other = fresh_key()
    kb.fault({"kind": "reset_before_answer"}, idempotency_key=other)
    assert kb.charge(key, 100, idempotency_key=other).status_code == 502
    kb.advance(hours=23.5)
    with nothing_reaches_the_vendor(kb):
        late = kb.charge(key, 100, idempotency_key=other)
        expect_refusal(late, 409, "outcome_unknown", kind="api_error")
        kb.advance(hours=24 * 40)
        expect_refusal(kb.charge(key, 100, idempotency_key=other), 409, "outcome_unknown", kind="api_error")
    expect_balance(kb, key, free="1.01", settled="2.99", unknown="1", window="lifetime")
    assert kb.executions(other) == 1
