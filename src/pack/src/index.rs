//! From method and path to an endpoint, in time proportional to the path.

use std::collections::BTreeMap;

/// A tree over path segments. A literal segment is preferred, the template with more literals wins.
#[derive(Debug, Clone, Default)]
pub struct Index {
    root: Node,
    /// Segments of the longest template. Longer paths are unknown at once, which bounds the search.
    depth: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    literal: BTreeMap<String, Node>,
    any: Option<Box<Node>>,
    /// Method → position.
    ends: Vec<(String, usize)>,
}

impl Node {
    fn end(&self, method: &str) -> Option<usize> {
        let mut ends = self.ends.iter();
        ends.find(|(have, _)| have == method)
            .map(|(_, position)| *position)
    }
}

/// An endpoint that was found, and how many literal segments led to it.
type Found = (usize, usize);

impl Index {
    /// Adds a template (as it prints) that stands for the endpoint at `position`. `Err` gives the position of the
    /// endpoint that matches exactly the same paths.
    pub fn insert(&mut self, method: &str, path: &str, position: usize) -> Result<(), usize> {
        let mut node = &mut self.root;
        let mut depth = 0_usize;
        for segment in path.trim_start_matches('/').split('/') {
            depth = depth.saturating_add(1);
            node = if segment.starts_with('{') {
                node.any.get_or_insert_with(Box::default)
            } else {
                node.literal.entry(segment.to_owned()).or_default()
            };
        }
        self.depth = self.depth.max(depth);
        if let Some(earlier) = node.end(method) {
            return Err(earlier);
        }
        node.ends.push((method.to_owned(), position));
        Ok(())
    }

    pub fn find(&self, method: &str, path: &str) -> Option<usize> {
        let rest = path.strip_prefix('/')?;
        let slashes = rest.bytes().filter(|byte| *byte == b'/').count();
        if slashes >= self.depth {
            return None;
        }
        let mut best = None;
        descend(&self.root, Some(rest), method, 0, &mut best);
        best.map(|(position, _)| position)
    }
}

/// Follows both branches at each node; templates are few and short, so the tree is small.
fn descend(
    node: &Node,
    rest: Option<&str>,
    method: &str,
    literals: usize,
    best: &mut Option<Found>,
) {
    let Some(rest) = rest else {
        if let Some(position) = node.end(method)
            && best.is_none_or(|(_, most)| literals > most)
        {
            *best = Some((position, literals));
        }
        return;
    };
    let end = rest.bytes().position(|byte| byte == b'/');
    let (segment, rest) = match end {
        Some(end) => (
            rest.get(..end).unwrap_or_default(),
            rest.get(end.saturating_add(1)..),
        ),
        None => (rest, None),
    };
    if let Some(next) = node.literal.get(segment) {
        descend(next, rest, method, literals.saturating_add(1), best);
    }
    if let Some(next) = &node.any
        && !segment.is_empty()
    {
        descend(next, rest, method, literals, best);
    }
}
