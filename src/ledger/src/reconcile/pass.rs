//! One pass: which requests are unknown, what the vendors' events say about them, what is decided by that.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keybrake_contract::ids::HoldId;
use keybrake_pack::{EvidenceRules, Pack};

use super::absence::{Nothing, READS};
use super::calls::ReadError;
use super::judge::{Judged, judged};
use super::page;
use super::report::{Report, Why};
use super::search::{Sighting, Sightings, Stretch, Wanted, joined, sighting, wanted};
use super::state::Cause;
use super::task::Task;
use crate::book::{Evidence, Finding};
use crate::engine::{ResolveError, Word};
use crate::model::{AuditQuery, EntryVerdict, IssuedKey, UnknownQuery, UnknownRequest};

/// Most requests that one pass looks for.
const MOST_WANTED: usize = 10_000;
/// Most pages of the list of unknown requests.
const MOST_LISTS: usize = 100;
/// Most pages of events in one stretch.
const MOST_PAGES: usize = 500;
/// For a pass as a whole; what was not read by then is not read.
const LONGEST: Duration = Duration::from_secs(600);

/// A pass.
pub struct Pass<'a> {
    task: &'a mut Task,
    cause: Cause,
    run_id: String,
    began: Instant,
    report: Report,
}

/// What is read with.
struct With<'a> {
    pack: &'a Pack,
    rules: &'a EvidenceRules,
    key: Arc<IssuedKey>,
}

/// Why a stretch was not read to its end.
enum NotRead {
    /// The vendor could not be asked: no other stretch is tried.
    Call(ReadError),
    /// The pass has taken too long.
    Late,
    /// Its pages are not as they should be.
    Odd(&'static str),
}

impl Pass<'_> {
    /// Makes one.
    pub async fn make(task: &mut Task) {
        let (number, cause) = task.handle.begin();
        let handle = task.handle.clone();
        let clock = task.clock.clone();
        let mut pass = Pass {
            task,
            cause,
            run_id: format!("keybrake-reconcile-{number}"),
            began: Instant::now(),
            report: Report::begun(number, clock.now()),
        };
        pass.run().await;
        let report = pass.report.ended(clock.now());
        handle.end(report);
    }

    async fn run(&mut self) {
        let mut by_vendor = BTreeMap::new();
        if self.gather(&mut by_vendor).await.is_none() {
            return;
        }
        let ids: HashSet<HoldId> = by_vendor
            .values()
            .flatten()
            .map(|(one, _)| one.id)
            .collect();
        self.task.memory.keep(&ids);
        let packs = Arc::clone(&self.task.packs);
        for (vendor, found) in by_vendor {
            let Some(pack) = packs.iter().find(|pack| pack.vendor() == vendor) else {
                continue;
            };
            let Some(rules) = pack.evidence() else {
                continue;
            };
            let sought = self.sought(found, rules);
            if !sought.is_empty() {
                self.vendor(pack, rules, &sought).await;
            }
        }
    }

    /// Lists unknown requests, oldest first, by vendor; with each the instant by which it was made. `None`: they cannot be
    /// listed just now.
    async fn gather(&mut self, into: &mut BTreeMap<String, Vec<(Wanted, i64)>>) -> Option<()> {
        let packs = Arc::clone(&self.task.packs);
        let mut cursor = None;
        let mut count = 0_usize;
        for _ in 0..MOST_LISTS {
            let query = UnknownQuery {
                key_id: None,
                limit: 1_000,
                cursor,
            };
            let page = match self.task.ledger.unknown_requests(query).await {
                Ok(page) => page,
                Err(error) => {
                    self.failed("", format!("unknown requests cannot be listed: {error}"));
                    return None;
                }
            };
            // Read after the list: whatever is on it was attempted before this instant.
            let now = self.task.clock.now_ms();
            for request in &page.items {
                let vendor = request.entry.vendor.as_str();
                let pack = packs.iter().find(|pack| pack.vendor() == vendor);
                let one = match wanted(request, pack) {
                    Ok(_) if count >= MOST_WANTED => Err(Why::LeftOut),
                    found => found,
                };
                match one {
                    Ok(one) => {
                        count = count.saturating_add(1);
                        let longest = self.task.settings.longest_ms;
                        let made_by = self.task.memory.see(&one, now, longest);
                        into.entry(vendor.to_owned())
                            .or_default()
                            .push((one, made_by));
                    }
                    Err(why) => self.stays_unlooked(request, why),
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Some(())
    }

    /// Those that are worth looking for, each with where its events stand.
    fn sought(
        &mut self,
        found: Vec<(Wanted, i64)>,
        rules: &EvidenceRules,
    ) -> Vec<(Wanted, Stretch)> {
        let mut sought = Vec::with_capacity(found.len());
        for (one, made_by) in found {
            match self.task.memory.given_up(one.id) {
                Some(why) if self.cause == Cause::Time => self.stays(&one, why),
                _ => {
                    let stretch = Stretch::of(&one, made_by, rules);
                    sought.push((one, stretch));
                }
            }
        }
        sought
    }

    async fn vendor(&mut self, pack: &Pack, rules: &EvidenceRules, sought: &[(Wanted, Stretch)]) {
        let now = self.task.clock.now();
        let key = match self
            .task
            .keys
            .get(&self.task.ledger, pack, rules, now)
            .await
        {
            Ok(key) => key,
            Err(error) => {
                self.failed(pack.vendor(), format!("the reconciler has no key: {error}"));
                for (one, _) in sought {
                    self.stays(one, Why::NotRead);
                }
                return;
            }
        };
        let with = With { pack, rules, key };
        let mut sightings = Sightings::of(sought.iter().map(|(one, _)| one));
        let stretches = joined(sought.iter().map(|(_, stretch)| *stretch).collect());
        let whole = self.events(&with, stretches, &mut sightings).await;
        let credential = self.own_credential(&with).await;
        for (one, stretch) in sought {
            let read = whole
                .iter()
                .find(|(read, _)| read.from_s <= stretch.from_s && stretch.to_s <= read.to_s);
            let is_late = self.began.elapsed() > LONGEST;
            match (read, &credential) {
                (None, _) | (_, None) => self.stays(one, Why::NotRead),
                _ if is_late => self.stays(one, Why::NotRead),
                (Some(_), Some(own)) if *own != one.credential => {
                    self.stays(one, Why::OtherCredential);
                }
                (Some((_, read_at)), Some(_)) => {
                    let seen = sighting(one, *stretch, &sightings, rules);
                    self.decide(&with, one, *stretch, seen, *read_at).await;
                }
            }
        }
    }

    /// Reads the stretches. Answers those that were read to their end, and when reading each was begun.
    async fn events(
        &mut self,
        with: &With<'_>,
        stretches: Vec<Stretch>,
        sightings: &mut Sightings<'_>,
    ) -> Vec<(Stretch, i64)> {
        let mut whole = Vec::new();
        for stretch in stretches {
            let read_at = self.task.clock.now_ms();
            let vendor = with.pack.vendor();
            match self.stretch(with, stretch, sightings).await {
                Ok(()) => whole.push((stretch, read_at)),
                Err(NotRead::Odd(what)) => self.failed(vendor, format!("its events: {what}")),
                Err(NotRead::Late) => {
                    self.failed(vendor, "its events: the pass has taken too long".to_owned());
                    break;
                }
                Err(NotRead::Call(error)) => {
                    self.failed(vendor, format!("its events: {error}"));
                    if error == ReadError::Status(401) {
                        let Task { keys, ledger, .. } = &mut *self.task;
                        keys.drop_key(ledger, vendor).await;
                    }
                    break;
                }
            }
        }
        whole
    }

    async fn stretch(
        &mut self,
        with: &With<'_>,
        stretch: Stretch,
        sightings: &mut Sightings<'_>,
    ) -> Result<(), NotRead> {
        let rules = &with.rules.events;
        let mut after: Option<String> = None;
        for _ in 0..MOST_PAGES {
            if self.began.elapsed() > LONGEST {
                return Err(NotRead::Late);
            }
            let query = page::query(rules, stretch, after.as_deref());
            let body = self.read(with, &rules.path, &query).await;
            let body = body.map_err(NotRead::Call)?;
            let page = page::read(rules, stretch, after.as_deref(), &body).map_err(NotRead::Odd)?;
            let events = u64::try_from(page.events.len()).unwrap_or(u64::MAX);
            self.report.pages = self.report.pages.saturating_add(1);
            self.report.events = self.report.events.saturating_add(events);
            let (pages, events) = (self.report.pages, self.report.events);
            self.task.handle.progress(|progress| {
                progress.pages = pages;
                progress.events = events;
            });
            for event in page.events {
                sightings.take(event);
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
        Err(NotRead::Odd("there are more pages than one pass reads"))
    }

    async fn read(&self, with: &With<'_>, path: &str, query: &str) -> Result<Bytes, ReadError> {
        let secret = &with.key.secret;
        let vendor = with.pack.vendor();
        let calls = &self.task.calls;
        calls.get(secret, &self.run_id, vendor, path, query).await
    }

    /// Which credential the events were read with, by our own audit: only requests of that one are in them.
    async fn own_credential(&mut self, with: &With<'_>) -> Option<String> {
        let query = AuditQuery {
            key_id: Some(with.key.key.key_id.clone()),
            verdict: Some(EntryVerdict::Admitted),
            limit: 1,
            ..AuditQuery::default()
        };
        match self.task.ledger.audit(query).await {
            Ok(page) => page.items.into_iter().next().map(|entry| entry.credential),
            Err(error) => {
                self.failed("", format!("our own audit cannot be read: {error}"));
                None
            }
        }
    }

    async fn decide(
        &mut self,
        with: &With<'_>,
        one: &Wanted,
        stretch: Stretch,
        seen: Sighting,
        read_at: i64,
    ) {
        match seen {
            Sighting::Odd(what) => {
                self.task.memory.found(one.id);
                self.stays(one, Why::Odd(what));
            }
            Sighting::Nothing => {
                let memory = &mut self.task.memory;
                match memory.nothing(one, stretch, with.rules, read_at) {
                    Nothing::Stays(why) => self.stays(one, why),
                    Nothing::NotExecuted => {
                        let judged = Judged {
                            finding: Finding::NotExecuted,
                            answer: None,
                        };
                        let evidence = Evidence::Absence { reads: READS };
                        self.apply(one, judged, evidence).await;
                    }
                }
            }
            Sighting::Object {
                event_id,
                object_id,
                request_id,
            } => {
                self.task.memory.found(one.id);
                match self
                    .retrieved(with, one, &object_id, request_id.as_deref())
                    .await
                {
                    Ok(judged) => {
                        self.apply(one, judged, Evidence::VendorEvent { event_id })
                            .await;
                    }
                    Err(why) => self.stays(one, why),
                }
            }
        }
    }

    /// Reads the object and judges it.
    async fn retrieved(
        &mut self,
        with: &With<'_>,
        one: &Wanted,
        object_id: &str,
        request_id: Option<&str>,
    ) -> Result<Judged, Why> {
        let operation = with.rules.operations.get(&one.operation);
        let path = operation.and_then(|operation| operation.path_of(object_id));
        let path = path.ok_or(Why::Odd("the id of its object cannot stand in a path"))?;
        match self.read(with, &path, "").await {
            Ok(body) => {
                judged(with.pack, &one.operation, object_id, request_id, &body).map_err(Why::Odd)
            }
            Err(error) => {
                self.failed(with.pack.vendor(), format!("{path}: {error}"));
                Err(Why::NotRead)
            }
        }
    }

    async fn apply(&mut self, one: &Wanted, judged: Judged, evidence: Evidence) {
        let Judged { finding, answer } = judged;
        let word = Word {
            finding: finding.clone(),
            evidence: evidence.clone(),
            attempts: Some(one.attempts),
            answer,
        };
        let entry = match self.task.ledger.apply_evidence(one.id, word).await {
            Ok(entry) => entry,
            Err(ResolveError::Undecided(_) | ResolveError::NotFound) => {
                return self.stays(one, Why::Overtaken);
            }
            Err(ResolveError::Unavailable(error)) => {
                self.failed("", format!("evidence was not taken: {error}"));
                return self.stays(one, Why::NotApplied);
            }
        };
        self.task.handle.decided(&finding);
        self.report.decided(one, &finding, entry, evidence);
    }

    fn stays(&mut self, one: &Wanted, why: Why) {
        let key = Some(one.idempotency_key.clone());
        self.report
            .unsettled(one.id.to_string(), &one.operation, key, one.age_ms, why);
    }

    fn stays_unlooked(&mut self, request: &UnknownRequest, why: Why) {
        let entry = &request.entry;
        let (id, key) = (entry.id.clone(), entry.idempotency_key.clone());
        self.report
            .unsettled(id, &entry.operation, key, request.age_ms, why);
    }

    fn failed(&mut self, vendor: &str, what: String) {
        self.report.failed(vendor, what);
    }
}
