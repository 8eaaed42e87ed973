//! Object and request ids: a prefix, a part drawn at start and a counter.
//!
//! Ids are unique over restarts (by the drawn part) and never repeat within one run (by the counter).

/// Makes ids.
#[derive(Debug)]
pub struct Ids {
    drawn: String,
    counter: u64,
}

impl Ids {
    /// Draws the part that tells this run from others.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; 6];
        getrandom::fill(&mut bytes)?;
        Ok(Self {
            drawn: hex::encode(bytes),
            counter: 0,
        })
    }

    /// The next id with this prefix, such as `ch_` and 24 characters.
    pub fn next(&mut self, prefix: &str) -> String {
        self.counter = self.counter.saturating_add(1);
        format!("{prefix}_{}{:012x}", self.drawn, self.counter)
    }
}
