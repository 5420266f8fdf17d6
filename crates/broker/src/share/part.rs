//! A share-partition in the server: the pure core behind a lock, its writes, its locks that run out,
//! and the fetches that wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dlog_metadata::configs::group::ShareStart;
use dlog_share::{
    AcknowledgementBatch, PartitionState, ShareKey, ShareLimits, SharePartition, StateError,
    StateWrite,
};
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, oneshot};

use super::{Refusal, TopicPartition, limits, store};
use crate::error::storage_error_code;
use crate::partitions::{Partition, WaitList};
use crate::state::BrokerState;

/// A share-partition that members fetch from.
pub struct SharePart {
    key: ShareKey,
    partition: Arc<Partition>,
    leader_epoch: i32,
    /// Fetches that wait until something is released.
    waiters: WaitList,
    loaded: OnceCell<()>,
    inner: Mutex<Inner>,
}

struct Inner {
    life: Life,
    last_write: u64,
    /// Writes in the order of the decisions, which is that in which they are stored: a later one may
    /// be about the same records.
    writes: VecDeque<Write>,
    /// A task takes writes from the queue.
    is_writing: bool,
    /// Writes in the queue, and those whose outcome is not known.
    open_writes: usize,
    /// A task waits for the next lock to run out.
    has_timer: bool,
}

enum Life {
    /// Its state is not read yet.
    New,
    Active {
        core: SharePartition,
        state_epoch: i32,
    },
    /// Another one has taken its place.
    Retired,
}

/// Something to store.
struct Write {
    what: StateWrite,
    state_epoch: i32,
    /// How the core knows it, if its outcome matters, and who waits for it.
    outcome: Option<(u64, oneshot::Sender<Result<(), Refusal>>)>,
}

/// What becomes of acknowledgements.
pub(crate) type Acknowledging = oneshot::Receiver<Result<(), Refusal>>;

impl SharePart {
    /// One whose state has still to be read.
    pub(super) fn new(key: ShareKey, partition: &Arc<Partition>) -> Arc<Self> {
        Arc::new(Self {
            key,
            partition: partition.clone(),
            leader_epoch: partition.leader_epoch(),
            waiters: WaitList::default(),
            loaded: OnceCell::new(),
            inner: Mutex::new(Inner {
                life: Life::New,
                last_write: 0,
                writes: VecDeque::new(),
                is_writing: false,
                open_writes: 0,
                has_timer: false,
            }),
        })
    }

    /// The partition.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// The fetches that wait for something to be released.
    pub fn waiters(&self) -> &WaitList {
        &self.waiters
    }

    /// The group and the partition.
    pub(super) fn names(&self) -> (&Arc<str>, TopicPartition) {
        (&self.key.group, (self.key.topic_id, self.key.partition))
    }

    /// Reads the state, the first time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn load(&self, state: &Arc<BrokerState>) -> Result<(), Refusal> {
        let loading = || async {
            let stored = store::read(state, &self.key, self.leader_epoch).await?;
            let start = match stored.start_offset {
                start if start >= 0 => start,
                _ => self.choose_start(state, &stored).await?,
            };
            let core = SharePartition::load(start, &stored.batches).map_err(|error| {
                tracing::error!(share_partition = %self.key, %error, "the stored state is damaged");
                Refusal::from(ResponseError::UnknownServerError)
            })?;
            let mut inner = self.inner.lock();
            if matches!(inner.life, Life::New) {
                inner.life = Life::Active {
                    core,
                    state_epoch: stored.state_epoch,
                };
            }
            Ok(())
        };
        self.loaded.get_or_try_init(loading).await.copied()
    }

    /// Where a group begins that has not been in this partition. It is stored, so that a restart
    /// before the first acknowledgement does not begin elsewhere and skip what came meanwhile.
    async fn choose_start(
        &self,
        state: &Arc<BrokerState>,
        stored: &PartitionState,
    ) -> Result<i64, Refusal> {
        let image = state.image();
        let reset = state
            .group_config(&image, &self.key.group)
            .share_auto_offset_reset();
        let log = self.partition.log()?.clone();
        let start = match reset {
            ShareStart::Earliest => log.log_start_offset(),
            ShareStart::Latest => log.acknowledged_end(),
            ShareStart::ByDuration(age_ms) => {
                let from_ms = state.now_ms().saturating_sub(age_ms);
                let looking = move || {
                    let found = log.offset_for_timestamp(from_ms)?;
                    Ok(found.map_or_else(|| log.acknowledged_end(), |found| found.offset))
                };
                let found = tokio::task::spawn_blocking(looking).await;
                let found = found.map_err(|_| ResponseError::UnknownServerError)?;
                found.map_err(|error| Refusal::from(storage_error_code(&error)))?
            }
        };
        let write = StateWrite {
            start_offset: start,
            delivery_complete_count: 0,
            batches: Vec::new(),
        };
        let epochs = (stored.state_epoch, self.leader_epoch);
        store::write(state, &self.key, epochs, &write).await?;
        Ok(start)
    }

    /// From now on it hands out and stores nothing.
    pub(super) fn retire(&self) {
        self.inner.lock().life = Life::Retired;
        self.waiters.wake();
    }

    /// Runs a step of the core. `None` when it is not active.
    pub(super) fn step<T>(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut SharePartition, &ShareLimits, i64) -> T,
    ) -> Option<T> {
        let limits = limits(state, &self.key.group);
        let mut inner = self.inner.lock();
        let Life::Active { core, .. } = &mut inner.life else {
            return None;
        };
        let result = f(core, &limits, state.now_ms());
        let is_due = core.next_deadline_ms().is_some();
        if is_due && !inner.has_timer {
            inner.has_timer = true;
            tokio::spawn(watch_locks(Arc::downgrade(self), state.clone()));
        }
        Some(result)
    }

    /// Takes the acknowledgements of a member. What comes of it is known when it is stored.
    ///
    /// # Errors
    /// [`Refusal`], with nothing changed.
    pub(crate) fn acknowledge(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        member: &str,
        batches: &[AcknowledgementBatch],
    ) -> Result<Option<Acknowledging>, Refusal> {
        let limits = limits(state, &self.key.group);
        let now_ms = state.now_ms();
        let mut inner = self.inner.lock();
        inner.last_write += 1;
        let number = inner.last_write;
        let Life::Active { core, state_epoch } = &mut inner.life else {
            return Err(ResponseError::NotLeaderOrFollower.into());
        };
        let write = core.acknowledge(member, batches, &limits, number, now_ms)?;
        let state_epoch = *state_epoch;
        Ok(write.map(|what| {
            let (told, hears) = oneshot::channel();
            let outcome = Some((number, told));
            self.persist(
                state,
                &mut inner,
                Write {
                    what,
                    state_epoch,
                    outcome,
                },
            );
            hears
        }))
    }

    /// Whatever a member holds can be acquired by others.
    pub(super) fn release(self: &Arc<Self>, state: &Arc<BrokerState>, member: &str) {
        let limits = limits(state, &self.key.group);
        let mut inner = self.inner.lock();
        inner.last_write += 1;
        let number = inner.last_write;
        let Life::Active { core, state_epoch } = &mut inner.life else {
            return;
        };
        let write = core.release_member(member, &limits, number);
        let state_epoch = *state_epoch;
        if let Some(what) = write {
            let outcome = Some((number, oneshot::channel().0));
            self.persist(
                state,
                &mut inner,
                Write {
                    what,
                    state_epoch,
                    outcome,
                },
            );
        }
    }

    /// Stores what a step asks for, after what earlier steps asked for. It goes on when nobody waits
    /// for the result.
    fn persist(self: &Arc<Self>, state: &Arc<BrokerState>, inner: &mut Inner, write: Write) {
        inner.writes.push_back(write);
        inner.open_writes += 1;
        if !inner.is_writing {
            inner.is_writing = true;
            tokio::spawn(self.clone().write_all(state.clone()));
        }
    }

    /// Submits writes until there are none. Their outcomes are waited for elsewhere.
    async fn write_all(self: Arc<Self>, state: Arc<BrokerState>) {
        loop {
            let next = {
                let mut inner = self.inner.lock();
                let next = inner.writes.pop_front();
                inner.is_writing = next.is_some();
                next
            };
            let Some(write) = next else { return };
            let epochs = (write.state_epoch, self.leader_epoch);
            let writing = store::begin_write(&state, &self.key, epochs, &write.what).await;
            let (part, state) = (self.clone(), state.clone());
            tokio::spawn(async move {
                let result = match writing {
                    Ok(writing) => writing.outcome(&state).await,
                    Err(error) => Err(error),
                };
                part.written(&state, write.outcome, result);
            });
        }
    }

    fn written(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        outcome: Option<(u64, oneshot::Sender<Result<(), Refusal>>)>,
        result: Result<(), StateError>,
    ) {
        if let Err(error) = result {
            tracing::info!(share_partition = %self.key, %error, "the state of a share-partition was not stored");
            let is_fenced = matches!(
                error,
                StateError::FencedLeaderEpoch
                    | StateError::FencedStateEpoch
                    | StateError::UnknownTopicOrPartition
                    | StateError::InvalidRequest(_)
            );
            if is_fenced {
                state.share.retire(self);
            }
        }
        if let Some((number, told)) = outcome {
            let is_news = self.step(state, |core, limits, now_ms| {
                core.persisted(number, result.is_ok(), limits, now_ms)
            });
            if is_news == Some(true) {
                self.waiters.wake();
            }
            // A client that went away needs no answer.
            let _ = told.send(result.map_err(Refusal::from));
        }
        let is_last = {
            let mut inner = self.inner.lock();
            inner.open_writes -= 1;
            inner.open_writes == 0
        };
        if is_last {
            state.share.retire_unused(&self.key.group);
        }
    }

    /// Retires it, unless something has still to be stored: whoever took its place would read a state
    /// without it. Returns whether it is retired.
    pub(super) fn retire_when_idle(&self) -> bool {
        let mut inner = self.inner.lock();
        let is_idle = inner.open_writes == 0;
        if is_idle {
            inner.life = Life::Retired;
        }
        drop(inner);
        if is_idle {
            self.waiters.wake();
        }
        is_idle
    }

    /// Ends the locks that have run out. Returns when to come again, Unix ms.
    fn expire(self: &Arc<Self>, state: &Arc<BrokerState>) -> Option<i64> {
        let limits = limits(state, &self.key.group);
        let now_ms = state.now_ms();
        let mut inner = self.inner.lock();
        let Life::Active { core, state_epoch } = &mut inner.life else {
            inner.has_timer = false;
            return None;
        };
        let write = core.expire(&limits, now_ms);
        let (state_epoch, due_ms) = (*state_epoch, core.next_deadline_ms());
        inner.has_timer = due_ms.is_some();
        if let Some(what) = write {
            tracing::debug!(share_partition = %self.key, ?what, "locks have run out");
            // The locks are over whatever comes of it.
            let outcome = None;
            self.persist(
                state,
                &mut inner,
                Write {
                    what,
                    state_epoch,
                    outcome,
                },
            );
            drop(inner);
            self.waiters.wake();
        }
        due_ms
    }
}

/// Waits for locks to run out, for as long as there are any.
async fn watch_locks(part: Weak<SharePart>, state: Arc<BrokerState>) {
    loop {
        let due_ms = match part.upgrade() {
            Some(part) => part.expire(&state),
            None => return,
        };
        let Some(due_ms) = due_ms else { return };
        let wait_ms = u64::try_from(due_ms - state.now_ms()).unwrap_or(0).max(1);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = state.stopping.cancelled() => return,
        }
    }
}
