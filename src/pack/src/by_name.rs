//! A table of a few names, looked up by length first: most names that are looked up stand in no table, and there is
//! seldom more than one of a length.

/// Values by name.
#[derive(Debug, Clone)]
pub struct ByName<T> {
    /// Position: length of the names.
    by_length: Vec<Vec<(String, T)>>,
}

impl<T> ByName<T> {
    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.by_length
            .get(name.len())?
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value)
    }
}

impl<T> FromIterator<(String, T)> for ByName<T> {
    /// The first of two equal names counts.
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        let mut by_length: Vec<Vec<(String, T)>> = Vec::new();
        for (name, value) in entries {
            let lengths = by_length.len().max(name.len().saturating_add(1));
            by_length.resize_with(lengths, Vec::new);
            if let Some(same) = by_length.get_mut(name.len()) {
                same.push((name, value));
            }
        }
        Self { by_length }
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn names_are_found_by_all_their_bytes() {
        let names = ["", "amount", "charge", "quantity", "amount"];
        let table: ByName<usize> = names
            .iter()
            .enumerate()
            .map(|(position, name)| ((*name).to_owned(), position))
            .collect();
        for (name, expected) in [
            ("", Some(0)),
            ("amount", Some(1)),
            ("charge", Some(2)),
            ("quantity", Some(3)),
            ("Amount", None),
            ("amoun", None),
            ("a much longer name than any", None),
        ] {
            assert_eq!(table.get(name).copied(), expected, "{name}");
        }
    }
}
