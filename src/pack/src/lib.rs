//! A vendor pack: everything that is particular to one vendor, as data (`vendors/*.json`).
//!
//! Here: the compiled form of a pack and the look-up of endpoints. Not here: the JSON form (`dto`), and any rule
//! about one vendor — those are in the pack's file.

mod builtin;
mod by_name;
mod compile;
mod compile_endpoints;
mod cost_rule;
mod dto;
mod evidence;
mod header_names;
mod index;
mod mistakes;
mod prefixes;
mod priced;
mod stated;

use std::fmt;
use std::sync::Arc;

use keybrake_contract::endpoint::EndpointPattern;
use keybrake_contract::grant::AllowedEndpoint;
use keybrake_contract::money::Currency;
use keybrake_contract::refusal::RefusalCode;
use serde_json::Value;

pub use keybrake_text::document::Named;
use keybrake_text::document::{self, Mistake};
use keybrake_text::{record, words};

pub use builtin::{builtin, builtin_names};
pub use by_name::ByName;
pub use compile::is_host;
pub use cost_rule::{Absent, AmountAt, CostRule, ObjectAmount, ObjectAt, Sign};
pub use evidence::{EventRules, EvidenceRules, OperationEvidence};
pub use header_names::{HeaderNames, Place, at};
pub use prefixes::Prefixes;
pub use priced::{PricedRule, Rate, Units};
pub use stated::StatedRule;

/// One vendor, as compiled from its JSON form.
#[derive(Debug, Clone)]
pub struct Pack {
    pub(crate) vendor: String,
    pub(crate) hosts: Vec<String>,
    /// Where the caller's key stands, and what must never stand there.
    pub credential: CredentialRules,
    /// The canonical form of its paths.
    pub path: PathRules,
    /// Request headers that name an account of the vendor, lower case.
    pub account_headers: Vec<String>,
    /// Where the request headers are that are looked at.
    pub headers: HeaderPlaces,
    pub(crate) idempotency: PackIdempotency,
    /// Rules for request fields wherever they stand.
    pub parameters: ParameterRules,
    currency_decimals: Vec<(Currency, u8)>,
    /// Request fields that the audit keeps.
    pub audit_params: Vec<String>,
    /// How an error of the vendor looks.
    pub refusal: RefusalShape,
    /// Names of headers in its answers.
    pub answer_headers: AnswerHeaders,
    /// What answers mean that are not a success; the first match counts.
    pub outcomes: Vec<OutcomeRule>,
    evidence: Option<EvidenceRules>,
    endpoints: Vec<Arc<Endpoint>>,
    index: index::Index,
}

impl Pack {
    /// Reads a pack from its JSON text.
    ///
    /// # Errors
    /// [`InvalidPack`] says where the mistake is and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, InvalidPack> {
        Self::check(text).map_err(first)
    }

    /// Reads a pack from its JSON text, and goes on after a mistake.
    ///
    /// # Errors
    /// All mistakes of the JSON form; without one, the first of each section, list and endpoint.
    pub fn check(text: &str) -> Result<Self, Vec<InvalidPack>> {
        let dto = document::read(text).map_err(|mistakes| {
            let mistakes = mistakes.into_iter().map(InvalidPack::from);
            mistakes.collect::<Vec<_>>()
        })?;
        compile::compile(dto)
    }

    /// The vendor's name: what a grant's `vendor` is compared with.
    #[must_use]
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The vendor's own host names, the first being the one to call.
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// What the vendor's idempotency promises.
    #[must_use]
    pub const fn idempotency(&self) -> &PackIdempotency {
        &self.idempotency
    }

    /// How many decimals a currency's whole unit has in this vendor's amounts: two unless the pack says otherwise. At most three.
    #[must_use]
    pub fn currency_decimals(&self, currency: Currency) -> u8 {
        let mut listed = self.currency_decimals.iter();
        let found = listed.find(|(have, _)| *have == currency);
        found.map_or(2, |(_, decimals)| *decimals)
    }

    /// Where the vendor's own records show whether a request was executed; `None`: nowhere.
    #[must_use]
    pub const fn evidence(&self) -> Option<&EvidenceRules> {
        self.evidence.as_ref()
    }

    /// The endpoint of an operation.
    #[must_use]
    pub fn endpoint_of(&self, operation: &str) -> Option<&Endpoint> {
        self.endpoints()
            .find(|endpoint| endpoint.operation == operation)
    }

    /// Every operation name, in the pack's order.
    pub fn operation_names(&self) -> impl Iterator<Item = &str> {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.operation.as_str())
    }

    /// Every endpoint, in the pack's order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().map(Arc::as_ref)
    }

    /// Whether a line of a grant means something for this vendor: its operation exists, or its pattern meets at least
    /// one endpoint (equals it, covers it, or is one concrete path of it).
    #[must_use]
    pub fn covers(&self, allowed: &AllowedEndpoint) -> bool {
        match allowed {
            AllowedEndpoint::Operation(name) => self.operation_names().any(|have| have == name),
            AllowedEndpoint::Pattern(pattern) => self.endpoints().any(|endpoint| {
                pattern.covers(&endpoint.pattern) || endpoint.pattern.covers(pattern)
            }),
        }
    }

    /// The endpoint of this method and vendor-relative path; the most specific template wins.
    #[must_use]
    pub fn endpoint(&self, method: &str, path: &str) -> Option<&Endpoint> {
        self.find(method, path).map(Arc::as_ref)
    }

    /// The same, to be kept.
    pub fn find(&self, method: &str, path: &str) -> Option<&Arc<Endpoint>> {
        self.index
            .find(method, path)
            .and_then(|position| self.endpoints.get(position))
    }
}

/// What a vendor's idempotency promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIdempotency {
    /// Request header with the caller's key, lower case. Callers use it also for a vendor that has no idempotency of
    /// its own; then it is not sent on.
    pub header: String,
    /// How long the vendor remembers a key, in milliseconds. `None`: it has no idempotency.
    pub window_ms: Option<u64>,
    /// How much earlier than that we stop to rely on it, in milliseconds. Less than the window.
    pub margin_ms: u64,
    /// Most characters in a key, 1 to 255.
    pub max_key_length: usize,
    /// The rule for keys issued without one.
    pub default_rule: DefaultRule,
}

/// The idempotency rule of a key that is issued without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRule {
    /// A write without a key is refused.
    Required,
    /// A write without a key is forwarded under the hold's id.
    Optional,
}

words!(DefaultRule: Required = "required", Optional = "optional");

/// One endpoint of a vendor.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Operation name, `charges.create`.
    pub operation: String,
    /// Method and path template.
    pub pattern: EndpointPattern,
    /// What it does with money.
    pub class: Class,
    /// Where the request says what it costs.
    pub cost: CostRule,
    /// Fields that it must not carry: they would move money past the rule for its cost.
    pub refuse: Vec<String>,
    /// How its answer is read. `None`: a success moves no money and names no object but its `id`.
    pub answer: Option<Arc<AnswerRules>>,
}

impl Endpoint {
    /// Whether its answer says how much the charge is that it names: of a refund, say, it tells only what was given back.
    #[must_use]
    pub fn tells_its_charge(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|rules| rules.charge.is_some() && rules.is_total)
    }
}

/// What an endpoint does with money (DESIGN.md §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Changes nothing.
    Read,
    /// A write that moves no money.
    Free,
    /// Moves money; the amount is in the request.
    Money,
    /// Moves money; the amount may be absent.
    MoneyOptional,
    /// Moves money; the request does not say how much.
    MoneyBlind,
    /// Changes what a later call costs.
    Prepares,
    /// Hands out credentials or data channels, or is not in the pack: always refused.
    Forbidden,
}

words!(Class: Read = "read", Free = "free", Money = "money", MoneyOptional = "money_optional", MoneyBlind = "money_blind", Prepares = "prepares", Forbidden = "forbidden");

/// Where the caller's key stands, and what real secrets of the vendor look like.
#[derive(Debug, Clone)]
pub struct CredentialRules {
    /// Where the key may stand, at least one place.
    pub places: Vec<CredentialPlace>,
    /// How real secrets of the vendor begin.
    pub real_prefixes: Prefixes,
}

/// The request headers that the reader looks at.
#[derive(Debug, Clone)]
pub struct HeaderPlaces {
    /// Every header that has a place.
    pub names: HeaderNames,
    /// Headers that name an account.
    pub account: Vec<Place>,
    /// Headers that go on to the vendor.
    pub forward: Vec<Place>,
    /// The header with the caller's idempotency key.
    pub idempotency: Place,
}

/// A place of the credential in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialPlace {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization: Basic …`: the user name, with an empty password.
    BasicUser,
    /// `Authorization: Basic …`: the password, with any user name.
    BasicPassword,
}

words!(CredentialPlace: Bearer = "bearer", BasicUser = "basic_user", BasicPassword = "basic_password");

/// The canonical form of a path.
#[derive(Debug, Clone)]
pub struct PathRules {
    /// First segment → how bodies below it are encoded.
    pub roots: Named<BodyEncoding>,
    /// Characters besides ASCII letters and digits that a segment may have.
    pub segment_extra: Vec<u8>,
}

/// How request bodies are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEncoding {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
}

words!(BodyEncoding: Form = "form", Json = "json");

/// Rules for request fields wherever they stand.
#[derive(Debug, Clone)]
pub struct ParameterRules {
    /// Leaf name → bounds: where the request's cost is read, a field of this name is a plain integer or the request is
    /// refused.
    pub integers: ByName<IntegerBounds>,
    /// Fields below these names are the caller's own text.
    pub free_maps: Vec<String>,
    /// Leaf names that must not stand side by side.
    pub conflicting: Vec<(String, String)>,
}

record! {
    /// Bounds of an integer field.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct IntegerBounds {
        /// Smallest value.
        pub min: u64,
        /// 1 to 18.
        pub max_digits: usize,
    }
}

/// How a success is read.
#[derive(Debug, Clone, Default)]
pub struct AnswerRules {
    /// Member with the id of the object.
    pub id: String,
    /// Member with the id of the object that this one is a part of: what is held belongs to that one, if it is named.
    pub part_of: Option<String>,
    /// Member with the charge's id (a text, or an object with an `id`).
    pub charge: Option<String>,
    /// Members with the amount once the money has moved; the first that is there counts.
    pub amount_moved: Vec<String>,
    /// Members with the amount while it may still move.
    pub amount_open: Vec<String>,
    /// Member with the currency of the amounts.
    pub currency: Option<String>,
    /// Whether the amounts are the object's, over all requests on it, and not of the one request.
    pub is_total: bool,
    /// First match counts; no match: open.
    pub states: Vec<StateRule>,
}

/// One line of the money-state table.
#[derive(Debug, Clone)]
pub struct StateRule {
    /// Member → value; all must be equal.
    pub when: Named<Value>,
    /// Whether the money has moved then.
    pub money: MoneyState,
}

/// Whether the money has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoneyState {
    /// It has.
    Settled,
    /// It may still.
    Open,
    /// It never will.
    Cancelled,
}

words!(MoneyState: Settled = "settled", Open = "open", Cancelled = "cancelled");

/// Names of headers in the vendor's answers.
#[derive(Debug, Clone)]
pub struct AnswerHeaders {
    /// Header with the vendor's id of the request.
    pub request_id: Option<String>,
    /// Name and value of the mark of a replay.
    pub replayed: Option<(String, String)>,
    /// Header that tells a client whether to try again.
    pub retry_hint: Option<String>,
}

/// One line of the outcome table for answers that are not a success.
#[derive(Debug, Clone)]
pub struct OutcomeRule {
    /// Wanted HTTP status, from 300 to 599.
    pub statuses: std::ops::RangeInclusive<u16>,
    /// Wanted value of the error's type.
    pub kind: Option<String>,
    /// Wanted value of the error's code.
    pub code: Option<String>,
    /// What it means.
    pub outcome: RuledOutcome,
}

/// What an answer that is not a success says about the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuledOutcome {
    /// Refused for good, and kept under the idempotency key.
    DeclinedFinal,
    /// For certain nothing was done.
    NotExecuted,
    /// Cannot be told.
    Indeterminate,
}

words!(RuledOutcome: DeclinedFinal = "declined_final", NotExecuted = "not_executed", Indeterminate = "indeterminate");

/// How an error of the vendor looks.
#[derive(Debug, Clone)]
pub struct RefusalShape {
    /// The body, with placeholders.
    pub body: Value,
    /// Type of an error whose code is not in `types`.
    pub default_type: String,
    /// Type by refusal code.
    pub types: Vec<(RefusalCode, String)>,
    /// JSON pointer of the object that every error body has.
    pub mark: String,
    /// JSON pointer of the type.
    pub type_at: String,
    /// JSON pointer of the code.
    pub code_at: String,
}

/// The one to tell, where only one can be told.
pub(crate) fn first(mistakes: Vec<InvalidPack>) -> InvalidPack {
    let mut mistakes = mistakes.into_iter();
    mistakes
        .next()
        .unwrap_or_else(|| InvalidPack::new("", "not a pack"))
}

/// A pack that cannot be used: where, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPack {
    at: String,
    problem: String,
}

impl InvalidPack {
    pub(crate) fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            at: at.into(),
            problem: problem.into(),
        }
    }
}

impl InvalidPack {
    /// Where: `endpoints[3].cost.amount`; empty for the pack itself.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    /// What is allowed there.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl From<Mistake> for InvalidPack {
    fn from(Mistake { at, problem }: Mistake) -> Self {
        Self { at, problem }
    }
}

impl fmt::Display for InvalidPack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pack: ")?;
        if !self.at.is_empty() {
            write!(formatter, "{}: ", self.at)?;
        }
        formatter.write_str(&self.problem)
    }
}

impl std::error::Error for InvalidPack {}

#[cfg(test)]
mod tests;
