//! The packs that come with the program: what `build.rs` found in `vendors/`.

use lz4_flex::block::decompress_size_prepended;

/// Name and compressed JSON text of each, sorted by the name.
const BUILTIN: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The JSON text of a pack that comes with the program.
#[must_use]
pub fn builtin(name: &str) -> Option<String> {
    let (_, compressed) = BUILTIN.iter().find(|(have, _)| *have == name)?;
    String::from_utf8(decompress_size_prepended(compressed).ok()?).ok()
}

/// The names of the packs that come with the program.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}
