//! Reads a whole chain and names the first thing that is not as it was written.
//!
//! A chain proves that its events fit together; the signed heads that they are the ones that were written; heads that were
//! kept elsewhere that none of them is gone; the comparison with the entries that what people read is what the events say.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use keybrake_contract::digest::Digest;

use super::chain::{next, start};
use super::heads::{Head, InvalidHeads, PublicKey, SignedHeads};
use super::projection::Projection;
use super::report::{Broken, SignedUpTo, VerifyReport};
use crate::store::{ChainHead, EventRow, Piece, Reads, StoreError};

/// What is relied on besides the database itself.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Heads that were kept elsewhere, their signatures checked.
    pub kept: Vec<SignedHeads>,
    /// The keys that heads must be signed with. When there are none: those of the kept heads; when there are none of those
    /// either, any.
    pub public_keys: Vec<PublicKey>,
}

/// How the events after the last signed head are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// A running ledger has not signed them yet.
    MayBeUnsigned,
    /// There must be none.
    MustBeSigned,
}

/// Checks a database: the chain against itself, its head, the signed heads, and the entries against the chain.
///
/// # Errors
/// When it cannot be read.
pub fn verify(
    reads: &mut (impl Reads + ?Sized),
    trust: &Trust,
) -> Result<VerifyReport, StoreError> {
    let chain = reads.chain_head()?.chain;
    let mut verifier = Verifier::new(chain, trust);
    let head = reads.pieces(&mut |piece| verifier.piece(piece))?;
    Ok(verifier.finish_with(&head))
}

/// Takes the pieces of one chain in their order.
pub struct Verifier {
    last: ChainHead,
    /// Heads kept elsewhere that were not met yet, by event.
    kept: BTreeMap<u64, Vec<(Digest, SignedUpTo)>>,
    met: u64,
    trusted: Vec<PublicKey>,
    signed: Option<SignedUpTo>,
    projection: Projection,
    broken: Option<Broken>,
    /// What was made from the events and is not what they say. A broken chain is told first.
    disagreement: Option<Broken>,
}

impl Verifier {
    /// For the chain of this name.
    #[must_use]
    pub fn new(chain: Arc<str>, trust: &Trust) -> Self {
        let mut kept: BTreeMap<u64, Vec<(Digest, SignedUpTo)>> = BTreeMap::new();
        let mut kept_of_others = None;
        for signed in &trust.kept {
            for head in &signed.heads {
                if *head.chain == *chain {
                    let mark = (head.hash, up_to(head, signed));
                    kept.entry(head.seq).or_default().push(mark);
                } else {
                    kept_of_others = Some(head.chain.clone());
                }
            }
        }
        let mut trusted = trust.public_keys.clone();
        if trusted.is_empty() {
            trusted.extend(trust.kept.iter().map(|signed| signed.public_key));
            trusted.sort_unstable();
            trusted.dedup();
        }
        Self {
            last: ChainHead {
                chain,
                seq: 0,
                hash: start(),
                at: 0,
            },
            broken: kept_of_others
                .filter(|_| kept.is_empty())
                .map(|chain| Broken::OtherChain { chain }),
            kept,
            met: 0,
            trusted,
            signed: None,
            projection: Projection::default(),
            disagreement: None,
        }
    }

    /// Takes the next piece. Breaks at the first that is not right.
    pub fn piece(&mut self, piece: Piece) -> ControlFlow<()> {
        if self.broken.is_none() {
            match piece {
                Piece::Event(event) => self.broken = self.event(&event).err(),
                Piece::Signed(line) => self.broken = self.stored_heads(&line).err(),
                Piece::Key(key) => self.disagreement = self.projection.key(&key).err(),
                Piece::Budget(budget) => self.disagreement = self.projection.budget(&budget).err(),
                Piece::Request(row) => self.disagreement = self.projection.request(&row).err(),
                Piece::Balance(row) => {
                    let missing = self.projection.left_over();
                    self.disagreement = missing.or_else(|| self.projection.balance(&row).err());
                }
            }
        }
        if self.broken.is_some() || self.disagreement.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn event(&mut self, event: &EventRow) -> Result<(), Broken> {
        let right = next(&self.last, 0, &event.body);
        if event.seq > right.seq {
            return Err(Broken::Missing { seq: right.seq });
        }
        if event.seq < right.seq {
            return Err(Broken::Repeated { seq: event.seq });
        }
        if event.hash != right.hash {
            return Err(Broken::Altered { seq: right.seq });
        }
        self.last = right;
        self.projection.event(event)?;
        for (hash, signed) in self.kept.remove(&event.seq).unwrap_or_default() {
            self.signed_head(hash, signed)?;
            self.met = self.met.saturating_add(1);
        }
        Ok(())
    }

    /// Heads as the database or the export keeps them: they stand at the event that was read last.
    fn stored_heads(&mut self, line: &str) -> Result<(), Broken> {
        let worthless = |after: u64, why| Broken::WorthlessHead { after, why };
        let signed = SignedHeads::parse(line).map_err(|error| {
            let why = match error {
                InvalidHeads::Unreadable => "it cannot be read",
                InvalidHeads::Forged => "its signature is wrong",
            };
            worthless(self.last.seq, why)
        })?;
        let own = |head: &&Head| *head.chain == *self.last.chain;
        let Some(head) = signed.heads.iter().find(own) else {
            return Err(worthless(self.last.seq, "it is of another chain"));
        };
        if head.seq > self.last.seq {
            return Err(self.behind(head.seq));
        }
        if head.seq < self.last.seq {
            return Err(worthless(self.last.seq, "it stands at another event"));
        }
        self.signed_head(head.hash, up_to(head, &signed))
    }

    fn signed_head(&mut self, hash: Digest, signed: SignedUpTo) -> Result<(), Broken> {
        if !self.trusted.is_empty() && !self.trusted.contains(&signed.public_key) {
            return Err(Broken::WorthlessHead {
                after: signed.seq,
                why: "it is signed by another key than those that are relied on",
            });
        }
        if hash != self.last.hash {
            return Err(Broken::NotAsSigned {
                from: self.unsigned_from(),
                to: signed.seq,
            });
        }
        self.signed = Some(signed);
        Ok(())
    }

    fn unsigned_from(&self) -> u64 {
        self.signed.map_or(1, |signed| signed.seq.saturating_add(1))
    }

    const fn behind(&self, signed: u64) -> Broken {
        Broken::BehindSigned {
            missing: self.last.seq.saturating_add(1),
            signed,
        }
    }

    /// The end of a database, which keeps its chain's head.
    #[must_use]
    pub fn finish_with(mut self, head: &ChainHead) -> VerifyReport {
        let last = (self.last.seq, self.last.hash);
        if self.broken.is_none() && last.0 < head.seq {
            self.broken = Some(Broken::CutOff {
                last: last.0,
                head: head.seq,
            });
        }
        if self.broken.is_none() && last != (head.seq, head.hash) {
            self.broken = Some(Broken::NotTheHead { seq: last.0 });
        }
        let disagreement = self
            .disagreement
            .take()
            .or_else(|| self.projection.left_over());
        let entries = self.projection.entries();
        let report = self.finish(Tail::MayBeUnsigned);
        VerifyReport {
            entries: Some(entries),
            broken: report.broken.or(disagreement),
            ..report
        }
    }

    /// The end of a list of events.
    #[must_use]
    pub fn finish(mut self, tail: Tail) -> VerifyReport {
        if self.broken.is_none() {
            self.broken = self.at_the_end(tail);
        }
        VerifyReport {
            chain: self.last.chain.to_string(),
            events: self.last.seq,
            head: (self.last.seq, self.last.hash.to_string()),
            signed: self.signed,
            kept_heads: self.met,
            entries: None,
            broken: self.broken,
        }
    }

    fn at_the_end(&self, tail: Tail) -> Option<Broken> {
        if let Some((seq, _)) = self.kept.first_key_value() {
            return Some(self.behind(*seq));
        }
        let from = self.unsigned_from();
        let is_unsigned = from <= self.last.seq;
        let is_wanted =
            tail == Tail::MustBeSigned || (self.signed.is_none() && !self.trusted.is_empty());
        (is_unsigned && is_wanted).then_some(Broken::NotSigned { from })
    }
}

const fn up_to(head: &Head, signed: &SignedHeads) -> SignedUpTo {
    SignedUpTo {
        seq: head.seq,
        at: signed.at,
        public_key: signed.public_key,
    }
}
