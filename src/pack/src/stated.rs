//! Lines of a request that show a price, at endpoints whose whole cost nobody can read from the request: what stands there is
//! the least that the call can cost.

use std::borrow::Cow;
use std::sync::Arc;

use crate::compile::{Made, field_names, wrong};
use crate::mistakes::Mistakes;
use keybrake_text::document::Named;
use keybrake_text::record;

/// Named lists of rules, as endpoints refer to them.
pub(crate) type StatedLists = Named<Arc<[StatedRule]>>;

record! {
    /// The JSON form of a [`StatedRule`].
    pub(crate) struct StatedDto {
        unit: String,
        top: bool = false,
        quantity: Vec<String> = Vec::new(),
        currency: String,
    }
}

/// One way in which a line shows its price. A line is the request itself or any group in it (`line_items[0]`); the names here are
/// relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedRule {
    /// The price of one, a decimal number of the currency's smallest unit.
    pub unit: InLine,
    /// How many, a decimal number; the first that is there counts, none: one.
    pub quantity: Vec<InLine>,
    /// The currency of both.
    pub currency: InLine,
    lines: Lines,
}

/// Where lines are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    /// Only the request itself is one.
    Top,
    /// At any depth.
    Anywhere,
}

/// The name of a field in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InLine {
    /// `price_data[unit_amount]`
    top: String,
    /// `[price_data][unit_amount]`
    nested: String,
}

impl InLine {
    fn new(name: String) -> Self {
        let nested = match name.split_once('[') {
            None => format!("[{name}]"),
            Some((base, rest)) => format!("[{base}][{rest}"),
        };
        Self { top: name, nested }
    }

    /// The full name of this field in the line with this name; an empty one is the request itself.
    pub fn full_name(&self, line: &str) -> Cow<'_, str> {
        if line.is_empty() {
            Cow::Borrowed(&self.top)
        } else {
            Cow::Owned(format!("{line}{}", self.nested))
        }
    }
}

impl StatedRule {
    /// The line whose price the field of this full name is, if it is one.
    pub fn line_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        if name == self.unit.top {
            return Some("");
        }
        name.strip_suffix(self.unit.nested.as_str())
            .filter(|_| self.lines == Lines::Anywhere)
    }
}

pub(crate) fn compile(lists: Named<Vec<StatedDto>>, mistakes: &mut Mistakes) -> StatedLists {
    lists.map(|name, dtos| {
        let at = format!("stated.{name}");
        let rules = if dtos.is_empty() {
            wrong(at, "at least one rule")
        } else {
            dtos.into_iter().map(|dto| rule(&at, dto)).collect()
        };
        mistakes.keep(rules).unwrap_or_else(|| Arc::from([]))
    })
}

fn rule(at: &str, dto: StatedDto) -> Made<StatedRule> {
    let StatedDto {
        unit,
        top,
        quantity,
        currency,
    } = dto;
    let mut names = quantity;
    names.extend([unit, currency]);
    let mut names: Vec<InLine> = field_names(at, names)?
        .into_iter()
        .map(InLine::new)
        .collect();
    let (Some(currency), Some(unit)) = (names.pop(), names.pop()) else {
        return wrong(at, "unit and currency");
    };
    Ok(StatedRule {
        unit,
        quantity: names,
        currency,
        lines: if top { Lines::Top } else { Lines::Anywhere },
    })
}
