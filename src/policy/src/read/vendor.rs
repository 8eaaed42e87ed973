//! Which vendor a request is for.

use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::CountedReason;

use crate::config::{PluginConfig, Vendor};

use super::Turned;
use super::headers::Raw;

type Found<'c, 'a> = (usize, &'c Vendor, &'a [u8]);

/// By path prefix, else by host, else by listener.
pub(super) fn find_vendor<'c, 'a>(
    config: &'c PluginConfig,
    headers: Raw<'a>,
) -> Result<Found<'c, 'a>, Box<Turned>> {
    let target = first(headers, b":path").unwrap_or_default();
    let host = first(headers, b":authority").and_then(host_name);
    let by_prefix = config
        .vendors
        .iter()
        .enumerate()
        .find_map(|(position, vendor)| {
            let rest = target.strip_prefix(vendor.prefix.as_ref()?.as_bytes())?;
            rest.starts_with(b"/").then_some((position, vendor, rest))
        });
    let by_host = host.and_then(|host| {
        // A configured name is a host in lower case, or `*`, which no request can name.
        let named = |have: &String| have != "*" && have.as_bytes().eq_ignore_ascii_case(host);
        let mut vendors = config.vendors.iter().enumerate();
        vendors.find(|(_, vendor)| vendor.hosts.iter().any(named))
    });
    match (by_prefix, by_host) {
        // A path for one vendor and a host of another.
        (Some((position, _, _)), Some((other, _))) if position != other => {
            Err(Box::new(no_vendor(config)))
        }
        (Some(found), _) => Ok(found),
        (None, Some((position, vendor))) => Ok((position, vendor, target)),
        (None, None) => config
            .vendors
            .iter()
            .enumerate()
            .find(|(_, vendor)| vendor.hosts.iter().any(|have| have == "*"))
            .map(|(position, vendor)| (position, vendor, target))
            .ok_or_else(|| {
                Box::new(if asks_for_tunnel(headers) {
                    tunnel(config)
                } else {
                    no_vendor(config)
                })
            }),
    }
}

/// `API.stripe.com:443` → `API.stripe.com`; `None` when what follows the host is no port.
fn host_name(authority: &[u8]) -> Option<&[u8]> {
    let Some(colon) = authority.iter().position(|byte| *byte == b':') else {
        return Some(authority);
    };
    let port = authority.get(colon.saturating_add(1)..)?;
    let fine = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    authority.get(..colon).filter(|_| fine)
}

fn first<'a>(headers: Raw<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let mut named = headers.iter().filter(|(have, _)| have == name);
    named.next().map(|(_, value)| value.as_slice())
}

fn asks_for_tunnel(headers: Raw<'_>) -> bool {
    is_tunnel([":method", "upgrade", ":protocol"].map(|name| first(headers, name.as_bytes())))
}

/// By the first `:method`, `upgrade` and `:protocol`.
pub(super) fn is_tunnel([method, upgrade, protocol]: [Option<&[u8]>; 3]) -> bool {
    method == Some(b"CONNECT") || upgrade.is_some() || protocol.is_some()
}

fn no_vendor(config: &PluginConfig) -> Turned {
    let prefixes: Vec<&str> = config
        .vendors
        .iter()
        .filter_map(|vendor| vendor.prefix.as_deref())
        .collect();
    let begin = match prefixes.as_slice() {
        [] => String::new(),
        prefixes => format!("; paths begin with {} here", prefixes.join(" or ")),
    };
    Turned {
        code: RefusalCode::HostNotAllowed,
        param: None,
        message: format!("no configured vendor has this host or path{begin}"),
        vendor: None,
        known: None,
        counted: CountedReason::HostNotAllowed,
    }
}

/// CONNECT has no path and its host is the far end: it belongs to no vendor.
fn tunnel(config: &PluginConfig) -> Turned {
    Turned {
        code: RefusalCode::EndpointNotAllowed,
        message: "tunnels and upgrades are not allowed".to_owned(),
        ..no_vendor(config)
    }
}
