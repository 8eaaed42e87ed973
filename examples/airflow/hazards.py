"""How Airflow is run here: a scheduler, a DAG processor and an API server for each form, its database in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

from examples.runner.case import PERIOD
from examples.runner.jobs import JobCase, Orchestrator, fan_out_fails_in_part, hazards, write_fails_once
from examples.runner.program import DEADLINE_S, Ended, Program, ScenarioFailed
from examples.runner.trial import Trial
from stack.calls import NoAnswer, call
from stack.ports import LOOPBACK, free_ports

DAG = "billing"
STATES = {Ended.WELL: "success", Ended.FAILED: "failed"}


def _settings(folder: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        # Who can reach the API is on this machine.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__WORKERS": "1",
    }


AIRFLOW = Orchestrator("airflow", _settings)


class AirflowCase(JobCase):
    """With an Airflow of its own while its scenario is played. Its DAG has one run: of the month that is billed."""

    def __init__(self, trial: Trial, hazard: str, orchestrator: Orchestrator, through_keybrake: bool) -> None:
        super().__init__(trial, hazard, orchestrator, through_keybrake)
        dags = self.folder / "dags"
        dags.mkdir()
        shutil.copy(orchestrator.jobs / f"billing_{self.form}.py", dags / f"{DAG}.py")
        self._url = ""
        self._token = ""
        self._run = ""

    @contextlib.contextmanager
    def airflow(self) -> Iterator[None]:
        """Has it running."""
        (port,) = free_ports(1)
        self._url = f"http://{LOOPBACK}:{port}"
        retries = "0" if self.hazard == "fan_out" else "2"
        own = {
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._url}/execution/",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": retries,
        }
        self.start("airflow", "db", "migrate", **own).wait()
        parts = (("scheduler", "--skip-serve-logs"), ("dag-processor",), ("api-server",))
        started = [self.start("airflow", *part, **own) for part in parts]
        try:
            self.trial.until(lambda: self._is_up(started), "an Airflow that knows its DAG")
            yield
        finally:
            for program in started:
                program.kill()

    def _is_up(self, started: list[Program]) -> bool:
        for program in started:
            program.expect_running()
        with contextlib.suppress(NoAnswer):
            self._token = self._token or call("GET", f"{self._url}/auth/token").json()["access_token"]
            return self._asked("GET", f"/dags/{DAG}") is not None
        return False

    def start_run(self) -> None:
        """Lets the scheduler begin with the month."""
        self._asked("PATCH", f"/dags/{DAG}", {"is_paused": False})

        def runs() -> Optional[list[dict[str, Any]]]:
            return self._asked("GET", f"/dags/{DAG}/dagRuns")["dag_runs"] or None

        (run,) = self.trial.until(runs, f"a run of {PERIOD}")
        self._run = f"/dags/{DAG}/dagRuns/{run['dag_run_id']}"

    def wait(self, ends: Ended = Ended.WELL) -> None:
        """Until its run is over, which it is to be in this way."""
        state = self._asked("GET", f"{self._run}/wait?interval=1")["state"]
        self.expect(state == STATES[ends], f"the run ends {ends.value}; it is {state}")

    def run(self, ends: Ended = Ended.WELL) -> None:
        """Bills the month; the second time, what failed of it is cleared."""
        if not self._run:
            self.start_run()
        else:
            run_id = self._run.rpartition("/")[2]
            cleared = {"dry_run": False, "only_failed": True, "dag_run_id": run_id}
            self._asked("POST", f"/dags/{DAG}/clearTaskInstances", cleared)
        self.wait(ends)

    def backfill(self) -> None:
        """Bills the month once more, though it is billed."""
        first = f"{PERIOD}-01T00:00:00Z"
        again = {"dag_id": DAG, "from_date": first, "to_date": first, "reprocess_behavior": "completed"}
        self._asked("POST", "/backfills", again)
        self.wait()

    def kill_task(self, letter: str) -> None:
        """SIGKILL to the process of the task that bills this customer, as the kernel does it when memory is short."""

        def process() -> Optional[int]:
            running = self._asked("GET", f"{self._run}/taskInstances?state=running")["task_instances"]
            mine = [one for one in running if self.customers[letter] in str(one["rendered_fields"])]
            return mine[0]["pid"] if mine else None

        os.kill(self.trial.until(process, f"a task that bills {letter}"), signal.SIGKILL)

    def _asked(self, method: str, path: str, body: Optional[object] = None) -> Any:
        """A call of Airflow's API; its JSON, the last line when it has several. None when there is no such thing."""
        answer = call(method, f"{self._url}/api/v2{path}", bearer=self._token, json_body=body, timeout_s=DEADLINE_S)
        if answer.status == 404:
            return None
        if answer.status not in (200, 201):
            raise ScenarioFailed(f"Airflow, {method} {path}: {answer.status} {answer.body[:300]!r}")
        return json.loads(answer.body.splitlines()[-1])


def in_airflow(scenario: Callable[[AirflowCase], None]) -> Callable[[JobCase], None]:
    """The scenario, with an Airflow that begins and ends with it."""

    def played(case: JobCase) -> None:
        assert isinstance(case, AirflowCase)
        with case.airflow():
            scenario(case)

    return played


def billed_again(case: AirflowCase) -> None:
    """A month that was billed is part of a backfill."""
    case.run()
    case.backfill()


def task_killed_and_retried(case: AirflowCase) -> None:
    """The process of one task is gone while it charges; Airflow tries the task again by itself."""
    case.answer_late("b")
    case.start_run()
    case.until_charged("b")
    case.kill_task("b")
    case.wait()


HAZARDS = hazards(
    AIRFLOW,
    ("retry", "retries after a failed write", in_airflow(write_fails_once)),
    ("fan_out", "expand fails in part, cleared", in_airflow(fan_out_fails_in_part)),
    ("replay", "month backfilled again", in_airflow(billed_again)),
    ("killed", "task killed, retried", in_airflow(task_killed_and_retried)),
    cases=AirflowCase,
)
