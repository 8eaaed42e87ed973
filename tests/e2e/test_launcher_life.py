"""Starting and ending under bad circumstances: nothing foreign is touched, nothing of ours is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Keybrake
from launcher import Launchers, end, gone, one_clear_line, wait_for_line

from stack import build
from stack.child import Child, began_at
from stack.interruption import Interrupted
from stack.polling import eventually
from stack.run_folder import write_private

PAGE = 4096

pytestmark = pytest.mark.usefixtures("artifacts", "envoy")


def test_a_corrupt_database_is_one_clear_line(launchers: Launchers) -> None:
    launcher = launchers()
    launcher.run_dir.mkdir(parents=True)
    (launcher.run_dir / "keybrake.db").write_bytes(b"no database at all, but long enough to be one. " * 200)
    ended = launcher.run("up")
    assert one_clear_line(ended).startswith("keybrake: ledger ended before it was ready; its log is ")
    assert "keybrake.db" in ended.err, "the ledger's own line names the file"
    assert launcher.leaves_nothing()


def test_a_damaged_page_of_the_database_is_noticed(launchers: Launchers) -> None:
    launcher = launchers()
    assert launcher.run("run", "--once").code == 0
    database = launcher.run_dir / "keybrake.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        # Everything into the file itself: what still stands in the log would be read from there.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(database.read_bytes())
    assert len(whole) > 3 * PAGE
    whole[PAGE : 3 * PAGE] = b"\xff" * (2 * PAGE)
    database.write_bytes(whole)
    ended = launcher.run("up")
    assert "ledger ended before it was ready" in one_clear_line(ended)
    assert "corrupt" in ended.err
    assert launcher.leaves_nothing()


def test_a_filter_that_is_no_module_does_not_start(tmp_path: Path, fresh: Callable[..., Keybrake]) -> None:
    broken = tmp_path / "broken.wasm"
    broken.write_bytes(b"\0asm\x01\0\0\0 and then nothing")
    with pytest.raises(Exception, match="envoy ended before it was ready"):
        fresh(wasm=broken)


def test_a_file_that_is_written_when_the_interruption_comes_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def interrupted_after(source: str, target: str) -> None:
        replace(source, target)
        raise Interrupted

    monkeypatch.setattr(os, "replace", interrupted_after)
    with pytest.raises(Interrupted):
        write_private(tmp_path / "file", "text")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "text")]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_leaves_nothing(launchers: Launchers, sent: int) -> None:
    launcher = launchers()
    with launcher.begin("up") as running:
        wait_for_line(running, "sandbox vendor on")
        ended = end(running, sent)
    assert ended.code == 1, ended
    assert "interrupted; everything is ended" in ended.err
    assert launcher.leaves_nothing()


def test_a_stale_pid_file_is_no_obstacle(launchers: Launchers) -> None:
    launcher = launchers()
    assert launcher.run("up").code == 0
    for file in (launcher.run_dir / "pids").glob("*.json"):
        child = Child.found(file.stem, file, launcher.run_dir / "log")
        assert child is not None
        child.kill(signal.SIGKILL)
        assert child.wait(10)
    (launcher.run_dir / "pids/envoy-2.json").write_text("")
    status = launcher.run("status")
    assert status.code == 3
    assert status.out.count("not running") == 4
    assert launcher.run("up").code == 0
    assert launcher.run("status").code == 0
    assert launcher.run("down").code == 0
    assert launcher.leaves_nothing()


@pytest.mark.parametrize("name", ["ledger", "envoy", "sandbox"])
def test_a_part_that_died_is_named(launchers: Launchers, name: str) -> None:
    launcher = launchers()
    assert launcher.run("up").code == 0
    file = launcher.run_dir / "pids" / f"{name}.json"
    child = Child.found(name, file, launcher.run_dir / "log")
    assert child is not None
    child.kill(signal.SIGKILL)
    assert child.wait(10)
    for _ in range(2):
        status = launcher.run("status")
        assert status.code == 1
        said = {line.split()[1].rstrip(":"): line for line in status.out.splitlines()}
        assert f"keybrake: {name}: not running" in said[name]
        for other in {"ledger", "envoy", "sandbox"} - {name}:
            assert f"{other} runs, pid " in said[other]
    line = one_clear_line(launcher.run("up"))
    assert f"{name} died. `make down` and `make up` start it anew" in line
    assert launcher.run("status").out == status.out, "a refused start touches nothing"
    assert launcher.run("down").code == 0
    assert launcher.leaves_nothing()
    assert launcher.run("up").code == 0
    assert launcher.run("status").code == 0
    assert launcher.run("down").code == 0


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"pid": "x"}', '{"pid": -1, "began": "", "note": ""}'])
def test_a_pid_file_that_cannot_be_read_is_no_obstacle(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ledger.json"
    file.write_text(text)
    assert Child.found("ledger", file, tmp_path / "log") is None
    assert not file.exists()


def test_a_pid_that_belongs_to_somebody_else_now_is_left_alone(launchers: Launchers) -> None:
    launcher = launchers()
    folder = launcher.run_dir / "pids"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        began = began_at(stranger.pid)
        assert began is not None
        note = {"pid": stranger.pid, "began": str(int(began) - 1), "note": ""}
        (folder / "ledger.json").write_text(json.dumps(note))
        down = launcher.run("down")
        assert down.out == "keybrake: nothing was running\n"
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_files_of_the_run_folder_are_for_their_owner_alone(keybrake: Keybrake) -> None:
    folder = keybrake.stack.folder.path
    assert folder.stat().st_mode & 0o777 == 0o700
    private = [
        path for name in ("*.yaml", "keys/*", "sds/*", "env", "keybrake.db*", "logs/*") for path in folder.glob(name)
    ]
    assert len(private) >= 12
    for path in private:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_long_run_folder_gets_a_short_socket(launchers: Launchers, tmp_path: Path) -> None:
    launcher = launchers(tmp_path / ("long" * 20) / ("longer" * 20))
    ended = launcher.run("run", "--once")
    assert ended.code == 0, ended
    assert launcher.leaves_nothing()


def test_a_test_run_that_is_killed_leaves_nothing(launchers: Launchers) -> None:
    """`stack.watchdog`: the run is gone, its pipe closes, what its pid files name is ended."""
    launcher = launchers()
    watchdog = [sys.executable, "-m", "stack.watchdog", str(launcher.run_dir.parent)]
    with subprocess.Popen(watchdog, cwd=build.ROOT, stdin=subprocess.PIPE) as running:
        assert launcher.run("up").code == 0
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(20) == 0
    eventually(lambda: launcher.run("status").code == 3, 10, "nothing runs")
    assert launcher.run("down").out == "keybrake: nothing was running\n"
    gone(launcher)


def test_down_waits_for_open_requests(launchers: Launchers, fresh: Callable[..., Keybrake]) -> None:
    """A charge that is under way when `make down` comes is settled, and its client gets its answer."""
    kb = fresh()
    key = kb.issue()
    kb.fault({"kind": "delay", "delay_ms": 2500, "when": "after"}, path="/v1/charges")
    run_dir = kb.stack.folder.path
    script = (
        "import sys, urllib.request as r\n"
        "q = r.Request(sys.argv[1], b'amount=299&currency=usd', {'Authorization': 'Bearer ' + sys.argv[2],"
        " 'Idempotency-Key': 'open', 'Content-Type': 'application/x-www-form-urlencoded'})\n"
        "print(r.urlopen(q, timeout=30).status)"
    )
    argv = [sys.executable, "-c", script, f"{kb.url}/stripe/v1/charges", key.secret]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "no_proxy": "*"}) as client:
        eventually(lambda: kb.executions("open") == 1, 10, "the vendor has the charge")
        down = launchers(run_dir).run("down")
        out, _ = client.communicate(timeout=30)
    assert down.code == 0, down
    assert out == b"200\n"
    assert "still open" not in down.out
    kb.stack.ledger.start()
    (entry,) = kb.audit(base=kb.stack.ledger_url, idempotency_key="open")
    assert (entry["outcome"], entry["cost_usd"]) == ("settled", "2.990000")
