//! The vendor packs in force: those that come with the program, and those of a folder.
//!
//! Here: loading them and judging whether a line of a grant means something. Not here: what is in a pack (`policy`).

use std::collections::BTreeMap;
use std::path::Path;

use keybrake_contract::grant::AllowedEndpoint;
use keybrake_pack::{Class, Pack};

/// Most near matches that are shown.
const MAX_NEAR: usize = 3;

/// Vendor packs by name.
#[derive(Debug)]
pub struct Vendors(BTreeMap<String, Pack>);

/// A pack that cannot be used. One clear line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVendors {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Folder or file.
        path: String,
        /// The system's words.
        cause: String,
    },
    /// The file is not a pack.
    #[error("{path}: {cause}")]
    NotAPack {
        /// The file.
        path: String,
        /// Where the mistake is.
        cause: String,
    },
    /// Two files name the same vendor.
    #[error("{path}: vendor {vendor:?} is already there from another file of the folder")]
    Twice {
        /// The second file.
        path: String,
        /// The vendor.
        vendor: String,
    },
}

impl Vendors {
    /// The packs that come with the program, and all `*.json` of the folder; a pack of the folder takes the place of a
    /// built-in one of the same name.
    ///
    /// # Errors
    /// [`InvalidVendors`] for the first file that cannot be used.
    pub fn load(folder: Option<&Path>) -> Result<Self, InvalidVendors> {
        let mut packs = BTreeMap::new();
        for name in keybrake_pack::builtin_names() {
            let text = keybrake_pack::builtin(name).unwrap_or_default();
            let pack = parse(&text, &format!("built-in pack {name}"))?;
            packs.insert(pack.vendor().to_owned(), pack);
        }
        let mut own = BTreeMap::new();
        for path in folder.map(json_files).transpose()?.unwrap_or_default() {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(&path).map_err(|error| unreadable(&shown, &error))?;
            let pack = parse(&text, &shown)?;
            let vendor = pack.vendor().to_owned();
            if own.insert(vendor.clone(), pack).is_some() {
                return Err(InvalidVendors::Twice {
                    path: shown,
                    vendor,
                });
            }
        }
        packs.append(&mut own);
        Ok(Self(packs))
    }

    /// The pack of a vendor.
    #[must_use]
    pub fn get(&self, vendor: &str) -> Option<&Pack> {
        self.0.get(vendor)
    }

    /// The packs, in the order of their names.
    pub fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.0.values()
    }

    /// The names, for a message.
    #[must_use]
    pub fn names(&self) -> String {
        self.0
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The `*.json` of a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read.
pub fn json_files(folder: &Path) -> Result<Vec<std::path::PathBuf>, InvalidVendors> {
    let shown = folder.display().to_string();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(&shown, &error))? {
        let path = entry.map_err(|error| unreadable(&shown, &error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(text: &str, path: &str) -> Result<Pack, InvalidVendors> {
    Pack::parse(text).map_err(|error| InvalidVendors::NotAPack {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

fn unreadable(path: &str, error: &std::io::Error) -> InvalidVendors {
    InvalidVendors::Unreadable {
        path: path.to_owned(),
        cause: error.to_string(),
    }
}

/// Checks that a line of a grant lets at least one endpoint of the vendor be called.
///
/// # Errors
/// Says why not, with the nearest lines that would do.
pub fn check_endpoint(pack: &Pack, text: &str) -> Result<AllowedEndpoint, String> {
    let vendor = pack.vendor();
    let allowed = AllowedEndpoint::parse(text).map_err(|error| {
        format!("not an operation name (`charges.create`), and as a pattern: {error}")
    })?;
    if !pack.covers(&allowed) {
        let near = near(pack, text);
        let hint = if near.is_empty() {
            String::new()
        } else {
            format!("; did you mean {}?", near.join(", "))
        };
        return Err(format!("{vendor} has no such endpoint{hint}"));
    }
    let usable = pack.endpoints().any(|endpoint| {
        endpoint.class != Class::Forbidden
            && match &allowed {
                AllowedEndpoint::Operation(name) => *name == endpoint.operation,
                AllowedEndpoint::Pattern(pattern) => {
                    pattern.covers(&endpoint.pattern) || endpoint.pattern.covers(pattern)
                }
            }
    });
    if usable {
        Ok(allowed)
    } else {
        Err(
            "hands out credentials or data channels: always refused, whatever the grant says"
                .to_owned(),
        )
    }
}

/// The lines nearest to what was written, the nearest first.
fn near(pack: &Pack, text: &str) -> Vec<String> {
    let wanted = text.to_ascii_lowercase();
    let limit = wanted.chars().count().div_euclid(3).max(2);
    let mut found: Vec<(usize, String)> = pack
        .endpoints()
        .filter(|endpoint| endpoint.class != Class::Forbidden)
        .flat_map(|endpoint| [endpoint.operation.clone(), endpoint.pattern.to_string()])
        .map(|candidate| {
            (
                distance(&wanted, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .filter(|(far, _)| *far <= limit)
        .collect();
    found.sort();
    found.dedup();
    found
        .into_iter()
        .take(MAX_NEAR)
        .map(|(_, candidate)| format!("`{candidate}`"))
        .collect()
}

/// Edits (insert, drop, replace one character) that lead from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (step, letter) in from.chars().enumerate() {
        let mut diagonal = step;
        let mut left = step.saturating_add(1);
        let mut next = vec![left];
        for (above, other) in row.iter().skip(1).zip(&to) {
            let replaced = diagonal.saturating_add(usize::from(letter != *other));
            left = replaced
                .min(left.saturating_add(1))
                .min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "abd", 1),
            ("kitten", "sitting", 3),
            ("charge.create", "charges.create", 1),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn a_line_that_means_nothing_gets_the_nearest_that_do() {
        let vendors = Vendors::load(None).unwrap();
        let stripe = vendors.get("stripe").unwrap();
        assert!(check_endpoint(stripe, "POST /v1/charges").is_ok());
        assert!(check_endpoint(stripe, "charges.create").is_ok());
        let wrong = check_endpoint(stripe, "POST /v1/charge").unwrap_err();
        assert!(wrong.contains("did you mean `POST /v1/charges`"), "{wrong}");
        let wrong = check_endpoint(stripe, "charge.create").unwrap_err();
        assert!(wrong.contains("`charges.create`"), "{wrong}");
        let wrong = check_endpoint(stripe, "post /v1/charges").unwrap_err();
        assert!(wrong.contains("upper-case method"), "{wrong}");
    }

    #[test]
    fn packs_of_a_folder_are_read_and_mistakes_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.json"), "{").unwrap();
        let error = Vendors::load(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("x.json"), "{error}");
        let missing = folder.path().join("none");
        assert!(matches!(
            Vendors::load(Some(&missing)),
            Err(InvalidVendors::Unreadable { .. })
        ));
        let stripe = keybrake_pack::builtin("stripe").unwrap();
        std::fs::write(folder.path().join("x.json"), &stripe).unwrap();
        assert!(Vendors::load(Some(folder.path())).is_ok());
        std::fs::write(folder.path().join("y.json"), &stripe).unwrap();
        assert!(matches!(
            Vendors::load(Some(folder.path())),
            Err(InvalidVendors::Twice { .. })
        ));
    }
}
