"""The ledger and the sandbox vendor as children of a stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stack.calls import NoAnswer, call
from stack.child import Child
from stack.errors import StackError
from stack.ports import LOOPBACK
from stack.run_folder import write_private

if TYPE_CHECKING:
    from stack.local import Stack

START_DEADLINE_S = 30.0
# The ledger finishes what it has begun; the sandbox has nothing to lose.
LEDGER_PATIENCE_S = 15.0
SANDBOX_PATIENCE_S = 3.0


class Ledger:
    """The ledger of a stack."""

    def __init__(self, stack: Stack) -> None:
        folder = stack.folder
        settings: dict[str, object] = {
            "KEYBRAKE_LEDGER_PORT": stack.options.ports.ledger,
            "KEYBRAKE_LEDGER_SOCKET": stack.socket,
            "KEYBRAKE_DATABASE_URL": stack.options.database_url or f"sqlite:{folder.database}",
            "KEYBRAKE_ADMIN_KEY_FILE": folder.key_file("admin"),
            "KEYBRAKE_AUDIT_KEY_FILE": folder.key_file("audit"),
            "KEYBRAKE_INTERNAL_KEY_FILE": folder.key_file("internal"),
        }
        if stack.options.reconcile_seconds is not None:
            settings["KEYBRAKE_RECONCILE_URL"] = stack.url
            settings["KEYBRAKE_RECONCILE_SECONDS"] = stack.options.reconcile_seconds
        if stack.options.rates_file:
            settings["KEYBRAKE_RATES_FILE"] = stack.options.rates_file
        if stack.options.test_clock:
            settings["KEYBRAKE_TEST_CLOCK"] = stack.options.test_clock
        if not stack.vendor.is_sandbox:
            scheme = "https" if stack.vendor.tls else "http"
            settings["KEYBRAKE_VENDOR"] = stack.vendor.name
            settings["STRIPE_UPSTREAM"] = f"{scheme}://{stack.vendor.host}:{stack.vendor.port}"
        packs: list[object] = ["--vendors", stack.options.vendor_packs] if stack.options.vendor_packs else []
        self.url = stack.ledger_url
        self._last_word = "nothing"
        self.child = Child(
            "ledger",
            [stack.artifacts.ledger, "serve", *packs],
            pid_file=folder.pid_file("ledger"),
            log_file=folder.log_file("ledger"),
            environment=stack.child_environment(**settings),
        )

    def start(self) -> None:
        """Starts and waits until it is ready. Raises `StackError`."""
        self.child.start()
        self.child.ready_line(START_DEADLINE_S)
        try:
            self.child.until(self._says_ready, START_DEADLINE_S, "GET /readyz")
        except StackError as error:
            raise StackError(f"{error.line}; it says {self._last_word}", error.log_tail) from error

    def restart(self) -> None:
        """Ends it as `make down` does and starts it again."""
        self.stop()
        self.start()

    def kill(self, sent: int) -> None:
        """Sends a signal."""
        self.child.kill(sent)

    def stop(self) -> None:
        """Ends it; it finishes what it has begun."""
        self.child.stop(LEDGER_PATIENCE_S)

    def _says_ready(self) -> bool:
        try:
            answer = call("GET", f"{self.url}/readyz", timeout_s=2)
        except NoAnswer as error:
            self._last_word = str(error)
            return False
        self._last_word = answer.body[:300].decode(errors="replace")
        return answer.status == 200


class Sandbox:
    """The sandbox vendor of a stack."""

    def __init__(self, stack: Stack) -> None:
        folder = stack.folder
        secret = stack.folder.key_file("sandbox")
        write_private(secret, stack.vendor_secret + "\n")
        argv: list[object] = [stack.artifacts.sandbox, "--listen", f"{LOOPBACK}:{stack.options.ports.sandbox}"]
        argv += ["--control", f"{LOOPBACK}:0", "--secret-file", secret, "--cert-dir", folder.path / "certs"]
        # Kept like the ledger's database, so that the two agree after a restart.
        argv += ["--state", folder.path / "sandbox.state"]
        if stack.options.test_clock:
            argv += ["--clock", stack.options.test_clock]
        self.control_url = ""
        self.ca = Path()
        self.child = Child(
            "sandbox",
            argv,
            pid_file=folder.pid_file("sandbox"),
            log_file=folder.log_file("sandbox"),
            environment=stack.child_environment(),
        )

    def start(self) -> None:
        """Starts and waits until it is ready. Raises `StackError`."""
        self.child.start()
        said = self.child.ready_line(START_DEADLINE_S)
        self.control_url = f"http://{said['control']}"
        self.ca = Path(said["ca"])

    def restart(self) -> None:
        """Ends it and starts it again; it remembers what it executed."""
        self.stop()
        self.start()

    def kill(self, sent: int) -> None:
        """Sends a signal."""
        self.child.kill(sent)

    def stop(self) -> None:
        """Ends it."""
        self.child.stop(SANDBOX_PATIENCE_S)
