//! Where a vendor's own records show whether a request was executed: for requests whose answer was lost.
//!
//! Here: the rules as data, and what a pack must keep to. Not here: reading those records, and any decision by them.

use keybrake_contract::endpoint::EndpointPattern;
use serde_json::Value;

use crate::compile::{Made, wrong};
use crate::{Class, Endpoint};
use keybrake_text::document::Named;
use keybrake_text::record;

/// Longest maximum time and longest memory of events that make sense: a year.
const YEAR_MS: u64 = 366 * 24 * 3_600_000;
/// Most events in a page.
const MAX_PAGE: u32 = 1_000;

record! {
    /// What a vendor's records can show.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct EvidenceRules {
        /// The list of events.
        pub events: EventRules,
        /// After so many milliseconds the vendor executes nothing any more of what it was sent.
        pub vendor_max_ms: u64,
        /// For so many milliseconds events stay in the list.
        pub kept_ms: u64,
        /// In a retrieved object: the member that says of which kind it is.
        pub kind: String,
        /// Operation → what shows that it was executed.
        pub operations: Named<OperationEvidence>,
    }
}

record! {
    /// The list of a vendor's events: how it is asked, and where in it things stand (JSON pointers).
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct EventRules {
        /// The operation that lists them.
        pub operation: String,
        /// Parameter: made at or after this second since 1970.
        pub from: String,
        /// Parameter: made at or before this second.
        pub to: String,
        /// Parameter: the id of the last event of the page before.
        pub after: String,
        /// Parameter with the size of a page.
        pub limit: String,
        /// That size.
        pub page_size: u32,
        /// In a page: the events.
        pub items: String,
        /// In a page: whether there are more.
        pub more: String,
        /// In an event: its id.
        pub id: String,
        /// In an event: the second since 1970 in which it was made.
        pub at: String,
        /// In an event: the idempotency key of the request that caused it.
        pub idempotency_key: String,
        /// In an event: the vendor's id of that request.
        pub request_id: Option<String>,
        /// In an event: of which kind its object is.
        pub object_kind: String,
        /// In an event: the id of its object.
        pub object_id: String,
    } without {
        /// Its path.
        pub path: String = String::new(),
    }
}

record! {
    /// What shows that an operation was executed.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct OperationEvidence {
        /// The kind of object that an execution makes or changes.
        pub object: String,
        /// The operation that reads such an object.
        pub retrieve: String,
        /// Whether every execution is in the events, so that none there means none at all.
        pub complete: bool = false,
        /// Members of the object: when all of one line are equal, the vendor refused the request for good.
        pub not_executed_when: Vec<Named<Value>> = Vec::new(),
    } without {
        /// Its path, with one `{…}`.
        template: String = String::new(),
    }
}

impl OperationEvidence {
    /// The path of the object with this id; `None`: no id stands in a path like that.
    #[must_use]
    pub fn path_of(&self, id: &str) -> Option<String> {
        let fine = !id.is_empty()
            && id.len() <= 255
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let (before, rest) = self.template.split_once('{')?;
        let (_, after) = rest.split_once('}')?;
        fine.then(|| format!("{before}{id}{after}"))
    }

    /// Whether the object says that the request was refused for good.
    #[must_use]
    pub fn says_not_executed(&self, object: &Value) -> bool {
        self.not_executed_when.iter().any(|line| {
            line.iter()
                .all(|(name, wanted)| object.get(name) == Some(wanted))
        })
    }
}

impl EvidenceRules {
    /// The operations that are read as evidence: what whoever reads it needs to be allowed.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        let retrieves = self.operations.iter().map(|(_, one)| one.retrieve.as_str());
        std::iter::once(self.events.operation.as_str()).chain(retrieves)
    }

    /// Checks the rules against the pack's endpoints and fills in the paths.
    pub(crate) fn compile<'a>(
        mut self,
        find: impl Fn(&str) -> Option<&'a Endpoint>,
        takes_bearer: bool,
    ) -> Made<Self> {
        if !takes_bearer {
            return wrong(
                "credential.places",
                "bearer, for whoever reads the evidence",
            );
        }
        let read = |at: &str, operation: &str| match find(operation) {
            Some(endpoint) if endpoint.class == Class::Read => Ok(template(&endpoint.pattern)),
            _ => wrong(at, format!("{operation:?} is not a read of this pack")),
        };
        for (at, ms) in [
            ("evidence.vendor_max_ms", self.vendor_max_ms),
            ("evidence.kept_ms", self.kept_ms),
        ] {
            if ms == 0 || ms > YEAR_MS {
                return wrong(at, "1 millisecond to 366 days");
            }
        }
        if self.kept_ms <= self.vendor_max_ms {
            return wrong("evidence.kept_ms", "more than vendor_max_ms");
        }
        self.events.path = read("evidence.events.operation", &self.events.operation)?;
        if self.events.path.contains('{') {
            return wrong("evidence.events.operation", "a path without {…}");
        }
        check_events(&self.events)?;
        for (name, one) in self.operations.iter_mut() {
            let at = |part: &str| format!("evidence.operations.{name}{part}");
            if !find(name).is_some_and(|endpoint| endpoint.class != Class::Read) {
                return wrong(at(""), "a write of this pack");
            }
            if one.object.is_empty() || one.not_executed_when.iter().any(Named::is_empty) {
                return wrong(at(""), "no empty object and no empty line");
            }
            one.template = read(&at(".retrieve"), &one.retrieve)?;
            if one.template.matches('{').count() != 1 {
                return wrong(at(".retrieve"), "a path with one {…}");
            }
        }
        Ok(self)
    }
}

fn check_events(events: &EventRules) -> Made<()> {
    let parameters = [&events.from, &events.to, &events.after, &events.limit];
    if parameters.iter().any(|name| name.is_empty()) {
        return wrong("evidence.events", "no empty parameter");
    }
    if events.page_size == 0 || events.page_size > MAX_PAGE {
        return wrong("evidence.events.page_size", "1 to 1000");
    }
    let pointers = [
        &events.items,
        &events.more,
        &events.id,
        &events.at,
        &events.idempotency_key,
        &events.object_kind,
        &events.object_id,
    ];
    let mut all = pointers.into_iter().chain(&events.request_id);
    if !all.all(|pointer| pointer.starts_with('/')) {
        return wrong("evidence.events", "JSON pointers, /data/object/id");
    }
    Ok(())
}

/// The path template of a pattern, `/v1/charges/{charge}`.
fn template(pattern: &EndpointPattern) -> String {
    let text = pattern.to_string();
    text.split_once(' ')
        .map(|(_, path)| path.to_owned())
        .unwrap_or_default()
}
