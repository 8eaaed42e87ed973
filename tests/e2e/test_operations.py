"""docs/operations.md names every metric, alert and alarm, and no alert rests on a metric that there is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from harness import Keybrake, eventually
from test_budgets import budget

from stack.build import ROOT
from stack.calls import call

ALERTS = ROOT / "deploy" / "compose" / "prometheus" / "alerts.yml"
# Of the text format: one metric, several series.
ENDINGS = r"_(total|bucket|sum|count)$"


def documented() -> str:
    return (ROOT / "docs" / "operations.md").read_text()


def alerts() -> list[dict[str, Any]]:
    """All rules."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def shown_by(url: str) -> set[str]:
    """The names of our metrics on a page of Prometheus's text format, without the endings of series."""
    page = call("GET", url).body.decode()
    return {re.sub(ENDINGS, "", name) for name in re.findall(r"^# TYPE (keybrake_\w+) ", page, re.MULTILINE)}


def test_every_metric_is_explained_and_every_alert_rests_on_one(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh(reconcile_seconds=1)
    assert kb.charge(kb.issue(), 100).status_code == 200
    # What has no value yet is not shown: refusals, an alarm (a brake), a batch that is turned away.
    name = budget(kb, lifetime_usd_cap="100", trip_on={"refusals": 1, "within_seconds": 60})
    over = kb.issue(daily_usd_cap=1, budget=name)
    assert [kb.charge(over, 200).status_code for _ in range(2)] == [402, 403]
    kb.stack.folder.write_secret("internal_key", "kb_internal_of_somebody_else")
    key = kb.issue()
    eventually(lambda: kb.charge(key, 1).status_code == 503, 10, "the ledger turns the wrong internal key away")
    shown = shown_by(f"{kb.stack.ledger_url}/metrics") | shown_by(f"{kb.stack.envoy.admin_url}/stats/prometheus")
    assert len(shown) > 15
    text = documented()
    named = {re.sub(ENDINGS, "", name) for name in re.findall(r"`(keybrake_\w+)`", text)}
    assert shown - named == set(), "in docs/operations.md"
    assert named - shown == set(), "there are no such metrics"
    for rule in alerts():
        used = {re.sub(ENDINGS, "", name) for name in re.findall(r"keybrake_\w+", rule["expr"])}
        assert used <= shown, rule["alert"]


def test_every_alert_is_explained() -> None:
    text = documented()
    for rule in alerts():
        assert f"| `{rule['alert']}` |" in text, rule["alert"]
    named = set(re.findall(r"^\| `(Keybrake\w+)` \|", text, re.MULTILINE))
    assert named == {rule["alert"] for rule in alerts()}


def test_every_kind_of_alarm_is_explained() -> None:
    source = (ROOT / "src" / "ledger" / "src" / "engine" / "alarms.rs").read_text()
    kinds = set(re.findall(r'Self::\w+ => "(\w+)"', source))
    assert len(kinds) >= 10
    for kind in kinds:
        assert f"`{kind}`" in documented(), kind
