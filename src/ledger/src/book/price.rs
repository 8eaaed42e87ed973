//! What a request costs, from what it says and what is known of the object it acts on.

use keybrake_contract::money::{Currency, Micros, Minor};
use keybrake_contract::wire::{Cost, Draws};

use super::rate::{Rate, Rated, Rates};

/// What the ledger knows of a vendor object that a request acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownObject {
    /// Its whole amount, as the vendor last said.
    pub amount: Option<Minor>,
    /// What is still held for it, if it is open (authorised, not captured, waiting): acting on it debits only what goes
    /// beyond. `None`: it is not open, and whatever is done with it costs in full.
    pub open: Option<Micros>,
    /// The rate that what is held was priced with, when its currency needs one: the same money never has two rates.
    pub rate: Option<Rate>,
}

/// What a price rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PricedBy {
    /// It moves no money.
    Nothing,
    /// The amount in the request.
    Amount,
    /// The object it acts on.
    Object,
    /// The worst case of the key.
    WorstCase,
    /// Nothing: the key is uncapped and the cost in dollars is not known.
    Unpriced,
}

/// The ledger's judgement about a request's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pricing {
    /// It costs this.
    Priced {
        /// To be taken from every balance; `None` only for an uncapped key.
        cost: Option<Micros>,
        /// Amount and currency, as far as known.
        amount: Option<Minor>,
        /// The exchange rate in `cost`; `None` when it needs none.
        rate: Option<Rate>,
        /// What that rests on.
        by: PricedBy,
    },
    /// More dollars than can be counted: above every cap.
    AboveEveryCap(Minor),
    /// Nobody can tell and the key gives no worst case, or the amount is in a currency without a rate.
    AmountUnknown(Option<Minor>),
}

/// Whether a key has a cap on money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capped {
    /// At least one.
    Yes,
    /// None: a cost that is not known does no harm.
    No,
}

/// What a key says about the price of its requests.
#[derive(Debug, Clone, Copy)]
pub struct PriceTerms<'a> {
    /// Whether a cost must be known.
    pub capped: Capped,
    /// What a call costs when nobody can tell.
    pub worst_case: Option<Micros>,
    /// The rates in force at its vendor.
    pub rates: &'a Rates,
}

/// Prices a request. `object`: what is known of the object it names.
#[must_use]
pub fn price(cost: &Cost, object: Option<KnownObject>, terms: PriceTerms<'_>) -> Pricing {
    let rated = |minor: Option<Minor>| minor.map(|minor| (minor, terms.rates.rated(minor)));
    match cost {
        Cost::Nothing => Pricing::Priced {
            cost: Some(Micros::ZERO),
            amount: None,
            rate: None,
            by: PricedBy::Nothing,
        },
        Cost::Amount(minor) => of_amount(rated(Some(*minor)), PricedBy::Amount, None, terms),
        Cost::Unknown => of_amount(None, PricedBy::Amount, None, terms),
        Cost::AtLeast(minor) => at_least(*minor, terms),
        // Nothing is nothing, whose object it may be and in whatever currency.
        Cost::OfObject(named) if named.amount == Some(0) => Pricing::Priced {
            cost: Some(Micros::ZERO),
            amount: object.and_then(|known| known.amount).map(|whole| Minor {
                amount: 0,
                currency: whole.currency,
            }),
            rate: None,
            by: PricedBy::Object,
        },
        Cost::OfObject(named) => {
            let held = object.filter(|_| named.draws == Draws::OnHold);
            let open = held.and_then(|known| known.open);
            let held_at = held.and_then(|known| known.rate);
            let (minor, by) = match object.and_then(|known| known.amount) {
                Some(whole) => (
                    Some(Minor {
                        amount: named.amount.unwrap_or(whole.amount),
                        currency: whole.currency,
                    }),
                    PricedBy::Object,
                ),
                None => (
                    named
                        .amount
                        .zip(named.currency)
                        .map(|(amount, currency)| Minor { amount, currency }),
                    PricedBy::Amount,
                ),
            };
            match (open, named.amount) {
                // All of what is set aside already, whatever it is worth.
                (Some(_), None) => Pricing::Priced {
                    cost: Some(Micros::ZERO),
                    amount: minor,
                    rate: held_at,
                    by: PricedBy::Object,
                },
                (_, Some(amount)) if minor.is_none() => of_unknown_currency(amount, open, terms),
                _ => {
                    let at_its_rate = |minor| {
                        Some(Rated {
                            minor,
                            rate: held_at?,
                        })
                    };
                    let amount = match minor.and_then(at_its_rate) {
                        Some(priced) => Some((priced.minor, Some(priced))),
                        None => rated(minor),
                    };
                    of_amount(amount, by, open, terms)
                }
            }
        }
    }
}

/// The worst case, or what the request shows where that is more. Of what it shows in a currency without a rate nobody knows
/// whether it is more.
fn at_least(minor: Minor, terms: PriceTerms<'_>) -> Pricing {
    let worst = match (terms.capped, terms.worst_case) {
        (Capped::Yes, Some(worst)) => worst,
        (Capped::Yes, None) => return Pricing::AmountUnknown(Some(minor)),
        (Capped::No, _) => {
            return Pricing::Priced {
                cost: None,
                amount: Some(minor),
                rate: None,
                by: PricedBy::Unpriced,
            };
        }
    };
    let Some(shown) = terms.rates.rated(minor) else {
        return Pricing::AmountUnknown(Some(minor));
    };
    let (cost, rate) = match shown.cost() {
        None => return Pricing::AboveEveryCap(minor),
        Some(cost) if cost > worst => (cost, shown.exchange()),
        Some(_) => (worst, None),
    };
    Pricing::Priced {
        cost: Some(cost),
        amount: Some(minor),
        rate,
        by: PricedBy::WorstCase,
    }
}

/// An amount in nobody knows what currency: the worst case, or as much in dollars where that is more.
fn of_unknown_currency(amount: u64, open: Option<Micros>, terms: PriceTerms<'_>) -> Pricing {
    let as_dollars = Minor {
        amount,
        currency: Currency::USD,
    };
    match at_least(as_dollars, terms) {
        Pricing::Priced { cost, by, .. } => Pricing::Priced {
            cost: cost.map(|cost| beyond(cost, open)),
            amount: None,
            rate: None,
            by,
        },
        Pricing::AmountUnknown(_) => Pricing::AmountUnknown(None),
        Pricing::AboveEveryCap(minor) => Pricing::AboveEveryCap(minor),
    }
}

/// An amount at its rate. The worst case is for calls whose amount nobody can tell: an amount in a currency without a rate may be
/// any multiple of it, and is never priced by it.
fn of_amount(
    amount: Option<(Minor, Option<Rated>)>,
    by: PricedBy,
    open: Option<Micros>,
    terms: PriceTerms<'_>,
) -> Pricing {
    let minor = amount.map(|(minor, _)| minor);
    let rated = amount.and_then(|(_, rated)| rated);
    let in_dollars = rated.and_then(Rated::cost);
    if let (Some(rated), None, Capped::Yes) = (rated, in_dollars, terms.capped) {
        return Pricing::AboveEveryCap(rated.minor);
    }
    let (total, rate, by) = match (in_dollars, terms.capped, terms.worst_case) {
        (Some(total), _, _) => (total, rated.and_then(Rated::exchange), by),
        (None, Capped::Yes, Some(worst)) if minor.is_none() => (worst, None, PricedBy::WorstCase),
        (None, Capped::Yes, _) => return Pricing::AmountUnknown(minor),
        (None, Capped::No, _) => {
            return Pricing::Priced {
                cost: None,
                amount: minor,
                rate: None,
                by: PricedBy::Unpriced,
            };
        }
    };
    Pricing::Priced {
        cost: Some(beyond(total, open)),
        amount: minor,
        rate,
        by,
    }
}

/// What goes beyond that which is set aside already.
fn beyond(total: Micros, open: Option<Micros>) -> Micros {
    total
        .checked_sub(open.unwrap_or_default())
        .unwrap_or(total)
        .max(Micros::ZERO)
}

#[cfg(test)]
mod tests {
    use keybrake_contract::wire::OfObject;

    use super::super::rate::QuotedRate;
    use super::*;

    fn minor(amount: u64, currency: &str) -> Minor {
        Minor {
            amount,
            currency: Currency::parse(currency).unwrap(),
        }
    }

    fn of_object(amount: Option<u64>, currency: Option<&str>) -> Cost {
        Cost::OfObject(OfObject {
            object: "ch_1".to_owned(),
            amount,
            currency: currency.map(|text| Currency::parse(text).unwrap()),
            draws: Draws::OnHold,
        })
    }

    fn anew(amount: Option<u64>) -> Cost {
        Cost::OfObject(OfObject {
            object: "ch_1".to_owned(),
            amount,
            currency: None,
            draws: Draws::Anew,
        })
    }

    fn priced(cost: i64, amount: Option<Minor>, by: PricedBy) -> Pricing {
        Pricing::Priced {
            cost: Some(Micros::new(cost)),
            amount,
            rate: None,
            by,
        }
    }

    const CAPPED: Capped = Capped::Yes;
    const UNCAPPED: Capped = Capped::No;

    #[test]
    fn every_way_to_a_price() {
        let known = |amount, open: Option<i64>| {
            Some(KnownObject {
                amount,
                open: open.map(Micros::new),
                rate: None,
            })
        };
        let ten = Some(minor(1_000, "usd"));
        let euro = Some(minor(1_000, "eur"));
        let worst = Some(Micros::new(50_000_000));
        let beyond_count = minor(u64::MAX, "usd");
        use PricedBy::{Amount, Nothing, Object, Unpriced, WorstCase};
        let unpriced = |amount| Pricing::Priced {
            cost: None,
            amount,
            rate: None,
            by: Unpriced,
        };
        #[rustfmt::skip]
        let rows = [
            // cost, object, capped, worst case, expected
            (Cost::Nothing, None, CAPPED, None, priced(0, None, Nothing)),
            (Cost::Amount(minor(1_000, "usd")), None, CAPPED, None, priced(10_000_000, ten, Amount)),
            (Cost::Amount(minor(1_000, "usd")), None, CAPPED, worst, priced(10_000_000, ten, Amount)),
            (Cost::Amount(minor(1_000, "eur")), None, CAPPED, None, Pricing::AmountUnknown(euro)),
            (Cost::Amount(minor(1_000, "eur")), None, CAPPED, worst, Pricing::AmountUnknown(euro)),
            (Cost::Amount(minor(1_000, "eur")), None, UNCAPPED, worst, unpriced(euro)),
            (Cost::Amount(beyond_count), None, CAPPED, worst, Pricing::AboveEveryCap(beyond_count)),
            (Cost::Amount(beyond_count), None, UNCAPPED, None, unpriced(Some(beyond_count))),
            (Cost::Unknown, None, CAPPED, None, Pricing::AmountUnknown(None)),
            (Cost::Unknown, None, CAPPED, worst, priced(50_000_000, None, WorstCase)),
            (Cost::Unknown, None, UNCAPPED, None, unpriced(None)),
            // What a request shows is no worst case: the greater of the two.
            (Cost::AtLeast(minor(1_000, "usd")), None, CAPPED, None, Pricing::AmountUnknown(ten)),
            (Cost::AtLeast(minor(1_000, "usd")), None, CAPPED, worst, priced(50_000_000, ten, WorstCase)),
            (Cost::AtLeast(minor(7_000, "usd")), None, CAPPED, worst, priced(70_000_000, Some(minor(7_000, "usd")), WorstCase)),
            (Cost::AtLeast(minor(9_000, "eur")), None, CAPPED, worst, Pricing::AmountUnknown(Some(minor(9_000, "eur")))),
            (Cost::AtLeast(beyond_count), None, CAPPED, worst, Pricing::AboveEveryCap(beyond_count)),
            (Cost::AtLeast(minor(1_000, "usd")), None, UNCAPPED, None, unpriced(ten)),
            // A refund of what is still open is money of its own: the customer may have paid without us.
            (anew(Some(300)), known(ten, Some(10_000_000)), CAPPED, None, priced(3_000_000, Some(minor(300, "usd")), Object)),
            (anew(None), known(ten, Some(10_000_000)), CAPPED, None, priced(10_000_000, ten, Object)),
            (anew(None), known(None, Some(10_000_000)), CAPPED, None, Pricing::AmountUnknown(None)),
            // A cancellation takes nothing, whatever is known.
            (of_object(Some(0), None), None, CAPPED, None, priced(0, None, Object)),
            (of_object(Some(0), None), known(euro, Some(10_000_000)), CAPPED, None, priced(0, Some(minor(0, "eur")), Object)),
            // A known object that is not open costs in full: a refund.
            (of_object(None, None), known(ten, None), CAPPED, None, priced(10_000_000, ten, Object)),
            (of_object(Some(300), None), known(ten, None), CAPPED, None, priced(3_000_000, Some(minor(300, "usd")), Object)),
            (of_object(Some(300), Some("usd")), known(euro, None), CAPPED, None, Pricing::AmountUnknown(Some(minor(300, "eur")))),
            // An open one costs what goes beyond that which is held: a capture, an increment.
            (of_object(None, None), known(ten, Some(10_000_000)), CAPPED, None, priced(0, ten, Object)),
            (of_object(None, None), known(None, Some(50_000_000)), CAPPED, None, priced(0, None, Object)),
            (of_object(Some(800), None), known(ten, Some(10_000_000)), CAPPED, None, priced(0, Some(minor(800, "usd")), Object)),
            (of_object(Some(1_500), None), known(ten, Some(10_000_000)), CAPPED, None, priced(5_000_000, Some(minor(1_500, "usd")), Object)),
            (of_object(Some(1_500), None), known(euro, Some(20_000_000)), CAPPED, worst, Pricing::AmountUnknown(Some(minor(1_500, "eur")))),
            // An unknown object: the request's own amount in the one currency that the grant allows, else the worst case.
            (of_object(Some(300), Some("usd")), None, CAPPED, None, priced(3_000_000, Some(minor(300, "usd")), Amount)),
            (of_object(Some(300), None), None, CAPPED, None, Pricing::AmountUnknown(None)),
            (of_object(None, Some("usd")), None, CAPPED, None, Pricing::AmountUnknown(None)),
            (of_object(None, Some("usd")), None, CAPPED, worst, priced(50_000_000, None, WorstCase)),
            // An amount in nobody knows what currency: no less than if it were dollars.
            (of_object(Some(300), None), None, CAPPED, worst, priced(50_000_000, None, WorstCase)),
            (of_object(Some(90_000), None), None, CAPPED, worst, priced(900_000_000, None, WorstCase)),
            (of_object(Some(90_000), None), known(None, Some(50_000_000)), CAPPED, worst, priced(850_000_000, None, WorstCase)),
            (of_object(Some(300), None), known(None, Some(50_000_000)), CAPPED, worst, priced(0, None, WorstCase)),
            (of_object(Some(u64::MAX), None), None, CAPPED, worst, Pricing::AboveEveryCap(beyond_count)),
            (of_object(Some(90_000), None), None, UNCAPPED, worst, unpriced(None)),
            (anew(Some(90_000)), None, CAPPED, worst, priced(900_000_000, None, WorstCase)),
            (of_object(None, None), None, UNCAPPED, None, unpriced(None)),
        ];
        for (cost, object, capped, worst_case, expected) in rows {
            let rates = Rates::default();
            let terms = PriceTerms {
                capped,
                worst_case,
                rates: &rates,
            };
            assert_eq!(
                price(&cost, object, terms),
                expected,
                "{cost:?} {object:?} {capped:?} {worst_case:?}"
            );
        }
    }

    #[test]
    fn another_currency_is_priced_by_its_rate_and_an_open_object_by_its_own() {
        let rate = |text| QuotedRate::parse(text).unwrap().per_smallest(2).unwrap();
        let (pinned, of_the_hold) = (rate("1.1"), rate("1.2"));
        let eur = Currency::parse("eur").unwrap();
        let rates = Rates::new([(eur, pinned)]);
        let euro = |amount| Some(minor(amount, "eur"));
        let known = |open: Option<i64>, rate| {
            Some(KnownObject {
                amount: euro(1_000),
                open: open.map(Micros::new),
                rate,
            })
        };
        use PricedBy::{Amount, Object, Unpriced, WorstCase};
        #[rustfmt::skip]
        let rows = [
            // cost, object, capped → cost, amount, rate, by
            (Cost::Amount(minor(1_000, "eur")), None, CAPPED, Some(11_000_000), euro(1_000), Some(pinned), Amount),
            (Cost::Amount(minor(1, "eur")), None, CAPPED, Some(11_000), euro(1), Some(pinned), Amount),
            (Cost::Amount(minor(1_000, "eur")), None, UNCAPPED, Some(11_000_000), euro(1_000), Some(pinned), Amount),
            (Cost::Amount(minor(u64::MAX, "eur")), None, UNCAPPED, None, euro(u64::MAX), None, Unpriced),
            // A refund: not open, so what the euro is worth now.
            (of_object(Some(500), None), known(None, None), CAPPED, Some(5_500_000), euro(500), Some(pinned), Object),
            // Held at 1.2: raised to 15 euros at 1.2 as well, 6 dollars go beyond it.
            (of_object(Some(1_500), None), known(Some(12_000_000), Some(of_the_hold)), CAPPED, Some(6_000_000), euro(1_500), Some(of_the_hold), Object),
            (of_object(None, None), known(Some(12_000_000), Some(of_the_hold)), CAPPED, Some(0), euro(1_000), Some(of_the_hold), Object),
            (of_object(Some(300), Some("eur")), None, CAPPED, Some(3_300_000), euro(300), Some(pinned), Amount),
            // A refund of what is still held is money of its own, at today's rate.
            (anew(Some(500)), known(Some(12_000_000), Some(of_the_hold)), CAPPED, Some(5_500_000), euro(500), Some(pinned), Object),
            (Cost::AtLeast(minor(10_000, "eur")), None, CAPPED, Some(110_000_000), euro(10_000), Some(pinned), WorstCase),
            (Cost::AtLeast(minor(1_000, "eur")), None, CAPPED, Some(50_000_000), euro(1_000), None, WorstCase),
        ];
        for (cost, object, capped, micros, amount, rate, by) in rows {
            let terms = PriceTerms {
                capped,
                worst_case: Some(Micros::new(50_000_000)),
                rates: &rates,
            };
            let expected = Pricing::Priced {
                cost: micros.map(Micros::new),
                amount,
                rate,
                by,
            };
            assert_eq!(price(&cost, object, terms), expected, "{cost:?} {object:?}");
        }
        let beyond = minor(u64::MAX, "eur");
        let terms = PriceTerms {
            capped: CAPPED,
            worst_case: None,
            rates: &rates,
        };
        assert_eq!(
            price(&Cost::Amount(beyond), None, terms),
            Pricing::AboveEveryCap(beyond)
        );
    }
}
