use super::*;

fn with(vendors: &str, more: &str) -> Result<PluginConfig, InvalidConfig> {
    PluginConfig::parse(
        format!(r#"{{"commands_cluster": "keybrake_commands", "vendors": {vendors}{more}}}"#)
            .as_bytes(),
    )
}

const STRIPE: &str = r#"[{"pack": "stripe", "cluster": "stripe", "prefix": "/stripe"}]"#;

#[test]
fn what_is_left_out_has_its_default() {
    let config = with(STRIPE, "").unwrap();
    let PluginConfig {
        commands_cluster,
        vendors,
        ledger_timeout_ms,
        reserve_deadline_ms,
        settle_wait_ms,
        forward_timeout_ms,
        in_flight_patience_ms,
        max_open_requests,
        max_request_bytes,
        grant_cache,
        batch_max_commands,
        batch_max_bytes,
    } = config;
    assert_eq!(commands_cluster, "keybrake_commands");
    assert_eq!(
        [
            ledger_timeout_ms,
            reserve_deadline_ms,
            settle_wait_ms,
            forward_timeout_ms,
            in_flight_patience_ms
        ],
        [1_000, 2_000, 2_000, 90_000, 20_000]
    );
    assert_eq!(
        [
            max_open_requests,
            max_request_bytes,
            grant_cache,
            batch_max_commands,
            batch_max_bytes
        ],
        [1_024, 1_048_576, 10_000, 256, 4_194_304]
    );
    let vendor = &vendors[0];
    assert_eq!(vendor.pack.vendor(), "stripe");
    assert_eq!(
        (vendor.authority.as_str(), vendor.credential.as_str()),
        ("api.stripe.com", "stripe")
    );
    assert!(vendor.hosts.is_empty());
}

#[test]
fn a_whole_pack_may_stand_in_place_of_a_name() {
    let vendors = format!(
        r#"[{{"pack": {}, "cluster": "c", "hosts": ["*"], "authority": "localhost:12111", "credential": "eu"}}]"#,
        pack::builtin("stripe").unwrap()
    );
    let config = with(&vendors, r#", "grant_cache": 5"#).unwrap();
    assert_eq!(config.grant_cache, 5);
    let vendor = &config.vendors[0];
    assert_eq!(
        (vendor.authority.as_str(), vendor.credential.as_str()),
        ("localhost:12111", "eu")
    );
}

#[test]
fn mistakes_name_the_field_and_what_is_allowed() {
    let vendor = |more: &str| format!(r#"[{{"pack": "stripe", "cluster": "c"{more}}}]"#);
    let cases = [
        (
            STRIPE.to_owned(),
            r#", "surprise": 1"#,
            "unknown field `surprise`",
        ),
        (
            STRIPE.to_owned(),
            r#", "grant_cache": 1, "grant_cache": 2"#,
            "duplicate field `grant_cache`",
        ),
        (
            STRIPE.to_owned(),
            r#", "commands_cluster": "b""#,
            "duplicate field `commands_cluster`",
        ),
        (
            STRIPE.to_owned(),
            r#", "ledger_timeout_ms": 5"#,
            "ledger_timeout_ms: a whole number from 10 to 60000",
        ),
        (
            STRIPE.to_owned(),
            r#", "ledger_timeout_ms": "1000""#,
            "ledger_timeout_ms: a whole number",
        ),
        (
            STRIPE.to_owned(),
            r#", "ledger_timeout_ms": 1000.5"#,
            "ledger_timeout_ms: a whole number",
        ),
        (
            STRIPE.to_owned(),
            r#", "ledger_timeout_ms": -1"#,
            "ledger_timeout_ms: a whole number",
        ),
        (
            STRIPE.to_owned(),
            r#", "batch_max_commands": 257"#,
            "batch_max_commands: a whole number from 1 to 256",
        ),
        (
            STRIPE.to_owned(),
            r#", "batch_max_bytes": 4194305"#,
            "batch_max_bytes",
        ),
        (
            STRIPE.to_owned(),
            r#", "max_open_requests": 0"#,
            "max_open_requests",
        ),
        (
            STRIPE.to_owned(),
            r#", "in_flight_patience_ms": 120001"#,
            "in_flight_patience_ms",
        ),
        ("[]".to_owned(), "", "vendors: at least one"),
        ("{}".to_owned(), "", "vendors: wants a list"),
        ("[5]".to_owned(), "", "vendors[0]: wants an object"),
        (
            r#"["stripe", "c"]"#.to_owned(),
            "",
            "vendors[0]: wants an object",
        ),
        (vendor(""), "", "vendors[0]: wants prefix or hosts"),
        (
            vendor(r#", "hosts": "api.stripe.com""#),
            "",
            "vendors[0].hosts: a list of host names",
        ),
        (
            vendor(r#", "prefix": "stripe""#),
            "",
            "vendors[0].prefix: a path such as /stripe",
        ),
        (vendor(r#", "prefix": "/stripe/""#), "", "vendors[0].prefix"),
        (vendor(r#", "prefix": "/""#), "", "vendors[0].prefix"),
        (vendor(r#", "prefix": "/a%2f""#), "", "vendors[0].prefix"),
        (
            vendor(r#", "hosts": ["API.stripe.com"]"#),
            "",
            "vendors[0].hosts: host names in lower case",
        ),
        (
            vendor(r#", "hosts": ["*.stripe.com"]"#),
            "",
            "vendors[0].hosts",
        ),
        (vendor(r#", "hosts": [5]"#), "", "vendors[0].hosts"),
        (
            vendor(r#", "hosts": ["a"], "authority": """#),
            "",
            "vendors[0].authority",
        ),
        (
            vendor(r#", "hosts": ["a"], "credential": 7"#),
            "",
            "vendors[0].credential",
        ),
        (
            vendor(r#", "hosts": ["a"], "hots": 1"#),
            "",
            "vendors[0]: unknown field `hots`",
        ),
        (
            r#"[{"pack": "stipe", "cluster": "c", "prefix": "/a"}]"#.to_owned(),
            "",
            "or the name of one of: resend, stripe, twilio",
        ),
        (
            r#"[{"pack": 7, "cluster": "c", "prefix": "/a"}]"#.to_owned(),
            "",
            "vendors[0].pack",
        ),
        (
            r#"[{"pack": {"vendor": "x"}, "cluster": "c", "prefix": "/a"}]"#.to_owned(),
            "",
            "vendors[0].pack: missing field `hosts`",
        ),
        (
            r#"[{"pack": "stripe", "prefix": "/a"}]"#.to_owned(),
            "",
            "vendors[0]: missing field `cluster`",
        ),
    ];
    for (vendors, more, expected) in cases {
        let message = with(&vendors, more).unwrap_err().to_string();
        assert!(message.contains(expected), "{vendors}{more}: {message}");
    }
    assert!(PluginConfig::parse(b"").is_err());
    assert!(PluginConfig::parse(b"{\"vendors\": \xff}").is_err());
}

#[test]
fn vendors_that_one_request_could_mean_both_are_refused() {
    let pair = |one: &str, other: &str| {
        format!(
            r#"[{{"pack": "stripe", "cluster": "a", {one}}}, {{"pack": "stripe", "cluster": "b", {other}}}]"#
        )
    };
    let cases = [
        (r#""prefix": "/a""#, r#""prefix": "/b""#, true),
        (r#""prefix": "/a""#, r#""prefix": "/ab""#, true),
        (r#""hosts": ["a"]"#, r#""hosts": ["b"]"#, true),
        (r#""prefix": "/a""#, r#""hosts": ["b"]"#, true),
        (r#""prefix": "/a""#, r#""prefix": "/a""#, false),
        (r#""prefix": "/a""#, r#""prefix": "/a/b""#, false),
        (r#""hosts": ["a", "b"]"#, r#""hosts": ["b"]"#, false),
        (r#""hosts": ["*"]"#, r#""hosts": ["b"]"#, false),
        (r#""prefix": "/a""#, r#""hosts": ["*"]"#, false),
    ];
    for (one, other, fine) in cases {
        let made = with(&pair(one, other), "");
        assert_eq!(made.is_ok(), fine, "{one} {other}");
        if let Err(error) = made {
            assert!(
                error
                    .to_string()
                    .contains("vendors[1]: must not overlap with vendors[0]")
            );
        }
    }
}
