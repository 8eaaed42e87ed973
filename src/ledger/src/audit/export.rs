//! The chain as JSON Lines, for whoever verifies it without the database.
//!
//! The first line names form and chain: `{"chain":"…","format":"keybrake audit 1"}`. Each further line is an event with its hash,
//! `{"event":{…},"hash":"…","seq":1}`, the event byte for byte as it was hashed, or signed heads, `{"signed":{…}}`, right after the
//! event that they stand at. An export ends with signed heads. Stored answers and the digests of vault keys are in no event.

use std::io::{BufRead, Write};
use std::ops::ControlFlow;

use keybrake_contract::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::report::VerifyReport;
use super::verify::{Tail, Trust, Verifier};
use crate::store::{EventRow, Piece, Reads, StoreError};

/// Names the form of an export.
const FORMAT: &str = "keybrake audit 1";
/// Longest line that is read.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// Why there is no export, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The export cannot be written or read.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// A line is not of an export.
    #[error("line {line} is not of an audit export")]
    NotAnExport {
        /// Its number, from 1.
        line: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    chain: String,
    format: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine<'a> {
    #[serde(borrow)]
    event: &'a RawValue,
    hash: Digest,
    seq: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedLine<'a> {
    #[serde(borrow)]
    signed: &'a RawValue,
}

/// Writes everything up to the last signed heads. Answers the event that they stand at (0: nothing is signed yet) and how many
/// events after it were left out.
///
/// # Errors
/// [`ExportError`].
pub fn export(
    reads: &mut (impl Reads + ?Sized),
    into: &mut impl Write,
) -> Result<(u64, u64), ExportError> {
    let chain = reads.chain_head()?.chain.to_string();
    let format = FORMAT.to_owned();
    write_line(into, &First { chain, format })?;
    // Lines since the last signed heads: they go out when the next ones come.
    let mut waiting: Vec<u8> = Vec::new();
    let (mut last, mut signed) = (0, 0);
    let mut failed = None;
    reads.pieces(&mut |piece| {
        let written = match piece {
            Piece::Event(event) => {
                last = event.seq;
                event_line(&mut waiting, &event)
            }
            Piece::Signed(line) => {
                signed = last;
                signed_line(&mut waiting, &line)
                    .and_then(|()| Ok(into.write_all(&std::mem::take(&mut waiting))?))
            }
            // Only events from here on would be news.
            Piece::Key(_) | Piece::Budget(_) | Piece::Request(_) | Piece::Balance(_) => {
                return ControlFlow::Break(());
            }
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    into.flush()?;
    Ok((signed, last.saturating_sub(signed)))
}

fn event_line(into: &mut Vec<u8>, event: &EventRow) -> Result<(), ExportError> {
    let damaged = |seq: u64| {
        StoreError::new(format!(
            "event {seq} is not JSON: run `keybrake audit verify`"
        ))
    };
    let body = serde_json::from_slice(&event.body).map_err(|_| damaged(event.seq))?;
    let line = EventLine {
        event: body,
        hash: event.hash,
        seq: event.seq,
    };
    write_line(into, &line)
}

fn signed_line(into: &mut Vec<u8>, line: &str) -> Result<(), ExportError> {
    let damaged =
        |_| StoreError::new("signed heads are not JSON: run `keybrake audit verify`".to_owned());
    let signed = serde_json::from_str(line).map_err(damaged)?;
    write_line(into, &SignedLine { signed })
}

fn write_line(into: &mut impl Write, line: &impl Serialize) -> Result<(), ExportError> {
    serde_json::to_writer(&mut *into, line).map_err(std::io::Error::from)?;
    into.write_all(b"\n")?;
    Ok(())
}

/// Verifies an export with nothing but what is relied on.
///
/// # Errors
/// [`ExportError`]; what is readable and not right is in the report.
pub fn verify_export(from: &mut impl BufRead, trust: &Trust) -> Result<VerifyReport, ExportError> {
    let mut line = String::new();
    let mut number = 1;
    let bad = |line: u64| ExportError::NotAnExport { line };
    read_line(from, &mut line, number)?;
    let first: First = serde_json::from_str(&line).map_err(|_| bad(number))?;
    if first.format != FORMAT {
        return Err(bad(number));
    }
    let mut verifier = Verifier::new(first.chain.into(), trust);
    loop {
        number = number.saturating_add(1);
        if read_line(from, &mut line, number)? == 0 {
            break;
        }
        let piece = piece(line.trim_end_matches(['\n', '\r'])).ok_or_else(|| bad(number))?;
        if verifier.piece(piece).is_break() {
            break;
        }
    }
    Ok(verifier.finish(Tail::MustBeSigned))
}

fn piece(line: &str) -> Option<Piece> {
    if let Ok(SignedLine { signed }) = serde_json::from_str(line) {
        return Some(Piece::Signed(signed.get().to_owned()));
    }
    let EventLine { event, hash, seq } = serde_json::from_str(line).ok()?;
    Some(Piece::Event(EventRow {
        seq,
        hash,
        body: event.get().as_bytes().to_vec(),
    }))
}

fn read_line(
    from: &mut impl BufRead,
    line: &mut String,
    number: u64,
) -> Result<usize, ExportError> {
    line.clear();
    let mut bounded = std::io::Read::take(&mut *from, MAX_LINE);
    match bounded.read_line(line) {
        Ok(_) if bounded.limit() == 0 => Err(ExportError::NotAnExport { line: number }),
        Ok(read) => Ok(read),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(ExportError::NotAnExport { line: number })
        }
        Err(error) => Err(error.into()),
    }
}
