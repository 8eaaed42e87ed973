"""A ledger is of one vendor and one kind of key: what is on record of the sandbox is never given again for Stripe."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
from launcher import ROOT, Launcher, Launchers, one_clear_line
from test_vendor_choice import LIVE, TEST

from stack import Ports, StackError, Vendor
from stack.ledger_mark import LedgerMark, sqlite_file
from stack.ports import LOOPBACK
from stack.run_folder import RunFolder

SANDBOX: dict[str, str] = {}
# Looks like a test key of Stripe's own, is none.
TEST_KEY = "sk_test_fake_not_a_key"
KINDS = {
    "sandbox": "the sandbox vendor",
    "stripe test": "Stripe with a test key",
    "stripe live": "Stripe with a live key",
}
pytestmark = pytest.mark.usefixtures("artifacts", "envoy")


def stripe(secret: str) -> dict[str, str]:
    """The shell of somebody who asks for Stripe; nobody listens there."""
    upstream = f"http://{LOOPBACK}:{Ports.free().sandbox}"
    return {"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": secret, "STRIPE_UPSTREAM": upstream}


def serve_once(launcher: Launcher) -> None:
    """Starts a stack and ends it."""
    assert launcher.run("up").code == 0
    assert launcher.run("down").code == 0


def refused(launcher: Launcher, begun: str, asked: str) -> str:
    """The line of a start that the ledger's mark forbids."""
    ended = launcher.run("up")
    line = one_clear_line(ended)
    assert (ended.code, ended.out) == (2, ""), "before anything runs"
    assert f"was begun for {KINDS[begun]}" in line
    assert f"not for {KINDS[asked]}" in line
    assert LIVE not in line
    assert TEST not in line
    assert launcher.leaves_nothing()
    return line


@pytest.mark.parametrize(
    ("first", "begun", "then", "asked"),
    [
        (SANDBOX, "sandbox", stripe(TEST), "stripe test"),
        (stripe(TEST), "stripe test", stripe(LIVE), "stripe live"),
        (stripe(LIVE), "stripe live", SANDBOX, "sandbox"),
    ],
    ids=["sandbox, test", "test, live", "live, sandbox"],
)
def test_a_ledger_is_of_one_vendor(
    launchers: Launchers, first: dict[str, str], begun: str, then: dict[str, str], asked: str
) -> None:
    launcher = launchers(**first)
    serve_once(launcher)
    mark = launcher.run_dir / "keybrake.db.vendor"
    assert mark.read_text() == f"{begun}\n"
    assert mark.stat().st_mode & 0o777 == 0o600
    kept = (launcher.run_dir / "keybrake.db").read_bytes()

    launcher.more = then
    line = refused(launcher, begun, asked)
    other = launcher.run_dir.with_name(f"run-{asked.replace(' ', '-')}")
    assert line.endswith(f"start again: export KEYBRAKE_RUN_DIR={shlex.quote(str(other))}")
    assert (launcher.run_dir / "keybrake.db").read_bytes() == kept
    assert mark.read_text() == f"{begun}\n"

    # The way that the line shows.
    serve_once(launchers(other, **then))
    launcher.more = first
    serve_once(launcher)


def test_a_ledger_from_before_there_were_marks_is_the_sandboxs(launchers: Launchers) -> None:
    launcher = launchers()
    serve_once(launcher)
    mark = launcher.run_dir / "keybrake.db.vendor"
    mark.unlink()
    launcher.more = stripe(LIVE)
    assert str(mark) in refused(launcher, "sandbox", "stripe live")
    launcher.more = SANDBOX
    serve_once(launcher)
    assert mark.read_text() == "sandbox\n"


def test_a_database_elsewhere_is_marked_as_well_as_the_run_folder(launchers: Launchers, tmp_path: Path) -> None:
    elsewhere = {"KEYBRAKE_DATABASE_URL": f"sqlite:{tmp_path / 'kept.db'}"}
    serve_once(launchers(tmp_path / "run", **elsewhere))
    for more in (elsewhere, {"KEYBRAKE_DATABASE_URL": f"sqlite:{tmp_path / 'new.db'}"}, {}):
        line = refused(launchers(tmp_path / "run", **stripe(LIVE), **more), "sandbox", "stripe live")
        assert ("and another KEYBRAKE_DATABASE_URL" in line) == bool(more)
    refused(launchers(**stripe(LIVE), **elsewhere), "sandbox", "stripe live")


@pytest.mark.parametrize(
    ("secret", "serves"),
    [
        ("sk_test_x", "stripe test"),
        ("rk_test_x", "stripe test"),
        ("sk_live_x", "stripe live"),
        ("rk_live_x", "stripe live"),
    ],
)
def test_restricted_keys_are_of_the_same_kind_as_secret_ones(tmp_path: Path, secret: str, serves: str) -> None:
    folder = RunFolder(tmp_path)
    vendor = Vendor.stripe(secret, f"http://{LOOPBACK}:1")
    assert vendor.serves == serves
    mark = LedgerMark(folder, "postgres://db.internal/keybrake")
    mark.check(vendor.serves)
    mark.write(vendor.serves)
    mark.check(vendor.serves)
    with pytest.raises(StackError, match="was begun for Stripe"):
        mark.check("sandbox")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        (None, None),
        ("postgres://u:p@localhost/db", None),
        ("sqlite:/var/k.db", "/var/k.db"),
        ("sqlite:///var/k.db", "/var/k.db"),
        ("sqlite:k.db", str(Path.cwd() / "k.db")),
    ],
)
def test_the_file_of_a_database_url(url: str, file: str) -> None:
    assert str(sqlite_file(url)) == str(file)


@pytest.mark.parametrize("ignoring", [".gitignore", ".dockerignore"])
def test_the_run_folder_that_the_line_shows_is_kept_out_of_commits_and_images(ignoring: str) -> None:
    """It holds a real secret."""
    patterns = (ROOT / ignoring).read_text().split()
    for name in (".run", ".run-stripe-test", ".run-stripe-live", ".run-sandbox"):
        assert any(fnmatch(name, pattern.strip("/")) for pattern in patterns), name


def make_secrets(folder: Path, secret: str = "") -> subprocess.CompletedProcess[str]:
    """Makes the secrets of deploy/compose for the sandbox, or for Stripe."""
    environment = {"PATH": os.environ["PATH"], **({"STRIPE_SECRET_KEY": secret} if secret else {})}
    argv = [str(folder / "make-secrets")]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "from before"])
@pytest.mark.parametrize(
    ("first", "begun", "then"), [("", "sandbox", TEST_KEY), (TEST_KEY, "stripe test", LIVE), (LIVE, "stripe live", "")]
)
def test_composes_ledger_is_of_one_vendor_too(tmp_path: Path, noted: bool, first: str, begun: str, then: str) -> None:
    shutil.copy(ROOT / "deploy" / "compose" / "make-secrets", tmp_path)
    assert make_secrets(tmp_path, first).returncode == 0
    note = tmp_path / "secrets" / "vendor"
    assert note.read_text() == f"{begun}\n"
    if not noted:
        note.unlink()
    credential = (tmp_path / "secrets" / "sds" / "stripe_credential.json").read_bytes()
    ended = make_secrets(tmp_path, then)
    assert ended.returncode == 2
    assert f"the ledger here was begun for {begun}, not for " in ended.stderr
    assert (tmp_path / "secrets" / "sds" / "stripe_credential.json").read_bytes() == credential
    assert make_secrets(tmp_path, first).returncode == 0, "the same again, as when a secret is rolled"


def test_composes_secrets_take_no_key_that_is_none_of_stripes(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "compose" / "make-secrets", tmp_path)
    ended = make_secrets(tmp_path, "pk_live_visible")
    assert ended.returncode == 2
    assert "is no secret key of Stripe's" in ended.stderr
    assert "visible" not in ended.stderr
    assert not (tmp_path / "secrets").exists()
