//! The canonical form of a path. Envoy has merged slashes and resolved dots by then (envoy/); what is still not
//! canonical is refused byte for byte, never mended here: what is judged must be what is sent.

use crate::pack::{BodyEncoding, PathRules};

/// Most bytes in path and query.
const MAX_TARGET: usize = 8 * 1024;
/// Most bytes in one path segment: more than any vendor id has.
const MAX_SEGMENT: usize = 255;

/// A path of the vendor, and its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub path: &'a str,
    /// Without `?`; `None` when there is no `?`.
    pub query: Option<&'a str>,
    /// How bodies below this root are encoded.
    pub encoding: BodyEncoding,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPath {
    /// Can be read in two ways: 400.
    Ambiguous(&'static str),
    /// Is clear, and no endpoint can have it: 403.
    Unknown,
}

/// Reads the vendor-relative target.
pub(crate) fn parse<'a>(rules: &PathRules, target: &'a str) -> Result<Target<'a>, BadPath> {
    if target.len() > MAX_TARGET {
        return Err(BadPath::Ambiguous(
            "path and query are longer than 8192 bytes",
        ));
    }
    let (path, query) = match target.split_once('?') {
        None => (target, None),
        Some((path, query)) => (path, Some(query)),
    };
    if path
        .bytes()
        .any(|byte| matches!(byte, b'%' | b'\\' | b'#' | 0..=b' ' | 0x7f..))
    {
        return Err(BadPath::Ambiguous(
            "the path has a character that is not canonical",
        ));
    }
    if target.contains('#') {
        return Err(BadPath::Ambiguous("the query has a fragment"));
    }
    if query == Some("") {
        return Err(BadPath::Ambiguous("an empty query"));
    }
    let rest = path
        .strip_prefix('/')
        .ok_or(BadPath::Ambiguous("the path does not begin with a slash"))?;
    let mut segments = rest.split('/').peekable();
    let root = segments.peek().copied().unwrap_or_default();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => {
                return Err(BadPath::Ambiguous("the path has an empty segment"));
            }
            "." | ".." => return Err(BadPath::Ambiguous("the path has a dot segment")),
            _ => {}
        }
        let canonical =
            |byte: u8| byte.is_ascii_alphanumeric() || rules.segment_extra.contains(&byte);
        if segment.is_empty() || segment.len() > MAX_SEGMENT || !segment.bytes().all(canonical) {
            return Err(BadPath::Unknown);
        }
    }
    let encoding = *rules.roots.get(root).ok_or(BadPath::Unknown)?;
    Ok(Target {
        path,
        query,
        encoding,
    })
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
