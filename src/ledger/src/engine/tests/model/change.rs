//! What an admin changes: keys and budgets.

use super::{Budget, BudgetIs, Limits, Model};

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyEdit {
    Limits(Limits),
    Budget(Option<usize>),
    Rule(Option<i64>),
    /// It ends so many milliseconds from now.
    EndsIn(i64),
    Revoke,
}

/// A change of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BudgetEdit {
    Limits(Limits),
    State(BudgetIs),
    Brake(Option<(usize, i64)>),
    Rule(Option<i64>),
}

impl Model {
    /// Whether it was done: a revoked key stays as it is, and nothing draws from a closed budget anew.
    pub fn change_key(&mut self, number: usize, edit: &KeyEdit) -> bool {
        let version = self.version(number) + 1;
        let (now, budgets) = (self.now, &self.budgets);
        let key = &mut self.keys[number];
        let is_closed = |budget: &usize| budgets[*budget].state == BudgetIs::Closed;
        if key.is_revoked {
            return *edit == KeyEdit::Revoke;
        }
        match edit {
            KeyEdit::Budget(Some(budget)) if is_closed(budget) => return false,
            KeyEdit::Limits(limits) => key.limits = limits.clone(),
            KeyEdit::Budget(budget) => key.budget = *budget,
            KeyEdit::Rule(rule) => key.rule = *rule,
            KeyEdit::EndsIn(ms) => key.expires_at = now + ms,
            KeyEdit::Revoke => key.is_revoked = true,
        }
        // A grant's version rises with every change.
        key.version = version;
        true
    }

    /// Whether it was done: a closed budget stays as it is.
    pub fn change_budget(&mut self, number: usize, edit: &BudgetEdit) -> bool {
        let budget: &mut Budget = &mut self.budgets[number];
        if budget.state == BudgetIs::Closed {
            return false;
        }
        match edit {
            BudgetEdit::Limits(limits) => budget.limits = limits.clone(),
            BudgetEdit::State(state) => {
                budget.state = *state;
                budget.refusals.clear();
            }
            BudgetEdit::Brake(brake) => {
                budget.brake = *brake;
                budget.refusals.clear();
            }
            BudgetEdit::Rule(rule) => {
                if budget.rule != *rule {
                    budget.rule_changes += 1;
                }
                budget.rule = *rule;
            }
        }
        true
    }
}
