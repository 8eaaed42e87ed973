//! The plugin configuration, strictly read.
//!
//! Here: bounds, defaults, and which vendor a request is for. Not here: how the filter uses the figures.

use std::fmt;

use serde_json::Value;

use crate::pack::{self, Pack};
use keybrake_text::document::{self, Mistake, Raw};
use keybrake_text::json::text_of;
use keybrake_text::record;

/// The filter's configuration. Every figure lies within its bounds.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Envoy cluster of the ledger's command route.
    pub commands_cluster: String,
    /// The vendors, at least one. No two of them can be meant by the same request.
    pub vendors: Vec<Vendor>,
    /// After so long a batch no longer blocks the next, in milliseconds. 10 to 60,000; default 1,000.
    pub ledger_timeout_ms: u32,
    /// How long a request waits for the answer to its reserve, in milliseconds. 10 to 60,000; default 2,000.
    pub reserve_deadline_ms: u32,
    /// How long a vendor's answer waits for its outcome to be on disk, in milliseconds. 10 to 60,000; default 2,000.
    pub settle_wait_ms: u32,
    /// How long a forward may take, in milliseconds. 100 to 600,000; default 90,000.
    pub forward_timeout_ms: u32,
    /// How long a repeat waits for the request before it, in milliseconds. 0 to 120,000; default 20,000.
    pub in_flight_patience_ms: u32,
    /// Requests that may be open at once in one worker. 1 to 65,536; default 1,024.
    pub max_open_requests: u32,
    /// Most bytes of a request body. 1,024 to 16,777,216; default 1,048,576.
    pub max_request_bytes: u32,
    /// Grants kept in one worker. 1 to 1,000,000; default 10,000.
    pub grant_cache: u32,
    /// Most commands in one batch. 1 to 256; default 256.
    pub batch_max_commands: u32,
    /// Most bytes in one batch. 65,536 to 4,194,304; default 4,194,304.
    pub batch_max_bytes: u32,
}

/// One vendor of the configuration.
#[derive(Debug, Clone)]
pub struct Vendor {
    /// Its pack.
    pub pack: Pack,
    /// Envoy cluster that leads to it.
    pub cluster: String,
    /// Path prefix, `/stripe`, without a slash at the end.
    pub prefix: Option<String>,
    /// Host names, lower case, without port; `*`: whatever comes in is for this vendor.
    pub hosts: Vec<String>,
    /// `:authority` of calls to it. Default: the pack's first host.
    pub authority: String,
    /// Which of our credentials it is. Idempotency keys are unique within it. Default: the pack's vendor name.
    pub credential: String,
}

impl PluginConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the field and what is allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        let text = std::str::from_utf8(bytes).map_err(|error| InvalidConfig(error.to_string()))?;
        compile(document::read(text).map_err(first)?)
    }
}

record! {
    /// The JSON form. Figures are kept as values so that a wrong one can be named with its bounds.
    struct ConfigDto {
        commands_cluster: Value,
        vendors: Vec<Raw>,
        ledger_timeout_ms: Option<Value>,
        reserve_deadline_ms: Option<Value>,
        settle_wait_ms: Option<Value>,
        forward_timeout_ms: Option<Value>,
        in_flight_patience_ms: Option<Value>,
        max_open_requests: Option<Value>,
        max_request_bytes: Option<Value>,
        grant_cache: Option<Value>,
        batch_max_commands: Option<Value>,
        batch_max_bytes: Option<Value>,
    }
}

record! {
    struct VendorDto {
        pack: Raw,
        cluster: Value,
        prefix: Option<Value>,
        hosts: Option<Value>,
        authority: Option<Value>,
        credential: Option<Value>,
    }
}

type Made<T> = Result<T, InvalidConfig>;

fn compile(dto: ConfigDto) -> Made<PluginConfig> {
    let ConfigDto {
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
    } = dto;
    let vendors = compile_vendors(vendors)?;
    Ok(PluginConfig {
        commands_cluster: name("commands_cluster", commands_cluster)?,
        vendors,
        ledger_timeout_ms: number("ledger_timeout_ms", ledger_timeout_ms, 10..=60_000, 1_000)?,
        reserve_deadline_ms: number(
            "reserve_deadline_ms",
            reserve_deadline_ms,
            10..=60_000,
            2_000,
        )?,
        settle_wait_ms: number("settle_wait_ms", settle_wait_ms, 10..=60_000, 2_000)?,
        forward_timeout_ms: number(
            "forward_timeout_ms",
            forward_timeout_ms,
            100..=600_000,
            90_000,
        )?,
        in_flight_patience_ms: number(
            "in_flight_patience_ms",
            in_flight_patience_ms,
            0..=120_000,
            20_000,
        )?,
        max_open_requests: number("max_open_requests", max_open_requests, 1..=65_536, 1_024)?,
        max_request_bytes: number(
            "max_request_bytes",
            max_request_bytes,
            1_024..=16_777_216,
            1_048_576,
        )?,
        grant_cache: number("grant_cache", grant_cache, 1..=1_000_000, 10_000)?,
        batch_max_commands: number("batch_max_commands", batch_max_commands, 1..=256, 256)?,
        batch_max_bytes: number(
            "batch_max_bytes",
            batch_max_bytes,
            65_536..=4_194_304,
            4_194_304,
        )?,
    })
}

fn compile_vendors(entries: Vec<Raw>) -> Made<Vec<Vendor>> {
    let vendors = entries
        .into_iter()
        .enumerate()
        .map(|(position, Raw(raw))| compile_vendor(&format!("vendors[{position}]"), &raw))
        .collect::<Made<Vec<_>>>()?;
    if vendors.is_empty() {
        return wrong("vendors", "at least one");
    }
    refuse_overlap(&vendors)?;
    Ok(vendors)
}

fn compile_vendor(at: &str, raw: &str) -> Made<Vendor> {
    let VendorDto {
        pack,
        cluster,
        prefix,
        hosts,
        authority,
        credential,
    } = document::read_at(at, raw).map_err(first)?;
    let pack = compile_pack(at, &pack)?;
    let prefix = prefix
        .map(|value| compile_prefix(&format!("{at}.prefix"), &value))
        .transpose()?;
    let hosts = compile_hosts(&format!("{at}.hosts"), hosts)?;
    if prefix.is_none() && hosts.is_empty() {
        return wrong(at, "wants prefix or hosts");
    }
    let authority = authority
        .map(|value| name(&format!("{at}.authority"), value))
        .transpose()?;
    let credential = credential
        .map(|value| name(&format!("{at}.credential"), value))
        .transpose()?;
    Ok(Vendor {
        authority: authority
            .or_else(|| pack.hosts().first().cloned())
            .unwrap_or_default(),
        credential: credential.unwrap_or_else(|| pack.vendor().to_owned()),
        cluster: name(&format!("{at}.cluster"), cluster)?,
        pack,
        prefix,
        hosts,
    })
}

fn compile_pack(at: &str, Raw(raw): &Raw) -> Made<Pack> {
    let text = match text_of(raw) {
        Some(name) => pack::builtin(&name),
        None => raw.starts_with('{').then(|| raw.clone()),
    };
    let Some(text) = text else {
        let names: Vec<&str> = pack::builtin_names().collect();
        return wrong(
            &format!("{at}.pack"),
            &format!(
                "a whole pack as an object, or the name of one of: {}",
                names.join(", ")
            ),
        );
    };
    Pack::parse(&text).map_err(|error| InvalidConfig(format!("{at}.{error}")))
}

fn compile_prefix(at: &str, value: &Value) -> Made<String> {
    let fine = |text: &str| {
        text.len() <= 128
            && text.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|segment| {
                    !segment.is_empty()
                        && segment
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                })
            })
    };
    match value.as_str() {
        Some(text) if fine(text) => Ok(text.to_owned()),
        _ => wrong(
            at,
            "a path such as /stripe, of letters, digits, _ and -, without a slash at the end",
        ),
    }
}

fn compile_hosts(at: &str, value: Option<Value>) -> Made<Vec<String>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(hosts)) => hosts.iter().map(|host| compile_host(at, host)).collect(),
        Some(_) => wrong(at, "a list of host names"),
    }
}

fn compile_host(at: &str, value: &Value) -> Made<String> {
    match value.as_str() {
        Some(text) if text == "*" || pack::is_host(text) => Ok(text.to_owned()),
        _ => wrong(at, "host names in lower case without port, or \"*\""),
    }
}

/// Two vendors overlap when one request could be meant for both.
fn refuse_overlap(vendors: &[Vendor]) -> Made<()> {
    for (position, one) in vendors.iter().enumerate() {
        for (other_position, other) in vendors.iter().enumerate().skip(position.saturating_add(1)) {
            let under = |long: &str, short: &str| {
                long.strip_prefix(short)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let prefix = match (&one.prefix, &other.prefix) {
                (Some(mine), Some(theirs)) => under(mine, theirs) || under(theirs, mine),
                _ => false,
            };
            let host = one
                .hosts
                .iter()
                .any(|mine| other.hosts.iter().any(|theirs| mine == theirs));
            let any = |vendor: &Vendor| vendor.hosts.iter().any(|host| host == "*");
            if prefix || host || any(one) || any(other) {
                return wrong(
                    &format!("vendors[{other_position}]"),
                    &format!(
                        "must not overlap with vendors[{position}]: no common host, no prefix below the other's, and \
                         \"*\" only for a single vendor"
                    ),
                );
            }
        }
    }
    Ok(())
}

fn name(at: &str, value: Value) -> Made<String> {
    match value {
        Value::String(text)
            if !text.is_empty()
                && text.len() <= 256
                && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(text)
        }
        _ => wrong(
            at,
            "a text of 1 to 256 printable ASCII characters without spaces",
        ),
    }
}

fn number(
    at: &str,
    value: Option<Value>,
    allowed: std::ops::RangeInclusive<u32>,
    default: u32,
) -> Made<u32> {
    let Some(value) = value else {
        return Ok(default);
    };
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| allowed.contains(number))
        .map_or_else(
            || {
                wrong(
                    at,
                    &format!(
                        "a whole number from {} to {}",
                        allowed.start(),
                        allowed.end()
                    ),
                )
            },
            Ok,
        )
}

/// A configuration that cannot be used: which field, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConfig(String);

impl From<Mistake> for InvalidConfig {
    fn from(Mistake { at, problem }: Mistake) -> Self {
        if at.is_empty() {
            Self(problem)
        } else {
            Self(format!("{at}: {problem}"))
        }
    }
}

/// Envoy's log has room for one mistake.
fn first(mistakes: Vec<Mistake>) -> InvalidConfig {
    let mut mistakes = mistakes.into_iter().map(InvalidConfig::from);
    mistakes
        .next()
        .unwrap_or_else(|| InvalidConfig("cannot be read".to_owned()))
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "plugin configuration: {}", self.0)
    }
}

impl std::error::Error for InvalidConfig {}

fn wrong<T>(at: &str, allowed: &str) -> Made<T> {
    Err(InvalidConfig(format!("{at}: {allowed}")))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
