//! Says line by line what the filter reads in a body: `form HEX` or `json HEX` on standard input, one JSON object a line
//! on standard output; an empty line sends off what was said so far. `tests/fuzz` compares it with what other readers make of the same bytes.
//!
//! The argument is a file with a plugin configuration. `form` goes to `POST /stripe/v1/charges`, `json` to
//! `POST /acme/v2/payments`.

use std::io::{BufRead, Write};

use keybrake_contract::vault_key;
use keybrake_policy::config::PluginConfig;
use keybrake_policy::read::{RawRequest, read};
use serde_json::{Map, Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let file = std::env::args_os()
        .nth(1)
        .ok_or("a file with a plugin configuration is missing")?;
    let config = PluginConfig::parse(&std::fs::read(file)?)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some((kind, body)) = line.split_once(' ') else {
            out.flush()?;
            continue;
        };
        writeln!(out, "{}", reading(&config, kind, &hex::decode(body)?)?)?;
    }
    Ok(())
}

fn reading(config: &PluginConfig, kind: &str, body: &[u8]) -> Result<Value, Failure> {
    let (path, content_type) = match kind {
        "form" => ("/stripe/v1/charges", "application/x-www-form-urlencoded"),
        "json" => ("/acme/v2/payments", "application/json"),
        other => return Err(format!("{other} is neither form nor json").into()),
    };
    let key = vault_key::compose([7; vault_key::RANDOM_BYTES]);
    let headers = [
        (":method", "POST"),
        (":path", path),
        (":authority", "127.0.0.1"),
        (":scheme", "http"),
        ("authorization", &format!("Bearer {key}")),
        ("content-type", content_type),
        ("idempotency-key", "k"),
    ]
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let raw = RawRequest {
        headers: &headers,
        body,
        request_id: "r",
    };
    Ok(match read(config, &raw) {
        Err(turned) => json!({"refused": turned.code.as_str(), "why": turned.message}),
        Ok(reading) => {
            let amount = reading.amount();
            let fields: Map<String, Value> = reading
                .fields
                .iter()
                .map(|field| (field.name.clone(), Value::String(field.value.clone())))
                .collect();
            json!({
                "amount": amount.map(|minor| minor.amount),
                "currency": amount.map(|minor| minor.currency.to_string()),
                "fields": fields,
            })
        }
    })
}
