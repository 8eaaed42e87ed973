//! The values that the ledger's parts pass to each other: keys, caps, audit entries, queries.
//!
//! Here: typed values without behaviour beyond construction. Not here: JSON of the public API (`http`), SQL (`store`),
//! the rules that move money (`book`).

mod budget;
mod statement;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use keybrake_contract::digest::Digest;
use keybrake_contract::grant::Grant;
use keybrake_contract::money::{Currency, Micros};

pub use budget::{
    Budget, BudgetChange, BudgetFilter, BudgetNow, BudgetState, DuplicateRule, MAX_DEPTH,
    NewBudget, TripOn,
};
pub use statement::{Line, Statement, Tally};

/// A cap over the last so many hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rolling {
    /// Most within them.
    pub cap: Micros,
    /// 1 to 744.
    pub hours: u16,
}

/// The caps of a key or a budget. `None` = this cap is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Caps {
    /// Most that one request may cost. A comparison, not a balance.
    pub per_request: Option<Micros>,
    /// Most per day: of a key in UTC, of a budget in its time zone.
    pub daily: Option<Micros>,
    /// Most per month, likewise.
    pub monthly: Option<Micros>,
    /// Most within the last so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    /// Most in the life of the key or budget.
    pub lifetime: Option<Micros>,
    /// Most admitted requests in the life of the key.
    pub max_requests: Option<u64>,
}

impl Caps {
    /// Whether no cap on money is set.
    #[must_use]
    pub const fn is_uncapped(&self) -> bool {
        self.per_request.is_none()
            && self.daily.is_none()
            && self.monthly.is_none()
            && self.rolling.is_none()
            && self.lifetime.is_none()
    }
}

/// A key to be issued. Validated: whoever builds one has checked it against the vendor pack.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Free text for people and for revoking by prefix. 1 to 200 characters.
    pub label: String,
    /// Idempotency and tenancy scope.
    pub workspace: String,
    /// What it allows. `key_id` and `version` are filled in by the engine.
    pub grant: Grant,
    /// Its caps.
    pub caps: Caps,
    /// What a call without a readable amount is debited with.
    pub worst_case: Option<Micros>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The caller's own JSON object, returned as it came. At most 4 KiB.
    pub metadata: Option<serde_json::Value>,
    /// The budget that it draws from, by name.
    pub budget: Option<String>,
    /// Its own rule about equal purchases.
    pub duplicates: Option<DuplicateRule>,
}

/// A key on record. Its secret is not known to anyone here.
#[derive(Debug, Clone)]
pub struct Key {
    /// Public handle, `vk_…`.
    pub key_id: String,
    /// SHA-256 of the vault key.
    pub digest: Digest,
    /// See [`NewKey`].
    pub label: String,
    /// See [`NewKey`].
    pub workspace: String,
    /// What it allows, at its present version.
    pub grant: Grant,
    /// Its caps.
    pub caps: Caps,
    /// See [`NewKey`].
    pub worst_case: Option<Micros>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// See [`NewKey`].
    pub metadata: Option<serde_json::Value>,
    /// See [`NewKey`].
    pub budget: Option<String>,
    /// See [`NewKey`].
    pub duplicates: Option<DuplicateRule>,
}

/// A key that was just issued: the only time its secret exists outside the caller's hands.
pub struct IssuedKey {
    /// The key on record.
    pub key: Key,
    /// The secret, shown once.
    pub secret: SecretText,
}

/// Text that must not be printed, compared, cloned or serialised by accident.
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that must show or compare it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText")
    }
}

/// What to change about a key. `None` = leave as it is.
#[derive(Debug, Clone, Default)]
pub struct KeyChange {
    /// New label.
    pub label: Option<String>,
    /// New caps, whole.
    pub caps: Option<Caps>,
    /// New allowed endpoints, constraints, accounts and so on; `key_id` and `version` are ignored.
    pub grant: Option<Grant>,
    /// New end.
    pub expires_at: Option<Timestamp>,
    /// New worst case.
    pub worst_case: Option<Micros>,
    /// New metadata.
    pub metadata: Option<serde_json::Value>,
    /// Another budget, or none. What was reserved before stays with the one before.
    pub budget: Option<Option<String>>,
    /// New rule about equal purchases, or none.
    pub duplicates: Option<Option<DuplicateRule>>,
}

/// Which keys to list: newest first.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// Label begins with.
    pub label_prefix: Option<String>,
    /// Vendor is.
    pub vendor: Option<String>,
    /// Workspace is.
    pub workspace: Option<String>,
    /// Draws from this budget or one below it.
    pub budget: Option<String>,
    /// Status is.
    pub status: Option<KeyStatus>,
    /// At most so many; 1 to 1000.
    pub limit: u32,
    /// From the previous page.
    pub cursor: Option<String>,
}

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// It can.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

/// A page of something.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this was the last.
    pub next_cursor: Option<String>,
}

/// One balance of a key or budget in one window. `free + held + settled + unknown = cap`, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Which cap: `daily_usd_cap`, `monthly_usd_cap`, `rolling_usd_cap`, `lifetime_usd_cap`.
    pub limit: &'static str,
    /// `day:2026-11-23`, `month:2026-11`, `rolling`, `lifetime`.
    pub window: String,
    /// The cap.
    pub cap: Micros,
    /// May still be spent; below zero after an overrun.
    pub free: Micros,
    /// Set aside for requests on their way.
    pub held: Micros,
    /// Spent.
    pub settled: Micros,
    /// Set aside for requests whose outcome nobody knows.
    pub unknown: Micros,
}

/// Which audit entries: newest first, save that with `idempotency_key` those that moved money come first.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Matches the vendor-side key or the caller's own.
    pub idempotency_key: Option<String>,
    /// Key is.
    pub key_id: Option<String>,
    /// Label is.
    pub label: Option<String>,
    /// Drew from this budget or one below it.
    pub budget: Option<String>,
    /// Run is.
    pub run_id: Option<String>,
    /// Vendor is.
    pub vendor: Option<String>,
    /// Operation is.
    pub operation: Option<String>,
    /// Outcome is.
    pub outcome: Option<EntryOutcome>,
    /// Verdict is.
    pub verdict: Option<EntryVerdict>,
    /// Object is.
    pub vendor_object_id: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// At most so many; 1 to 1000.
    pub limit: u32,
    /// From the previous page.
    pub cursor: Option<String>,
}

/// Whether a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryVerdict {
    /// It was.
    Admitted,
    /// It was not.
    Refused,
}

/// What became of an admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryOutcome {
    /// An attempt is being made.
    InFlight,
    /// Answered; the money may still move.
    Held,
    /// Done; the money has moved (a read: answered).
    Settled,
    /// For certain not done.
    Released,
    /// Nobody knows.
    Unknown,
    /// A read whose client went away.
    Abandoned,
}

/// One line of the audit: one hold, or one refusal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Entry {
    /// The hold's id, or the refused command's.
    pub id: String,
    /// When it was decided.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// The request id that the answer carried (`keybrake-request-id`).
    pub request_id: String,
    /// Which key.
    pub key_id: String,
    /// Its label at that time.
    pub label: String,
    /// The budget it drew from at that time.
    pub budget: Option<String>,
    /// The caller's `x-agent-run-id`.
    pub run_id: Option<String>,
    /// Vendor pack name.
    pub vendor: String,
    /// Which of our credentials there; not shown.
    #[serde(skip)]
    pub credential: String,
    /// Connected account.
    pub vendor_account: Option<String>,
    /// Operation name.
    pub operation: String,
    /// Method.
    pub method: String,
    /// Vendor-relative path.
    pub path: String,
    /// As the vendor saw it.
    pub idempotency_key: Option<String>,
    /// As the caller sent it, when another one was used.
    pub client_idempotency_key: Option<String>,
    /// In the currency's smallest unit.
    pub amount: Option<u64>,
    /// Three letters, lower case.
    #[schema(value_type = Option<String>)]
    pub currency: Option<Currency>,
    /// US dollars, six decimals.
    pub cost_usd: Option<String>,
    /// The exchange rate in `cost_usd` as it was when the request was decided: US dollars for one smallest unit of `currency`.
    /// Missing when none was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_unit: Option<String>,
    /// Whether it was let through.
    #[schema(value_type = String)]
    pub verdict: EntryVerdict,
    /// Code of the refusal.
    pub reason: Option<String>,
    /// Request field that was to blame for a refusal.
    pub param: Option<String>,
    /// What became of it.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<EntryOutcome>,
    /// The vendor's HTTP status.
    pub status: Option<u16>,
    /// What was made or changed.
    pub vendor_object_id: Option<String>,
    /// The charge behind it, for Stripe.
    pub stripe_charge_id: Option<String>,
    /// The vendor's id of the request.
    pub vendor_request_id: Option<String>,
    /// How often it was forwarded.
    pub attempts: u32,
    /// How often its stored answer was given again.
    pub replays: u64,
    /// From forward to the vendor's last byte.
    pub latency_ms: Option<u32>,
    /// Alarms raised for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Evidence that decided it when its outcome was unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// The request fields that the audit keeps.
    pub params: BTreeMap<String, String>,
}

/// How a request whose outcome was unknown was decided.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Resolution {
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// By what: a word, or an object with one member: `{"operator": {"reason", "who"}}`.
    #[schema(value_type = Object)]
    pub evidence: serde_json::Value,
}

/// A request whose outcome nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRequest {
    /// Its entry.
    pub entry: Entry,
    /// How long ago it was reserved.
    pub age_ms: i64,
}

/// Which requests of unknown outcome: oldest first.
#[derive(Debug, Clone, Default)]
pub struct UnknownQuery {
    /// Key is.
    pub key_id: Option<String>,
    /// At most so many; 1 to 1000.
    pub limit: u32,
    /// From the previous page.
    pub cursor: Option<String>,
}
