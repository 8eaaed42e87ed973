"""No secret where it does not belong: not in a file, a page, a process or a request to the vendor, after a run in which
everything has happened that could leave one behind, and somebody has put vault keys where none belong."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from harness import Keybrake, VaultKey, eventually, fresh_key
from shape import expect_refusal
from vendor_side import Seen, nothing_reaches_the_vendor
from ways import FORM, WAYS, Way, basic
from wire import Protocol

from stack.build import Artifacts
from stack.calls import call

# What a file may hold in which secrets belong: the launcher's own keys, Envoy's secret files, the shell's `env`.
ADMIN, AUDIT, INTERNAL, VENDOR = "admin key", "audit key", "internal key", "vendor secret"
BELONGS = {
    "keys/admin": {ADMIN},
    "keys/audit": {AUDIT},
    "keys/internal": {INTERNAL},
    "keys/sandbox": {VENDOR},
    "sds/internal_key.json": {INTERNAL},
    "sds/stripe_credential.json": {VENDOR},
    "env": {ADMIN, AUDIT},
}
ENVOY_PAGES = [
    "/stats",
    "/stats/prometheus",
    "/config_dump?include_eds",
    "/clusters",
    "/certs",
    "/server_info",
    "/listeners",
]
SANDBOX_PAGES = ["/counts", "/requests", "/faults"]
OBJECTS = ["customers", "charges", "payment_intents", "refunds", "events"]


@dataclass(frozen=True)
class Run:
    """What has happened, and the secrets that were in play, by name."""

    kb: Keybrake
    secrets: dict[str, str]
    charge_id: str


@pytest.fixture(scope="module")
def run(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Run]:
    """A stack in which all has been done that could leave a secret behind."""
    plugin = {"forward_timeout_ms": 700}
    kb = Keybrake.start(stacks_folder / "secrets", artifacts, envoy=envoy, plugin=plugin)
    stack = kb.stack
    found = {ADMIN: stack.admin_key, AUDIT: stack.audit_key, INTERNAL: stack.internal_key, VENDOR: stack.vendor_secret}
    for name in ("live", "restricted"):
        found[f"{name} secret that a caller presented"] = (
            "sk" if name == "live" else "rk"
        ) + f"_live_{secrets.token_hex(24)}"
    keys = {name: kb.issue(allowed_endpoints=SCOPE) for name in ("working", "misplaced", "revoked", "derived")}
    keys["bulk"] = bulk(kb)
    charge_id = work(kb, keys["working"], keys["revoked"], keys["bulk"])
    misplace(kb, keys["misplaced"])
    present_real_secrets(kb, [secret for name, secret in found.items() if "presented" in name])
    trouble(kb, keys["working"])
    found.update({f"vault key {name}": key.secret for name, key in keys.items()})
    eventually(lambda: logged(kb) >= 60, 10, "the access log")
    yield Run(kb, found, charge_id)
    kb.stop()


SCOPE = ["POST /v1/charges", "GET /v1/charges", "GET /v1/charges/{id}", "POST /v1/customers"]


def bulk(kb: Keybrake) -> VaultKey:
    """A key from a list of keys."""
    grant = {"label": "bulk", "vendor": "stripe", "allowed_endpoints": SCOPE, "daily_usd_cap": 10}
    answer = kb.admin("POST", "/admin/vault_keys", json={"keys": [grant, {**grant, "label": "bulk-2"}]})
    assert answer.status_code == 201, answer.text
    shown = answer.json()["keys"][0]
    return VaultKey(shown["vault_key"], shown["key_id"], shown)


def work(kb: Keybrake, working: VaultKey, revoked: VaultKey, listed: VaultKey) -> str:
    """Charges, replays, refusals, declines, reads, changes; the id of a charge."""
    name = fresh_key()
    made = kb.charge(working, 100, idempotency_key=name)
    assert made.status_code == 200
    assert kb.charge(working, 100, idempotency_key=name).headers["idempotent-replayed"] == "true"
    for way in WAYS:
        assert way.charge(kb, working, 10, description="metadata").status_code == 200
        assert way.charge(kb, None, 10, headers=[basic(listed.secret)]).status_code == 200
        assert way.charge(kb, working, 9999).status_code == 402
        assert way.post(kb, working, "/v1/refunds", {"charge": "ch_1"}).status_code == 403
    assert kb.get(working, "/v1/charges", params={"limit": "1"}).status_code == 200
    assert kb.charge(working, 10, form={"source": "tok_chargeDeclined"}).status_code == 402
    assert kb.charge(working, 11, idempotency_key=name).status_code == 400
    kb.admin("PATCH", f"/admin/vault_keys/{working.key_id}", json={"daily_usd_cap": "20.00"})
    kb.revoke(revoked)
    assert kb.charge(revoked, 10).status_code == 401
    return str(made.json()["id"])


def misplace(kb: Keybrake, key: VaultKey) -> None:
    """The vault key stands everywhere but where it belongs."""
    secret = key.secret
    spelled = secret.replace("_", "%5F")
    with nothing_reaches_the_vendor(kb):
        for way in WAYS:
            way.send(kb, key, "GET", f"/v1/charges/{secret}")
            way.send(kb, key, "GET", f"/v1/charges/{spelled}")
            way.send(kb, None, "GET", f"/v1/charges/{secret}")
            way.send(kb, key, "GET", f"/v1/charges?customer={secret}")
            way.send(kb, None, "GET", f"/v1/charges?key={spelled}")
            way.charge(kb, key, description=secret)
            way.post(kb, key, "/v1/charges", {"amount": 10, "currency": "usd", f"metadata[{secret}]": "x"})
            way.charge(kb, None, headers=[("cookie", f"key={secret}")])
            way.charge(kb, None, headers=[("authorization", f"Token {secret}")])
            way.charge(kb, None, headers=[("authorization", f"Bearer {secret}{secret[-1]}")])
            way.charge(kb, key, headers=[("x-agent-run-id", secret)])
            way.charge(kb, key, headers=[("stripe-account", secret)])
            way.charge(kb, key, headers=[("user-agent", f"script/{secret}")])
            way.charge(kb, key, idempotency_key=secret)
            way.send(kb, key, "POST", "/v1/charges", body=b"%zz" + secret.encode(), headers=[("content-type", FORM)])
            way.send(kb, key, "POST", f"/{secret}/charges")
    # Beside what is sent on, in places that are not: it goes through, without them.
    protocols: tuple[Protocol, ...] = ("h1", "h2")
    for protocol in protocols:
        carrying = Way("prefix", protocol, (("x-key", secret), ("authorization", f"Bearer {secret}")))
        more = [("cookie", f"key={secret}"), ("x-forwarded-for", secret), ("traceparent", secret), ("referer", secret)]
        assert carrying.charge(kb, key, 10, headers=more).status_code == 200
    for path in (
        f"/admin/vault_keys/{secret}",
        f"/admin/vault_keys?label_prefix={secret}",
        f"/admin/{secret}",
        f"/{secret}",
    ):
        kb.admin("GET", path)
    kb.admin("DELETE", f"/admin/vault_keys/{secret}")
    kb.admin("POST", "/admin/vault_keys", json={"label": 5, secret: secret, "vendor": secret})
    for bearer in (secret, kb.stack.internal_key, kb.stack.admin_key, kb.stack.vendor_secret, "nonsense"):
        headers = {"Authorization": f"Bearer {bearer}"}
        assert kb.http.get(f"{kb.url}/audit", headers=headers, params={"label": secret}).status_code in (401, 403)
        httpx.get(f"{kb.stack.ledger_url}/internal/v1/commands", headers={**headers, "keybrake-internal-key": bearer})
    kb.http.get(f"{kb.url}/audit", headers={"Authorization": f"Bearer {kb.stack.audit_key}"}, params={"run_id": secret})


def present_real_secrets(kb: Keybrake, presented: list[str]) -> None:
    """Somebody forgot to change the key."""
    with nothing_reaches_the_vendor(kb):
        for secret in presented:
            for way in WAYS:
                expect_refusal(way.charge(kb, secret), 401, "vault_key_invalid")
                expect_refusal(way.charge(kb, None, headers=[basic(secret)]), 401, "vault_key_invalid")
                expect_refusal(way.send(kb, secret, "GET", "/v1/charges"), 401, "vault_key_invalid")


def trouble(kb: Keybrake, key: VaultKey) -> None:
    """A vendor that misbehaves or is gone, a ledger that is killed: what is written down then."""
    for fault in ({"kind": "stored_500"}, {"kind": "reset_before_answer"}, {"kind": "hang"}, {"kind": "not_json"}):
        name = fresh_key()
        kb.fault(fault, idempotency_key=name)
        assert kb.charge(key, 10, idempotency_key=name).status_code >= 500
    with contextlib.suppress(httpx.ReadTimeout):
        name = fresh_key()
        kb.fault({"kind": "delay", "delay_ms": 300}, idempotency_key=name)
        kb.charge(key, 10, idempotency_key=name, timeout=0.1)
    kb.stack.ledger.kill(signal.SIGKILL)
    assert kb.stack.ledger.child.wait(5)
    assert kb.charge(key, 10).status_code == 503
    kb.stack.ledger.start()
    eventually(lambda: kb.charge(key, 10).status_code == 200, 10, "a charge with the ledger back")
    assert kb.charge(key, 9999).status_code == 402


def logged(kb: Keybrake) -> int:
    """Lines of the access log."""
    return len(kb.stack.envoy.access_log.read_bytes().splitlines())


def telling_parts(secret: str) -> list[bytes]:
    """What would give the secret away: half of its random part, as it is, in upper case, or in base64 at any offset."""
    random = secret.rpartition("_")[2]
    half = random[: max(24, len(random) // 2)].encode()
    encoded = [base64.b64encode(b"x" * shift + secret.encode())[8:-8] for shift in range(3)]
    return [half, half.upper(), *(text[len(text) // 4 : -len(text) // 4 or None] for text in encoded)]


def found_in(content: bytes, run: Run) -> set[str]:
    """The names of the secrets that stand in it."""
    return {name for name, secret in run.secrets.items() if any(part in content for part in telling_parts(secret))}


def files(run: Run) -> Iterator[tuple[str, bytes]]:
    """Every file of the run folder, whole."""
    folder = run.kb.stack.folder.path
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def test_no_file_of_the_run_holds_a_secret_that_does_not_belong_there(run: Run) -> None:
    seen = dict(files(run))
    for expected in (
        "keybrake.db",
        "keybrake.db-wal",
        "envoy.yaml",
        "logs/envoy-access.log",
        "logs/ledger.log",
        "sandbox.state",
    ):
        assert expected in seen, sorted(seen)
    assert run.charge_id.encode() in seen["keybrake.db"] + seen["keybrake.db-wal"], "the search sees what is there"
    for name, content in seen.items():
        assert found_in(content, run) == BELONGS.get(name, set()), name


def test_files_that_hold_money_or_secrets_are_their_owners_alone(run: Run) -> None:
    folder = run.kb.stack.folder.path
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in [*BELONGS, "keybrake.db", "keybrake.db-wal", "keybrake.db.signing-key"]:
        assert (folder / name).stat().st_mode & 0o777 == 0o600, name


def test_no_page_of_envoy_shows_a_secret(run: Run) -> None:
    for page in ENVOY_PAGES:
        answer = call("GET", run.kb.stack.envoy.admin_url + page)
        assert answer.status == 200 and answer.body, page
        assert found_in(answer.body, run) == set(), page
    dumped = call("GET", f"{run.kb.stack.envoy.admin_url}/config_dump?include_eds").body
    assert b"stripe_credential" in dumped and b"redacted" in dumped, "the secrets are in the dump, blacked out"


def test_no_page_of_the_ledger_shows_a_secret(run: Run) -> None:
    kb = run.kb
    assert found_in(json.dumps(kb.audit()).encode(), run) == set()
    for path in ("/admin/vault_keys?limit=1000", "/healthz", "/readyz", "/openapi.json"):
        answer = kb.admin("GET", path)
        assert answer.status_code == 200, path
        assert found_in(answer.content + str(answer.headers).encode(), run) == set(), path
    metrics = call("GET", f"{kb.stack.ledger_url}/metrics")
    assert b"keybrake_refusals_total" in metrics.body
    assert found_in(metrics.body, run) == set()


def test_the_vendor_never_saw_a_vault_key(run: Run) -> None:
    kb = run.kb
    counts = kb.counts()
    assert (counts["rejected_credentials"], counts["missing_credentials"]) == ([], 0)
    requests = kb.vendor_requests()
    assert len(requests) > 2 * len(WAYS)
    credential = {
        "sha256": hashlib.sha256(run.secrets[VENDOR].encode()).hexdigest(),
        "prefix": run.secrets[VENDOR][:12],
    }
    for request in requests:
        headers = [(name.lower(), value) for name, value in request["headers"]]
        assert [value for name, value in headers if name == "authorization"] == [credential]
        assert "vault_key_" not in json.dumps(request).lower()
        assert request["trailers"] in ([], None)
        ours = [name for name, _ in headers if name.startswith(("keybrake-", "x-envoy-", "x-forwarded-", "x-agent-"))]
        assert ours == []
    assert kb.stack.sandbox is not None
    pages = SANDBOX_PAGES + [f"/objects/{kind}" for kind in OBJECTS]
    for page in pages:
        body = call("GET", kb.stack.sandbox.control_url + page).body
        assert found_in(body, run) == set(), page


def test_no_process_carries_a_secret_in_its_arguments_or_environment(run: Run) -> None:
    for child in run.kb.stack.children():
        for name in ("cmdline", "environ"):
            assert found_in(Path(f"/proc/{child.pid}/{name}").read_bytes(), run) == set(), f"{child.name} {name}"


def test_the_search_finds_a_secret_in_each_of_its_forms(run: Run) -> None:
    for name, secret in run.secrets.items():
        encoded = base64.b64encode(f"{secret}:".encode())
        for form in (
            secret.encode(),
            secret.upper().encode(),
            secret.replace("_", "%5F").encode(),
            encoded,
            secret[:40].encode(),
        ):
            assert found_in(b"before " + form + b" after", run) == {name}, form


def test_a_real_secret_that_is_presented_is_counted_and_alarmed(
    stacks_folder: Path, artifacts: Artifacts, envoy: Path
) -> None:
    kb = Keybrake.start(stacks_folder / "presented", artifacts, envoy=envoy)
    try:
        before = Seen.now(kb)
        answer = kb.request(
            "POST",
            "/v1/charges",
            headers={"Authorization": f"Bearer sk_live_{secrets.token_hex(12)}", "Idempotency-Key": fresh_key()},
            data={"amount": "299", "currency": "usd"},
        )
        expect_refusal(answer, 401, "vault_key_invalid")

        def told() -> bool:
            metrics = call("GET", f"{kb.stack.ledger_url}/metrics").body.decode()
            wanted = (
                'keybrake_refusals_total{reason="real_credential"} 1',
                'keybrake_alarms_total{kind="real_credential"} 1',
            )
            return all(line in metrics.splitlines() for line in wanted)

        eventually(told, 10, "the count and the alarm")
        assert Seen.now(kb) == before
    finally:
        kb.stop()
