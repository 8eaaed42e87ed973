//! The admin and audit API through the real binary: the published call, roles, bad input, the life of a key.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod support;

use serde_json::{Value, json};
use support::{ADMIN, AUDIT, FIVE_FIELDS, INTERNAL, Service};

const KEYS: &str = "/admin/vault_keys";

#[test]
fn the_published_call_works_byte_for_byte() {
    let service = Service::start();
    let answer = service.api("POST", KEYS, ADMIN, Some(FIVE_FIELDS));
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let key = answer.json();
    let secret = key["vault_key"].as_str().unwrap();
    assert!(keybrake_contract::vault_key::digest(secret.as_bytes()).is_ok());
    assert!(key["key_id"].as_str().unwrap().starts_with("vk_"));
    for (field, expected) in [
        ("label", json!("metaflow-2026-07-cus_aaa")),
        ("vendor", json!("stripe")),
        ("allowed_endpoints", json!(["POST /v1/charges"])),
        ("daily_usd_cap", json!("10.99")),
        ("monthly_usd_cap", Value::Null),
        ("uncapped", json!(false)),
        ("workspace", json!("default")),
        ("idempotency", json!("required")),
        ("status", json!("active")),
        ("version", json!(1)),
    ] {
        assert_eq!(key[field], expected, "{field}");
    }
    let expires: jiff::Timestamp = key["expires_at"].as_str().unwrap().parse().unwrap();
    let created: jiff::Timestamp = key["created_at"].as_str().unwrap().parse().unwrap();
    let life = expires.as_millisecond() - created.as_millisecond();
    assert!((7_199_000..=7_200_000).contains(&life), "{life} ms");

    let shown = service.api(
        "GET",
        &format!("{KEYS}/{}", key["key_id"].as_str().unwrap()),
        ADMIN,
        None,
    );
    assert!(!shown.text().contains(secret), "the secret is shown once");
    let balances = shown.json()["balances"].clone();
    assert_eq!(balances[0]["limit"], "daily_usd_cap");
    assert_eq!(balances[0]["cap"], "10.990000");
    assert_eq!(balances[0]["free"], "10.990000");
}

#[test]
fn each_role_reaches_its_own_routes_only() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let vault_key = key["vault_key"].as_str().unwrap().to_owned();
    let one = format!("{KEYS}/{}", key["key_id"].as_str().unwrap());
    let revoke = r#"{"label_prefix":"none-such"}"#;
    let admin_routes = [
        ("GET", KEYS, None, 200),
        ("GET", one.as_str(), None, 200),
        ("PATCH", one.as_str(), Some(r#"{"label":"x"}"#), 200),
        ("POST", "/admin/vault_keys/revoke", Some(revoke), 200),
        ("POST", KEYS, Some(FIVE_FIELDS), 201),
        ("DELETE", one.as_str(), None, 200),
    ];
    let others = [
        ("", 401),
        ("nobody-knows-this-key", 401),
        (INTERNAL, 401),
        (AUDIT, 403),
        (vault_key.as_str(), 403),
    ];
    for (method, path, body, fine) in admin_routes {
        for (credential, expected) in others {
            let answer = service.api(method, path, credential, body);
            assert_eq!(answer.status, expected, "{method} {path} {credential}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(answer.header("www-authenticate").is_some(), expected == 401);
            assert!(credential.is_empty() || !answer.text().contains(credential));
        }
        assert_eq!(
            service.api(method, path, ADMIN, body).status,
            fine,
            "{method} {path}"
        );
    }
    for (credential, expected) in [
        ("", 401),
        (INTERNAL, 401),
        (ADMIN, 403),
        (&vault_key, 403),
        (AUDIT, 200),
    ] {
        assert_eq!(
            service.api("GET", "/audit", credential, None).status,
            expected,
            "{credential}"
        );
    }
    for open in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(service.api("GET", open, "", None).status, 200, "{open}");
    }
    let twice = format!("authorization: Bearer {ADMIN}\r\nauthorization: Bearer {ADMIN}\r\n");
    assert_eq!(service.raw("GET", KEYS, &twice, None).status, 401);
    assert_eq!(
        service
            .raw("GET", KEYS, "authorization: Basic eDp5\r\n", None)
            .status,
        401
    );
}

#[test]
fn paths_methods_and_media_types_are_strict() {
    let service = Service::start();
    let bearer = format!("authorization: Bearer {ADMIN}\r\n");
    for path in [
        "/",
        "/admin",
        "/audit/",
        "/internal/v1/commands",
        "/internal",
        "/admin/vault_keys/x/y",
    ] {
        let answer = service.api("POST", path, ADMIN, Some("{}"));
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    for (method, path, allow) in [
        ("PUT", KEYS, "GET,HEAD,POST"),
        ("POST", "/audit", "GET,HEAD"),
        ("GET", "/admin/vault_keys/revoke", "POST"),
        ("PUT", "/admin/vault_keys/vk_1", "DELETE,GET,HEAD,PATCH"),
    ] {
        let answer = service.api(method, path, ADMIN, None);
        assert_eq!(answer.status, 405, "{method} {path}");
        let mut allowed: Vec<&str> = answer.header("allow").unwrap().split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
    let form = format!("{bearer}content-type: application/x-www-form-urlencoded\r\n");
    assert_eq!(service.raw("POST", KEYS, &form, None).status, 415);
    assert_eq!(service.raw("POST", KEYS, &bearer, None).status, 415);
    let gzip = format!("{bearer}content-encoding: gzip\r\n");
    assert_eq!(service.raw("POST", KEYS, &gzip, Some("{}")).status, 415);
    let large = format!("{{\"label\":\"{}\"}}", "x".repeat(8 * 1024 * 1024));
    assert_eq!(service.api("POST", KEYS, ADMIN, Some(&large)).status, 413);
    assert_eq!(
        service
            .api("GET", "/admin/vault_keys/vk_none", ADMIN, None)
            .status,
        404
    );
    assert_eq!(
        service
            .api("DELETE", "/admin/vault_keys/%FF", ADMIN, None)
            .status,
        404
    );
    for path in [
        "/admin/vault_keys?labl=x",
        "/healthz?x=1",
        "/admin/vault_keys/vk_1?force=true",
    ] {
        assert_eq!(service.api("GET", path, ADMIN, None).status, 400, "{path}");
    }
    assert_eq!(
        service.api("GET", "/audit?limit=1001", AUDIT, None).status,
        400
    );
    assert_eq!(
        service
            .api("GET", "/audit?cursor=made-up", AUDIT, None)
            .status,
        400
    );
    assert_eq!(
        service
            .api("GET", "/admin/vault_keys?cursor=made-up", ADMIN, None)
            .status,
        400
    );
}

#[test]
fn many_keys_are_issued_all_or_none() {
    let service = Service::start();
    let bad = format!(
        r#"{{"keys":[{FIVE_FIELDS},{}]}}"#,
        support::with("label", "\"\"")
    );
    let answer = service.api("POST", KEYS, ADMIN, Some(&bad));
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["errors"][0]["field"], "keys[1].label");
    for (text, part) in [
        (r#"{"keys":[]}"#.to_owned(), "1 to 1000 members"),
        (r#"{"keys":{}}"#.to_owned(), "must be a list of objects"),
        (
            format!(r#"{{"keys":[{}]}}"#, vec![FIVE_FIELDS; 1001].join(",")),
            "1 to 1000 members",
        ),
        (
            format!(r#"{{"keys":[{FIVE_FIELDS}],"label":"x"}}"#),
            "unknown field; allowed are keys",
        ),
    ] {
        let answer = service.api("POST", KEYS, ADMIN, Some(&text));
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    assert_eq!(
        service.api("GET", KEYS, ADMIN, None).json()["keys"],
        json!([]),
        "none was issued"
    );

    let good = format!(r#"{{"keys":[{}]}}"#, vec![FIVE_FIELDS; 1000].join(","));
    let issued = service.issue(&good);
    let keys = issued["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1000);
    let mut secrets: Vec<&str> = keys
        .iter()
        .map(|key| key["vault_key"].as_str().unwrap())
        .collect();
    secrets.sort_unstable();
    secrets.dedup();
    assert_eq!(secrets.len(), 1000);
    let one = service.issue(&format!(r#"{{"keys":[{FIVE_FIELDS}]}}"#));
    assert_eq!(
        one["keys"].as_array().unwrap().len(),
        1,
        "a list is answered as a list"
    );
}

#[test]
fn a_key_is_listed_changed_and_revoked() {
    let service = Service::start();
    let first = service.issue(&support::with("label", "\"run-1\""));
    service.issue(&support::with("label", "\"run-2\""));
    service.issue(&support::with("label", "\"other\""));
    let page = service
        .api(
            "GET",
            "/admin/vault_keys?label_prefix=run-&limit=1",
            ADMIN,
            None,
        )
        .json();
    assert_eq!(page["keys"][0]["label"], "run-2", "newest first");
    let next = format!(
        "/admin/vault_keys?label_prefix=run-&limit=1&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    let page = service.api("GET", &next, ADMIN, None).json();
    assert_eq!(page["keys"][0]["label"], "run-1");

    let one = format!("{KEYS}/{}", first["key_id"].as_str().unwrap());
    let change = r#"{"daily_usd_cap":"20","monthly_usd_cap":100,"allowed_endpoints":["charges.create"],
                     "constraints":{"currency":["usd"]},"metadata":{"run":7},"worst_case_usd":"1.50"}"#;
    let changed = service.api("PATCH", &one, ADMIN, Some(change));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let shown = service.api("GET", &one, ADMIN, None).json();
    assert_eq!(shown["version"], 2);
    assert_eq!(
        (
            shown["daily_usd_cap"].as_str(),
            shown["monthly_usd_cap"].as_str()
        ),
        (Some("20.00"), Some("100.00"))
    );
    assert_eq!(shown["allowed_endpoints"], json!(["charges.create"]));
    assert_eq!(shown["metadata"], json!({"run": 7}));
    assert_eq!(shown["worst_case_usd"], "1.50");
    assert_eq!(shown["label"], "run-1", "what is not named stays");
    for (body, blamed) in [
        ("{}", ""),
        (r#"{"vendor":"stripe"}"#, "vendor"),
        (r#"{"budget":"b"}"#, "budget"),
    ] {
        let answer = service.api("PATCH", &one, ADMIN, Some(body));
        assert_eq!(
            (answer.status, answer.json()["errors"][0]["field"].as_str()),
            (400, Some(blamed))
        );
    }

    let revoked = service.api("DELETE", &one, ADMIN, None);
    assert_eq!(
        (revoked.status, revoked.json()["status"].as_str()),
        (200, Some("revoked"))
    );
    let again = service.api("DELETE", &one, ADMIN, None);
    assert_eq!(again.status, 200);
    assert_eq!(again.json()["revoked_at"], revoked.json()["revoked_at"]);
    assert_eq!(service.api("PATCH", &one, ADMIN, Some(change)).status, 409);
    let active = service
        .api(
            "GET",
            "/admin/vault_keys?status=active&label_prefix=run-",
            ADMIN,
            None,
        )
        .json();
    assert_eq!(active["keys"].as_array().unwrap().len(), 1);

    let revoke = |body: &str| service.api("POST", "/admin/vault_keys/revoke", ADMIN, Some(body));
    assert_eq!(
        revoke(r#"{"label_prefix":"run-"}"#).json(),
        json!({"revoked": 1})
    );
    assert_eq!(
        revoke(r#"{"label_prefix":"run-"}"#).json(),
        json!({"revoked": 0})
    );
    for bad in [
        r#"{"label_prefix":""}"#,
        "{}",
        r#"{"budget":"b"}"#,
        r#"{"prefix":"run-"}"#,
        r#"{"label_prefix":null}"#,
    ] {
        assert_eq!(revoke(bad).status, 400, "{bad}");
    }
}

#[test]
fn concurrent_changes_of_one_key_are_all_kept() {
    let service = Service::start();
    let key = service.issue(FIVE_FIELDS);
    let one = format!("{KEYS}/{}", key["key_id"].as_str().unwrap());
    let changes = [
        r#"{"daily_usd_cap":1}"#,
        r#"{"monthly_usd_cap":2}"#,
        r#"{"lifetime_usd_cap":3}"#,
        r#"{"per_request_usd_cap":4}"#,
        r#"{"max_requests":5}"#,
    ];
    std::thread::scope(|scope| {
        for change in changes {
            scope.spawn(|| assert_eq!(service.api("PATCH", &one, ADMIN, Some(change)).status, 200));
        }
    });
    let shown = service.api("GET", &one, ADMIN, None).json();
    let caps = [
        "daily_usd_cap",
        "monthly_usd_cap",
        "lifetime_usd_cap",
        "per_request_usd_cap",
    ];
    let caps: Vec<&str> = caps
        .iter()
        .map(|name| shown[name].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(caps, ["1.00", "2.00", "3.00", "4.00"]);
    assert_eq!(shown["max_requests"], 5);
    assert_eq!(shown["version"], 6);
}
