"""The manifests in `deploy/`: every object fits its schema, every Envoy configuration in them loads in a real Envoy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from manifests import DEPLOY, Manifest, files, manifests, merged, named, only, patched
from own_envoy import CONFIG_FOLDER, shipped, validated

NODE = Path(__file__).resolve().parent / "node" / "manifests.mjs"
FOLDERS = ("kubernetes", "istio", "istio-ambient", "envoy-gateway")
KUBERNETES = "1.33"
CORE = ("v1", "apps/v1", "policy/v1", "networking.k8s.io/v1")
# Kinds that no schema is to be had for here.
NO_SCHEMA = ("gateway.envoyproxy.io/v1alpha1", "kustomize.config.k8s.io/v1beta1")
MOUNTED_SDS = "/etc/keybrake-sds"
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
UPSTREAM_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def objects(of: str) -> list[tuple[str, Manifest]]:
    """All that the schemas of `core` Kubernetes or of a `mesh` know, with the folder and file they stand in."""
    found = [
        (f"{folder}/{name}: {one['kind']} {one['metadata']['name']}", one)
        for folder in FOLDERS
        for name, one in manifests(folder)
        if one["apiVersion"] not in NO_SCHEMA and (one["apiVersion"] in CORE) is (of == "core")
    ]
    assert found
    return found


# Schemas


@pytest.mark.parametrize(("where", "manifest"), objects("core"), ids=[where for where, _ in objects("core")])
def test_every_core_object_fits_its_schema_with_no_unknown_field(where: str, manifest: Manifest) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert where


def mistakes(of: list[Manifest]) -> list[str]:
    """What the schemas of Istio and of the Gateway API say."""
    said = subprocess.run(["node", NODE], input=json.dumps(of), capture_output=True, text=True, check=True)
    found: list[str] = json.loads(said.stdout)
    return found


def test_every_object_of_istio_and_of_the_gateway_api_fits_its_schema() -> None:
    checked = [one for _, one in objects("mesh")]
    assert {one["kind"] for one in checked} >= {
        "EnvoyFilter",
        "ServiceEntry",
        "Sidecar",
        "HTTPRoute",
        "BackendTLSPolicy",
    }
    assert mistakes(checked) == []


def test_the_check_of_mesh_objects_sees_wrong_values_and_unknown_fields() -> None:
    wrong = only("istio", "PeerAuthentication", "keybrake")
    wrong["spec"]["mtls"]["mode"] = "MAYBE"
    unknown = only("istio", "DestinationRule", "ledger")
    unknown["spec"]["trafficPolicy"]["outlierDetection"]["intervall"] = "1s"
    told = " ".join(mistakes([wrong, unknown]))
    assert "PeerAuthentication keybrake: data/spec/mtls/mode must be equal to one of the allowed values" in told
    assert "DestinationRule ledger: Object literal may only specify known properties, and '\"intervall\"'" in told


def test_every_kustomization_names_what_is_there() -> None:
    for folder in FOLDERS:
        listed = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text())["resources"]
        left_out = {"kustomization.yaml", "secrets.example.yaml", "workloads.yaml"}
        assert set(listed) == {file.name for file in files(folder)} - left_out


# What they promise


def pods() -> list[Manifest]:
    """The pod templates; of the one that Envoy Gateway makes, what we add to it."""
    kinds = ("Deployment", "StatefulSet")
    found = [
        one["spec"]["template"]["spec"] for folder in FOLDERS for _, one in manifests(folder) if one["kind"] in kinds
    ]
    assert len(found) == 3
    made = only("envoy-gateway", "EnvoyProxy", "keybrake")["spec"]["provider"]["kubernetes"]["envoyDeployment"]
    return [*found, {**made["pod"], "initContainers": made["initContainers"], "containers": []}]


def test_no_pod_runs_as_root_or_can_become_more_than_it_is() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["capabilities"] == {"drop": ["ALL"]}


def test_no_secret_is_in_an_environment_but_the_databases_and_the_examples_are_no_secrets() -> None:
    for pod in pods():
        for container in pod["containers"]:
            secret = [
                entry["name"] for entry in container.get("env", []) if "secretKeyRef" in entry.get("valueFrom", {})
            ]
            assert secret in ([], ["KEYBRAKE_DATABASE_URL"])
            assert "envFrom" not in container
    for name, one in manifests("kubernetes"):
        if one["kind"] == "Secret":
            assert name == "secrets.example.yaml"
            assert all("example-not-a-secret" in text or "vendor_ca" in key for key, text in one["stringData"].items())


def test_workloads_reach_the_gateway_and_dns_and_nothing_else() -> None:
    policy = only("kubernetes", "NetworkPolicy", "vendors-through-keybrake-only")["spec"]
    assert policy["podSelector"] == {} and policy["policyTypes"] == ["Egress"]
    to_gateway, to_dns = policy["egress"]
    assert [peer["podSelector"] for peer in to_gateway["to"]] == [{"matchLabels": {"app.kubernetes.io/name": "envoy"}}]
    assert [port["port"] for port in to_gateway["ports"]] == [10000, 10001]
    assert [port["port"] for port in to_dns["ports"]] == [53, 53]
    # Only Envoy's policy names addresses of the world.
    worldly = [
        one["metadata"]["name"]
        for _, one in manifests("kubernetes")
        if one["kind"] == "NetworkPolicy" and "ipBlock" in json.dumps(one)
    ]
    assert worldly == ["envoy"]


def test_what_is_called_by_the_vendors_own_name_comes_to_the_gate() -> None:
    ports = only("kubernetes", "Service", "keybrake")["spec"]["ports"]
    (container,) = only("kubernetes", "Deployment", "envoy")["spec"]["template"]["spec"]["containers"]
    listeners = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["port"]: listeners[port["targetPort"]] for port in ports} == {10000: 10000, 80: 10000, 10001: 10001}
    egress = of_the_full_configuration()["listeners"][0]
    assert egress["address"]["socket_address"]["port_value"] == 10000
    manager = egress["filter_chains"][0]["filters"][0]["typed_config"]
    assert ["api.stripe.com"] in [host["domains"] for host in manager["route_config"]["virtual_hosts"]]


def test_no_route_of_a_mesh_repeats_a_request_or_leads_to_the_commands() -> None:
    routes = only("istio", "VirtualService", "keybrake")["spec"]["http"]
    assert all(route["retries"] == {"attempts": 0} for route in routes)
    ports = [entry["destination"]["port"]["number"] for route in routes for entry in route["route"]]
    assert 9081 not in ports
    assert not [one for _, one in manifests("envoy-gateway") if one["kind"] == "BackendTrafficPolicy"]


def test_the_certificate_that_the_databases_url_names_is_where_it_says() -> None:
    """The image has none; of the secret only this is a file, the URL is not."""
    secret = only("kubernetes", "Secret", "keybrake-database")["stringData"]
    (named_by_the_url,) = parse_qs(urlsplit(secret["url"]).query)["sslrootcert"]
    pod = only("kubernetes", "StatefulSet", "ledger")["spec"]["template"]["spec"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files_of_it = [
        f"{mounted[volume['name']]}/{item['path']}"
        for volume in pod["volumes"]
        if volume.get("secret", {}).get("secretName") == "keybrake-database"
        for item in volume["secret"]["items"]
        if item["key"] in secret
    ]
    assert files_of_it == [named_by_the_url]


def test_a_ledger_that_is_not_ready_has_an_address_too() -> None:
    """Else the canaries that are to make it ready have no ledger."""
    assert only("kubernetes", "Service", "ledger")["spec"]["publishNotReadyAddresses"] is True


def test_istios_gateway_is_called_by_mutual_tls_since_its_policy_judges_certificates() -> None:
    (rule,) = only("istio", "AuthorizationPolicy", "gateway")["spec"]["rules"]
    assert [list(one["source"]) for one in rule["from"]] == [["namespaces"]]
    (server,) = only("istio", "Gateway", "keybrake")["spec"]["servers"]
    assert (server["port"]["protocol"], server["tls"]) == ("HTTPS", {"mode": "ISTIO_MUTUAL"})
    service = only("istio", "Service", "keybrake")
    assert [list(one["operation"].items()) for one in rule["to"]] == [[("ports", [str(server["port"]["number"])])]]
    assert server["port"]["number"] == service["spec"]["ports"][0]["targetPort"]
    callers = only("istio", "DestinationRule", "keybrake")["spec"]
    assert callers["host"] == "{name}.{namespace}.svc.cluster.local".format(**service["metadata"])
    assert (callers["exportTo"], callers["trafficPolicy"]["tls"]) == (["*"], {"mode": "ISTIO_MUTUAL"})


def test_no_other_namespace_has_routes_on_a_gateway() -> None:
    """One of theirs that is called like the ledgers' would have its gate switched off."""
    (server,) = only("istio", "Gateway", "keybrake")["spec"]["servers"]
    assert server["hosts"] == ["./*"]
    (switched_off,) = [one["match"]["routeConfiguration"] for one in istio_patches() if one["applyTo"] == "HTTP_ROUTE"]
    assert (switched_off["gateway"], switched_off["portNumber"]) == ("keybrake/keybrake", server["port"]["number"])
    (listener,) = only("envoy-gateway", "Gateway", "keybrake")["spec"]["listeners"]
    assert listener["allowedRoutes"] == {"namespaces": {"from": "Same"}}


@pytest.mark.parametrize(("name", "kind"), [("envoy", "Deployment"), ("ledger", "StatefulSet")])
def test_in_ambient_mode_every_port_of_a_pod_has_callers_and_no_other_port_has(name: str, kind: str) -> None:
    """Its policies know numbers, the others names."""
    policy = only("istio-ambient", "AuthorizationPolicy", name)["spec"]
    pod = only("kubernetes", kind, name)["spec"]["template"]
    assert policy["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    opened = {port for rule in policy["rules"] for to in rule["to"] for port in to["operation"]["ports"]}
    ports = [port for container in pod["spec"]["containers"] for port in container["ports"]]
    assert opened == {str(port["containerPort"]) for port in ports}
    (caller,) = {
        one for rule in policy["rules"] for of in rule["from"] for one in of["source"].get("principals", [])
    } or {""}
    account = only("kubernetes", "Deployment", "envoy")["spec"]["template"]["spec"]["serviceAccountName"]
    assert caller == (f"cluster.local/ns/keybrake/sa/{account}" if name == "ledger" else "")


# Envoy configurations


def loads(envoy: Path, place: Path, config: Any) -> Optional[str]:
    """None, or what Envoy has against the configuration."""
    text = config if isinstance(config, str) else json.dumps(config)
    text = text.replace(MOUNTED_SDS, str(place / "sds")).replace(CONFIG_FOLDER, str(place))
    file = place / "envoy.yaml"
    file.write_text(text)
    said = validated(envoy, file)
    return None if said.returncode == 0 else said.stderr


def bootstrap(listener: Manifest, clusters: list[Manifest]) -> Manifest:
    """A whole configuration."""
    return {
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def of_the_full_configuration() -> Manifest:
    """`envoy/full.yaml`, in which the parts below have to stand as well."""
    full: Manifest = yaml.safe_load(shipped("full.yaml"))["static_resources"]
    return full


def upstream_filters(cluster: Manifest) -> list[Manifest]:
    filters: list[Manifest] = cluster["typed_extension_protocol_options"][UPSTREAM_OPTIONS]["http_filters"]
    return filters


def test_the_config_map_loads(place: Path, envoy: Path) -> None:
    assert loads(envoy, place, only("kubernetes", "ConfigMap", "keybrake-envoy")["data"]["envoy.yaml"]) is None


def istio_patches() -> list[Manifest]:
    patches: list[Manifest] = only("istio", "EnvoyFilter", "keybrake")["spec"]["configPatches"]
    return patches


def istio_bootstrap() -> Manifest:
    """The patches of the EnvoyFilter on what Istio's gateway is like."""
    by_kind: dict[str, list[Any]] = {}
    for one in istio_patches():
        by_kind.setdefault(one["applyTo"], []).append(one["patch"]["value"])
    (on_the_ledgers,) = by_kind["HTTP_ROUTE"]
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": HCM,
            "stat_prefix": "outbound_0.0.0.0_10000",
            "http_filters": [*by_kind["HTTP_FILTER"], ROUTER],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "*:10000",
                        "domains": ["*"],
                        "routes": [
                            {"match": {"prefix": "/stripe/"}, "route": {"cluster": "outbound|443||api.stripe.com"}},
                            merged(
                                {"match": {"prefix": "/admin/"}, "route": {"cluster": "outbound|443||api.stripe.com"}},
                                on_the_ledgers,
                            ),
                        ],
                    }
                ]
            },
        },
    }
    listener = merged(
        {
            "name": "0.0.0.0_10000",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
            "filter_chains": [{"filters": [merged(manager, by_kind["NETWORK_FILTER"][0])]}],
        },
        by_kind["LISTENER"][0],
    )
    names = ["outbound|443||api.stripe.com", "outbound|9081||ledger.keybrake.svc.cluster.local"]
    clusters = [merged({"name": name, "type": "STATIC"}, patch) for name, patch in zip(names, by_kind["CLUSTER"])]
    return bootstrap(listener, clusters)


def test_the_patches_of_istio_load(place: Path, envoy: Path) -> None:
    assert loads(envoy, place, istio_bootstrap()) is None


def test_istio_merges_into_the_clusters_that_the_filter_names() -> None:
    wasm = named([one["patch"]["value"] for one in istio_patches() if one["applyTo"] == "HTTP_FILTER"], "keybrake")
    plugin = json.loads(wasm["typed_config"]["config"]["configuration"]["value"])
    matched = [one["match"]["cluster"] for one in istio_patches() if one["applyTo"] == "CLUSTER"]
    names = [f"outbound|{one['portNumber']}||{one['service']}" for one in matched]
    assert [plugin["vendors"][0]["cluster"], plugin["commands_cluster"]] == names
    entry = only("istio", "ServiceEntry", "stripe")["spec"]
    assert f"outbound|{entry['ports'][0]['number']}||{entry['hosts'][0]}" == names[0]


def gateway_bootstrap() -> Manifest:
    """The patches of the EnvoyPatchPolicy on what Envoy Gateway's Envoy is like."""
    listener = {
        "name": "keybrake/keybrake/egress",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 10000}},
        "default_filter_chain": {
            "filters": [
                {
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": HCM,
                        "stat_prefix": "http-10000",
                        "http_filters": [ROUTER],
                        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
                    },
                }
            ]
        },
    }
    vendor = {"name": "httproute/keybrake/stripe/rule/0", "type": "STATIC"}
    found: dict[str, Any] = {listener["name"]: listener, vendor["name"]: vendor}  # type: ignore[dict-item]
    for one in only("envoy-gateway", "EnvoyPatchPolicy", "keybrake")["spec"]["jsonPatches"]:
        operation = one["operation"]
        if operation["path"] == "":
            assert operation["op"] == "add" and one["name"] == operation["value"]["name"]
            found[one["name"]] = operation["value"]
        else:
            found[one["name"]] = patched(found[one["name"]], [operation])
    made = list(found.values())
    return bootstrap(made[0], made[1:])


def test_the_patches_of_envoy_gateway_load(place: Path, envoy: Path) -> None:
    assert loads(envoy, place, gateway_bootstrap()) is None


def managers(config: Manifest) -> Manifest:
    listener = config["static_resources"]["listeners"][0]
    chain = listener.get("default_filter_chain") or listener["filter_chains"][0]
    manager: Manifest = chain["filters"][0]["typed_config"]
    return manager


@pytest.mark.parametrize("made", [istio_bootstrap, gateway_bootstrap])
def test_a_meshs_gate_is_that_of_the_full_configuration(made: Any) -> None:
    """The same guard behind the filter, the same settings that matter, the same filters in the clusters."""
    config, full = made(), of_the_full_configuration()
    ours = full["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    theirs = managers(config)
    names = [one["name"] for one in theirs["http_filters"]]
    assert names == ["keybrake", "admitted_reads_only", "envoy.filters.http.router"]
    guard = "admitted_reads_only"
    assert named(theirs["http_filters"], guard) == named(ours["http_filters"], guard)
    wasm = [named(one["http_filters"], "keybrake")["typed_config"]["config"] for one in (theirs, ours)]
    for field in ("allow_on_headers_stop_iteration", "failure_policy", "root_id"):
        assert wasm[0][field] == wasm[1][field]
    for field in (
        "normalize_path",
        "merge_slashes",
        "path_with_escaped_slashes_action",
        "strip_any_host_port",
        "common_http_protocol_options",
        "max_request_headers_kb",
        "http_protocol_options",
        "http2_protocol_options",
        "use_remote_address",
        "internal_address_config",
    ):
        assert theirs[field] == ours[field], field
    for field in ("request_timeout", "stream_idle_timeout"):
        assert float(theirs[field].rstrip("s")) == float(ours[field].rstrip("s")), field
    for cluster, of_ours in zip(config["static_resources"]["clusters"], full["clusters"]):
        with_our_places = json.loads(json.dumps(upstream_filters(cluster)).replace(MOUNTED_SDS, f"{CONFIG_FOLDER}/sds"))
        assert with_our_places == upstream_filters(of_ours)


@pytest.mark.parametrize("made", [istio_bootstrap, gateway_bootstrap])
def test_a_mistake_in_a_meshs_plugin_configuration_would_be_seen(made: Any, place: Path, envoy: Path) -> None:
    text = json.dumps(made()).replace("commands_cluster", "command_cluster")
    said = loads(envoy, place, text)
    assert said is not None and "plugin configuration: unknown field `command_cluster`" in said
