//! A small HTTP client for a running ledger's API: plain http, no redirects, bounded in time and size.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::cli::Failure;
use crate::model::SecretText;
use crate::outbound::{deepest, is_host_and_port};

/// Where the API is unless `KEYBRAKE_URL` says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:9080";
/// For a call as a whole.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Largest answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Calls one API with one credential.
pub struct Client {
    base: String,
    credential: SecretText,
}

impl Client {
    /// From `KEYBRAKE_URL` and the variable that holds the credential.
    pub fn from_environment(variable: &str) -> Result<Self, Failure> {
        let base = std::env::var("KEYBRAKE_URL")
            .ok()
            .filter(|url| !url.is_empty())
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        let credential = std::env::var(variable)
            .ok()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Failure::usage(format!("{variable} is not set")))?;
        Self::new(&base, SecretText::new(credential))
    }

    fn new(base: &str, credential: SecretText) -> Result<Self, Failure> {
        let wrong = || Failure::usage("KEYBRAKE_URL must be http://HOST[:PORT][/PATH]");
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(Failure::usage(
                    "KEYBRAKE_URL: https is not in this build, use http",
                ));
            }
            _ => return Err(wrong()),
        }
        let plain = uri.authority().is_some_and(is_host_and_port);
        if uri.query().is_some() || base.contains('#') || !plain {
            return Err(wrong());
        }
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            credential,
        })
    }

    /// Makes a call and reads its JSON answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Value, Failure> {
        tokio::time::timeout(TIMEOUT, self.exchange(method, path, body))
            .await
            .map_err(|_| Failure::new(format!("{} did not answer in time", self.base)))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Value, Failure> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.credential.expose()))
            .map_err(|_| {
                Failure::usage("the credential holds characters that no header carries")
            })?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(Failure::new)?;
        let client: HttpClient<HttpConnector, Full<Bytes>> =
            HttpClient::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.map_err(|error| {
            Failure::new(format!("cannot reach {}: {}", self.base, deepest(&error)))
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| Failure::new(format!("the answer broke off: {error}")))?
            .to_bytes();
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match value {
            Some(value) if status.is_success() => Ok(value),
            Some(value) => {
                let detail = value
                    .get("detail")
                    .and_then(Value::as_str)
                    .unwrap_or("no detail given");
                Err(Failure::new(format!("{} ({detail})", status)))
            }
            None => Err(Failure::new(format!(
                "{status}, and not JSON: is {} a ledger?",
                self.base
            ))),
        }
    }
}

/// A path with a query made of the pairs that have a value.
pub fn with_query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// A text as one path segment.
pub fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_are_taken() {
        let of =
            |url: &str| Client::new(url, SecretText::new("x".to_owned())).map(|client| client.base);
        assert_eq!(
            of("http://127.0.0.1:10000/"),
            Ok("http://127.0.0.1:10000".to_owned())
        );
        for wrong in [
            "",
            "127.0.0.1:9080",
            "ftp://x",
            "http://",
            "http://u:p@h",
            "http://h?x=1",
            "http://h#x",
            "http://h:99999",
            "https://h",
        ] {
            assert_eq!(of(wrong).map_err(|failure| failure.code), Err(2), "{wrong}");
        }
    }

    #[test]
    fn odd_texts_stay_one_segment_and_one_value() {
        assert_eq!(segment("vk_1/../x?y#z ü"), "vk_1%2F..%2Fx%3Fy%23z%20%C3%BC");
        let path = with_query(
            "/audit",
            &[("label", Some("a&b=c".to_owned())), ("run_id", None)],
        );
        assert_eq!(path, "/audit?label=a%26b%3Dc");
        assert_eq!(with_query("/audit", &[("label", None)]), "/audit");
    }
}
