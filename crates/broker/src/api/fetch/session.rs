//! Incremental fetch sessions (KIP-227): the server remembers what a client fetches, requests and
//! responses carry only what changed.
//!
//! The number of sessions is bounded. A new one takes the place of one that was not used for a while;
//! when there is none, the client fetches without a session, which always works.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use super::read::{Evaluation, Looked};
use super::{TopicKey, Wanted};

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// Sessions are spread over this many locks.
const SHARDS: usize = 16;

/// What a client fetches of one partition, and what it was last told.
#[derive(Debug)]
struct Remembered {
    wanted: Wanted,
    high_watermark: i64,
    log_start: i64,
    /// The client must hear about the partition with the next response.
    must_tell: bool,
}

#[derive(Debug, Default)]
struct Remembering {
    /// Epoch of the next request.
    epoch: i32,
    partitions: Vec<Remembered>,
    places: HashMap<(TopicKey, i32), usize>,
    /// Where the next fetch begins, so that a busy partition does not starve those behind it.
    start: usize,
}

#[derive(Debug)]
pub(super) struct Session {
    by_id: bool,
    last_used_ms: AtomicI64,
    inner: Mutex<Remembering>,
}

/// All sessions.
#[derive(Debug)]
pub struct FetchSessions {
    shards: [Mutex<HashMap<i32, Arc<Session>>>; SHARDS],
    per_shard: usize,
    evict_after_ms: i64,
}

/// What to fetch for one request, and what becomes of the result.
#[derive(Debug)]
pub(super) enum Plan {
    /// No session.
    Once(Vec<Wanted>),
    /// A session is made when there is room.
    Begin { wanted: Vec<Wanted>, by_id: bool },
    /// The session goes on.
    Continue {
        session: Arc<Session>,
        id: i32,
        wanted: Vec<Wanted>,
    },
}

/// What the client is told.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) session_id: i32,
    pub(super) results: Vec<Looked>,
}

impl Plan {
    /// The partitions to look at, in order.
    pub(super) fn wanted(&self) -> &[Wanted] {
        match self {
            Self::Once(wanted) | Self::Begin { wanted, .. } | Self::Continue { wanted, .. } => {
                wanted
            }
        }
    }
}

impl Remembering {
    fn put(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.index);
        match self.places.get(&key) {
            Some(&at) => self.partitions[at].wanted = wanted,
            None => {
                self.places.insert(key, self.partitions.len());
                let told = Remembered {
                    wanted,
                    high_watermark: -1,
                    log_start: -1,
                    must_tell: true,
                };
                self.partitions.push(told);
            }
        }
    }

    fn forget(&mut self, key: &(TopicKey, i32)) {
        let Some(at) = self.places.remove(key) else {
            return;
        };
        self.partitions.swap_remove(at);
        if let Some(moved) = self.partitions.get(at) {
            self.places
                .insert((moved.wanted.topic.clone(), moved.wanted.index), at);
        }
    }

    /// Everything that is fetched, beginning with another partition each time.
    fn rotated(&mut self) -> Vec<Wanted> {
        let count = self.partitions.len();
        if count == 0 {
            return Vec::new();
        }
        let start = self.start % count;
        self.start = start + 1;
        let (behind, ahead) = self.partitions.split_at(start);
        ahead
            .iter()
            .chain(behind)
            .map(|partition| partition.wanted.clone())
            .collect()
    }

    /// Whether the client must hear this; remembers that it did.
    fn tell(&mut self, looked: &Looked) -> bool {
        let Some(&at) = self.places.get(&(looked.topic.clone(), looked.index)) else {
            return true;
        };
        let known = &mut self.partitions[at];
        let news = known.must_tell
            || looked.len() > 0
            || looked.diverging.is_some()
            || looked.error.is_some()
            || known.high_watermark != looked.high_watermark
            || known.log_start != looked.log_start;
        known.high_watermark = looked.high_watermark;
        known.log_start = looked.log_start;
        // After an error the next state is told even if it is the one before.
        known.must_tell = looked.error.is_some();
        news
    }
}

impl FetchSessions {
    /// At most `slots` sessions; one that was not used for `evict_after_ms` may be replaced.
    pub fn new(slots: u32, evict_after_ms: i64) -> Self {
        let per_shard = (slots as usize).div_ceil(SHARDS);
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            per_shard,
            evict_after_ms,
        }
    }

    /// Sessions at this moment.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, id: i32) -> &Mutex<HashMap<i32, Arc<Session>>> {
        &self.shards[id.rem_euclid(SHARDS as i32) as usize]
    }

    /// Finds out what a request fetches.
    pub(super) fn plan(
        &self,
        id: i32,
        epoch: i32,
        by_id: bool,
        wanted: Vec<Wanted>,
        forgotten: &[(TopicKey, i32)],
        now_ms: i64,
    ) -> Result<Plan, ResponseError> {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                self.shard(id).lock().remove(&id);
            }
            return Ok(if epoch == FINAL_EPOCH {
                Plan::Once(wanted)
            } else {
                Plan::Begin { wanted, by_id }
            });
        }
        let session = self.shard(id).lock().get(&id).cloned();
        let session = session.ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.by_id != by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        session.last_used_ms.store(now_ms, Ordering::Relaxed);
        let mut inner = session.inner.lock();
        if inner.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        inner.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        wanted.into_iter().for_each(|wanted| inner.put(wanted));
        forgotten.iter().for_each(|key| inner.forget(key));
        let wanted = inner.rotated();
        drop(inner);
        if wanted.is_empty() {
            self.shard(id).lock().remove(&id);
            return Ok(Plan::Once(wanted));
        }
        Ok(Plan::Continue {
            session,
            id,
            wanted,
        })
    }

    /// Remembers what the client is told, and leaves out what it knows already.
    pub(super) fn settle(&self, plan: Plan, evaluation: Evaluation, now_ms: i64) -> Answer {
        let mut results = evaluation.results;
        match plan {
            Plan::Once(_) => Answer {
                session_id: NO_SESSION,
                results,
            },
            Plan::Begin { wanted, by_id } => {
                let mut inner = Remembering {
                    epoch: 1,
                    ..Remembering::default()
                };
                wanted.into_iter().for_each(|wanted| inner.put(wanted));
                for looked in &results {
                    inner.tell(looked);
                }
                let session_id = self.insert(inner, by_id, now_ms);
                Answer {
                    session_id,
                    results,
                }
            }
            Plan::Continue { session, id, .. } => {
                let mut inner = session.inner.lock();
                results.retain(|looked| inner.tell(looked));
                Answer {
                    session_id: id,
                    results,
                }
            }
        }
    }

    /// Makes a session; returns its id, or 0 when there is no room.
    fn insert(&self, inner: Remembering, by_id: bool, now_ms: i64) -> i32 {
        if self.per_shard == 0 || inner.partitions.is_empty() {
            return NO_SESSION;
        }
        // Random ids: a client cannot use another one's session by counting.
        let random = uuid::Uuid::new_v4().as_u128() as u32;
        let id = i32::try_from(random >> 1).unwrap_or(1).max(1);
        let session = Session {
            by_id,
            last_used_ms: AtomicI64::new(now_ms),
            inner: Mutex::new(inner),
        };
        let mut shard = self.shard(id).lock();
        if shard.contains_key(&id) {
            return NO_SESSION;
        }
        if shard.len() >= self.per_shard {
            let used = |session: &Session| session.last_used_ms.load(Ordering::Relaxed);
            let oldest = shard.iter().map(|(id, session)| (used(session), *id)).min();
            match oldest {
                Some((last_used, id)) if now_ms - last_used > self.evict_after_ms => {
                    shard.remove(&id)
                }
                _ => return NO_SESSION,
            };
        }
        shard.insert(id, Arc::new(session));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(index: i32) -> Wanted {
        Wanted {
            topic: TopicKey::Id(uuid::Uuid::from_u128(1)),
            index,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            offset: 0,
            max_bytes: 100,
        }
    }

    fn nothing() -> Evaluation {
        Evaluation::of(
            &[],
            super::super::read::Limits {
                max_bytes: 0,
                min_bytes: 0,
                committed_only: false,
            },
        )
    }

    fn begin(sessions: &FetchSessions, now_ms: i64) -> i32 {
        let plan = sessions.plan(
            0,
            INITIAL_EPOCH,
            true,
            vec![wanted(0), wanted(1)],
            &[],
            now_ms,
        );
        sessions.settle(plan.unwrap(), nothing(), now_ms).session_id
    }

    #[test]
    fn sessions_are_bounded_and_idle_ones_make_room() {
        let sessions = FetchSessions::new(32, 1000);
        let first: Vec<i32> = (0..500).map(|_| begin(&sessions, 0)).collect();
        assert!(sessions.count() <= 32);
        assert!(
            first.contains(&NO_SESSION),
            "fetching goes on without a session"
        );
        let later: Vec<i32> = (0..500).map(|_| begin(&sessions, 5000)).collect();
        assert!(
            later.iter().any(|id| *id != NO_SESSION),
            "sessions unused for long make room"
        );
        assert!(sessions.count() <= 32);
        assert_eq!(begin(&FetchSessions::new(0, 1000), 0), NO_SESSION);
    }

    #[test]
    fn a_session_follows_its_epochs_and_rotates_its_partitions() {
        let sessions = FetchSessions::new(16, 1000);
        let id = begin(&sessions, 0);
        let order = |epoch, wanted, forgotten: &[(TopicKey, i32)]| {
            let plan = sessions.plan(id, epoch, true, wanted, forgotten, 0)?;
            Ok::<_, ResponseError>(plan.wanted().iter().map(|w| w.index).collect::<Vec<_>>())
        };
        assert_eq!(order(1, vec![], &[]), Ok(vec![0, 1]));
        assert_eq!(
            order(1, vec![], &[]),
            Err(ResponseError::InvalidFetchSessionEpoch)
        );
        assert_eq!(order(2, vec![wanted(2)], &[]), Ok(vec![1, 2, 0]));
        assert_eq!(
            order(3, vec![], &[(wanted(1).topic, 1)]).map(|order| order.len()),
            Ok(2)
        );
        let by_name = sessions.plan(id, 4, false, vec![], &[], 0);
        assert_eq!(by_name.err(), Some(ResponseError::FetchSessionTopicIdError));
        let forget = [(wanted(0).topic, 0), (wanted(2).topic, 2)];
        assert_eq!(order(4, vec![], &forget), Ok(vec![]));
        assert_eq!(
            order(5, vec![], &[]),
            Err(ResponseError::FetchSessionIdNotFound)
        );
    }
}
