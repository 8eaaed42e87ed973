//! The JSON form of a pack. Unknown and repeated fields are errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::stated::StatedDto;
use super::{
    BodyEncoding, Class, CredentialPlace, DefaultRule, EvidenceRules, IntegerBounds, InvalidPack,
    MoneyState, PricedRule, RuledOutcome,
};

pub(super) fn parse(text: &str) -> Result<PackDto, InvalidPack> {
    serde_json::from_str(text).map_err(|error| {
        InvalidPack::new(
            format!("line {}, column {}", error.line(), error.column()),
            error.to_string(),
        )
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackDto {
    pub vendor: String,
    pub hosts: Vec<String>,
    pub credential: CredentialDto,
    pub path: PathDto,
    pub account_headers: Vec<String>,
    pub forward_headers: Vec<String>,
    pub idempotency: IdempotencyDto,
    pub parameters: ParametersDto,
    /// Decimals of a currency's whole unit, where it has not two.
    #[serde(default)]
    pub currency_decimals: BTreeMap<String, u8>,
    #[serde(default)]
    pub stated: BTreeMap<String, Vec<StatedDto>>,
    pub audit_params: Vec<String>,
    pub refusal: RefusalDto,
    pub answer_headers: AnswerHeadersDto,
    pub outcomes: Vec<OutcomeDto>,
    pub evidence: Option<EvidenceRules>,
    pub answers: BTreeMap<String, AnswerDto>,
    pub endpoints: Vec<EndpointDto>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialDto {
    pub places: Vec<CredentialPlace>,
    pub real_prefixes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathDto {
    pub roots: BTreeMap<String, BodyEncoding>,
    #[serde(default)]
    pub segment_extra: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdempotencyDto {
    pub header: String,
    pub window_ms: Option<u64>,
    #[serde(default)]
    pub margin_ms: u64,
    pub max_key_length: usize,
    pub default_rule: DefaultRule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParametersDto {
    pub integers: BTreeMap<String, IntegerBounds>,
    pub free_maps: Vec<String>,
    pub conflicting: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefusalDto {
    pub body: Value,
    pub default_type: String,
    #[serde(default)]
    pub types: BTreeMap<String, String>,
    pub mark: String,
    pub type_at: String,
    pub code_at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerHeadersDto {
    pub request_id: Option<String>,
    pub replayed: Option<(String, String)>,
    pub retry_hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutcomeDto {
    /// `"402"` or `"500-599"`.
    pub status: String,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub code: Option<String>,
    pub outcome: RuledOutcome,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerDto {
    pub id: String,
    pub part_of: Option<String>,
    pub charge: Option<String>,
    #[serde(default)]
    pub amount_settled: Vec<String>,
    #[serde(default)]
    pub amount_open: Vec<String>,
    pub currency: Option<String>,
    #[serde(default)]
    pub total: bool,
    #[serde(default)]
    pub states: Vec<StateDto>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateDto {
    pub when: BTreeMap<String, Value>,
    pub money: MoneyState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointDto {
    pub operation: String,
    pub endpoint: String,
    pub class: Class,
    pub cost: Option<CostDto>,
    #[serde(default)]
    pub refuse: Vec<String>,
    /// For money_blind and prepares: the name of a list in `stated`.
    pub stated: Option<String>,
    pub answer: Option<String>,
}

/// Where the cost stands. Which members are wanted depends on the class; `compile` says so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CostDto {
    /// Field with the amount.
    pub amount: Option<String>,
    /// Field with the currency.
    pub currency: Option<String>,
    /// `{name}` of the path template, or fields of which exactly one must be there.
    pub object: Option<Vec<String>>,
    /// The money does not come from what is held for the object.
    #[serde(default)]
    pub anew: bool,
    /// What it means that the amount is not there.
    pub absent: Option<AbsentDto>,
    /// Units times a rate.
    pub priced: Option<PricedRule>,
    /// An amount that is always the same.
    pub fixed_amount: Option<u64>,
    /// Most digits of the amount, where they are not those of its name in `parameters.integers`.
    pub max_digits: Option<usize>,
    /// The amount may be below zero; its magnitude counts.
    #[serde(default)]
    pub signed: bool,
}

/// What a request about an object means that names no amount.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AbsentDto {
    /// All of the object.
    Whole,
    /// Nobody can tell.
    Unknown,
}
