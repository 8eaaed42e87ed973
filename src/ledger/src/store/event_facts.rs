//! The facts of an entry that stand only in its event, whichever the database.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::clock::timestamp;
use crate::model::Resolution;

/// As the event of a request tells them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct EventFacts {
    pub credential: String,
    pub method: String,
    pub path: String,
    pub request_id: String,
    pub param: Option<String>,
    pub params: BTreeMap<String, String>,
    pub usd_per_unit: Option<String>,
}

impl EventFacts {
    /// From the event's body. One that was tampered with is for `audit verify` to report: its entry is shown without these
    /// facts.
    pub fn read(body: Option<&[u8]>) -> Self {
        body.and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default()
    }
}

/// What the event of a resolution says of it.
pub fn resolution_told(body: &[u8]) -> Option<Resolution> {
    #[derive(Deserialize)]
    struct Told {
        at: i64,
        evidence: serde_json::Value,
    }
    let Told { at, evidence } = serde_json::from_slice(body).ok()?;
    Some(Resolution {
        at: timestamp(at),
        evidence,
    })
}
