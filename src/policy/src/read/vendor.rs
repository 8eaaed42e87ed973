//! Which vendor a request is for.

use keybrake_contract::refusal::RefusalCode;
use keybrake_contract::wire::CountedReason;

use crate::config::{PluginConfig, Vendor};

use super::Turned;
use super::headers::Headers;

type Found<'c, 'a> = (usize, &'c Vendor, &'a [u8]);

/// By path prefix, else by host, else by listener.
pub(super) fn find_vendor<'c, 'a>(
    config: &'c PluginConfig,
    headers: Headers<'a>,
) -> Result<Found<'c, 'a>, Box<Turned>> {
    let target = headers.first(":path").unwrap_or_default();
    let host = headers.first(":authority").and_then(host_name);
    let by_prefix = config
        .vendors
        .iter()
        .enumerate()
        .find_map(|(position, vendor)| {
            let rest = target.strip_prefix(vendor.prefix.as_ref()?.as_bytes())?;
            rest.starts_with(b"/").then_some((position, vendor, rest))
        });
    let by_host = host.as_ref().and_then(|host| {
        let mut vendors = config.vendors.iter().enumerate();
        vendors.find(|(_, vendor)| vendor.hosts.iter().any(|have| have == host))
    });
    match (by_prefix, by_host) {
        // A path for one vendor and a host of another.
        (Some((position, _, _)), Some((other, _))) if position != other => {
            Err(Box::new(no_vendor()))
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
                Box::new(if is_tunnel(headers) {
                    tunnel()
                } else {
                    no_vendor()
                })
            }),
    }
}

/// `API.stripe.com:443` → `api.stripe.com`; `None` when it is not a plain host.
fn host_name(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?.to_ascii_lowercase();
    let host = match text.split_once(':') {
        None => text,
        Some((host, port))
            if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            host.to_owned()
        }
        Some(_) => return None,
    };
    crate::pack::is_host(&host).then_some(host)
}

pub(super) fn is_tunnel(headers: Headers<'_>) -> bool {
    headers.first(":method") == Some(b"CONNECT")
        || headers.first("upgrade").is_some()
        || headers.first(":protocol").is_some()
}

fn no_vendor() -> Turned {
    Turned {
        code: RefusalCode::HostNotAllowed,
        param: None,
        message: "no configured vendor has this host or path".to_owned(),
        vendor: None,
        known: None,
        counted: CountedReason::HostNotAllowed,
    }
}

/// CONNECT has no path and its host is the far end: it belongs to no vendor.
fn tunnel() -> Turned {
    Turned {
        code: RefusalCode::EndpointNotAllowed,
        message: "tunnels and upgrades are not allowed".to_owned(),
        ..no_vendor()
    }
}
