//! `keybrake vendors`: the packs in force, and what is wrong with a pack that somebody writes. Needs no running ledger.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use keybrake_pack::{Class, InvalidPack, Pack};
use keybrake_policy::golden::judge_cases;
use serde_json::{Value, json};

use crate::cli::table::table;
use crate::cli::{Failure, print, print_json};
use crate::vendors::{Vendors, json_files};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check vendor packs, and what they make of golden cases: every mistake with its place and what is allowed there.
    #[command(
        after_help = "The form of packs and of golden cases is in docs/vendor-packs.md.\n\nExamples:\n  keybrake vendors check acme.json\n  \
                      keybrake vendors check acme.json --golden golden/acme\n  keybrake vendors check vendors/*.json --json\n\nExit codes: 0 \
                      all is right, 1 a mistake or a case that does not hold, 2 wrong use."
    )]
    Check {
        /// The packs' files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// A folder with golden cases (*.json) for the pack; with one FILE only
        #[arg(long, value_name = "FOLDER")]
        golden: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the packs in force, and how many endpoints of each class they have.
    #[command(
        after_help = "Examples:\n  keybrake vendors list\n  keybrake vendors list --vendors /etc/keybrake/vendors --json"
    )]
    List {
        /// The folder with further packs, as for `keybrake serve`.
        #[arg(long, value_name = "FOLDER")]
        vendors: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check {
            files,
            golden,
            json,
        } => check(&files, golden.as_deref(), json),
        Command::List { vendors, json } => list(vendors.as_deref(), json),
    }
}

/// What was found about one pack.
#[derive(Debug, Default)]
struct Found {
    vendor: Option<String>,
    endpoints: usize,
    mistakes: Vec<InvalidPack>,
    /// With a golden folder: the number of cases.
    cases: Option<usize>,
    failures: Vec<String>,
}

impl Found {
    const fn is_right(&self) -> bool {
        self.mistakes.is_empty() && self.failures.is_empty()
    }
}

fn check(files: &[PathBuf], golden: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    if golden.is_some() && files.len() > 1 {
        return Err(Failure::usage("--golden is about one FILE"));
    }
    let mut all = Vec::new();
    for file in files {
        let text = read(file)?;
        all.push((file.display().to_string(), judge(&text, golden)?));
    }
    if as_json {
        print_json(&Value::Array(
            all.iter().map(|(file, found)| shown(file, found)).collect(),
        ))?;
    } else {
        for (file, found) in &all {
            print(&told(file, found))?;
        }
    }
    let wrong = all.iter().filter(|(_, found)| !found.is_right()).count();
    if wrong == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{wrong} of {} packs cannot be used as they are",
            all.len()
        )))
    }
}

fn judge(text: &str, golden: Option<&Path>) -> Result<Found, Failure> {
    let pack = match Pack::check(text) {
        Ok(pack) => pack,
        Err(mistakes) => {
            return Ok(Found {
                mistakes,
                ..Found::default()
            });
        }
    };
    let mut found = Found {
        vendor: Some(pack.vendor().to_owned()),
        endpoints: pack.endpoints().count(),
        ..Found::default()
    };
    let Some(folder) = golden else {
        return Ok(found);
    };
    let mut cases = 0_usize;
    for file in json_files(folder).map_err(Failure::usage)? {
        match judge_cases(text, &read(&file)?) {
            Ok(judged) => {
                cases = cases.saturating_add(judged.cases);
                found.failures.extend(judged.failures);
            }
            Err(error) => found.failures.push(format!("{}: {error}", file.display())),
        }
    }
    if cases == 0 && found.failures.is_empty() {
        found
            .failures
            .push(format!("{}: no cases", folder.display()));
    }
    found.cases = Some(cases);
    Ok(found)
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))
}

fn shown(file: &str, found: &Found) -> Value {
    let mistakes: Vec<Value> = found
        .mistakes
        .iter()
        .map(|mistake| json!({"at": mistake.at(), "problem": mistake.problem()}))
        .collect();
    json!({
        "file": file,
        "ok": found.is_right(),
        "vendor": found.vendor,
        "endpoints": found.endpoints,
        "mistakes": mistakes,
        "golden_cases": found.cases,
        "golden_failures": found.failures,
    })
}

fn told(file: &str, found: &Found) -> String {
    let good = anstyle::AnsiColor::Green.on_default();
    let bad = anstyle::AnsiColor::Red.on_default();
    let mut lines = Vec::new();
    if found.is_right() {
        let cases = found
            .cases
            .map(|count| format!(", {count} golden cases hold"))
            .unwrap_or_default();
        lines.push(format!(
            "{good}ok{good:#} {file}: {}, {} endpoints{cases}",
            found.vendor.as_deref().unwrap_or_default(),
            found.endpoints
        ));
    }
    for mistake in &found.mistakes {
        lines.push(format!(
            "{bad}wrong{bad:#} {file}: {}: {}",
            mistake.at(),
            plain(mistake.problem())
        ));
    }
    for failure in &found.failures {
        lines.push(format!("{bad}differs{bad:#} {file}: {}", plain(failure)));
    }
    lines.join("\n")
}

/// Text of a file, without what could move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

const CLASSES: [(&str, Class); 7] = [
    ("read", Class::Read),
    ("free", Class::Free),
    ("money", Class::Money),
    ("money_optional", Class::MoneyOptional),
    ("money_blind", Class::MoneyBlind),
    ("prepares", Class::Prepares),
    ("forbidden", Class::Forbidden),
];

fn list(folder: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let vendors = Vendors::load(folder).map_err(Failure::new)?;
    let count = |pack: &Pack, class: Class| {
        pack.endpoints()
            .filter(|endpoint| endpoint.class == class)
            .count()
    };
    if as_json {
        let of = |pack: &Pack| {
            let classes: serde_json::Map<String, Value> = CLASSES
                .iter()
                .map(|(name, class)| ((*name).to_owned(), json!(count(pack, *class))))
                .collect();
            json!({"vendor": pack.vendor(), "hosts": pack.hosts(), "endpoints": classes})
        };
        return print_json(&Value::Array(vendors.packs().map(of).collect()));
    }
    let mut head = vec!["VENDOR"];
    head.extend(CLASSES.map(|(name, _)| name));
    let rows: Vec<Vec<String>> = vendors
        .packs()
        .map(|pack| {
            let counts = CLASSES
                .iter()
                .map(|(_, class)| count(pack, *class).to_string());
            std::iter::once(pack.vendor().to_owned())
                .chain(counts)
                .collect()
        })
        .collect();
    print(&table(&head, &rows))
}

#[cfg(test)]
mod tests {
    use keybrake_pack::builtin;

    use super::*;

    const CASE: &str = r#"[{"name": "n", "request": {"method": "GET", "path": "/v1/charges"},
        "read_as": {"operation": "charges.list", "class": "read", "cost": "nothing"}}]"#;

    #[test]
    fn a_pack_is_right_with_its_cases_and_wrong_with_others() {
        let stripe = builtin("stripe").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cases.json");
        for (cases, failures) in [
            (CASE.to_owned(), 0),
            (CASE.replace("\"read\"", "\"free\""), 1),
            ("[]".to_owned(), 1),
            ("{".to_owned(), 1),
        ] {
            std::fs::write(&file, &cases).unwrap();
            let found = judge(&stripe, Some(folder.path())).unwrap();
            assert_eq!(found.failures.len(), failures, "{cases}: {found:?}");
            assert_eq!(found.is_right(), failures == 0);
        }
        let missing = judge(&stripe, Some(&folder.path().join("none")));
        assert_eq!(missing.unwrap_err().code, 2);
    }

    #[test]
    fn every_mistake_is_told_and_the_exit_code_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acme.json");
        let text = builtin("stripe").unwrap();
        let text = text
            .replacen("\"max_digits\": 8", "\"max_digits\": 19", 1)
            .replacen("api.stripe.com", "API", 1);
        std::fs::write(&file, &text).unwrap();
        let found = judge(&text, None).unwrap();
        let places: Vec<&str> = found.mistakes.iter().map(InvalidPack::at).collect();
        assert_eq!(
            places,
            ["hosts[0]", "parameters.integers.amount.max_digits"]
        );
        assert!(told("f", &found).contains("f: hosts[0]: a host name"));
        assert_eq!(
            check(std::slice::from_ref(&file), None, true)
                .unwrap_err()
                .code,
            1
        );
        let two = [file.clone(), file];
        assert_eq!(check(&two, Some(folder.path()), true).unwrap_err().code, 2);
        let none = folder.path().join("none.json");
        assert_eq!(check(&[none], None, true).unwrap_err().code, 2);
    }
}
