//! When the chain's head is signed, and what must hold before the writer goes on with a chain.
//!
//! A head is signed after so many events, or when an event has waited for so long: inside a commit that is made anyway or by the
//! chores, so that no reserve pays for it alone. It goes to the file of kept heads after it is on disk, never before.

use super::writer::Writer;
use super::{LedgerOptions, OpenError};
use crate::audit::{Head, PublicKey, SignedHeads, SigningKey, SigningKeyChanged};
use crate::signing::{HeadsFile, MissingKey, key_beside, make_key, read_key};
use crate::store::{ChainHead, Store, StoreError};

/// Signs the heads of one ledger's chain.
pub(super) struct Signer {
    key: SigningKey,
    file: Option<HeadsFile>,
    /// Event of the last signed head.
    signed: u64,
    /// When the first event after it was.
    waiting_since: Option<i64>,
    every_events: u64,
    every_ms: i64,
    /// Whether heads were signed by another key before.
    is_new_key: bool,
    /// Signed in the transaction at hand.
    line: Option<String>,
}

/// What a transaction changes in the signer's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    signed: u64,
    waiting_since: Option<i64>,
    is_new_key: bool,
}

/// When a head is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// When it is due.
    WhenDue,
    /// If there is any event since the last one: the ledger is being closed.
    Now,
}

impl Signer {
    /// Reads or makes the key, and compares the chain with the heads that were signed before, in the database and in the file.
    ///
    /// # Errors
    /// When a file cannot be used, the key is lost, or the chain is not the one that was signed.
    pub(super) fn open(store: &mut impl Store, options: &LedgerOptions) -> Result<Self, OpenError> {
        let path = options.database.to_string();
        let corrupt = |why: String| OpenError::Corrupt {
            path: path.clone(),
            why,
        };
        let failed = |error: StoreError| corrupt(error.to_string());
        let head = store.chain_head().map_err(failed)?;
        let stored = store.last_signed_heads().map_err(failed)?;
        let stored = stored
            .map(|line| SignedHeads::parse(&line))
            .transpose()
            .map_err(|error| corrupt(format!("its last signed heads: {error}")))?;
        let key = signing_key(options, stored.as_ref().map(|signed| signed.public_key))?;
        let (file, kept) = match &options.signing.heads_file {
            None => (None, None),
            Some(path) => {
                let (file, kept) = HeadsFile::open(path)?;
                (Some(file), kept)
            }
        };
        let mut signed = 0;
        for heads in stored.iter().chain(kept.iter()) {
            signed = is_as_signed(store, &head, heads, &path)?.max(signed);
        }
        let last_key = stored.as_ref().or(kept.as_ref());
        Ok(Self {
            is_new_key: last_key.is_some_and(|signed| signed.public_key != key.public()),
            key,
            file,
            signed: stored.and_then(|heads| own(&heads, &head)).unwrap_or(0),
            waiting_since: (head.seq > signed).then_some(head.at),
            every_events: options.signing.every_events.max(1),
            every_ms: options.signing.every_ms,
            line: None,
        })
    }

    /// Whether this head is to be signed now.
    fn is_due(&self, head: &ChainHead, now: i64, when: Sign) -> bool {
        let events = head.seq.saturating_sub(self.signed);
        let waited = self
            .waiting_since
            .is_some_and(|since| now.saturating_sub(since) >= self.every_ms);
        events > 0 && (when == Sign::Now || waited || events >= self.every_events)
    }

    /// Notes that an event was told at this instant.
    pub(super) fn told(&mut self, at: i64) {
        self.waiting_since.get_or_insert(at);
    }

    /// What was signed is on disk now: it may be kept elsewhere.
    pub(super) fn committed(&mut self) {
        if let (Some(line), Some(file)) = (self.line.take(), &self.file) {
            file.keep(&line);
        }
    }

    /// The memory as it is before a transaction.
    pub(super) const fn marks(&self) -> Marks {
        Marks {
            signed: self.signed,
            waiting_since: self.waiting_since,
            is_new_key: self.is_new_key,
        }
    }

    /// The transaction was taken back: so is what was signed in it.
    pub(super) fn take_back(&mut self, marks: Marks) {
        let Marks {
            signed,
            waiting_since,
            is_new_key,
        } = marks;
        self.signed = signed;
        self.waiting_since = waiting_since;
        self.is_new_key = is_new_key;
        self.line = None;
    }

    /// How many lines the file of kept heads did not take.
    pub(super) fn failures(&self) -> u64 {
        self.file.as_ref().map_or(0, HeadsFile::failures)
    }
}

impl<S: Store> Writer<S> {
    /// Puts on record that another key signs from here on, if it does.
    pub(super) fn tell_new_key(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.signer.is_new_key) {
            return Ok(());
        }
        let event = SigningKeyChanged {
            at: self.now,
            event: "signing_key",
            public_key: self.signer.key.public(),
        };
        self.tell(&event)?;
        Ok(())
    }

    /// Signs the head, if that is due, in the transaction at hand.
    pub(super) fn sign(&mut self, when: Sign) -> Result<(), StoreError> {
        if !self.signer.is_due(&self.head, self.now, when) {
            return Ok(());
        }
        let head = Head {
            chain: self.head.chain.to_string(),
            hash: self.head.hash,
            seq: self.head.seq,
        };
        let line = self
            .signer
            .key
            .sign(self.now, vec![head])
            .and_then(|signed| signed.to_line())
            .map_err(|error| StoreError::new(format!("a head cannot be signed: {error}")))?;
        self.store.add_signed_heads(self.head.seq, &line)?;
        self.signer.signed = self.head.seq;
        self.signer.waiting_since = None;
        self.signer.line = Some(line);
        Ok(())
    }
}

/// The key: as it was, or made if that is allowed.
fn signing_key(
    options: &LedgerOptions,
    signed_by: Option<PublicKey>,
) -> Result<SigningKey, OpenError> {
    let signing = &options.signing;
    let beside = || options.database.file().map(key_beside);
    let path = signing.key_file.clone().or_else(beside);
    let path = path.ok_or_else(|| OpenError::Unusable {
        path: options.database.to_string(),
        why: "it is no file, so the signing key needs a place of its own".to_owned(),
    })?;
    // Where several ledgers sign, a new one has no key yet, whatever the others have signed.
    let missing_key = match options.database.file() {
        Some(_) => signing.missing_key,
        None => MissingKey::MakeAnother,
    };
    match (read_key(&path)?, signed_by, missing_key) {
        (Some(key), _, _) => Ok(key),
        (None, Some(public_key), MissingKey::MakeTheFirst) => Err(OpenError::LostKey {
            path: path.display().to_string(),
            public_key: public_key.to_string(),
        }),
        (None, _, _) => Ok(make_key(&path)?),
    }
}

/// The event of this chain that signed heads stand at.
fn own(signed: &SignedHeads, head: &ChainHead) -> Option<u64> {
    let own = signed.heads.iter().find(|one| *one.chain == *head.chain);
    own.map(|one| one.seq)
}

/// The chain must hold every event that was signed: else an older database was put back, or its tail was cut off, and to go on
/// would give out money a second time.
fn is_as_signed(
    store: &mut impl Store,
    head: &ChainHead,
    signed: &SignedHeads,
    path: &str,
) -> Result<u64, OpenError> {
    let behind = |why: String| OpenError::NotAsSigned {
        path: path.to_owned(),
        why,
    };
    let own = signed.heads.iter().find(|one| *one.chain == *head.chain);
    let Some(own) = own else {
        return Err(behind("the signed heads are of another chain".to_owned()));
    };
    if own.seq > head.seq {
        return Err(behind(format!(
            "it ends at event {}, and event {} was signed: it is an older copy, or its tail was cut off",
            head.seq, own.seq
        )));
    }
    let hash = store
        .event_hash(own.seq)
        .map_err(|error| behind(error.to_string()))?;
    if hash != Some(own.hash) {
        return Err(behind(format!(
            "event {} is not the one that was signed",
            own.seq
        )));
    }
    Ok(own.seq)
}
