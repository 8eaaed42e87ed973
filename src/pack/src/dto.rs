//! The JSON form of a pack.

use serde_json::Value;

use crate::stated::StatedDto;
use crate::{
    BodyEncoding, Class, CredentialPlace, DefaultRule, EvidenceRules, IntegerBounds, MoneyState,
    PricedRule, RuledOutcome,
};
use keybrake_text::document::Named;
use keybrake_text::{record, words};

record! {
    pub(crate) struct PackDto {
        pub vendor: String,
        pub hosts: Vec<String>,
        pub credential: CredentialDto,
        pub path: PathDto,
        pub account_headers: Vec<String>,
        pub forward_headers: Vec<String>,
        pub idempotency: IdempotencyDto,
        pub parameters: ParametersDto,
        /// Decimals of a currency's whole unit, where it has not two.
        pub currency_decimals: Named<u8> = Named::default(),
        pub stated: Named<Vec<StatedDto>> = Named::default(),
        pub audit_params: Vec<String>,
        pub refusal: RefusalDto,
        pub answer_headers: AnswerHeadersDto,
        pub outcomes: Vec<OutcomeDto>,
        pub evidence: Option<EvidenceRules>,
        pub answers: Named<AnswerDto>,
        pub endpoints: Vec<EndpointDto>,
    }
}

record! {
    pub(crate) struct CredentialDto {
        pub places: Vec<CredentialPlace>,
        pub real_prefixes: Vec<String>,
    }
}

record! {
    pub(crate) struct PathDto {
        pub roots: Named<BodyEncoding>,
        pub segment_extra: String = String::new(),
    }
}

record! {
    pub(crate) struct IdempotencyDto {
        pub header: String,
        pub window_ms: Option<u64>,
        pub margin_ms: u64 = 0,
        pub max_key_length: usize,
        pub default_rule: DefaultRule,
    }
}

record! {
    pub(crate) struct ParametersDto {
        pub integers: Named<IntegerBounds>,
        pub free_maps: Vec<String>,
        pub conflicting: Vec<(String, String)>,
    }
}

record! {
    pub(crate) struct RefusalDto {
        pub body: Value,
        pub default_type: String,
        pub types: Named<String> = Named::default(),
        pub mark: String,
        pub type_at: String,
        pub code_at: String,
    }
}

record! {
    pub(crate) struct AnswerHeadersDto {
        pub request_id: Option<String>,
        pub replayed: Option<(String, String)>,
        pub retry_hint: Option<String>,
    }
}

record! {
    pub(crate) struct OutcomeDto {
        /// `"402"` or `"500-599"`.
        pub status: String,
        pub kind as "type": Option<String>,
        pub code: Option<String>,
        pub outcome: RuledOutcome,
    }
}

record! {
    pub(crate) struct AnswerDto {
        pub id: String,
        pub part_of: Option<String>,
        pub charge: Option<String>,
        pub amount_settled: Vec<String> = Vec::new(),
        pub amount_open: Vec<String> = Vec::new(),
        pub currency: Option<String>,
        pub total: bool = false,
        pub states: Vec<StateDto> = Vec::new(),
    }
}

record! {
    pub(crate) struct StateDto {
        pub when: Named<Value>,
        pub money: MoneyState,
    }
}

record! {
    pub(crate) struct EndpointDto {
        pub operation: String,
        pub endpoint: String,
        pub class: Class,
        pub cost: Option<CostDto>,
        pub refuse: Vec<String> = Vec::new(),
        /// For money_blind and prepares: the name of a list in `stated`.
        pub stated: Option<String>,
        pub answer: Option<String>,
    }
}

record! {
    /// Where the cost stands. Which members are wanted depends on the class; `compile` says so.
    pub(crate) struct CostDto {
        /// Field with the amount.
        pub amount: Option<String>,
        /// Field with the currency.
        pub currency: Option<String>,
        /// `{name}` of the path template, or fields of which exactly one must be there.
        pub object: Option<Vec<String>>,
        /// The money does not come from what is held for the object.
        pub anew: bool = false,
        /// What it means that the amount is not there.
        pub absent: Option<AbsentDto>,
        /// Units times a rate.
        pub priced: Option<PricedRule>,
        /// An amount that is always the same.
        pub fixed_amount: Option<u64>,
        /// Most digits of the amount, where they are not those of its name in `parameters.integers`.
        pub max_digits: Option<usize>,
        /// The amount may be below zero; its magnitude counts.
        pub signed: bool = false,
    }
}

/// What a request about an object means that names no amount.
#[derive(Clone, Copy)]
pub(crate) enum AbsentDto {
    /// All of the object.
    Whole,
    /// Nobody can tell.
    Unknown,
}

words!(AbsentDto: Whole = "whole", Unknown = "unknown");
