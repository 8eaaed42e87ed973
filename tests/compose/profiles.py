"""The profiles `postgres` and `prometheus`: the main job with the ledger on PostgreSQL, and Prometheus with both its
targets."""

from __future__ import annotations

from typing import Any

from composed import HEALTHY_DEADLINE_S, Compose, Gate, await_health, require, tell

from stack import demo
from stack.calls import NoAnswer, call
from stack.polling import eventually

SERVICES = ("postgres", "prometheus")
SETTINGS = {"KEYBRAKE_POSTGRES_HOST": "postgres", "COMPOSE_PROFILES": ",".join(SERVICES)}
PROMETHEUS = "http://127.0.0.1:9090/api/v1"
# As in deploy/compose/prometheus/alerts.yml.
ALERTS = 10


def start(compose: Compose) -> None:
    """Starts both, and the ledger on PostgreSQL."""
    compose.settings.update(SETTINGS)
    compose("up", "-d")
    # Prometheus' own health check is not waited for: Debian's promtool does not know it.
    await_health(compose, "postgres", "ledger", "envoy")
    eventually(compose.is_ready, HEALTHY_DEADLINE_S, "the gate is proven, on PostgreSQL")


def check_postgres(compose: Compose) -> None:
    """The main job, and that it is PostgreSQL that has it on record."""
    demo.run(Gate(compose.folder), lambda _: None)
    ask = "PGPASSWORD=$(cat /run/secrets/postgres_password) psql -h 127.0.0.1 -U keybrake -d keybrake -Atc"
    events = compose.within("postgres", f"{ask} 'SELECT count(*) FROM events'").stdout.strip()
    require(int(events) >= 5, f"the main job's events are in PostgreSQL: {events}")
    wrong = compose.within("postgres", "PGPASSWORD=wrong psql -h postgres -U keybrake -d keybrake -c ''", check=False)
    require("password authentication failed" in wrong.stderr, f"PostgreSQL asks for its password: {wrong.stderr}")
    tell("profile postgres: the main job, on record in PostgreSQL")


def asked(what: str) -> Any:
    """What Prometheus says; None while it says nothing."""
    try:
        answer = call("GET", f"{PROMETHEUS}/{what}")
    except NoAnswer:
        return None
    return answer.json()["data"] if answer.status == 200 else None


def check_prometheus(compose: Compose) -> None:
    """It sees ledger and Envoy, has figures of both, and the alerts."""

    def targets() -> bool:
        found = [(one["labels"]["job"], one["health"]) for one in (asked("targets") or {}).get("activeTargets", [])]
        return sorted(found) == [("envoy", "up"), ("ledger", "up")]

    eventually(targets, HEALTHY_DEADLINE_S, "Prometheus sees its targets")
    for series in ("keybrake_ready", "keybrake_requests"):
        eventually(lambda: asked(f"query?query={series}")["result"], HEALTHY_DEADLINE_S, series)  # noqa: B023
    rules = [rule["name"] for group in asked("rules")["groups"] for rule in group["rules"]]
    require(len(rules) == ALERTS, f"{ALERTS} alerts, not {rules}")
    compose.within("prometheus", "test -r /etc/prometheus/alerts.yml")
    tell("profile prometheus: ledger and Envoy are up, the alerts are known")
