//! Share sessions: what a member fetches of this broker, and whether its requests follow one another.
//!
//! A session begins with epoch 0 and is continued with 1, 2, …; epoch -1 ends it. It belongs to the
//! connection that it began on: when that closes, whatever the member holds is released. The number
//! of sessions is bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// Whose session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The group.
    pub group: Arc<str>,
    /// The member.
    pub member: Arc<str>,
}

/// Why a request does not fit its session. The numbers are Kafka's error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SessionError {
    /// There is none.
    #[error("The share session was not found.")]
    NotFound,
    /// The request is not the one that should come next.
    #[error("The share session epoch is invalid.")]
    InvalidEpoch,
    /// There are too many.
    #[error("The limit of share sessions has been reached.")]
    LimitReached,
    /// The first request acknowledges what it cannot have acquired.
    #[error("A request that begins a share session cannot acknowledge.")]
    InvalidRequest,
}

/// A topic's id and a partition of it.
type TopicPartition = (Uuid, i32);

#[derive(Debug)]
struct Session {
    /// Epoch of the next request.
    epoch: i32,
    connection: u64,
    order: Vec<TopicPartition>,
    /// Those of `order`; whether the member must hear of it with the next answer, whatever there is
    /// to say.
    must_tell: HashMap<TopicPartition, bool>,
}

/// What a fetch is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchStep {
    /// Look at these partitions, in this order; the flag: the member must hear of it.
    Fetch(Vec<(TopicPartition, bool)>),
    /// Acknowledge only, then release everything with [`ShareSessions::end`].
    Final,
}

/// A session that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedSession {
    /// Whose it was.
    pub key: SessionKey,
    /// Whether it was the last one of its group.
    pub group_is_empty: bool,
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct ShareSessions {
    sessions: HashMap<SessionKey, Session>,
    /// The session that a connection began last.
    connections: HashMap<u64, SessionKey>,
    members: HashMap<Arc<str>, usize>,
    most: usize,
}

impl ShareSessions {
    /// At most `most` sessions (`group.share.max.share.sessions`).
    pub fn new(most: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            connections: HashMap::new(),
            members: HashMap::new(),
            most,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A ShareFetch: begins, continues or ends a session. `acknowledges`: it has acknowledgements.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn fetch(
        &mut self,
        key: &SessionKey,
        epoch: i32,
        (add, forget): (&[TopicPartition], &[TopicPartition]),
        acknowledges: bool,
        connection: u64,
    ) -> Result<FetchStep, SessionError> {
        match epoch {
            FINAL_EPOCH if self.sessions.contains_key(key) => Ok(FetchStep::Final),
            FINAL_EPOCH => Err(SessionError::NotFound),
            INITIAL_EPOCH if acknowledges => Err(SessionError::InvalidRequest),
            INITIAL_EPOCH => {
                self.end(key);
                self.begin(key, add, connection)
            }
            _ => self.go_on(key, epoch, add, forget),
        }
    }

    fn begin(
        &mut self,
        key: &SessionKey,
        add: &[TopicPartition],
        connection: u64,
    ) -> Result<FetchStep, SessionError> {
        if self.sessions.len() >= self.most {
            return Err(SessionError::LimitReached);
        }
        let mut session = Session {
            epoch: 1,
            connection,
            order: Vec::with_capacity(add.len()),
            must_tell: HashMap::with_capacity(add.len()),
        };
        session.change(add, &[]);
        let step = session.step(0);
        self.sessions.insert(key.clone(), session);
        self.connections.insert(connection, key.clone());
        *self.members.entry(key.group.clone()).or_default() += 1;
        Ok(step)
    }

    fn go_on(
        &mut self,
        key: &SessionKey,
        epoch: i32,
        add: &[TopicPartition],
        forget: &[TopicPartition],
    ) -> Result<FetchStep, SessionError> {
        let session = self.sessions.get_mut(key).ok_or(SessionError::NotFound)?;
        session.check(epoch)?;
        session.change(add, forget);
        Ok(session.step(usize::try_from(epoch).unwrap_or(0)))
    }

    /// What the answer to a fetch said of a partition: after an error the member must hear of it
    /// again.
    pub fn told(&mut self, key: &SessionKey, of: TopicPartition, is_error: bool) {
        let session = self.sessions.get_mut(key);
        if let Some(must_tell) = session.and_then(|session| session.must_tell.get_mut(&of)) {
            *must_tell = is_error;
        }
    }

    /// A ShareAcknowledge. Returns whether it ends the session, which is then done with
    /// [`end`](Self::end).
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn acknowledge(&mut self, key: &SessionKey, epoch: i32) -> Result<bool, SessionError> {
        if epoch == INITIAL_EPOCH {
            return Err(SessionError::InvalidEpoch);
        }
        let session = self.sessions.get_mut(key).ok_or(SessionError::NotFound)?;
        if epoch == FINAL_EPOCH {
            return Ok(true);
        }
        session.check(epoch)?;
        Ok(false)
    }

    /// Whether anybody has a session for this group.
    pub fn has_members(&self, group: &str) -> bool {
        self.members.contains_key(group)
    }

    /// Ends a session. `None` when there is none.
    pub fn end(&mut self, key: &SessionKey) -> Option<ReleasedSession> {
        let session = self.sessions.remove(key)?;
        if self.connections.get(&session.connection) == Some(key) {
            self.connections.remove(&session.connection);
        }
        let left = self.members.get_mut(&key.group);
        let group_is_empty = left.is_none_or(|count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
        if group_is_empty {
            self.members.remove(&key.group);
        }
        Some(ReleasedSession {
            key: key.clone(),
            group_is_empty,
        })
    }

    /// A connection closed; its session, if it has one, is over.
    pub fn disconnected(&mut self, connection: u64) -> Option<ReleasedSession> {
        let key = self.connections.remove(&connection)?;
        self.end(&key)
    }
}

impl Session {
    /// Checks that this request comes next.
    fn check(&mut self, epoch: i32) -> Result<(), SessionError> {
        if self.epoch != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        self.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        Ok(())
    }

    fn change(&mut self, add: &[TopicPartition], forget: &[TopicPartition]) {
        for &of in add {
            if let Entry::Vacant(new) = self.must_tell.entry(of) {
                new.insert(true);
                self.order.push(of);
            }
        }
        if !forget.is_empty() {
            for of in forget {
                self.must_tell.remove(of);
            }
            self.order.retain(|of| self.must_tell.contains_key(of));
        }
    }

    /// The partitions, beginning with another one each time.
    fn step(&self, turn: usize) -> FetchStep {
        let count = self.order.len();
        let (behind, ahead) = self.order.split_at(turn.checked_rem(count).unwrap_or(0));
        let must_tell = |of: &TopicPartition| self.must_tell.get(of).copied().unwrap_or(false);
        let all = ahead.iter().chain(behind);
        FetchStep::Fetch(all.map(|of| (*of, must_tell(of))).collect())
    }
}
