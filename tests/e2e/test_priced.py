"""Vendors whose price stands nowhere in a call: Twilio and Resend are capped by the rates of their packs, and what is
refused looks like their own errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Keybrake, fresh_key
from vendor_side import nothing_reaches_the_vendor

from stack.build import Artifacts
from stack.envoy_config import plugin_configuration

MESSAGES = "/2010-04-01/Accounts/AC_fake/Messages.json"


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack with both. No call of these tests may reach a vendor."""
    vendors = plugin_configuration({})["vendors"]
    vendors += [{"pack": name, "cluster": "stripe", "prefix": f"/{name}"} for name in ("twilio", "resend")]
    made = Keybrake.start(stacks_folder / "priced", artifacts, envoy=envoy, plugin={"vendors": vendors})
    yield made
    made.stop()


def test_a_message_over_the_cap_is_refused_as_twilio_refuses(kb: Keybrake) -> None:
    """Two cents for a segment. The vault key is the password, as the SDK sends it."""
    key = kb.issue(vendor="twilio", allowed_endpoints=[f"POST {MESSAGES}"], daily_usd_cap=0.01)
    form = {"To": "+15005550006", "From": "+15005550001", "Body": "hello"}
    with nothing_reaches_the_vendor(kb):
        url = f"{kb.url}/twilio{MESSAGES}"
        answer = kb.http.post(url, auth=("anybody", key.secret), data=form, headers={"Idempotency-Key": fresh_key()})
    error = answer.json()
    assert (answer.status_code, error["status"], error["code"]) == (402, 402, 0), answer.text
    assert error["message"].startswith("Keybrake: ") and error["details"]["code"] == "spend_cap_exceeded"


def test_an_email_over_the_cap_is_refused_as_resend_refuses(kb: Keybrake) -> None:
    """Two cents for twelve recipients, and many e-mails at once are always refused."""
    key = kb.issue(vendor="resend", allowed_endpoints=["emails.send"], daily_usd_cap=0.01)
    sent = {"Authorization": f"Bearer {key.secret}", "Idempotency-Key": fresh_key()}
    mail = {"from": "us@example.com", "to": [f"u{at}@example.com" for at in range(12)], "subject": "Hi", "text": "Hi"}
    with nothing_reaches_the_vendor(kb):
        over = kb.http.post(f"{kb.url}/resend/emails", headers=sent, json=mail)
        many = kb.http.post(f"{kb.url}/resend/emails/batch", headers=sent, json=[mail])
    found = [(answer.status_code, answer.json()["statusCode"], answer.json()["name"]) for answer in (over, many)]
    assert found == [(402, 402, "spend_cap_exceeded"), (403, 403, "endpoint_not_allowed")]
