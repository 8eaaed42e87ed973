"""`make bench`: what the gate costs and what the ledger can do, both sides interleaved in one run.

Prints a table and writes target/bench.json: `fdatasync_us_p50`, `rows` (name, clients, per_second, p50_us, p99_us,
cpu_us) and `ratios`. Machines are noisy: compare within one run only. Nothing here is a pass or a fail.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from stack import build  # noqa: E402
from stack.errors import StackError  # noqa: E402
from tests.bench import rivals  # noqa: E402
from tests.bench.sides import CHARGE, SIDES, Running, Sides, issue  # noqa: E402

GATE = Path(__file__).with_name("gate.mjs")
SPREAD = 64
FEW_KEYS, MANY_KEYS = 1_000, 1_000_000
RESERVES = "ledger reserves, {}, hot key"
ONE_OF = "ledger reserves, one of {:,} keys"
OWN_WORK = "charge, the module in V8 with its host"
REDIS_32 = ("Redis debits, synced, hot key", 32)


class Rows:
    """Measured cells; each row is the median of its rounds."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.notes: list[str] = []

    def add(self, name: str, clients: int, figures: dict[str, Any]) -> None:
        """One round of one row. Failures are told and never counted as answers."""
        if figures.get("failures"):
            self.notes.append(
                f"{name} at {clients}: {figures['failures']} failed, first: {figures.get('first_failure')}"
            )
        self._rounds.setdefault((name, clients), []).append(figures)

    def row(self, name: str, clients: int) -> Optional[dict[str, Any]]:
        """The medians, or None when it was not measured."""
        rounds = self._rounds.get((name, clients))
        if not rounds:
            return None

        def median(field: str) -> float:
            return statistics.median(float(figures[field]) for figures in rounds)

        row = {"name": name, "clients": clients, "rounds": len(rounds), "per_second": round(median("per_second"), 1)}
        row.update(p50_us=round(median("p50_us")), p99_us=round(median("p99_us")))
        row["cpu_us"] = round(median("cpu_us"), 1) if all("cpu_us" in figures for figures in rounds) else None
        return row

    def all(self) -> list[dict[str, Any]]:
        """Every row, in the order of their first round."""
        return [row for row in (self.row(*key) for key in self._rounds) if row]

    def ratio(self, field: str, over: tuple[str, int], under: tuple[str, int]) -> Optional[float]:
        """One row's figure over another's."""
        top, bottom = self.row(*over), self.row(*under)
        if not top or not bottom or not bottom[field]:
            return None
        return round(float(top[field]) / float(bottom[field]), 3)


class Bench:
    """One run."""

    def __init__(self, quick: bool, only: str) -> None:
        self.rounds = 3 if quick else 5
        self.seconds = 0.7 if quick else 3.0
        self.only = only
        self.rows = Rows()
        self.load = build.artifacts().ledger.parent / "load"
        self.resident_mb: dict[int, int] = {}
        # Microseconds of the module alone, by round.
        self.own_us: list[float] = []
        self._run = 0

    def measure(self, what: str, clients: int, *arguments: object, seconds: Optional[float] = None) -> dict[str, Any]:
        """Runs the load generator."""
        argv = [self.load, "--seconds", seconds or self.seconds, "--clients", clients, what, *arguments]
        return self._figures(f"load {what}", argv)

    @staticmethod
    def _figures(what: str, argv: list[object]) -> dict[str, Any]:
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StackError(f"{what}: {done.stderr.strip().splitlines()[-1:]}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def http(self, sides: Sides, side: str, kind: str, clients: int) -> dict[str, Any]:
        """One round of one side of the gate's comparison, with Envoy's CPU per request."""
        self._run += 1
        node = sides.nodes[side]
        before = sides.cpu_seconds(side)
        figures = self.measure(
            "http",
            clients,
            "--address",
            f"127.0.0.1:{node.ports.envoy}",
            "--kind",
            kind,
            "--prefix",
            "/stripe",
            "--credential-file",
            sides.vault_key_file,
            "--run",
            f"r{self._run}-{side}",
        )
        figures["cpu_us"] = (sides.cpu_seconds(side) - before) * 1e6 / max(figures["count"], 1)
        return figures

    def own_work(self, wasm: Path, sides: Sides, folder: Path) -> dict[str, Any]:
        """One round of charges through the module alone, in V8 with a host that answers at once."""
        answer = folder / "charge.json"
        answer.write_text(json.dumps(CHARGE))
        argv = ["node", GATE, wasm, "--vault-key-file", sides.vault_key_file, "--answer-file", answer]
        figures = self._figures("gate.mjs", [*argv, "--seconds", self.seconds])
        self.own_us.append(figures["p50_us"] * figures["module_share"])
        return figures

    def gate(self, wasm: Path, sides: Sides, folder: Path, tell: Callable[[str], None]) -> None:
        """Reads and charges through each side, interleaved."""
        node = shutil.which("node")
        if not node:
            self.rows.notes.append("no row of the gate's own work: Node is not installed")
        for side in SIDES:
            for kind in ("read", "charge"):
                self.measure(
                    "http",
                    8,
                    "--address",
                    f"127.0.0.1:{sides.nodes[side].ports.envoy}",
                    "--kind",
                    kind,
                    "--prefix",
                    "/stripe",
                    "--credential-file",
                    sides.vault_key_file,
                    "--run",
                    f"warm-{side}",
                    seconds=0.3,
                )
        for number in range(self.rounds):
            tell(f"gate, round {number + 1} of {self.rounds}")
            if node:
                self.rows.add(OWN_WORK, 1, self.own_work(wasm, sides, folder))
            for clients in (1, 32):
                for kind in ("read", "charge"):
                    for side in SIDES:
                        self.rows.add(f"{kind}, {side}", clients, self.http(sides, side, kind, clients))

    def ledger(
        self,
        sides: Sides,
        folder: Path,
        redis: Optional[str],
        postgres: Optional[rivals.Postgres],
        tell: Callable[[str], None],
    ) -> None:
        """The ledger in process and over its socket, beside its yardsticks, interleaved."""
        socket = ["--socket", sides.stack.socket, "--internal-key-file", sides.stack.folder.path / "keys" / "internal"]
        hot, spread = folder / "hot", folder / "spread"
        hot.write_text(issue(sides.stack))
        spread.write_text("\n".join(issue(sides.stack) for _ in range(SPREAD)))
        one = [*socket, "--vault-keys-file", hot]
        many = [*socket, "--vault-keys-file", spread]
        for number in range(self.rounds):
            tell(f"ledger, round {number + 1} of {self.rounds}")
            for clients in (1, 64):
                self._cell("ledger cycles, in process, hot key", clients, "ledger-in-process", "--folder", folder)
                self._cell("ledger cycles, API batches, hot key", clients, "ledger-api", *one)
                self._cell("ledger cycles, API one per call, hot key", clients, "ledger-api", *one, "--one-per-call")
                self._cell("ledger reserves, API batches, hot key", clients, "ledger-api", *one, "--work", "reserve")
                if redis:
                    self._cell("Redis debits, synced, hot key", clients, "redis", "--address", redis)
                if postgres:
                    self.rows.add("PostgreSQL debits, hot row", clients, postgres.debit(clients, self.seconds, 1))
            self._reserves(folder, redis, postgres)
            self._cell(
                "ledger cycles, in process, spread keys", 64, "ledger-in-process", "--folder", folder, "--keys", SPREAD
            )
            self._cell("ledger cycles, API batches, spread keys", 64, "ledger-api", *many)
            self._cell("fdatasync, 4 KiB appends", 1, "fdatasync", "--folder", folder)

    def _reserves(self, folder: Path, redis: Optional[str], postgres: Optional[rivals.Postgres]) -> None:
        """Durable reserves on one key with each store, beside a debit of one key elsewhere."""
        reserve = ("ledger-in-process", "--folder", str(folder), "--work", "reserve")
        self._cell(RESERVES.format("SQLite"), 32, *reserve)
        if postgres:
            self._cell(RESERVES.format("PostgreSQL"), 32, *reserve, "--database-url", postgres.ledger_url)
            self.rows.add("PostgreSQL debits, hot row", 32, postgres.debit(32, self.seconds, 1))
        if redis:
            self._cell(*REDIS_32, "redis", "--address", redis)

    def keys(self, folder: Path, tell: Callable[[str], None]) -> None:
        """What a thousand and a million keys on record cost. One round: it takes minutes to issue a million."""
        tell("ledger, a thousand keys and a million (some minutes)")
        for measured in self.measure("ledger-keys", 32, "--folder", folder, "--few", FEW_KEYS, "--many", MANY_KEYS)[
            "measured"
        ]:
            figures = {**measured["reserve"], "cpu_us": measured["cpu_us_per_reserve"]}
            self.rows.add(ONE_OF.format(measured["keys"]), 32, figures)
            self.resident_mb[measured["keys"]] = measured["resident_mb_after_use"]

    def _cell(self, name: str, clients: int, what: str, *arguments: object) -> None:
        self.rows.add(name, clients, self.measure(what, clients, *arguments))

    def ratios(self, wasm_bytes: int) -> dict[str, Any]:
        """The figures that the aims speak of."""
        rows, charge, read = self.rows, "charge, {}".format, "read, {}".format
        added = None
        governed, bare = rows.row(charge("governed"), 1), rows.row(charge("bare"), 1)
        if governed and bare:
            added = round((governed["p50_us"] - bare["p50_us"]) / 1000, 3)
        cycles = rows.row("ledger cycles, in process, hot key", 64)
        return {
            "charge_throughput_vs_bare_32": rows.ratio("per_second", (charge("governed"), 32), (charge("bare"), 32)),
            "read_throughput_vs_bare_32": rows.ratio("per_second", (read("governed"), 32), (read("bare"), 32)),
            "charge_throughput_vs_ext_authz_32": rows.ratio(
                "per_second", (charge("governed"), 32), (charge("ext_authz"), 32)
            ),
            "envoy_cpu_vs_bare_32": rows.ratio("cpu_us", (charge("governed"), 32), (charge("bare"), 32)),
            "charge_added_p50_ms_1": added,
            "gate_own_work_p50_us": round(statistics.median(self.own_us), 1) if self.own_us else None,
            "ledger_cycles_per_second_in_process_64": cycles["per_second"] if cycles else None,
            "ledger_reserves_vs_redis_64": rows.ratio(
                "per_second", ("ledger reserves, API batches, hot key", 64), ("Redis debits, synced, hot key", 64)
            ),
            "ledger_cycles_vs_redis_debits_64": rows.ratio(
                "per_second", ("ledger cycles, API batches, hot key", 64), ("Redis debits, synced, hot key", 64)
            ),
            "ledger_hot_vs_spread_64": rows.ratio(
                "per_second", ("ledger cycles, in process, hot key", 64), ("ledger cycles, in process, spread keys", 64)
            ),
            "sqlite_reserves_vs_redis_32": rows.ratio("per_second", (RESERVES.format("SQLite"), 32), REDIS_32),
            "postgresql_reserves_vs_redis_32": rows.ratio("per_second", (RESERVES.format("PostgreSQL"), 32), REDIS_32),
            "sqlite_reserves_vs_postgresql_debits_32": rows.ratio(
                "per_second", (RESERVES.format("SQLite"), 32), ("PostgreSQL debits, hot row", 32)
            ),
            "reserve_p50_million_keys_vs_thousand": rows.ratio(
                "p50_us", (ONE_OF.format(MANY_KEYS), 32), (ONE_OF.format(FEW_KEYS), 32)
            ),
            "resident_mb_million_keys": self.resident_mb.get(MANY_KEYS),
            "resident_mb_thousand_keys": self.resident_mb.get(FEW_KEYS),
            "wasm_bytes": wasm_bytes,
        }


def _print(report: dict[str, Any], notes: list[str]) -> None:
    print(f"{'':<44}{'clients':>8}{'per second':>12}{'p50 us':>9}{'p99 us':>9}{'CPU us':>8}")
    for row in report["rows"]:
        cpu = "" if row["cpu_us"] is None else f"{row['cpu_us']:.0f}"
        print(
            f"{row['name']:<44}{row['clients']:>8}{row['per_second']:>12,.0f}{row['p50_us']:>9,}{row['p99_us']:>9,}{cpu:>8}"
        )
    print()
    print(f"{'fdatasync_us_p50':<44}{report['fdatasync_us_p50']}")
    for name, value in report["ratios"].items():
        print(f"{name:<44}{'not measured' if value is None else value}")
    for note in notes:
        print(f"note: {note}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds: under 90 seconds once everything is built"
    )
    parser.add_argument("--only", choices=("all", "gate", "ledger", "keys"), default="all", help="leave the rest out")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    options = parser.parse_args()
    # A polite end tears everything down as a Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {line}", file=sys.stderr, flush=True)

    try:
        made = build.build()
        build.cargo("the load generator", ["build", *build.HOST_PROFILE, "-p", "keybrake-tests", "--bin", "load"])
        bench = Bench(options.quick, options.only)
        target = made.ledger.parent.parent
        with tempfile.TemporaryDirectory(dir=target, prefix="bench-") as name, ExitStack() as open_things:
            folder = Path(name)
            sides = open_things.enter_context(Running(folder, tell))
            if options.only in ("all", "gate"):
                bench.gate(made.wasm, sides, folder, tell)
            if options.only in ("all", "ledger"):
                redis = postgres = None
                try:
                    redis = open_things.enter_context(rivals.redis(folder))
                except rivals.NotHere as why:
                    bench.rows.notes.append(f"no Redis rows: {why}")
                try:
                    postgres = open_things.enter_context(rivals.postgres())
                except rivals.NotHere as why:
                    bench.rows.notes.append(f"no PostgreSQL rows: {why}")
                bench.ledger(sides, folder, redis, postgres, tell)
            if options.only == "keys" or (options.only in ("all", "ledger") and not options.quick):
                bench.keys(folder, tell)
    except StackError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: ended before its end; nothing is left running", file=sys.stderr)
        return 130
    disk = bench.rows.row("fdatasync, 4 KiB appends", 1)
    report = {
        "fdatasync_us_p50": disk["p50_us"] if disk else None,
        "rows": bench.rows.all(),
        "ratios": bench.ratios(made.wasm.stat().st_size),
    }
    (target / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print(report, bench.rows.notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
