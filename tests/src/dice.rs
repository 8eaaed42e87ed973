//! Random choices from a seed: one seed is one run.

/// SplitMix64.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// Whether the one case of so many has come.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// One of these, if there are any.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.below(from.len()))
    }

    /// Bytes of any kind, mostly few.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = match self.below(4) {
            0 => self.below(most + 1),
            _ => self.below(most.min(16) + 1),
        };
        let plain = self.one_in(2);
        let byte = |dice: &mut Self| match plain {
            true => b"0123456789amount=&currency;[]%{}\" "[dice.below(34)],
            false => dice.number() as u8,
        };
        (0..length).map(|_| byte(self)).collect()
    }
}
