//! The ledger's handle for budgets and statements.

use super::work::Job;
use super::{BudgetError, Ledger, QueryError, Unavailable, statement};
use crate::book::{Window, zone};
use crate::model::{Budget, BudgetChange, BudgetFilter, BudgetNow, NewBudget, Page, Statement};
use crate::store::{Spender, StoreError};
use jiff::tz::TimeZone;

/// The statement of a key or a budget, and the time zone of its windows.
pub type Statements = (String, Vec<Statement>);

impl Ledger {
    /// Makes a budget. Answers it and its balances.
    ///
    /// # Errors
    /// [`BudgetError`].
    pub async fn create_budget(&self, new: NewBudget) -> Result<BudgetNow, BudgetError> {
        let new = Box::new(new);
        let made = self.ask(|reply| Job::CreateBudget(new, reply)).await??;
        Ok(*made)
    }

    /// Changes a budget; effective for every reserve committed after it. Answers it and its balances.
    ///
    /// # Errors
    /// [`BudgetError`].
    pub async fn change_budget(
        &self,
        name: &str,
        change: BudgetChange,
    ) -> Result<BudgetNow, BudgetError> {
        let (name, change) = (name.to_owned(), Box::new(change));
        let changed = self
            .ask(|reply| Job::ChangeBudget(name, change, reply))
            .await??;
        Ok(*changed)
    }

    /// A budget and its balances of the present windows.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn budget(&self, name: &str) -> Result<Option<BudgetNow>, Unavailable> {
        let name = name.to_owned();
        let now = self.inner.clock.now_ms();
        self.inner
            .pool
            .read(move |reads| {
                let Some(full) = reads.budget(&name)? else {
                    return Ok(None);
                };
                let zone = zone_of(&full.budget)?;
                let caps = &full.budget.caps;
                let balances = statement::balances(reads, full.number, caps, &zone, now)?;
                Ok(Some((full.budget, balances)))
            })
            .await
    }

    /// Budgets, newest first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn budgets(&self, filter: BudgetFilter) -> Result<Page<Budget>, QueryError> {
        self.list(move |reads| reads.budgets(&filter)).await
    }

    /// Revokes every key that draws from a budget or one below it; answers how many were not revoked before. `None`: no such
    /// budget.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn revoke_by_budget(&self, name: &str) -> Result<Option<u64>, Unavailable> {
        let name = name.to_owned();
        self.ask(|reply| Job::RevokeBudget(name, reply)).await
    }

    /// The statement of a key: of this window, or of the present window of every cap it has. `None`: no such key.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn key_statement(
        &self,
        key_id: &str,
        window: Option<Window>,
    ) -> Result<Option<Statements>, Unavailable> {
        let key_id = key_id.to_owned();
        let now = self.inner.clock.now_ms();
        self.inner
            .pool
            .read(move |reads| {
                let Some(full) = reads.key(&key_id)? else {
                    return Ok(None);
                };
                let (spender, caps) = (Spender::Key(full.number), &full.key.caps);
                let utc = TimeZone::UTC;
                let statements = statement::of(reads, spender, caps, &utc, window, now)?;
                Ok(Some(("UTC".to_owned(), statements)))
            })
            .await
    }

    /// The statement of a budget, everything below it counted; likewise.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn budget_statement(
        &self,
        name: &str,
        window: Option<Window>,
    ) -> Result<Option<Statements>, Unavailable> {
        let name = name.to_owned();
        let now = self.inner.clock.now_ms();
        self.inner
            .pool
            .read(move |reads| {
                let Some(full) = reads.budget(&name)? else {
                    return Ok(None);
                };
                let zone = zone_of(&full.budget)?;
                let (spender, caps) = (Spender::Budget(full.number), &full.budget.caps);
                let statements = statement::of(reads, spender, caps, &zone, window, now)?;
                Ok(Some((full.budget.time_zone, statements)))
            })
            .await
    }
}

fn zone_of(budget: &Budget) -> Result<TimeZone, StoreError> {
    zone(&budget.time_zone)
        .ok_or_else(|| StoreError::new("a budget's time zone is not known".to_owned()))
}
