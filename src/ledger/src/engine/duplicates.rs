//! Equal purchases under different idempotency keys: found in the writer's own transaction, so that of two at once one is
//! found by the other.

use keybrake_contract::digest::Digest;
use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::refusal::{Refusal, RefusalCode};
use keybrake_contract::wire::{Cost, Forward, Reserve};

use super::decided::Asking;
use super::path::{Subject, lists, rules};
use super::writer::Writer;
use crate::model::DuplicateRule;
use crate::store::{HoldRow, Purchase, RequestNumber, Store, StoreError};

/// A rule that a purchase falls under.
struct Ruled<'a> {
    subject: Subject<'a>,
    rule: &'a DuplicateRule,
    digest: Digest,
}

/// Whether a request must say what makes it a purchase.
fn is_purchase(command: &Reserve) -> bool {
    command.forward == Forward::Detached && command.cost != Cost::Nothing
}

/// What is wrong with the digests of a reserve, if something is.
pub(super) fn wrong_purchases(asking: &Asking<'_>) -> Option<&'static str> {
    let given = asking.command.purchases.len();
    if is_purchase(asking.command) && given != lists(asking.key, asking.path).len() {
        return Some("purchases: one for each list of the grant's duplicate_fields");
    }
    None
}

fn ruled<'a>(asking: &'a Asking<'_>) -> Vec<Ruled<'a>> {
    if !is_purchase(asking.command) {
        return Vec::new();
    }
    let lists = lists(asking.key, asking.path);
    rules(asking.key, asking.path)
        .filter_map(|(subject, rule)| {
            let list = lists.iter().position(|fields| **fields == rule.fields)?;
            Some(Ruled {
                subject,
                rule,
                digest: *asking.command.purchases.get(list)?,
            })
        })
        .collect()
}

fn window_ms(rule: &DuplicateRule) -> i64 {
    i64::from(rule.window_seconds).saturating_mul(1_000)
}

impl<S: Store> Writer<S> {
    /// The refusal of a purchase that equals one made within the window of a rule. One that was given back was none.
    pub(super) fn duplicate(&mut self, asking: &Asking<'_>) -> Result<Option<Refusal>, StoreError> {
        for Ruled {
            subject,
            rule,
            digest,
        } in ruled(asking)
        {
            let Some(Purchase { request, at }) = self.store.purchase(subject.number, &digest)?
            else {
                continue;
            };
            if self.now.saturating_sub(at) >= window_ms(rule) {
                continue;
            }
            let Some(row) = self.store.hold(request)? else {
                continue;
            };
            if row.state.hold != HoldState::Released {
                let refusal = Refusal {
                    earlier_request_id: self.request_id(&row)?,
                    ..Refusal::plain(RefusalCode::PossibleDuplicate)
                };
                return Ok(Some(refusal.by_budget(subject.budget)));
            }
        }
        Ok(None)
    }

    /// Puts a purchase that was admitted on record for the rules it falls under.
    pub(super) fn note_purchase(
        &mut self,
        asking: &Asking<'_>,
        request: RequestNumber,
    ) -> Result<(), StoreError> {
        for ruled in ruled(asking) {
            let purchase = Purchase {
                request,
                at: self.now,
            };
            let until = self.now.saturating_add(window_ms(ruled.rule));
            self.store
                .set_purchase(ruled.subject.number, &ruled.digest, purchase, until)?;
        }
        Ok(())
    }

    /// The request id that the answer to a request carried, from its event.
    fn request_id(&mut self, row: &HoldRow) -> Result<Option<String>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Told {
            request_id: String,
        }
        let body = self.store.event(row.event)?;
        let told: Option<Told> = body.and_then(|body| serde_json::from_slice(&body).ok());
        Ok(told.map(|told| told.request_id))
    }
}
