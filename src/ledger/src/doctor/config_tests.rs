use serde_json::json;

use super::super::State;
use super::*;

/// A configuration as Envoy shows it, with one listener, its gate, its guard and one vendor.
fn dump() -> Value {
    let plugin = json!({"commands_cluster": "keybrake_commands", "vendors": [{"pack": "stripe", "cluster": "stripe"}]});
    let filter = |name: &str, kind: &str, more: Value| {
        let mut config = json!({"@type": format!("type.googleapis.com/envoy.{kind}")});
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"name": name, "typed_config": config})
    };
    let gate = filter(
        "keybrake",
        WASM,
        json!({"config": {
            "failure_policy": "FAIL_RELOAD",
            "allow_on_headers_stop_iteration": true,
            "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string()},
        }}),
    );
    let guard = filter(
        "guard",
        RBAC,
        json!({"rules": {"policies": {"p": {"principals": [{"filter_state": {"key": ADMITTED}}]}}}}),
    );
    let router = filter("router", ROUTER, json!({}));
    let manager = json!({
        "@type": format!("type.googleapis.com/envoy.extensions.filters.network.{MANAGER}"),
        "http_filters": [gate, guard, router],
        "route_config": {"name": "egress", "virtual_hosts": [{"name": "v", "routes": [
            {"match": {"prefix": "/stripe/"}, "route": {"cluster": "stripe"}},
            {"match": {"prefix": "/admin/"}, "route": {"cluster": "keybrake_api"},
             "typed_per_filter_config": {"keybrake": {"disabled": true}}},
        ]}]},
    });
    let listener =
        json!({"name": "egress", "filter_chains": [{"filters": [{"typed_config": manager}]}]});
    json!({"configs": [
        {"static_listeners": [{"listener": listener}],
         // Shown, and not in force: what Envoy was started with, and an update that it refused.
         "bootstrap": {"static_resources": {"listeners": [listener]}},
         "dynamic_listeners": [{"name": "new", "error_state": {"failed_configuration": {"name": "new", "filter_chains": [{"filters": [{"typed_config": manager}]}]}}}]},
        {"static_clusters": [
            {"cluster": {"name": "stripe", "typed_extension_protocol_options": {"http": {"http_filters": [{"name": "envoy.filters.http.credential_injector"}]}}}},
            {"cluster": {"name": "keybrake_api"}},
        ]},
    ]})
}

const MANAGER_AT: &str =
    "/configs/0/static_listeners/0/listener/filter_chains/0/filters/0/typed_config";

fn at<'a>(dump: &'a mut Value, path: &str) -> &'a mut Value {
    dump.pointer_mut(&format!("{MANAGER_AT}{path}")).unwrap()
}

fn faults(dump: &Value) -> Vec<String> {
    let findings = inspect(dump).findings;
    let faults = findings
        .into_iter()
        .filter(|finding| finding.state == State::Fault);
    faults
        .map(|finding| format!("{}: {}", finding.checked, finding.detail))
        .collect()
}

#[test]
fn a_gate_as_it_should_be_has_no_fault() {
    let inspected = inspect(&dump());
    assert_eq!(faults(&dump()), [""; 0]);
    assert_eq!(
        inspected.findings.len(),
        2,
        "the gate and the vendor's cluster"
    );
    assert_eq!(
        inspected.vendor_clusters.into_iter().collect::<Vec<_>>(),
        ["stripe"]
    );
}

#[test]
fn each_mistake_is_named() {
    type Break = fn(&mut Value);
    #[rustfmt::skip]
    let rows: [(Break, &str); 26] = [
        (|dump| { at(dump, "/http_filters/0/typed_config/config").as_object_mut().unwrap().remove("allow_on_headers_stop_iteration"); },
         "requests with a body hang"),
        (|dump| *at(dump, "/http_filters/0/typed_config/config/allow_on_headers_stop_iteration") = json!(false),
         "requests with a body hang"),
        (|dump| *at(dump, "/http_filters/0/typed_config/config/failure_policy") = json!("FAIL_OPEN"), "it fails open"),
        (|dump| { at(dump, "/http_filters/0/typed_config/config")["fail_open"] = json!(true); }, "it fails open"),
        (|dump| *at(dump, "/http_filters/0/typed_config/config/failure_policy") = json!("FAIL_CLOSED"), "not FAIL_RELOAD"),
        (|dump| { at(dump, "/http_filters").as_array_mut().unwrap().remove(1); }, "no RBAC filter behind it"),
        (|dump| at(dump, "/http_filters").as_array_mut().unwrap().swap(0, 1), "the RBAC guard stands before it"),
        (|dump| at(dump, "/http_filters").as_array_mut().unwrap().swap(1, 2), "guard stands behind the router"),
        (|dump| at(dump, "/http_filters").as_array_mut().unwrap().swap(0, 2), "it stands behind the router"),
        (|dump| { at(dump, "/http_filters").as_array_mut().unwrap().remove(0); }, "leads to stripe, where the real credential is put in, and has no gate"),
        (|dump| *at(dump, "/http_filters/1/typed_config/rules") = json!({}), "no RBAC filter behind it"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0/routes/0")["typed_per_filter_config"] = json!({"keybrake": {"disabled": true}}); },
         "a route to cluster stripe switches keybrake off"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0")["typed_per_filter_config"] = json!({"keybrake": {"disabled": true}}); },
         "a route to cluster stripe switches keybrake off"),
        (|dump| { at(dump, "/route_config")["typed_per_filter_config"] = json!({"guard": {"disabled": true}}); },
         "a route to cluster stripe switches guard off"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0/routes/0")["typed_per_filter_config"] =
            json!({"guard": {"@type": format!("type.googleapis.com/envoy.{RBAC_PER_ROUTE}")}}); },
         "a route to cluster stripe switches guard off"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0/routes/0")["typed_per_filter_config"] =
            json!({"guard": {"@type": format!("type.googleapis.com/envoy.{RBAC_PER_ROUTE}"), "rbac": {}}}); },
         "a route to cluster stripe switches guard off"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0/routes/0")["typed_per_filter_config"] =
            json!({"guard": {"@type": format!("type.googleapis.com/envoy.{RBAC_PER_ROUTE}"), "rbac": {"rules": {"policies":
                {"p": {"principals": [{"any": true}]}}}}}}); },
         "a route to cluster stripe switches guard off"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0/routes/0")["typed_per_filter_config"] =
            json!({"guard": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config":
                {"@type": format!("type.googleapis.com/envoy.{RBAC_PER_ROUTE}")}}}); },
         "a route to cluster stripe switches guard off"),
        (|dump| { let rules = at(dump, "/http_filters/1/typed_config/rules").take();
                  at(dump, "/http_filters/1/typed_config")["shadow_rules"] = rules; },
         "no RBAC filter behind it"),
        (|dump| at(dump, "/http_filters/1/typed_config/rules")["action"] = json!("LOG"), "no RBAC filter behind it"),
        (|dump| { at(dump, "/route_config/virtual_hosts/0/routes/0")["route"] = json!({"weighted_clusters": {"clusters": [
            {"name": "stripe", "typed_per_filter_config": {"keybrake": {"disabled": true}}}]}}); },
         "a route to cluster stripe switches keybrake off"),
        (|dump| { at(dump, "/http_filters").as_array_mut().unwrap().remove(0);
                  at(dump, "/route_config/virtual_hosts/0/routes/0")["route"] = json!({"cluster_header": "x-cluster"}); },
         "leads to stripe, where the real credential is put in, and has no gate"),
        (|dump| { at(dump, "/http_filters").as_array_mut().unwrap().remove(0);
                  at(dump, "/route_config/virtual_hosts/0/routes/0")["route"] = json!({"weighted_clusters": {"clusters": [
            {"cluster_header": "x-cluster"}]}}); },
         "leads to stripe, where the real credential is put in, and has no gate"),
        (|dump| { let route = at(dump, "/route_config/virtual_hosts/0/routes/0");
                  route["route"] = json!({"inline_cluster_specifier_plugin": {"extension": {"name": "chooses"}}});
                  route["typed_per_filter_config"] = json!({"keybrake": {"disabled": true}}); },
         "a route to cluster stripe switches keybrake off"),
        (|dump| { at(dump, "/http_filters/0")["disabled"] = json!(true); }, "leads to stripe, where the real credential is put in, and has no gate"),
        (|dump| *dump.pointer_mut("/configs/1/static_clusters/0/cluster").unwrap() = json!({"name": "stripe"}), "no upstream credential_injector"),
    ];
    for (number, (damage, part)) in rows.into_iter().enumerate() {
        let mut damaged = dump();
        damage(&mut damaged);
        let faults = faults(&damaged);
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{number}: {part:?} in {faults:?}"
        );
    }
}

#[test]
fn what_stands_nearest_to_the_cluster_counts() {
    let mut nearest = dump();
    at(&mut nearest, "/route_config/virtual_hosts/0")["typed_per_filter_config"] =
        json!({"keybrake": {"disabled": true}});
    at(&mut nearest, "/route_config/virtual_hosts/0/routes/0")["typed_per_filter_config"] =
        json!({"keybrake": {"disabled": false}});
    assert_eq!(faults(&nearest), [""; 0]);
}

#[test]
fn routes_that_come_by_name_are_followed_too() {
    let mut by_name = dump();
    let routes = at(&mut by_name, "/route_config").take();
    at(&mut by_name, "")
        .as_object_mut()
        .unwrap()
        .remove("route_config");
    at(&mut by_name, "")["rds"] = json!({"route_config_name": "egress"});
    by_name["configs"]
        .as_array_mut()
        .unwrap()
        .push(json!({"dynamic_route_configs": [{"route_config": routes}]}));
    assert_eq!(faults(&by_name), [""; 0]);
    at(&mut by_name, "/http_filters")
        .as_array_mut()
        .unwrap()
        .remove(0);
    assert!(
        faults(&by_name)
            .iter()
            .any(|fault| fault.contains("has no gate"))
    );
}

#[test]
fn an_envoy_without_a_gate_is_told() {
    assert!(faults(&json!({"configs": []}))[0].contains("not governed here"));
    assert!(faults(&json!([1, "x", null]))[0].contains("not governed here"));
}
