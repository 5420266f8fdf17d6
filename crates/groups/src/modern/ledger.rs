//! How a group's state reaches the log, and who may be told of it when.
//!
//! State changes at once, in memory; a step marks the keys it touched, and the records of all
//! marked keys are made from the state at its end and written together. An answer waits until the
//! write that contains what it tells, and every earlier write of the group, are in the log. When a
//! write fails its keys are marked again, so that the next write repairs the log, and whoever was
//! to be told of it, or of anything built on it, gets an error and asks again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::{GroupRecord, Reply, Token, WriteId};
use crate::codec::{RecordKey, kind};
use crate::error::PersistError;

/// Names a record of a group: its type, and the member or regular expression it is about (empty
/// when it is about the group).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StateKey {
    pub(crate) kind: i16,
    pub(crate) part: Arc<str>,
}

impl StateKey {
    pub(crate) fn of_group(kind: i16) -> Self {
        Self {
            kind,
            part: Arc::default(),
        }
    }

    pub(crate) fn of_part(kind: i16, part: &Arc<str>) -> Self {
        Self {
            kind,
            part: part.clone(),
        }
    }

    fn encode(&self, group: &str) -> Bytes {
        let (kind, part) = (self.kind, &*self.part);
        let key = match kind {
            kind::CLASSIC_GROUP => RecordKey::Group { group },
            _ if kind::is_of_group(kind) => RecordKey::OfGroup { kind, group },
            _ => RecordKey::OfPart { kind, group, part },
        };
        key.encode()
            .expect("group, member and expression were bounded when they came in")
    }

    /// Kafka's order within a write: what is there comes before what refers to it.
    fn rank(&self) -> u8 {
        match self.kind {
            kind::CONSUMER_MEMBER | kind::SHARE_MEMBER => 0,
            kind::CONSUMER_REGEX => 1,
            kind::CONSUMER_GROUP | kind::SHARE_GROUP => 2,
            kind::CONSUMER_TARGET_MEMBER | kind::SHARE_TARGET_MEMBER => 3,
            kind::CONSUMER_TARGET | kind::SHARE_TARGET => 4,
            kind::CONSUMER_CURRENT | kind::SHARE_CURRENT => 5,
            _ => 6,
        }
    }
}

/// A write that has not been reported, or waits for an earlier one.
#[derive(Debug)]
struct Open {
    write: WriteId,
    keys: Vec<StateKey>,
    result: Option<Result<(), PersistError>>,
    /// An earlier write failed after this one was made from the same state.
    builds_on_failed: bool,
    replies: Vec<(Token, Reply)>,
}

/// An answer that may go out; with the error that takes its place.
pub(crate) type Released = (Token, Reply, Option<PersistError>);

/// The marked keys and the open writes of one group.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    marked: BTreeSet<StateKey>,
    open: VecDeque<Open>,
}

impl Ledger {
    /// The record of this key may differ from the log.
    pub(crate) fn mark(&mut self, key: StateKey) {
        self.marked.insert(key);
    }

    /// Takes a mark back; whether it was there.
    pub(crate) fn unmark(&mut self, key: &StateKey) -> bool {
        self.marked.remove(key)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.marked.is_empty() && self.open.is_empty()
    }

    /// Nothing is marked.
    pub(crate) fn is_clean(&self) -> bool {
        self.marked.is_empty()
    }

    /// The marked keys with their records as `value_of` makes them: first those that go (what
    /// refers to something before it), then those that are there.
    pub(crate) fn take_records(
        &mut self,
        group: &str,
        value_of: impl Fn(&StateKey) -> Option<Bytes>,
    ) -> (Vec<StateKey>, Vec<GroupRecord>) {
        let keys: Vec<StateKey> = std::mem::take(&mut self.marked).into_iter().collect();
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for key in &keys {
            match value_of(key) {
                Some(value) => there.push((key, value)),
                None => gone.push(key),
            }
        }
        gone.sort_by_key(|key| std::cmp::Reverse(key.rank()));
        there.sort_by_key(|(key, _)| key.rank());
        let tombstones = gone.into_iter().map(|key| GroupRecord {
            key: key.encode(group),
            value: None,
        });
        let values = there.into_iter().map(|(key, value)| GroupRecord {
            key: key.encode(group),
            value: Some(value),
        });
        let records = tombstones.chain(values).collect();
        (keys, records)
    }

    /// `write` is under way with the records of these keys.
    pub(crate) fn wrote(&mut self, write: WriteId, keys: Vec<StateKey>) {
        self.open.push_back(Open {
            write,
            keys,
            result: None,
            builds_on_failed: false,
            replies: Vec::new(),
        });
    }

    /// Lets an answer wait for all that is under way; gives it back when nothing is.
    pub(crate) fn hold(&mut self, token: Token, reply: Reply) -> Option<Reply> {
        match self.open.back_mut() {
            Some(last) => {
                last.replies.push((token, reply));
                None
            }
            None => Some(reply),
        }
    }

    /// A write has ended: the answers that may go out now.
    pub(crate) fn ended(
        &mut self,
        write: WriteId,
        result: Result<(), PersistError>,
    ) -> Vec<Released> {
        let Some(at) = self.open.iter().position(|open| open.write == write) else {
            return Vec::new();
        };
        self.open[at].result = Some(result);
        if result.is_err() {
            let keys = std::mem::take(&mut self.open[at].keys);
            self.marked.extend(keys);
            for later in self.open.iter_mut().skip(at + 1) {
                later.builds_on_failed = true;
            }
        }
        self.release()
    }

    fn release(&mut self) -> Vec<Released> {
        let mut released = Vec::new();
        while let Some(result) = self.open.front().and_then(|open| open.result) {
            let Some(open) = self.open.pop_front() else {
                break;
            };
            let error = match result {
                Err(error) => Some(error),
                Ok(()) if open.builds_on_failed => Some(PersistError::Unavailable),
                Ok(()) => None,
            };
            let replies = open.replies.into_iter();
            released.extend(replies.map(|(token, reply)| (token, reply, error)));
        }
        released
    }

    /// Every answer that waits, for a group that goes away.
    pub(crate) fn abandon(&mut self) -> Vec<(Token, Reply)> {
        self.marked.clear();
        let open = std::mem::take(&mut self.open);
        open.into_iter().flat_map(|open| open.replies).collect()
    }
}
