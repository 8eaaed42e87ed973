//! The packs that come with the program.

/// Name and JSON text of each.
const BUILTIN: [(&str, &str); 3] = [
    ("stripe", include_str!("../../../../vendors/stripe.json")),
    ("resend", include_str!("../../../../vendors/resend.json")),
    ("twilio", include_str!("../../../../vendors/twilio.json")),
];

/// The JSON text of a pack that comes with the program.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN
        .iter()
        .find(|(have, _)| *have == name)
        .map(|(_, text)| *text)
}

/// The names of the packs that come with the program.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}
