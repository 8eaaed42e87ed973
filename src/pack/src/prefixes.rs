//! Finding any of a few texts, in one walk.

/// Texts, of at least one byte each, that are looked for together.
#[derive(Debug, Clone)]
pub struct Prefixes {
    texts: Vec<String>,
    /// Length of the shortest text: of the window that moves over the bytes.
    window: usize,
    /// Byte at the window's end → how far the window can move.
    leaps: Vec<u8>,
}

impl Prefixes {
    /// Texts to look for. An empty one is never found.
    pub fn new(texts: Vec<String>) -> Self {
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        let window = texts
            .iter()
            .map(String::len)
            .min()
            .unwrap_or(1)
            .min(usize::from(u8::MAX));
        let before_the_end = window.saturating_sub(1);
        let leaps = (0..=u8::MAX)
            .map(|byte| {
                let last = |text: &String| {
                    let head = text.as_bytes().get(..before_the_end)?;
                    head.iter().rposition(|have| *have == byte)
                };
                let leap = match texts.iter().filter_map(last).max() {
                    None => window,
                    Some(position) => before_the_end.saturating_sub(position),
                };
                u8::try_from(leap).unwrap_or(1)
            })
            .collect();
        Self {
            texts,
            window,
            leaps,
        }
    }

    /// Whether any of the texts stands in the bytes.
    pub fn stand_in(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some(last) = rest.get(self.window.saturating_sub(1)) {
            let here = |text: &String| rest.starts_with(text.as_bytes());
            let leap = self.leaps.get(usize::from(*last)).copied().unwrap_or(1);
            if self.ends_here(*last) && self.texts.iter().any(here) {
                return true;
            }
            rest = rest.get(usize::from(leap)..).unwrap_or_default();
        }
        false
    }

    fn ends_here(&self, last: u8) -> bool {
        let at = self.window.saturating_sub(1);
        self.texts
            .iter()
            .any(|text| text.as_bytes().get(at) == Some(&last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::*;

    proptest! {
        #[test]
        fn what_stands_anywhere_is_found(
            texts in proptest::collection::vec("[ab_]{0,5}", 0..4),
            bytes in "[ab_c]{0,24}",
        ) {
            let expected = texts.iter().any(|text| !text.is_empty() && bytes.contains(text.as_str()));
            prop_assert_eq!(Prefixes::new(texts).stand_in(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn a_long_text_is_found() {
        let text = "x".repeat(600);
        let prefixes = Prefixes::new(vec![text.clone()]);
        assert!(prefixes.stand_in(format!("y{text}").as_bytes()));
        assert!(!prefixes.stand_in(&text.as_bytes()[1..]));
    }
}
