"""One form of one flow, with customers, books and a Metaflow datastore of its own."""

from __future__ import annotations

import dataclasses
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

from examples.runner.case import PERIOD, Case
from examples.runner.program import DEADLINE_S, Ended, ScenarioFailed
from examples.runner.trial import Trial
from hazards.flow_run import FlowRun

STOLEN_KEY = Path(__file__).resolve().parent / "stolen_key.py"


@dataclasses.dataclass(frozen=True)
class Form:
    """A flow and how it reaches the vendor."""

    flow: str
    # Through Keybrake, or straight to the vendor with the real secret.
    through_keybrake: bool = False
    # What the flow itself asks of Keybrake, beside charging.
    issues_keys: bool = False
    asks_audit: bool = False
    # It takes the name of a budget; this one brakes at the first refusal.
    draws_from_budget: bool = False
    # The flow knows nothing of Keybrake: only its base URL and its key are.
    unchanged: bool = False


class MetaflowCase(Case):
    """A form and what happens to it, with a datastore of its own."""

    def __init__(self, trial: Trial, name: str, form: Form) -> None:
        super().__init__(trial, name)
        self.form = form
        self._runs = 0
        if form.draws_from_budget:
            self.create_budget(uncapped=True)

    # What happens

    def run(self, ends: Ended = Ended.WELL, *, period: str = PERIOD, url: Optional[str] = None) -> FlowRun:
        """Runs the flow to its end."""
        run = self.start(period=period, url=url)
        run.wait(ends)
        return run

    def start(self, *, period: str = PERIOD, url: Optional[str] = None) -> FlowRun:
        """Starts the flow, through another Envoy when a `url` is given."""
        self.periods.add(period)
        budget = ["--budget", self.budget] if self.form.draws_from_budget else []
        return self._start(["run", "--period", period, *budget], period, url)

    def resume(self, failed: FlowRun, *, url: Optional[str] = None) -> FlowRun:
        """Resumes a failed run, to its good end."""
        run = self._start(["resume", "--origin-run-id", failed.run_id], PERIOD, url)
        run.wait()
        return run

    # What is seen

    def use_stolen_key(self, run: FlowRun) -> dict[str, Any]:
        """What somebody gets who reads a key from the run's artifacts and charges a customer once more."""
        argv = [sys.executable, str(STOLEN_KEY), f"BillingFlow/{run.run_id}/start", self.customers["a"]]
        environment = {**self._metaflow_environment(), **self._environment(PERIOD, None)}
        if self.form.through_keybrake:
            environment["STRIPE_API_BASE"] = f"{self.trial.stack.url}/stripe"
        done = subprocess.run(
            argv,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise ScenarioFailed(f"the stolen key could not be tried: {done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def in_datastore(self, text: str) -> bool:
        """Whether the text is anywhere in what Metaflow stored."""
        files = [path for path in (self.folder / "datastore").rglob("*") if path.is_file()]
        return any(text.encode() in _unpacked(path) for path in files)

    # How it is started

    def _start(self, arguments: list[str], period: str, url: Optional[str]) -> FlowRun:
        self._runs += 1
        environment = {**self._metaflow_environment(), **self._environment(period, url)}
        run = FlowRun(self.form.flow, arguments, environment, self.folder / f"run-{self._runs}")
        self.trial.kept(run)
        return run

    def _metaflow_environment(self) -> dict[str, str]:
        """A local Metaflow that has nobody to talk to."""
        return {
            **self.trial.environment(),
            "METAFLOW_HOME": str(self.trial.folder / "metaflow"),
            "METAFLOW_USER": "billing",
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DEFAULT_METADATA": "local",
            "METAFLOW_DEFAULT_EVENT_LOGGER": "nullSidecarLogger",
            "METAFLOW_DEFAULT_MONITOR": "nullSidecarMonitor",
            "METAFLOW_CLIENT_CACHE_PATH": str(self.trial.folder / "metaflow-cache"),
        }

    def _environment(self, period: str, url: Optional[str]) -> dict[str, str]:
        environment = {
            **self.books_environment(),
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.folder / "datastore"),
        }
        if not self.form.through_keybrake:
            return {**environment, **self.trial.direct_environment()}
        gate = url or self.trial.stack.url
        if self.form.unchanged:
            key = self.issue(idempotency="derived", derive_scope=period)
            return {**environment, "STRIPE_API_BASE": f"{gate}/stripe", "STRIPE_SECRET_KEY": key}
        environment["KEYBRAKE_URL"] = gate
        if self.form.issues_keys:
            environment["KEYBRAKE_ADMIN_KEY"] = self.trial.stack.admin_key
        else:
            environment["VAULT_KEY"] = self.issue()
        if self.form.asks_audit:
            environment["KEYBRAKE_AUDIT_KEY"] = self.trial.stack.audit_key
        return environment


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
