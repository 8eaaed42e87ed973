//! Decoded request parameters, in one order whatever the encoding was, and the rules that hold for both encodings.

use std::collections::BTreeSet;
use std::fmt;

use keybrake_contract::refusal::RefusalCode;

use crate::pack::{BodyEncoding, CostRule, IntegerBounds, ObjectAmount, ParameterRules};

use super::secret;

/// Most parameters in one request.
pub(crate) const MAX_FIELDS: usize = 1_000;
/// Deepest nesting of a name: `a[b]` is 2 deep.
pub(crate) const MAX_DEPTH: usize = 8;
/// Up to so many fields a walk is faster than a search: names mostly differ in length already.
const FEW: usize = 16;

/// Parameters under their full name (`metadata[order]`, `items[0][price]`), sorted by it. No name stands twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    sorted: Vec<Field>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Full name.
    pub name: String,
    /// Its text.
    pub value: String,
    /// How it was written.
    pub kind: Kind,
}

/// How a value was written. Forms know only text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A form value or a JSON string.
    Text,
    /// A JSON number.
    Number,
    /// JSON `true`, `false`, `null`, or an empty object or array.
    Literal,
}

/// Why parameters cannot be read in exactly one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub code: RefusalCode,
    /// The field, if one is to blame and its name may be shown.
    pub param: Option<String>,
    pub message: String,
}

impl Unreadable {
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            code: RefusalCode::RequestNotInspectable,
            param: None,
            message: message.into(),
        }
    }

    /// What is wrong with a field; `said` goes on after its name, as in "is missing".
    pub(crate) fn field(name: &str, said: impl fmt::Display) -> Self {
        let param = showable(name);
        let named = param.as_deref().filter(|name| !name.is_empty());
        let message = format!("{} {said}", named.unwrap_or("a parameter"));
        Self {
            code: RefusalCode::RequestNotInspectable,
            param,
            message,
        }
    }
}

/// A name as it may stand in an answer and in the audit: printable, short, and no place to hide a key in.
fn showable(name: &str) -> Option<String> {
    let fine = name.len() <= 128
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !secret::holds_vault_key(name.as_bytes());
    fine.then(|| name.to_owned())
}

impl Fields {
    /// Sorts, and turns away names that stand twice or that two readers would nest differently.
    pub(crate) fn collect(mut fields: Vec<Field>) -> Result<Self, Unreadable> {
        // In any order among equal names: they are refused.
        fields.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let all = Self { sorted: fields };
        for pair in all.sorted.windows(2) {
            if let [one, other] = pair
                && one.name == other.name
            {
                return Err(Unreadable::field(&one.name, "stands more than once"));
            }
        }
        for field in all.sorted.iter().filter(|field| is_nested(&field.name)) {
            for prefix in prefixes(&field.name) {
                if all.get(prefix).is_some() {
                    return Err(Unreadable::field(
                        prefix,
                        "stands both as a value and as a group",
                    ));
                }
            }
            if let Some(canonical) = without_leading_zeros(&field.name)
                && all.get(&canonical).is_some()
            {
                return Err(Unreadable::field(&canonical, "stands more than once"));
            }
        }
        all.refuse_case_variants()?;
        Ok(all)
    }

    /// `Amount` beside `amount`: some readers do not tell them apart.
    fn refuse_case_variants(&self) -> Result<(), Unreadable> {
        let bases = self.sorted.iter().map(|field| base(&field.name));
        if !bases
            .clone()
            .any(|base| base.bytes().any(|byte| byte.is_ascii_uppercase()))
        {
            return Ok(());
        }
        let mut last = None;
        let mut folded = BTreeSet::new();
        let twice = bases
            .filter(|base| last.replace(*base) != Some(*base))
            .map(str::to_ascii_lowercase)
            .filter(|base| !folded.insert(base.clone()))
            .min();
        match twice {
            None => Ok(()),
            Some(base) => Err(Unreadable::field(
                &base,
                "stands in upper and in lower case",
            )),
        }
    }

    /// The field of exactly this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Field> {
        if self.sorted.len() <= FEW {
            return self.sorted.iter().find(|field| field.name == name);
        }
        self.sorted
            .binary_search_by(|field| field.name.as_str().cmp(name))
            .ok()
            .and_then(|position| self.sorted.get(position))
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.sorted.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Turns away what an endpoint must not carry.
    pub(crate) fn refuse(&self, names: &[String]) -> Result<(), Unreadable> {
        let refused =
            |name: &&String| self.get(name).is_some() || self.group(name).next().is_some();
        match names.iter().find(refused) {
            None => Ok(()),
            Some(name) => Err(Unreadable {
                code: RefusalCode::ParameterNotAllowed,
                ..Unreadable::field(name, "is never allowed at this endpoint")
            }),
        }
    }

    /// The fields below this name: `name[…]`.
    pub(crate) fn group<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        let tail = |field: &'a Field| field.name.as_bytes().strip_prefix(name.as_bytes());
        let before = |field: &Field| match field.name.as_bytes().strip_prefix(name.as_bytes()) {
            Some(tail) => tail.first().is_none_or(|next| *next < b'['),
            None => field.name.as_str() < name,
        };
        let from = self.sorted.partition_point(before);
        self.sorted
            .iter()
            .skip(from)
            .take_while(move |field| tail(field).is_some_and(|tail| tail.starts_with(b"[")))
    }

    /// Holds the pack's rules for names that mean the same wherever they stand. Integers have to keep their bounds where the
    /// request's cost is read; elsewhere vendors take more than that (an amount below zero, a group of amounts).
    pub(crate) fn check(
        &self,
        rules: &ParameterRules,
        cost: &CostRule,
        encoding: BodyEncoding,
    ) -> Result<(), Unreadable> {
        let bound = matches!(cost, CostRule::Fields { .. } | CostRule::Object { .. });
        let amount = amount_field(cost);
        for field in &self.sorted {
            if base(&field.name).eq_ignore_ascii_case("_method") {
                return Err(Unreadable::field(&field.name, "overrides the method"));
            }
            if components(&field.name).any(|part| rules.free_maps.iter().any(|map| map == part)) {
                continue;
            }
            // The last component is the field itself, those before it are groups.
            let mut parts = components(&field.name);
            let mut leaf = parts.next().unwrap_or_default();
            for next in parts {
                if bound && encoding == BodyEncoding::Form && rules.integers.get(leaf).is_some() {
                    return Err(Unreadable::field(
                        &field.name,
                        "must be a single integer, not a group",
                    ));
                }
                leaf = next;
            }
            // The amount that the cost is has bounds of its own.
            let elsewhere = bound && amount != Some(field.name.as_str());
            if let Some(bounds) = rules.integers.get(leaf).filter(|_| elsewhere) {
                integer(field, *bounds, encoding)?;
            }
            self.refuse_conflicts(rules, field, leaf)?;
        }
        Ok(())
    }

    fn refuse_conflicts(
        &self,
        rules: &ParameterRules,
        field: &Field,
        leaf: &str,
    ) -> Result<(), Unreadable> {
        for (one, other) in &rules.conflicting {
            if one != leaf {
                continue;
            }
            // The sibling has the same text before and after the leaf: `a[one]` and `a[other]`.
            let tail = if field.name.ends_with(']') { "]" } else { "" };
            let above = field
                .name
                .len()
                .saturating_sub(leaf.len())
                .saturating_sub(tail.len());
            let head = field.name.get(..above).unwrap_or_default();
            let sibling = format!("{head}{other}{tail}");
            if self.get(&sibling).is_some() {
                return Err(Unreadable::field(
                    &field.name,
                    format!("must not stand beside {other}"),
                ));
            }
        }
        Ok(())
    }
}

/// The field that the cost's amount stands in.
fn amount_field(cost: &CostRule) -> Option<&str> {
    let at = match cost {
        CostRule::Fields { amount, .. } => amount,
        CostRule::Object { amount, .. } => match amount {
            ObjectAmount::Required(at)
            | ObjectAmount::Field(at)
            | ObjectAmount::FieldOrUnknown(at) => at,
            ObjectAmount::Fixed(_) | ObjectAmount::Whole => return None,
        },
        CostRule::Nothing | CostRule::Priced(_) | CostRule::Unknown | CostRule::AtLeast(_) => {
            return None;
        }
    };
    Some(&at.field)
}

/// A plain integer: ASCII digits without a leading zero, within its bounds.
pub(crate) fn integer(
    field: &Field,
    bounds: IntegerBounds,
    encoding: BodyEncoding,
) -> Result<u64, Unreadable> {
    let wanted = match encoding {
        BodyEncoding::Form => Kind::Text,
        BodyEncoding::Json => Kind::Number,
    };
    plain_integer(&field.value)
        .filter(|_| field.kind == wanted && field.value.len() <= bounds.max_digits)
        .filter(|number| *number >= bounds.min)
        .ok_or_else(|| {
            Unreadable::field(
                &field.name,
                format!(
                    "must be a plain integer of at most {} digits, at least {}",
                    bounds.max_digits, bounds.min
                ),
            )
        })
}

/// Digits without sign, leading zero or anything else.
pub(crate) fn plain_integer(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

/// What stands before and after the first byte of this ASCII value.
pub(super) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let position = text.bytes().position(|byte| byte == at)?;
    let after = text.get(position.saturating_add(1)..)?;
    Some((text.get(..position)?, after))
}

fn is_nested(name: &str) -> bool {
    name.bytes().any(|byte| byte == b'[')
}

/// The name before the first bracket.
fn base(name: &str) -> &str {
    cut(name, b'[').map_or(name, |(base, _)| base)
}

/// `a[b][c]` → `a`, `b`, `c`.
pub(super) fn components(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let part = rest?;
        let part = match cut(part, b'[') {
            None => {
                rest = None;
                part
            }
            Some((part, after)) => {
                rest = Some(after);
                part
            }
        };
        Some(part.strip_suffix(']').unwrap_or(part))
    })
}

/// `a[b][c]` → `a`, `a[b]`.
fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    name.bytes()
        .enumerate()
        .filter(|(_, byte)| *byte == b'[')
        .filter_map(|(position, _)| name.get(..position))
}

/// `a[00]` → `a[0]`; `None` when nothing changes.
fn without_leading_zeros(name: &str) -> Option<String> {
    if !name.as_bytes().windows(2).any(|pair| pair == b"[0") {
        return None;
    }
    let mut changed = false;
    let mut canonical = String::with_capacity(name.len());
    for (position, part) in components(name).enumerate() {
        if position == 0 {
            canonical.push_str(part);
            continue;
        }
        let numeric = part.len() > 1
            && part.starts_with('0')
            && part.bytes().all(|byte| byte.is_ascii_digit());
        let short = part.trim_start_matches('0');
        changed |= numeric;
        canonical.push('[');
        canonical.push_str(match (numeric, short) {
            (true, "") => "0",
            (true, short) => short,
            (false, _) => part,
        });
        canonical.push(']');
    }
    changed.then_some(canonical)
}
