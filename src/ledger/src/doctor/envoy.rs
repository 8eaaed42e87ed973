//! Envoy's admin port: version, configuration, counters. Read only.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::Finding;
use crate::outbound::{BaseUrl, deepest};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer: a dump with every endpoint may be long.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// The oldest Envoy that this is tested on.
const OLDEST: (u32, u32) = (1, 36);

/// Envoy's admin port: `http://HOST:PORT`.
pub struct Admin {
    base: BaseUrl,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// Not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be http://HOST:PORT, Envoy's admin port")]
pub struct InvalidAdmin;

impl Admin {
    /// At this URL.
    ///
    /// # Errors
    /// [`InvalidAdmin`].
    pub fn parse(text: &str) -> Result<Self, InvalidAdmin> {
        Ok(Self {
            base: BaseUrl::parse(text).map_err(|_| InvalidAdmin)?,
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// The JSON at a path, or why there is none.
    pub(super) async fn json(&self, path: &str) -> Result<Value, String> {
        tokio::time::timeout(TIMEOUT, self.read(path))
            .await
            .map_err(|_| "no answer in time".to_owned())?
    }

    async fn read(&self, path: &str) -> Result<Value, String> {
        let request = Request::get(format!("{}{path}", self.base.as_str()))
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| deepest(&error))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("answered {status}"));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        serde_json::from_slice(&body)
            .map_err(|_| "it is not JSON: is this Envoy's admin port?".to_owned())
    }

    /// Requests and bytes that a cluster was sent so far, or why nobody can tell. No counters are no proof that nothing was sent.
    pub(super) async fn sent_to(&self, cluster: &str) -> Result<BTreeMap<String, u64>, String> {
        let stats = self
            .json("/stats?format=json&filter=upstream_(rq_total|cx_tx_bytes_total)$")
            .await?;
        let prefix = format!("cluster.{cluster}.upstream_");
        let stats = stats.get("stats").and_then(Value::as_array);
        let sent: BTreeMap<_, _> = stats
            .into_iter()
            .flatten()
            .filter_map(|stat| {
                let name = stat.get("name")?.as_str()?.strip_prefix(&prefix)?;
                Some((name.to_owned(), stat.get("value")?.as_u64()?))
            })
            .collect();
        if sent.is_empty() {
            return Err("Envoy has no counters of it".to_owned());
        }
        Ok(sent)
    }
}

/// Judges what `/server_info` says of the version.
pub(super) fn version(info: &Value) -> Finding {
    let checked = "Envoy's version";
    let text = info
        .get("version")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // <commit>/<version>/<state>/<build>/<library>
    let version = text.split('/').nth(1).unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Finding::ok(checked, version),
        (Some(_), Some(_)) => Finding::fault(
            checked,
            format!(
                "{version} is too old: the gate needs {}.{} or newer",
                OLDEST.0, OLDEST.1
            ),
        ),
        _ => Finding::fault(checked, format!("it cannot be told from {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    #[test]
    fn versions_from_1_36_on_will_do() {
        for (text, state) in [
            ("abc/1.40.0/Clean/RELEASE/BoringSSL", State::Ok),
            ("abc/1.36.2/Clean/RELEASE/BoringSSL", State::Ok),
            ("abc/2.0.0-dev/Clean/RELEASE/BoringSSL", State::Ok),
            ("abc/1.35.9/Clean/RELEASE/BoringSSL", State::Fault),
            ("abc/1.9.0/Clean/RELEASE/BoringSSL", State::Fault),
            ("1.40.0", State::Fault),
            ("", State::Fault),
        ] {
            assert_eq!(version(&json!({"version": text})).state, state, "{text:?}");
        }
    }
}
