//! Whole operations, as the checks see them. Logs, transactions, sends and polls are numbers: places in the
//! lists of the index.

use super::event::Isolation;

/// What is known about whether an operation was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed,
    Unknown,
}

/// One record's way.
#[derive(Debug)]
pub struct Send {
    pub process: u32,
    /// How often the process had crashed before.
    pub life: u32,
    pub log: usize,
    pub value: i64,
    pub invoked: usize,
    /// The event that ended it.
    pub ended: Option<usize>,
    pub outcome: Outcome,
    /// Offset that the server told.
    pub told: Option<i64>,
    pub txn: Option<usize>,
    pub source: Option<(usize, i64)>,
    /// Lowest offset at which it was read, and the poll.
    pub seen: Option<(i64, usize)>,
    /// First poll under `read_committed` that had it.
    pub seen_committed: Option<usize>,
}

impl Send {
    /// Where it is in the log, as read, else as told.
    pub fn offset(&self) -> Option<i64> {
        self.seen.map(|(offset, _)| offset).or(self.told)
    }

    /// The event to show for it.
    pub fn event(&self) -> usize {
        self.ended.unwrap_or(self.invoked)
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    Aborted,
    /// Nobody ever asked to end it.
    Open,
    Unknown,
}

/// A transaction.
#[derive(Debug)]
pub struct Txn {
    pub began: usize,
    pub commit_invoked: Option<usize>,
    /// The event that told its fate, or the last about its end.
    pub ended: Option<usize>,
    pub fate: Fate,
    pub sends: Vec<usize>,
    pub polls: Vec<usize>,
    /// Nobody has asked to end it yet.
    pub open: bool,
    /// The outcome of an attempt to commit it is unknown.
    pub doubtful: bool,
}

impl Txn {
    /// The event to show for it.
    pub fn event(&self) -> usize {
        self.ended.or(self.commit_invoked).unwrap_or(self.began)
    }

    /// Whether its records may be shown to a reader under `read_committed`.
    pub fn may_show(&self) -> bool {
        matches!(self.fate, Fate::Committed | Fate::Unknown)
    }
}

/// A poll that was answered.
#[derive(Debug)]
pub struct Poll<'a> {
    pub process: u32,
    pub event: usize,
    pub invoked: usize,
    pub isolation: Isolation,
    pub reads: Vec<(usize, &'a [(i64, i64)])>,
}

impl Poll<'_> {
    pub fn is_committed(&self) -> bool {
        self.isolation == Isolation::ReadCommitted
    }
}

/// What moves a consumer's positions, in order.
#[derive(Debug)]
pub enum Step {
    Poll(usize),
    /// All positions but those in `kept` are forgotten.
    Forget {
        process: u32,
        kept: Vec<usize>,
    },
    Seek {
        process: u32,
        log: usize,
        offset: Option<i64>,
    },
}

/// Offsets that were committed, or asked for.
#[derive(Debug)]
pub struct Offsets<'a> {
    pub group: &'a str,
    /// Log and offset.
    pub offsets: Vec<(usize, i64)>,
    pub invoked: usize,
    pub ended: Option<usize>,
    pub outcome: Outcome,
    pub txn: Option<usize>,
    /// An answer about committed offsets, not a commit.
    pub is_read: bool,
}

/// A record at an offset, as it was read.
#[derive(Debug)]
pub struct Record {
    pub offset: i64,
    pub value: i64,
    pub send: Option<usize>,
    pub poll: usize,
    /// First poll under `read_committed` that had it.
    pub poll_committed: Option<usize>,
}
