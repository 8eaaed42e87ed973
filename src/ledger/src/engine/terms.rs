//! What the ledger relies on at each vendor: how long idempotency keys are remembered there, and what currencies are worth.

use std::collections::HashMap;

use keybrake_pack::Pack;

use crate::book::Rates;
use crate::rates::RateTable;

/// By the vendor's name.
pub(super) type Terms = HashMap<String, VendorTerms>;

/// Of one vendor.
pub(super) struct VendorTerms {
    /// For how many milliseconds it is relied on to remember an idempotency key, the margin taken off. `None`: it knows none.
    pub memory_ms: Option<i64>,
    /// The exchange rates in force.
    pub rates: Rates,
    /// The operations whose answers say how much the charge is that they name.
    pub payments: Vec<String>,
}

/// The terms of every pack.
pub(super) fn terms_of(packs: &[Pack], table: Option<&RateTable>) -> Terms {
    packs
        .iter()
        .map(|pack| {
            let idempotency = pack.idempotency();
            let trusted = idempotency
                .window_ms
                .map(|window| window.saturating_sub(idempotency.margin_ms));
            let terms = VendorTerms {
                memory_ms: trusted.map(|trusted| i64::try_from(trusted).unwrap_or(i64::MAX)),
                rates: table.map(|table| table.at(pack)).unwrap_or_default(),
                payments: payments_of(pack),
            };
            (pack.vendor().to_owned(), terms)
        })
        .collect()
}

/// See [`VendorTerms::payments`].
pub(super) fn payments_of(pack: &Pack) -> Vec<String> {
    pack.endpoints()
        .filter(|endpoint| endpoint.tells_its_charge())
        .map(|endpoint| endpoint.operation.clone())
        .collect()
}
