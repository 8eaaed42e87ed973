"""The filter in the user's own Envoy: each configuration in `envoy/` loads, and the smallest one is a whole gate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import jsonschema
import pytest
import yaml
from harness import Keybrake, eventually, fresh_key
from own_envoy import CONFIG_FOLDER, SYSTEM_CA, minimal, replaced, running, shipped, validated
from shape import expect_refusal
from vendor_side import nothing_reaches_the_vendor

from stack import envoy_files
from stack.build import ROOT
from stack.calls import call
from stack.envoy_config import ENVOY_FOLDER, Surroundings
from stack.ports import LOOPBACK, Ports, free_ports

TABLE = Path(__file__).resolve().parent.parent / "plugin_configurations.jsonl"


def example(name: str) -> str:
    """A YAML block of envoy/README.md that begins with `# name`."""
    found = re.findall(rf"```yaml\n# {name}\n(.*?)```", (ENVOY_FOLDER / "README.md").read_text(), re.DOTALL)
    assert len(found) == 1, name
    return str(found[0])


def indented(text: str, spaces: int) -> str:
    return "".join(" " * spaces + line for line in text.splitlines(keepends=True))


def in_place(text: str, place: Path) -> str:
    """A shipped configuration with this folder in the place of /etc/keybrake."""
    return replaced(text, {CONFIG_FOLDER: str(place)}).replace(SYSTEM_CA, certifi.where())


# Each loads


def test_minimal_and_full_load(place: Path, envoy: Path, oldest_envoy: Path) -> None:
    for name in ("minimal.yaml", "full.yaml"):
        config = place / name
        config.write_text(in_place(shipped(name), place))
        for binary in (envoy, oldest_envoy):
            said = validated(binary, config)
            assert said.returncode == 0, said.stderr
            assert "Deprecated" not in said.stderr


def deployed_in(place: Path) -> Surroundings:
    """What the shipped files name, on free ports of loopback."""
    (stats,) = free_ports(1)
    return dataclasses.replace(
        envoy_files.DEPLOYED,
        ports=Ports.free(),
        stats_port=stats,
        listen_address=LOOPBACK,
        wasm=place / "keybrake_filter.wasm",
        sds=place / "sds",
        access_log=place / "access.log",
    )


def test_the_files_are_what_the_template_gives() -> None:
    """`make envoy-files` writes them."""
    for name, text in envoy_files.files().items():
        assert (ROOT / name).read_text() == text, f"{name} is not what the template gives: make envoy-files"


def test_the_parts_that_are_read_again_load_and_change_without_a_restart(place: Path, envoy: Path) -> None:
    around = deployed_in(place)
    ports = around.ports
    made = envoy_files.files(around, place / "xds")
    (place / "xds").mkdir()
    for name in ("envoy", "listeners", "clusters"):
        (place / "xds" / f"{name}.yaml").write_text(made[f"envoy/xds/{name}.yaml"])
    config = place / "xds" / "envoy.yaml"
    said = validated(envoy, config)
    assert said.returncode == 0, said.stderr
    admin = f"http://{LOOPBACK}:{ports.envoy_admin}"
    with running(envoy, config, f"http://{LOOPBACK}:{ports.envoy}/"):

        def count(kind: str) -> int:
            shown = call("GET", f"{admin}/{kind}?format=json").json()
            return len(shown.get("listener_statuses") or shown.get("cluster_statuses") or [])

        assert (count("listeners"), count("clusters")) == (3, 4)
        # One listener less: a file put in the place of the old one counts at once.
        listeners = place / "xds" / "listeners.yaml"
        shorter, cut, _ = listeners.read_text().partition("    # Figures for Prometheus")
        assert cut
        new = listeners.with_suffix(".new")
        new.write_text(shorter)
        new.replace(listeners)
        eventually(lambda: count("listeners") == 2, 10, "the listener is gone")
        assert call("GET", f"http://{LOOPBACK}:{ports.envoy}/").status == 421


def test_the_full_configuration_shows_figures_and_nothing_else_of_the_admin_port(place: Path, envoy: Path) -> None:
    around = deployed_in(place)
    config = place / "full.yaml"
    config.write_text(envoy_files.files(around)["envoy/full.yaml"])
    url = f"http://{LOOPBACK}:{around.stats_port}"
    with running(envoy, config, f"{url}/ready"):
        assert b"keybrake_open_requests" in call("GET", f"{url}/stats/prometheus").body
        for method, path in [
            ("POST", "/quitquitquit"),
            ("GET", "/config_dump"),
            ("GET", "/stats"),
            ("GET", "/stats/prometheus/../../config_dump"),
            ("POST", "/stats/prometheus"),
            ("GET", "/"),
        ]:
            assert call(method, url + path).status == 404, path


# The smallest one is a whole gate


def test_the_minimal_configuration_takes_a_charge(fresh: Callable[..., Keybrake], envoy: Path) -> None:
    kb = fresh()
    key = kb.issue(daily_usd_cap=10)
    with minimal(kb, envoy, shipped("minimal.yaml")) as url:
        name = fresh_key()
        paid = kb.charge(key, 299, idempotency_key=name, url=url)
        assert paid.status_code == 200, paid.text
        assert kb.charge(key, 299, idempotency_key=name, url=url).json()["id"] == paid.json()["id"]
        with nothing_reaches_the_vendor(kb):
            expect_refusal(kb.charge(key, 900, url=url), 402, "spend_cap_exceeded")
            expect_refusal(kb.post(key, "/v1/refunds", {"charge": "ch_1"}, url=url), 403, "endpoint_not_allowed")
        assert kb.executions(name) == 1
        assert kb.counts()["rejected_credentials"] == []
        doctor = subprocess.run(
            [kb.stack.artifacts.ledger, "doctor", f"{url}/v1/charges"], capture_output=True, text=True, check=False
        )
        assert doctor.returncode == 0, doctor.stdout


# Routes on which the filter is off


def with_routes(routes: str, clusters: str = "") -> str:
    """`minimal.yaml` with routes before its own, and clusters."""
    text = shipped("minimal.yaml")
    before = "                        # No retry policy, here and everywhere"
    text = replaced(text, {before: indented(routes, 24) + before})
    return text + "\n" + indented(clusters, 4)


def test_with_the_filter_off_on_a_route_to_the_vendor_the_guard_refuses(
    fresh: Callable[..., Keybrake], envoy: Path
) -> None:
    """The half that is left: no filter, no admission, no credential."""
    kb = fresh()
    off = replaced(example("The filter is off on this route"), {"cluster: partner": "cluster: stripe"})
    filter_only = re.sub(r"(?ms)^    admitted_reads_only:.*?(?=^\S|^  \S|\Z)", "", off)
    assert "admitted_reads_only" not in filter_only
    with minimal(kb, envoy, with_routes(filter_only)) as url, nothing_reaches_the_vendor(kb):
        for method in ("GET", "POST"):
            answer = kb.request(method, "/partner/v1/charges", key=kb.issue(), url=url)
            assert answer.status_code == 403
            assert answer.text == "RBAC: access denied"


def test_a_route_without_the_filter_leads_to_a_cluster_without_the_credential(
    fresh: Callable[..., Keybrake], envoy: Path
) -> None:
    kb = fresh()
    text = with_routes(example("The filter is off on this route"), example("A cluster without a credential"))
    address = f"socket_address: {{address: {LOOPBACK}, port_value: {kb.stack.options.ports.sandbox}}}"
    assert kb.stack.sandbox is not None
    text = replaced(text, {"socket_address: {address: api.partner.example, port_value: 443}": address})
    text = replaced(
        text, {"exact: api.partner.example": "exact: localhost", "sni: api.partner.example": "sni: localhost"}
    )
    with minimal(kb, envoy, text) as url:
        own = "Bearer the-callers-own-credential"
        answer = kb.request("GET", "/partner/v1/charges", url=url, headers={"Authorization": own})
        assert answer.status_code == 401, answer.text
        digest = hashlib.sha256(b"the-callers-own-credential").hexdigest()
        assert [entry["sha256"] for entry in kb.counts()["rejected_credentials"]] == [digest]
        # Without one none is put in.
        before = kb.counts()["missing_credentials"]
        assert kb.request("GET", "/partner/v1/charges", url=url).status_code == 401
        assert kb.counts()["missing_credentials"] == before + 1
        # The other route is governed as before.
        assert kb.charge(kb.issue(), 100, url=url).status_code == 200


# The plugin configuration


def table() -> list[dict[str, Any]]:
    """The lines that the filter's own tests judge as well (tests/tests/plugin_schema.rs)."""
    return [json.loads(line) for line in TABLE.read_text().splitlines()]


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(shipped("plugin.schema.json"))
    return loaded


def test_the_schema_judges_as_the_filter_does() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    judge = jsonschema.Draft202012Validator(schema())
    for case in table():
        assert judge.is_valid(case["config"]) is ("names" not in case), case
    assert judge.is_valid(json.loads(shipped("plugin.example.json")))


def test_every_plugin_configuration_that_is_shipped_fits_the_schema() -> None:
    judge = jsonschema.Draft202012Validator(schema())
    found = 0
    for name in ("minimal.yaml", "full.yaml", "xds/listeners.yaml"):
        for text in plugin_texts(shipped(name)):
            judge.validate(json.loads(text))
            found += 1
    assert found == 5


def plugin_texts(config: str) -> list[str]:
    def walk(value: Any) -> list[str]:
        if isinstance(value, list):
            return [text for entry in value for text in walk(entry)]
        if not isinstance(value, dict):
            return []
        own = value.get("configuration")
        here = [own["value"]] if isinstance(own, dict) and "value" in own else []
        return here + [text for entry in value.values() for text in walk(entry)]

    return walk(yaml.safe_load(config))


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ('"hosts": ["*"], "host": "x"', "vendors[0]: unknown field `host`"),
        ('"hosts": ["API.stripe.com"]', "vendors[0].hosts: host names in lower case"),
    ],
)
def test_envoy_refuses_a_mistake_and_names_the_field(place: Path, envoy: Path, mistake: str, named: str) -> None:
    config = place / "wrong.yaml"
    config.write_text(in_place(replaced(shipped("minimal.yaml"), {'"hosts": ["*"]': mistake}), place))
    said = validated(envoy, config)
    assert said.returncode != 0
    assert f"plugin configuration: {named}" in said.stderr
    assert said.stderr.count("plugin configuration: ") == 1
