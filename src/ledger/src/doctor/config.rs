//! What Envoy's own configuration (`/config_dump` of its admin port) says about the gate.
//!
//! The dump is read as it is, loosely: control planes write the same thing in several ways, and what is not found is a fault.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Finding;

const WASM: &str = "extensions.filters.http.wasm.v3.Wasm";
const RBAC: &str = "extensions.filters.http.rbac.v3.RBAC";
const RBAC_PER_ROUTE: &str = "extensions.filters.http.rbac.v3.RBACPerRoute";
const ROUTER: &str = "extensions.filters.http.router.v3.Router";
const MANAGER: &str = "http_connection_manager.v3.HttpConnectionManager";
const INJECTOR: &str = "credential_injector";
/// Only a plugin configuration of ours has this member.
const OURS: &str = "commands_cluster";
/// What the guard behind the gate looks for.
const ADMITTED: &str = "wasm.keybrake_admitted";

/// What a configuration comes to.
#[derive(Debug, Default)]
pub(super) struct Inspected {
    pub findings: Vec<Finding>,
    /// Clusters of vendors, as the gates name them.
    pub vendor_clusters: BTreeSet<String>,
}

/// Looks through a dump.
pub(super) fn inspect(dump: &Value) -> Inspected {
    let mut inspected = Inspected::default();
    let mut managers = Vec::new();
    find_managers(dump, "", &mut managers);
    let injecting = injecting_clusters(dump);
    let routes = route_configurations(dump);
    let mut gates: usize = 0;
    for (listener, manager) in &managers {
        let filters = filters_of(manager);
        let configuration = configuration_of(manager, &routes);
        let ways = configuration.map(ways_in).unwrap_or_default();
        match filters.iter().position(|filter| is_gate(filter)) {
            Some(position) => {
                gates = gates.saturating_add(1);
                let vendors = gate(listener, &filters, position, &mut inspected.findings);
                switched_off(
                    listener,
                    &ways,
                    &filters,
                    position,
                    &vendors,
                    &mut inspected.findings,
                );
                inspected.vendor_clusters.extend(vendors);
            }
            None => {
                let is_open = |cluster: &&String| ways.iter().any(|way| way.leads_to(cluster));
                let open: Vec<_> = injecting.iter().filter(is_open).cloned().collect();
                if !open.is_empty() {
                    inspected.findings.push(Finding::fault(
                        format!("listener {listener}"),
                        format!(
                            "it leads to {}, where the real credential is put in, and has no gate: whoever reaches it spends without one",
                            open.join(", ")
                        ),
                    ));
                }
            }
        }
    }
    if gates == 0 {
        let detail = "no listener has a wasm filter with our plugin configuration: requests are not governed here";
        inspected.findings.push(Finding::fault("the gate", detail));
    }
    for cluster in &inspected.vendor_clusters {
        let checked = format!("cluster {cluster}");
        inspected.findings.push(if injecting.contains(cluster) {
            Finding::ok(checked, "the real credential is put in by its own credential_injector")
        } else {
            Finding::fault(
                checked,
                "it has no upstream credential_injector: the vendor would refuse every call, or the credential is put in somewhere \
                 that the gate does not guard",
            )
        });
    }
    inspected
}

/// Judges a gate. Gives the clusters of its vendors.
fn gate(
    listener: &str,
    filters: &[&Value],
    position: usize,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let checked = format!("gate of listener {listener}");
    let mut faults = Vec::new();
    let config = filters
        .get(position)
        .and_then(|filter| filter.pointer("/typed_config/config"));
    let member = |name: &str| config.and_then(|config| config.get(name));
    if member("allow_on_headers_stop_iteration") != Some(&Value::Bool(true)) {
        faults.push(
            "`allow_on_headers_stop_iteration: true` is not in its PluginConfig (or was dropped on the way): requests with a body \
             hang",
        );
    }
    let is_open = member("fail_open") == Some(&Value::Bool(true))
        || member("failure_policy").and_then(Value::as_str) == Some("FAIL_OPEN");
    if is_open {
        faults.push("it fails open: after a trap every request passes unseen; set `failure_policy: FAIL_RELOAD`");
    } else if member("failure_policy").and_then(Value::as_str) != Some("FAIL_RELOAD") {
        faults.push("`failure_policy` is not FAIL_RELOAD: after a trap it refuses everything until Envoy is started again");
    }
    let guard = filters.iter().position(|filter| is_guard(filter));
    let router = filters.iter().position(|filter| is_a(filter, ROUTER));
    match guard {
        None => faults.push(
            "no RBAC filter behind it asks for wasm.keybrake_admitted: without the filter's word requests would get the real \
             credential",
        ),
        Some(guard) if guard < position => faults.push("the RBAC guard stands before it: it must stand behind"),
        Some(guard) if router.is_some_and(|router| router < guard) => {
            faults.push("the RBAC guard stands behind the router, where nothing comes");
        }
        Some(_) => {}
    }
    if router.is_some_and(|router| router < position) {
        faults.push("it stands behind the router, where nothing comes");
    }
    if faults.is_empty() {
        let detail = "before the guard and the router, FAIL_RELOAD, bodies are waited for";
        findings.push(Finding::ok(checked, detail));
    } else {
        findings.extend(
            faults
                .into_iter()
                .map(|fault| Finding::fault(checked.clone(), fault)),
        );
    }
    plugin(config).map(vendor_clusters).unwrap_or_default()
}

/// Routes to a vendor on which the gate or its guard is switched off.
fn switched_off(
    listener: &str,
    ways: &[Way<'_>],
    filters: &[&Value],
    position: usize,
    vendors: &[String],
    findings: &mut Vec<Finding>,
) {
    let name = |filter: &&Value| {
        filter
            .get("name")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let gate = filters.get(position).and_then(name);
    let guard = filters
        .iter()
        .find(|filter| is_guard(filter))
        .and_then(name);
    for way in ways {
        for cluster in vendors.iter().filter(|vendor| way.leads_to(vendor)) {
            for off in [&gate, &guard].into_iter().flatten() {
                if way.switches_off(off) {
                    findings.push(Finding::fault(
                        format!("gate of listener {listener}"),
                        format!("a route to cluster {cluster} switches {off} off"),
                    ));
                }
            }
        }
    }
}

fn is_a(filter: &Value, kind: &str) -> bool {
    filter
        .pointer("/typed_config/@type")
        .and_then(Value::as_str)
        .is_some_and(|name| name.ends_with(kind))
}

fn is_gate(filter: &Value) -> bool {
    is_a(filter, WASM) && plugin(filter.pointer("/typed_config/config")).is_some()
}

fn is_guard(filter: &Value) -> bool {
    is_a(filter, RBAC) && filter.get("typed_config").is_some_and(asks_for_admission)
}

/// Whether what is enforced (shadow rules and the action `LOG` are not) looks for the filter's word.
fn asks_for_admission(rbac: &Value) -> bool {
    let rules = rbac.get("rules").filter(|rules| {
        let action = rules.get("action").and_then(Value::as_str);
        matches!(action, None | Some("ALLOW"))
    });
    [rules, rbac.get("matcher")]
        .into_iter()
        .flatten()
        .any(|enforced| enforced.to_string().contains(ADMITTED))
}

/// The plugin configuration, when it is ours.
fn plugin(config: Option<&Value>) -> Option<Value> {
    let configuration = config?.get("configuration")?;
    let plugin = match configuration.get("value") {
        Some(Value::String(text)) => serde_json::from_str(text).ok()?,
        Some(value) => value.clone(),
        None => configuration.clone(),
    };
    plugin.get(OURS).is_some().then_some(plugin)
}

fn vendor_clusters(plugin: Value) -> Vec<String> {
    let vendors = plugin.get("vendors").and_then(Value::as_array);
    vendors
        .into_iter()
        .flatten()
        .filter_map(|vendor| vendor.get("cluster")?.as_str().map(str::to_owned))
        .collect()
}

/// Every HTTP connection manager, with the name of its listener.
fn find_managers<'a>(value: &'a Value, listener: &str, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(members) => {
            let is_manager = members
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|kind| kind.ends_with(MANAGER));
            if is_manager {
                found.push((listener.to_owned(), value));
                return;
            }
            let named = members.get("filter_chains").and(members.get("name"));
            let listener = named.and_then(Value::as_str).unwrap_or(listener);
            members
                .iter()
                .filter(|(name, _)| is_in_force(name))
                .for_each(|(_, member)| find_managers(member, listener, found));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| find_managers(item, listener, found)),
        _ => {}
    }
}

/// The filters that are on: one that is off unless a route says otherwise guards nothing.
fn filters_of(manager: &Value) -> Vec<&Value> {
    list(manager, "/http_filters")
        .filter(|filter| filter.get("disabled") != Some(&Value::Bool(true)))
        .collect()
}

/// Clusters whose own (upstream) filters put a credential in.
fn injecting_clusters(dump: &Value) -> BTreeSet<String> {
    let mut injecting = BTreeSet::new();
    each_object(dump, &mut |value| {
        let Some(cluster) = value.get("cluster") else {
            return;
        };
        let name = cluster.get("name").and_then(Value::as_str);
        let options = cluster.get("typed_extension_protocol_options");
        if let (Some(name), Some(options)) = (name, options)
            && options.to_string().contains(INJECTOR)
        {
            injecting.insert(name.to_owned());
        }
    });
    injecting
}

/// Route configurations by name.
fn route_configurations(dump: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    each_object(dump, &mut |value| {
        if let (Some(Value::String(name)), Some(Value::Array(_))) =
            (value.get("name"), value.get("virtual_hosts"))
        {
            found.insert(name.clone(), value);
        }
    });
    found
}

fn configuration_of<'a>(
    manager: &'a Value,
    routes: &BTreeMap<String, &'a Value>,
) -> Option<&'a Value> {
    manager.get("route_config").or_else(|| {
        let name = manager.pointer("/rds/route_config_name")?.as_str()?;
        routes.get(name).copied()
    })
}

/// A way from a route configuration to a cluster, and what may configure filters on it: the nearest to the cluster first.
struct Way<'a> {
    /// None: whichever the request or an extension says.
    cluster: Option<&'a str>,
    scopes: Vec<&'a Value>,
}

impl Way<'_> {
    fn leads_to(&self, cluster: &str) -> bool {
        self.cluster.is_none_or(|own| own == cluster)
    }

    /// Whether this filter is off on it, or guards something else. The nearest configuration counts, as in Envoy.
    fn switches_off(&self, filter: &str) -> bool {
        let configs = self.scopes.iter();
        let nearest = configs
            .filter_map(|scope| scope.get("typed_per_filter_config")?.get(filter))
            .next();
        nearest.is_some_and(|config| {
            // A `FilterConfig` has the filter's own in it.
            let own = config.get("config").unwrap_or(config);
            let kind = own.get("@type").and_then(Value::as_str);
            let is_other_guard = kind.is_some_and(|kind| kind.ends_with(RBAC_PER_ROUTE))
                && !own.get("rbac").is_some_and(asks_for_admission);
            is_other_guard || config.get("disabled") == Some(&Value::Bool(true))
        })
    }
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn ways_in(configuration: &Value) -> Vec<Way<'_>> {
    let mut ways = Vec::new();
    for host in list(configuration, "/virtual_hosts") {
        for route in list(host, "/routes") {
            let scopes = vec![route, host, configuration];
            for cluster in list(route, "/route/weighted_clusters/clusters") {
                ways.push(Way {
                    cluster: cluster.get("name").and_then(Value::as_str),
                    scopes: std::iter::once(cluster).chain(scopes.clone()).collect(),
                });
            }
            // Not one that redirects or answers by itself, nor one to weighted clusters.
            let action = route.get("route");
            if action.is_some_and(|action| action.get("weighted_clusters").is_none()) {
                ways.push(Way {
                    cluster: route.pointer("/route/cluster").and_then(Value::as_str),
                    scopes,
                });
            }
        }
    }
    ways
}

fn each_object<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    match value {
        Value::Object(members) => {
            visit(value);
            members
                .iter()
                .filter(|(name, _)| is_in_force(name))
                .for_each(|(_, member)| each_object(member, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| each_object(item, visit)),
        _ => {}
    }
}

/// What is being replaced, what was refused, and what Envoy was started with (and shows again where it stands in force) is not.
fn is_in_force(member: &str) -> bool {
    !matches!(
        member,
        "bootstrap" | "draining_state" | "error_state" | "warming_state"
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
