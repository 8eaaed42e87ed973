//! What is wrong with a pack, gathered: whoever writes one wants to know all of it at once.

use crate::InvalidPack;
use crate::compile::Made;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<InvalidPack>);

impl Mistakes {
    pub(crate) fn keep<T>(&mut self, made: Made<T>) -> Option<T> {
        made.map_err(|mistake| self.0.push(mistake)).ok()
    }

    /// With a blank in the place of what is wrong, so that the rest can still be looked at.
    pub(crate) fn or_blank<T: Default>(&mut self, made: Made<T>) -> T {
        self.keep(made).unwrap_or_default()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn all(self) -> Vec<InvalidPack> {
        self.0
    }
}
