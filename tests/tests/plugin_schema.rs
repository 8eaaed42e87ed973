//! `envoy/plugin.schema.json` says what the filter does: the same fields, bounds and defaults, and the same verdict on each
//! line of `tests/plugin_configurations.jsonl`. (The end-to-end tests ask a JSON Schema validator about the same lines.)

use std::collections::BTreeSet;
use std::path::Path;

use keybrake_policy::config::PluginConfig;
use serde_json::{Value, json};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("envoy/plugin.schema.json")).unwrap()
}

fn refusal(config: &Value) -> String {
    PluginConfig::parse(config.to_string().as_bytes())
        .unwrap_err()
        .to_string()
}

fn smallest() -> Value {
    json!({"commands_cluster": "c", "vendors": [{"pack": "stripe", "cluster": "s", "prefix": "/stripe"}]})
}

/// The fields that a refusal of an unknown one lists.
fn known(message: &str) -> BTreeSet<String> {
    let (_, listed) = message.split_once("expected one of ").unwrap();
    let mut words = listed.split('`');
    std::iter::from_fn(|| words.nth(1).map(str::to_owned)).collect()
}

fn described(properties: &Value) -> BTreeSet<String> {
    properties.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_knows_every_field_and_no_other() {
    let schema = schema();
    let mut config = smallest();
    config["surprise"] = json!(1);
    assert_eq!(known(&refusal(&config)), described(&schema["properties"]));
    let mut config = smallest();
    config["vendors"][0]["surprise"] = json!(1);
    assert_eq!(
        known(&refusal(&config)),
        described(&schema["$defs"]["vendor"]["properties"])
    );
}

#[test]
fn the_schema_knows_every_built_in_pack() {
    let schema = schema();
    let listed: BTreeSet<&str> =
        schema["$defs"]["vendor"]["properties"]["pack"]["anyOf"][0]["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
    assert_eq!(listed, keybrake_pack::builtin_names().collect());
}

#[test]
fn every_figure_has_the_bounds_of_the_schema() {
    let schema = schema();
    let mut figures = 0;
    for (name, about) in schema["properties"].as_object().unwrap() {
        if about["type"] != "integer" {
            continue;
        }
        figures += 1;
        let (least, most) = (
            about["minimum"].as_u64().unwrap(),
            about["maximum"].as_u64().unwrap(),
        );
        let with = |value: Value| {
            let mut config = smallest();
            config[name] = value;
            config
        };
        for fine in [least, most] {
            assert!(
                PluginConfig::parse(with(json!(fine)).to_string().as_bytes()).is_ok(),
                "{name}: {fine}"
            );
        }
        let expected = format!("{name}: a whole number from {least} to {most}");
        for wrong in [json!(most + 1), json!(i128::from(least) - 1)] {
            let message = refusal(&with(wrong));
            assert!(message.contains(&expected), "{message}");
        }
    }
    assert_eq!(figures, 10);
}

#[test]
fn the_example_holds_the_defaults_of_filter_and_schema() {
    let example: Value = serde_json::from_str(&read("envoy/plugin.example.json")).unwrap();
    let schema = schema();
    let mut shortened = example.clone();
    for (name, about) in schema["properties"].as_object().unwrap() {
        if let Some(default) = about.get("default") {
            assert_eq!(&example[name], default, "{name}");
            shortened.as_object_mut().unwrap().remove(name);
        }
    }
    let parsed = |config: &Value| {
        format!(
            "{:?}",
            PluginConfig::parse(config.to_string().as_bytes()).unwrap()
        )
    };
    assert_eq!(parsed(&example), parsed(&shortened));
}

#[test]
fn each_line_of_the_table_is_judged_and_a_mistake_is_named() {
    for line in read("tests/plugin_configurations.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let made = PluginConfig::parse(case["config"].to_string().as_bytes());
        match case.get("names") {
            None => assert!(made.is_ok(), "{line}: {:?}", made.err()),
            Some(names) => {
                let message = made.unwrap_err().to_string();
                assert!(
                    message.contains(names.as_str().unwrap()),
                    "{line}: {message}"
                );
            }
        }
    }
}
