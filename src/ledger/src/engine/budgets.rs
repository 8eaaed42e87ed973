//! Budgets: made, changed, opened and shut. Each is an event, and effective for every reserve after it.

use super::BudgetError;
use super::path::Tier;
use super::work::Budgeted;
use super::writer::Writer;
use crate::audit::budget_facts;
use crate::clock::timestamp;
use crate::model::{Budget, BudgetChange, BudgetNow, BudgetState, Caps, MAX_DEPTH, NewBudget};
use crate::store::{BudgetNumber, FullBudget, Spender, Store, StoreError};

impl<S: Store> Writer<S> {
    pub(super) fn create_budget(&mut self, new: NewBudget) -> Result<Budgeted, StoreError> {
        if self.store.budget_by_name(&new.name)?.is_some() {
            return Ok(Err(BudgetError::NameTaken));
        }
        let parent = match &new.parent {
            None => None,
            Some(name) => match self.parent_of_new(name)? {
                Ok(parent) => Some(parent),
                Err(error) => return Ok(Err(error)),
            },
        };
        let NewBudget {
            name,
            parent: parent_name,
            caps,
            time_zone,
            trip_on,
            duplicates,
            metadata,
        } = new;
        let budget = Budget {
            name,
            parent: parent_name,
            caps,
            time_zone,
            state: BudgetState::Open,
            trip_on,
            duplicates,
            rule_version: 0,
            version: 1,
            created_at: timestamp(self.now),
            tripped_at: None,
            metadata,
        };
        let number = self.store.add_budget(&budget, parent)?;
        self.budget_event("budget_created", &budget)?;
        self.budget_now(FullBudget {
            number,
            parent,
            budget,
        })
        .map(Ok)
    }

    /// The number of a budget that is to be a parent, if it may be one.
    fn parent_of_new(
        &mut self,
        name: &str,
    ) -> Result<Result<BudgetNumber, BudgetError>, StoreError> {
        let Some(found) = self.store.budget_by_name(name)? else {
            return Ok(Err(BudgetError::UnknownParent));
        };
        if found.budget.state == BudgetState::Closed {
            return Ok(Err(BudgetError::ParentClosed));
        }
        let path = self.path(Some(found.number))?;
        Ok(if path.is_some_and(|path| path.tiers.len() >= MAX_DEPTH) {
            Err(BudgetError::TooDeep)
        } else {
            Ok(found.number)
        })
    }

    pub(super) fn change_budget(
        &mut self,
        name: &str,
        change: BudgetChange,
    ) -> Result<Budgeted, StoreError> {
        let Some(mut full) = self.store.budget_by_name(name)? else {
            return Ok(Err(BudgetError::NotFound));
        };
        if full.budget.state == BudgetState::Closed {
            return Ok(Err(BudgetError::Closed));
        }
        let BudgetChange {
            caps,
            state,
            trip_on,
            duplicates,
            metadata,
            parent,
        } = change;
        if let Some(parent) = parent
            && parent != full.budget.parent
        {
            return self.no_such_parent(&full, parent).map(Err);
        }
        let before: Caps = full.budget.caps;
        let budget = &mut full.budget;
        budget.caps = caps.unwrap_or(before);
        if let Some(state) = state {
            budget.state = state;
        }
        if let Some(rule) = duplicates
            && rule != budget.duplicates
        {
            budget.duplicates = rule;
            budget.rule_version = budget.rule_version.saturating_add(1);
        }
        budget.trip_on = trip_on.unwrap_or(budget.trip_on);
        budget.metadata = metadata.or(budget.metadata.take());
        budget.version = budget.version.saturating_add(1);
        self.store.change_budget(full.number, &full.budget)?;
        if state.is_some() || trip_on.is_some() {
            // A brake that is set anew, or that was released, counts from here on.
            self.store.forget_refusals(full.number)?;
        }
        self.paths.clear();
        self.budget_event("budget_changed", &full.budget)?;
        let tier = Tier::of(full.clone())?;
        self.recap(&tier.subject(), Spender::Budget(full.number), &before)?;
        self.budget_now(full).map(Ok)
    }

    /// A parent is for good: what was spent was counted in the tree as it is. Says what was wrong with another one.
    fn no_such_parent(
        &mut self,
        full: &FullBudget,
        parent: Option<String>,
    ) -> Result<BudgetError, StoreError> {
        let Some(parent) = parent else {
            return Ok(BudgetError::ParentFixed);
        };
        let Some(found) = self.store.budget_by_name(&parent)? else {
            return Ok(BudgetError::UnknownParent);
        };
        let path = self.path(Some(found.number))?;
        let is_cycle =
            path.is_some_and(|path| path.tiers.iter().any(|tier| tier.number == full.number));
        Ok(if is_cycle {
            BudgetError::Cycle
        } else {
            BudgetError::ParentFixed
        })
    }

    fn budget_now(&mut self, full: FullBudget) -> Result<Box<BudgetNow>, StoreError> {
        let tier = Tier::of(full)?;
        let balances = self.present_balances(&tier.subject())?;
        Ok(Box::new((tier.budget, balances)))
    }

    /// Revokes every key that draws from a budget or one below it; answers how many were not revoked before. `None`: no such
    /// budget.
    pub(super) fn revoke_by_budget(&mut self, name: &str) -> Result<Option<u64>, StoreError> {
        let Some(found) = self.store.budget_by_name(name)? else {
            return Ok(None);
        };
        let keys = self.store.unrevoked_by_budget(found.number)?;
        self.revoke_all(keys).map(Some)
    }

    /// The event shows the budget as it is after it.
    fn budget_event(&mut self, event: &str, budget: &Budget) -> Result<(), StoreError> {
        self.tell_facts(event, budget_facts(budget))
    }
}
