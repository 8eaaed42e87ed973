"""The whole stack: what it consists of, and the order in which it starts and ends."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional

from stack import build, envoy_binary
from stack.child import Child
from stack.envoy_config import Changes, LedgerAddress, Surroundings
from stack.envoy_node import EnvoyNode, drain
from stack.errors import StackError
from stack.interruption import signals_held
from stack.ledger_mark import LedgerMark, sqlite_file
from stack.parts import LEDGER_PATIENCE_S, SANDBOX_PATIENCE_S, Ledger, Sandbox
from stack.ports import LOOPBACK, Ports
from stack.run_folder import RunFolder
from stack.vendor import Vendor

SANDBOX_SECRET_PREFIX = "sk_test_sandbox_"
PORT_ATTEMPTS = 3


@dataclass(frozen=True)
class Options:
    """What may differ from one stack to the next."""

    run_dir: Path
    ports: Ports = Ports()
    vendor: Vendor = field(default_factory=Vendor.sandbox)
    # None: an SQLite file in the run folder.
    database_url: Optional[str] = None
    # What other currencies than dollars cost.
    rates_file: Optional[Path] = None
    # A folder with vendor packs beside the built-in ones.
    vendor_packs: Optional[Path] = None
    ledger_socket: Optional[str] = None
    # A file with an offset in ms that ledger and sandbox read; tests move time with it.
    test_clock: Optional[Path] = None
    workers: int = 2
    # Seconds between two passes of the reconciler; None: there is none.
    reconcile_seconds: Optional[int] = 60
    changes: Changes = Changes()
    # None: build (or fetch) them.
    artifacts: Optional[build.Artifacts] = None
    envoy: Optional[Path] = None
    # Where PATH and the like come from, and what ENVOY_BIN says.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Options:
        """What `make run` uses. Raises `StackError`."""
        clock = environment.get("KEYBRAKE_TEST_CLOCK")
        rates = environment.get("KEYBRAKE_RATES_FILE")
        return cls(
            run_dir=run_dir(environment),
            ports=Ports.from_environment(environment),
            vendor=Vendor.from_environment(environment),
            database_url=environment.get("KEYBRAKE_DATABASE_URL") or None,
            rates_file=Path(os.path.abspath(rates)) if rates else None,
            ledger_socket=environment.get("KEYBRAKE_LEDGER_SOCKET") or None,
            test_clock=Path(os.path.abspath(clock)) if clock else None,
            environment=dict(environment),
        )


def run_dir(environment: Mapping[str, str]) -> Path:
    """The run folder that the environment names, else `.run` beside this package."""
    return Path(environment.get("KEYBRAKE_RUN_DIR") or build.ROOT / ".run")


class Stack:
    """Sandbox, ledger and one or more Envoys. `start` leaves nothing behind when it fails."""

    def __init__(self, options: Options, say: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.folder = RunFolder(options.run_dir)
        self.say = say
        self.vendor = options.vendor
        self._mark = LedgerMark(self.folder, options.database_url)
        self.sandbox: Optional[Sandbox] = None
        self.ledger: Ledger
        self.envoys: list[EnvoyNode] = []
        self.artifacts: build.Artifacts
        self._envoy_binary: Path
        self.socket: Path

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.stop(drained=False)

    @property
    def envoy(self) -> EnvoyNode:
        """The first Envoy."""
        return self.envoys[0]

    @property
    def url(self) -> str:
        """The first Envoy's egress listener."""
        return f"http://{LOOPBACK}:{self.options.ports.envoy}"

    @property
    def stripe_url(self) -> str:
        """The first Envoy's listener for Stripe."""
        return f"http://{LOOPBACK}:{self.options.ports.stripe}"

    @property
    def ledger_url(self) -> str:
        """The ledger's own port."""
        return f"http://{LOOPBACK}:{self.options.ports.ledger}"

    @property
    def admin_key(self) -> str:
        """May issue and revoke."""
        return self.folder.key("admin", "kb_admin_")

    @property
    def audit_key(self) -> str:
        """May read the audit."""
        return self.folder.key("audit", "kb_audit_")

    @property
    def internal_key(self) -> str:
        """What Envoy shows the ledger with every batch of commands."""
        return self.folder.key("internal", "kb_internal_")

    @property
    def vendor_secret(self) -> str:
        """What Envoy shows the vendor."""
        return self.vendor.secret or self.folder.key("sandbox", SANDBOX_SECRET_PREFIX)

    def start(self) -> None:
        """Starts everything; returns when the gate is proven. Raises `StackError`, with everything ended again."""
        self.folder.make()
        self.folder.lock()
        try:
            self._check()
            self._make_ready()
            self._start_all()
        except BaseException:
            self.stop(drained=False)
            raise
        finally:
            self.folder.unlock()

    def _check(self) -> None:
        """What can be known before any work is done."""
        self._mark.check(self.vendor.serves)
        self._check_nothing_runs()
        self.options.ports.check_free(
            [name for name in dataclasses.asdict(self.options.ports) if name != "sandbox" or self.vendor.is_sandbox]
        )
        if self.options.artifacts is None:
            build.check_tools()
        self._envoy_binary = self.options.envoy or envoy_binary.find(self.options.environment)

    def _check_nothing_runs(self) -> None:
        running, dead = parts_of(self.folder)
        names = ", ".join(f"{child.name} (pid {child.pid})" for child in running)
        if running and dead:
            raise StackError(
                f"the stack in {self.folder.path} runs only in part: {names}; {' and '.join(dead)} died. `make down` "
                "and `make up` start it anew"
            )
        if running:
            raise StackError(f"the stack in {self.folder.path} is running already: {names}; `make down` ends it")
        # What a crash of the machine has left behind.
        running_children(self.folder)

    def _make_ready(self) -> None:
        if self.options.artifacts is None:
            self.say("building the filter, the ledger and the sandbox (the first time takes some minutes)")
        self.artifacts = self.options.artifacts or build.build()
        self.say(f"filter: {self.artifacts.wasm.name}, {self.artifacts.wasm.stat().st_size:,} bytes")
        # Asking makes them.
        for key in (self.admin_key, self.audit_key, self.internal_key):
            assert key
        self.folder.write_secret("internal_key", self.internal_key)
        self.folder.write_secret("stripe_credential", f"Bearer {self.vendor_secret}")
        self.socket = self.folder.socket(self.options.ledger_socket)

    def _start_all(self) -> None:
        if self.vendor.is_sandbox:
            self.sandbox = Sandbox(self)
            self.sandbox.start()
            self.vendor = dataclasses.replace(self.vendor, port=self.options.ports.sandbox, ca=self.sandbox.ca)
            self.say(f"sandbox vendor on {LOOPBACK}:{self.options.ports.sandbox} (TLS)")
        else:
            self.say(f"vendor: {self.vendor.host}:{self.vendor.port}")
        if self.vendor.ca is not None:
            self.folder.write_trusted("vendor_ca", self.vendor.ca)
        self._mark.write(self.vendor.serves)
        self.ledger = Ledger(self)
        self.ledger.start()
        self.say(f"ledger on {self.ledger_url}, commands on {self.socket}")
        self.add_envoy(self.options.ports)
        self.say(f"Envoy on {self.url} (every vendor) and {self.stripe_url} (Stripe); the gate is proven")
        self.folder.write_env(self._for_shells(), self.artifacts.ledger.parent)

    def _for_shells(self) -> Mapping[str, Optional[str]]:
        """The variables by which `keybrake` and other clients find this stack and no other; None: is unset."""
        database = self.options.database_url
        file = sqlite_file(database)
        return {
            "KEYBRAKE_ADMIN_KEY": self.admin_key,
            "KEYBRAKE_AUDIT_KEY": self.audit_key,
            "KEYBRAKE_URL": self.url,
            "KEYBRAKE_RUN_DIR": str(self.folder.path),
            # Without it the one in the run folder counts. Were that one named, a stack that is started from the same
            # shell in another run folder would take it, too.
            "KEYBRAKE_DATABASE_URL": f"sqlite:{file}" if file else database,
            "KEYBRAKE_SANDBOX_CONTROL_URL": self.sandbox.control_url if self.sandbox else None,
        }

    def add_envoy(
        self, ports: Ports, changes: Optional[Changes] = None, ledgers: Sequence[LedgerAddress] = ()
    ) -> EnvoyNode:
        """Starts one more Envoy on these ports before the same vendor and the same ledger, or before these ledgers.
        Raises `StackError`."""
        name = f"envoy-{len(self.envoys) + 1}" if self.envoys else "envoy"
        around = Surroundings(
            node=name,
            ports=dataclasses.replace(ports, ledger=self.options.ports.ledger),
            vendor=self.vendor,
            wasm=self.artifacts.wasm,
            sds=self.folder.sds,
            ledger_socket=self.socket,
            access_log=self.folder.log_file(f"{name}-access"),
            workers=self.options.workers,
            ledgers=tuple(ledgers),
        )
        node = EnvoyNode(
            name, self._envoy_binary, self.folder, around, changes or self.options.changes, self.child_environment()
        )
        self.envoys.append(node)
        node.start()
        return node

    def stop(self, drained: bool = True) -> None:
        """Ends everything that runs: Envoys (drained, unless told otherwise), ledger, sandbox. The wait for open
        requests can be interrupted, the rest cannot."""
        for node in self.envoys if drained else ():
            if node.child.alive():
                _say_left_open(self.say, node.drain())
        with signals_held():
            for node in self.envoys:
                node.stop()
            for part in (getattr(self, "ledger", None), self.sandbox):
                if part is not None:
                    part.stop()

    def children(self) -> list[Child]:
        """The programs of this stack, in the order of their start."""
        parts = [self.sandbox, getattr(self, "ledger", None)]
        return [part.child for part in parts if part is not None] + [node.child for node in self.envoys]

    def child_environment(self, **more: object) -> dict[str, str]:
        """The environment of a child: the launcher's without anything of Stripe's or ours, and `more`."""
        kept = {
            name: value
            for name, value in self.options.environment.items()
            if not name.startswith(("STRIPE_", "KEYBRAKE_"))
        }
        return {**kept, **{name: str(value) for name, value in more.items()}}


def start_on_free_ports(run_dir: Path, **options: Any) -> Stack:
    """A started stack on free ports; `options` as of `Options`. Tries again when somebody takes a port meanwhile.
    Raises `StackError`."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        stack = Stack(Options(run_dir=run_dir, ports=Ports.free(), **options))
        try:
            stack.start()
            return stack
        except StackError as error:
            if attempt == PORT_ATTEMPTS or "is taken" not in error.line:
                raise
    raise AssertionError("unreachable")


def running_children(folder: RunFolder) -> list[Child]:
    """The programs that pid files of this folder name and that run, in the order of their end: Envoys, ledger,
    sandbox. Stale pid files are removed."""
    found = (Child.found(file.stem, file, folder.log_file(file.stem)) for file in _pid_files(folder))
    return [child for child in found if child is not None]


def parts_of(folder: RunFolder) -> tuple[list[Child], list[str]]:
    """The programs that run, in that order, and the names of those that died. Touches nothing."""
    running, dead = [], []
    for file in _pid_files(folder):
        child = Child.noted(file.stem, file, folder.log_file(file.stem))
        if child is not None:
            running.append(child)
        elif file.exists():
            dead.append(file.stem)
    return running, dead


def _pid_files(folder: RunFolder) -> list[Path]:
    order = {"ledger": 1, "sandbox": 2}
    return sorted(folder.path.glob("pids/*.json"), key=lambda file: (order.get(file.stem, 0), file.stem))


def down(folder: RunFolder, patience_s: float, say: Callable[[str], None]) -> list[Child]:
    """Ends the stack of this folder, whoever started it: drains the Envoys, then Envoys, ledger, sandbox. Gives what
    it ended."""
    children = running_children(folder)
    for child in children:
        if child.name.startswith("envoy"):
            say(f"{child.name}: no new requests; waiting for those that are open")
            _say_left_open(say, drain(child.note, patience_s))
        child.stop(LEDGER_PATIENCE_S if child.name == "ledger" else SANDBOX_PATIENCE_S)
        say(f"{child.name} ended")
    return children


def _say_left_open(say: Callable[[str], None], left: int) -> None:
    if left:
        say(f"{left} requests are still open after the time they may take; their holds stay until there is evidence")
