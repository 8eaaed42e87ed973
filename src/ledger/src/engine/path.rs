//! What a request draws on: its key, and every budget from the key's own up to the root.

use std::sync::Arc;

use jiff::tz::TimeZone;
use keybrake_contract::grant::Grant;
use keybrake_contract::refusal::{Refusal, RefusalCode};

use super::writer::Writer;
use crate::book::{Capped, zone};
use crate::model::{Budget, BudgetState, Caps, DuplicateRule, MAX_DEPTH};
use crate::store::{BudgetNumber, FullBudget, FullKey, KeyNumber, Store, StoreError};

/// Most paths that are remembered. When there are more, all are forgotten.
const MOST: usize = 16_384;

/// The time zone of every key.
static UTC: TimeZone = TimeZone::UTC;

/// One budget on the way to the root.
pub(super) struct Tier {
    pub number: BudgetNumber,
    pub budget: Budget,
    pub zone: TimeZone,
}

/// The budgets from one up to its root. Never empty.
pub(super) struct Path {
    pub tiers: Vec<Tier>,
    /// Rises with every change of a rule about equal purchases on the way.
    rule_version: u64,
}

/// A key or a budget that a request takes from.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub number: KeyNumber,
    pub caps: &'a Caps,
    pub zone: &'a TimeZone,
    /// Its name, when it is a budget.
    pub budget: Option<&'a str>,
}

/// The key, then its budgets from its own up to the root.
pub(super) fn subjects<'a>(
    key: &'a FullKey,
    path: Option<&'a Path>,
) -> impl Iterator<Item = Subject<'a>> {
    std::iter::once(own_subject(key)).chain(tiers(path).iter().map(Tier::subject))
}

/// The key alone.
pub(super) fn own_subject(key: &FullKey) -> Subject<'_> {
    Subject {
        number: key.number,
        caps: &key.key.caps,
        zone: &UTC,
        budget: None,
    }
}

/// The budgets of a path, if there is one.
pub(super) fn tiers(path: Option<&Path>) -> &[Tier] {
    path.map_or(&[], |path| path.tiers.as_slice())
}

impl Tier {
    /// A budget with its time zone.
    pub(super) fn of(full: FullBudget) -> Result<Self, StoreError> {
        let FullBudget {
            number,
            parent: _,
            budget,
        } = full;
        let zone = zone(&budget.time_zone)
            .ok_or_else(|| StoreError::new("a budget's time zone is not known".to_owned()))?;
        Ok(Self {
            number,
            budget,
            zone,
        })
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject {
            number: self.number,
            caps: &self.budget.caps,
            zone: &self.zone,
            budget: Some(&self.budget.name),
        }
    }
}

/// Whether there is a cap on money anywhere on the way.
pub(super) fn capped(key: &FullKey, path: Option<&Path>) -> Capped {
    if subjects(key, path).all(|subject| subject.caps.is_uncapped()) {
        Capped::No
    } else {
        Capped::Yes
    }
}

/// Why nothing is admitted under these budgets just now, if nothing is: the nearest that is not open.
pub(super) fn shut(path: Option<&Path>) -> Option<Refusal> {
    tiers(path).iter().find_map(|tier| {
        let code = match tier.budget.state {
            BudgetState::Open => return None,
            BudgetState::Tripped => RefusalCode::BudgetTripped,
            BudgetState::Frozen | BudgetState::Closed => RefusalCode::BudgetFrozen,
        };
        Some(Refusal::plain(code).by_budget(Some(&tier.budget.name)))
    })
}

/// The version of a key's grant as filters know it. It rises with every change of the key, and of a rule about equal
/// purchases of a budget on its way.
pub(super) fn grant_version(key: &FullKey, path: Option<&Path>) -> u64 {
    let rules = path.map_or(0, |path| path.rule_version);
    key.key.grant.version.saturating_add(rules)
}

/// The rules about equal purchases on the way, each with whose it is.
pub(super) fn rules<'a>(
    key: &'a FullKey,
    path: Option<&'a Path>,
) -> impl Iterator<Item = (Subject<'a>, &'a DuplicateRule)> {
    let own = key.key.duplicates.as_ref();
    let theirs = tiers(path)
        .iter()
        .map(|tier| tier.budget.duplicates.as_ref());
    let all = std::iter::once(own).chain(theirs);
    subjects(key, path)
        .zip(all)
        .filter_map(|(subject, rule)| Some((subject, rule?)))
}

/// The lists of fields of these rules, each once, in the order in which filters send their digests.
pub(super) fn lists<'a>(key: &'a FullKey, path: Option<&'a Path>) -> Vec<&'a Vec<String>> {
    let mut lists = Vec::new();
    for (_, rule) in rules(key, path) {
        if !lists.contains(&&rule.fields) {
            lists.push(&rule.fields);
        }
    }
    lists
}

/// A key's grant as it is told to filters.
pub(super) fn told_grant(key: &FullKey, path: Option<&Path>) -> Box<Grant> {
    Box::new(Grant {
        version: grant_version(key, path),
        duplicate_fields: lists(key, path).into_iter().cloned().collect(),
        ..key.key.grant.clone()
    })
}

impl<S: Store> Writer<S> {
    /// The budgets from this one up to its root. `None` for no budget.
    pub(super) fn path(
        &mut self,
        leaf: Option<BudgetNumber>,
    ) -> Result<Option<Arc<Path>>, StoreError> {
        let Some(leaf) = leaf else { return Ok(None) };
        if let Some(path) = self.paths.get(&leaf) {
            return Ok(Some(Arc::clone(path)));
        }
        let mut tiers: Vec<Tier> = Vec::new();
        let mut next = Some(leaf);
        while let Some(number) = next {
            let found = self.store.budget(number)?;
            let found = found.ok_or_else(|| StoreError::new("a budget is missing".to_owned()))?;
            if tiers.len() >= MAX_DEPTH {
                return Err(StoreError::new("a budget lies too deep".to_owned()));
            }
            next = found.parent;
            tiers.push(Tier::of(found)?);
        }
        let versions = tiers.iter().map(|tier| tier.budget.rule_version);
        let path = Arc::new(Path {
            rule_version: versions.fold(0, u64::saturating_add),
            tiers,
        });
        if self.paths.len() >= MOST {
            self.paths.clear();
        }
        self.paths.insert(leaf, Arc::clone(&path));
        Ok(Some(path))
    }

    /// The path of a key's present budget.
    pub(super) fn path_of(&mut self, key: &FullKey) -> Result<Option<Arc<Path>>, StoreError> {
        self.path(key.budget)
    }
}
