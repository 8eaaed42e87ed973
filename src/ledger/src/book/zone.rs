//! Time zones by their IANA name, from the database that is built in: the same on every machine.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// The time zone of this name. `None`: there is none.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZoneDatabase::bundled().get(name).ok()
}

/// The name as the database writes it. `None`: there is none, or none that stays (`Etc/Unknown`).
#[must_use]
pub fn canonical(name: &str) -> Option<String> {
    let found = zone(name)?;
    found
        .iana_name()
        .filter(|name| *name != "Etc/Unknown")
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_database() {
        assert_eq!(canonical("UTC").as_deref(), Some("UTC"));
        assert_eq!(canonical("europe/berlin").as_deref(), Some("Europe/Berlin"));
        for wrong in [
            "",
            "Mars/Olympus",
            "+02:00",
            "CEST",
            "../etc/passwd",
            "Etc/Unknown",
        ] {
            assert_eq!(canonical(wrong), None, "{wrong}");
        }
    }
}
