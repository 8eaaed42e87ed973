//! Test cards: which source or payment method is declined, and which asks for authentication.

use crate::answer::{Advice, ApiError};

/// What the card does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// Pays.
    Good,
    /// Is declined with this error code and decline code.
    Declined {
        /// Stripe's error code.
        code: &'static str,
        /// The bank's reason.
        decline_code: &'static str,
    },
    /// Asks for authentication.
    NeedsAuthentication,
}

/// Suffix of `tok_…` and `pm_card_…`, error code, decline code.
const DECLINES: &[(&str, &str, &str)] = &[
    ("chargeDeclined", "card_declined", "generic_decline"),
    ("visa_chargeDeclined", "card_declined", "generic_decline"),
    (
        "chargeDeclinedInsufficientFunds",
        "card_declined",
        "insufficient_funds",
    ),
    (
        "visa_chargeDeclinedInsufficientFunds",
        "card_declined",
        "insufficient_funds",
    ),
    ("chargeDeclinedLostCard", "card_declined", "lost_card"),
    ("chargeDeclinedStolenCard", "card_declined", "stolen_card"),
    ("chargeDeclinedFraudulent", "card_declined", "fraudulent"),
    ("chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    (
        "chargeDeclinedIncorrectCvc",
        "incorrect_cvc",
        "incorrect_cvc",
    ),
    (
        "chargeDeclinedProcessingError",
        "processing_error",
        "processing_error",
    ),
];

impl Card {
    /// What this source or payment method does. Anything that is not a magic one pays.
    #[must_use]
    pub fn of(method: Option<&str>) -> Self {
        let Some(suffix) = method.and_then(|m| {
            m.strip_prefix("tok_")
                .or_else(|| m.strip_prefix("pm_card_"))
        }) else {
            return Self::Good;
        };
        if suffix == "threeDSecureRequired"
            || suffix == "threeDSecure2Required"
            || suffix == "authenticationRequired"
        {
            return Self::NeedsAuthentication;
        }
        DECLINES.iter().find(|(name, _, _)| *name == suffix).map_or(
            Self::Good,
            |(_, code, decline_code)| Self::Declined { code, decline_code },
        )
    }
}

/// The 402 of a declined card.
#[must_use]
pub fn card_error(code: &str, decline_code: &str, charge: &str) -> ApiError {
    let message = match code {
        "expired_card" => "Your card has expired.",
        "incorrect_cvc" => "Your card's security code is incorrect.",
        "processing_error" => {
            "An error occurred while processing your card. Try again in a little bit."
        }
        _ if decline_code == "insufficient_funds" => "Your card has insufficient funds.",
        _ if decline_code == "authentication_required" => {
            "Your card was declined. This transaction requires authentication."
        }
        _ => "Your card was declined.",
    };
    let mut error = ApiError::new(402, "card_error", message)
        .code(code)
        .advise(Advice::DoNotRetry);
    error.decline_code = Some(decline_code.to_owned());
    error.charge = Some(charge.to_owned());
    error
}
