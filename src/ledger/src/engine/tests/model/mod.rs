//! The ledger as DESIGN.md §5 tells it, in plain lists and whole cents: what the real one is compared with.
//!
//! Nothing is kept that can be counted: a balance is the sum over all requests, anew each time. There is no store, no writer, no
//! cache and no code of the engine's; only the words of the contract (refusal codes) are shared.

pub mod cells;
mod change;
mod decide;
mod end;
pub mod linear;
mod look;
pub mod steps;
pub mod wire;
mod words;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use change::{BudgetEdit, KeyEdit};
pub use words::{Answer, Ask, Cost, No, Op, Parts, Said, Verdict};

/// Cents.
pub type Cents = i64;
/// Number of a command; of a hold: that of its reserve.
pub type Id = u64;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// For how long the vendor is relied on to remember a key.
const VENDOR_MEMORY: i64 = 23 * HOUR;
/// From a reserve to its sweep: 5 s to be forwarded in, 90 s for the forward, 30 s of grace.
pub const OVERDUE: i64 = 125 * SECOND;

/// Caps of a key or a budget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    pub per_request: Option<Cents>,
    pub daily: Option<Cents>,
    pub monthly: Option<Cents>,
    /// With its hours.
    pub rolling: Option<(Cents, u16)>,
    pub lifetime: Option<Cents>,
    pub max_requests: Option<usize>,
}

impl Limits {
    fn is_uncapped(&self) -> bool {
        self.per_request.is_none() && WINDOWS.iter().all(|window| window.cap(self).is_none())
    }
}

/// Over what a balance counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Day,
    Month,
    Rolling,
    Lifetime,
}

/// In the order in which they are tried.
const WINDOWS: [Window; 4] = [
    Window::Day,
    Window::Month,
    Window::Rolling,
    Window::Lifetime,
];

impl Window {
    fn cap(self, limits: &Limits) -> Option<Cents> {
        match self {
            Self::Day => limits.daily,
            Self::Month => limits.monthly,
            Self::Rolling => limits.rolling.map(|(cap, _)| cap),
            Self::Lifetime => limits.lifetime,
        }
    }

    const fn limit(self) -> &'static str {
        match self {
            Self::Day => "daily_usd_cap",
            Self::Month => "monthly_usd_cap",
            Self::Rolling => "rolling_usd_cap",
            Self::Lifetime => "lifetime_usd_cap",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub limits: Limits,
    pub worst_case: Option<Cents>,
    pub budget: Option<usize>,
    pub workspace: u8,
    pub expires_at: i64,
    pub is_revoked: bool,
    /// Milliseconds for which an equal purchase is refused.
    pub rule: Option<i64>,
    /// Of its grant, without the rules of budgets.
    pub version: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BudgetIs {
    Open,
    Frozen,
    Closed,
    Tripped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Budget {
    pub parent: Option<usize>,
    pub limits: Limits,
    pub zone: &'static str,
    pub state: BudgetIs,
    /// So many refusals within so many milliseconds.
    pub brake: Option<(usize, i64)>,
    /// When those were that its brake counts.
    pub refusals: Vec<i64>,
    pub rule: Option<i64>,
    /// How often its rule was changed.
    pub rule_changes: u64,
}

/// Who has caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    Key(usize),
    Budget(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    InFlight,
    Answered,
    Unknown,
    Released,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hold {
    Held,
    Settled,
    Released,
    Unknown,
}

/// What is known of an attempt, from the least to the firmest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Known {
    Open,
    Overdue,
    Indeterminate,
    /// For certain not executed; whether it was at least begun.
    NotExecuted {
        is_begun: bool,
    },
    Declined,
    Executed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Attempt {
    reserve: Id,
    known: Known,
    deadline: i64,
}

/// An admitted request: record and hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Request {
    id: Id,
    ask: Ask,
    /// That it draws from, with its parents.
    budget: Option<usize>,
    at: i64,
    record: Record,
    hold: Hold,
    /// `None`: nobody can tell.
    cost: Option<Cents>,
    amount: Option<Cents>,
    attempts: Vec<Attempt>,
    /// The vendor's object.
    object: Option<u8>,
    /// The outcome whose answer is kept.
    answer: Option<Id>,
    /// Whose rules about equal purchases know it.
    known_to: Vec<Subject>,
}

/// Whether the vendor tells of this object what it took for it in all, and not by the one request.
pub const fn gives_totals(object: u8) -> bool {
    object == 0
}

/// The whole ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Model {
    pub now: i64,
    pub keys: Vec<Key>,
    pub budgets: Vec<Budget>,
    requests: Vec<Request>,
    /// The request that each idempotency key stands for.
    records: BTreeMap<u8, usize>,
    /// The executed request that takes its place when the one it stands for is released.
    behind: BTreeMap<usize, usize>,
    /// Every command with its first answer; `None`: its release came first.
    commands: BTreeMap<Id, (Option<Op>, Answer)>,
}

impl Model {
    pub const fn new(now: i64, keys: Vec<Key>, budgets: Vec<Budget>) -> Self {
        Self {
            now,
            keys,
            budgets,
            requests: Vec::new(),
            records: BTreeMap::new(),
            behind: BTreeMap::new(),
            commands: BTreeMap::new(),
        }
    }

    /// Executes a command, once.
    pub fn execute(&mut self, id: Id, op: &Op) -> Answer {
        if let Some(first) = self.first_answer(id, op) {
            return first;
        }
        let answer = match op {
            Op::Reserve(ask) => self.reserve(id, ask),
            Op::Outcome(said) => self.outcome(id, said),
            Op::Release(reserve) => self.release(*reserve),
        };
        self.commands.insert(id, (Some(op.clone()), answer.clone()));
        answer
    }

    fn first_answer(&self, id: Id, op: &Op) -> Option<Answer> {
        let (first, answer) = self.commands.get(&id)?;
        let Some(first) = first else {
            return Some(Answer::Cancelled);
        };
        if first != op {
            return Some(Answer::Conflict);
        }
        let is_unbegun = self.attempt_of(id).is_some_and(|(request, attempt)| {
            let known = self.requests[request].attempts[attempt].known;
            known == Known::NotExecuted { is_begun: false }
        });
        Some(if is_unbegun {
            Answer::Cancelled
        } else {
            answer.clone()
        })
    }

    /// Lets time pass. An attempt without an outcome is swept when it is overdue.
    pub fn wait(&mut self, ms: i64) {
        self.now += ms;
        let now = self.now;
        for request in 0..self.requests.len() {
            for attempt in 0..self.requests[request].attempts.len() {
                let one = &self.requests[request].attempts[attempt];
                if one.known == Known::Open && one.deadline <= now {
                    self.end(
                        request,
                        attempt,
                        Known::Overdue,
                        Verdict::Indeterminate,
                        None,
                    );
                }
            }
        }
    }

    /// A budget and its parents up to the root.
    fn path(&self, leaf: Option<usize>) -> Vec<usize> {
        std::iter::successors(leaf, |budget| self.budgets[*budget].parent).collect()
    }

    /// A key and its budgets up to the root.
    fn subjects(&self, key: usize) -> Vec<Subject> {
        let budgets = self.path(self.keys[key].budget);
        std::iter::once(Subject::Key(key))
            .chain(budgets.into_iter().map(Subject::Budget))
            .collect()
    }

    fn limits(&self, subject: Subject) -> &Limits {
        match subject {
            Subject::Key(key) => &self.keys[key].limits,
            Subject::Budget(budget) => &self.budgets[budget].limits,
        }
    }

    fn rule(&self, subject: Subject) -> Option<i64> {
        match subject {
            Subject::Key(key) => self.keys[key].rule,
            Subject::Budget(budget) => self.budgets[budget].rule,
        }
    }

    /// Whether a rule on the key's way asks for what makes a purchase.
    pub fn is_ruled(&self, key: usize) -> bool {
        let mut subjects = self.subjects(key).into_iter();
        subjects.any(|subject| self.rule(subject).is_some())
    }

    /// The version of a key's grant.
    pub fn version(&self, key: usize) -> u64 {
        let path = self.path(self.keys[key].budget);
        let rules: u64 = path.iter().map(|one| self.budgets[*one].rule_changes).sum();
        self.keys[key].version + rules
    }

    /// Every cap of a subject in its present window.
    pub fn balances(&self, subject: Subject) -> Vec<Parts> {
        let limits = self.limits(subject);
        let mut all = Vec::new();
        for window in WINDOWS {
            let Some(cap) = window.cap(limits) else {
                continue;
            };
            let sum = |hold: Hold| -> Cents {
                let counted = self.requests.iter().filter(|request| {
                    request.hold == hold
                        && self.draws(request, subject)
                        && self.is_present(request.at, window, subject)
                });
                counted.filter_map(|request| request.cost).sum()
            };
            let (held, settled, unknown) =
                (sum(Hold::Held), sum(Hold::Settled), sum(Hold::Unknown));
            all.push(Parts {
                limit: window.limit(),
                cap,
                free: cap - held - settled - unknown,
                held,
                settled,
                unknown,
            });
        }
        all
    }

    fn draws(&self, request: &Request, subject: Subject) -> bool {
        match subject {
            Subject::Key(key) => request.ask.key == key,
            Subject::Budget(budget) => self.path(request.budget).contains(&budget),
        }
    }

    /// Whether what was reserved at this instant counts in the present window.
    fn is_present(&self, at: i64, window: Window, subject: Subject) -> bool {
        let zone = match subject {
            Subject::Key(_) => "UTC",
            Subject::Budget(budget) => self.budgets[budget].zone,
        };
        match window {
            Window::Lifetime => true,
            Window::Day => date(at, zone) == date(self.now, zone),
            Window::Month => {
                let month = |at| (date(at, zone).year(), date(at, zone).month());
                month(at) == month(self.now)
            }
            Window::Rolling => {
                let (_, hours) = self.limits(subject).rolling.unwrap_or_default();
                let begin = self.now - i64::from(hours) * HOUR;
                at.div_euclid(MINUTE) >= begin.div_euclid(MINUTE)
            }
        }
    }

    fn attempt_of(&self, reserve: Id) -> Option<(usize, usize)> {
        self.requests
            .iter()
            .enumerate()
            .find_map(|(number, request)| {
                let mut attempts = request.attempts.iter();
                let attempt = attempts.position(|attempt| attempt.reserve == reserve)?;
                Some((number, attempt))
            })
    }
}

fn date(at: i64, zone: &str) -> jiff::civil::Date {
    let zone = match zone {
        "UTC" => TimeZone::UTC,
        other => TimeZone::get(other).unwrap(),
    };
    let at = Timestamp::from_millisecond(at).unwrap();
    zone.to_datetime(at).date()
}
