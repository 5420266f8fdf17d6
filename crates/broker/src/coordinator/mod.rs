//! The shell around a coordinator's state machine, the same for groups and for transactions: callers
//! that wait, writes to the coordinator's topic, time.
//!
//! Names (of groups, of transactional ids) are spread over the partitions of an internal topic by the
//! hash that Kafka uses; each partition has its own state machine behind its own lock, a [`Shard`]. A step
//! takes the lock, runs the pure core, appends what must be written, and releases it; what depends on a
//! write goes on when the append is acknowledged. The topic is created, and read, when somebody first asks
//! for a name, or when the server starts and the topic is there. Shards are read one after the other, in
//! small bites: whoever asks one that is still being read is told so (by its machine), and those that were
//! read serve already.
//!
//! Invariants: records are appended in the order of the decisions. Nothing waits for a disk or for another
//! lock while a shard is locked. A caller is answered once, or hears that the server stops.

mod append;
mod load;
mod time;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dlog_coordination::{
    Action, LogEntry, PersistError, StateMachine, Token, WriteId, partition_for_name,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, SetOnce, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::partitions::Partition;
use crate::state::BrokerState;
use crate::topics::NewTopic;

pub use load::Stored;

/// How long a request waits for what is still being read, before it is told to come again. Enough that
/// nobody notices a small topic.
const LOADING_PATIENCE: Duration = Duration::from_millis(500);

/// What one kind of coordinator is made of.
pub trait Kind: Sized + Send + Sync + 'static {
    /// The state machine.
    type Machine: StateMachine;
    /// What callers are told.
    type Error: Copy + Send;
    /// What the shell keeps beside each state machine.
    type Extra: Default + Send + Sync;

    /// The topic that the state is kept in.
    const TOPIC: &'static str;
    /// The coordinator cannot be reached; try again.
    const UNAVAILABLE: Self::Error;

    /// The topic as it is created.
    fn new_topic(state: &BrokerState) -> NewTopic;

    /// The coordinators of this kind.
    fn all_of(state: &BrokerState) -> &Coordinators<Self>;

    /// A state machine that has still to be told what the log contains.
    fn machine(state: &BrokerState, partition: &Partition) -> Self::Machine;

    /// Tells the machine what was found in the log. What cannot be used is logged and left out.
    fn apply(machine: &mut Self::Machine, partition: &Partition, stored: Stored<'_>);

    /// Does what the machine asked for beside answers and writes. The shard is locked meanwhile:
    /// whatever takes time is started here and goes on elsewhere.
    fn work(
        state: &Arc<BrokerState>,
        shard: &Arc<Shard<Self>>,
        work: <Self::Machine as StateMachine>::Work,
    );
}

type Reply<K> = <<K as Kind>::Machine as StateMachine>::Reply;
type Effect<K> = <<K as Kind>::Machine as StateMachine>::Effect;
type Work<K> = <<K as Kind>::Machine as StateMachine>::Work;

/// The coordinators of one kind on this node.
pub struct Coordinators<K: Kind> {
    shards: OnceCell<Vec<Arc<Shard<K>>>>,
    /// Notified when a deadline may have come nearer.
    sooner: Notify,
}

impl<K: Kind> Default for Coordinators<K> {
    fn default() -> Self {
        Self {
            shards: OnceCell::new(),
            sooner: Notify::new(),
        }
    }
}

/// The coordinator of one partition of the topic.
pub struct Shard<K: Kind> {
    partition: Arc<Partition>,
    inner: Mutex<Inner<K>>,
    /// Set when the partition was read to its end.
    loaded: SetOnce<()>,
    /// What the kind keeps here.
    pub extra: K::Extra,
}

struct Inner<K: Kind> {
    machine: K::Machine,
    callers: HashMap<Token, oneshot::Sender<Reply<K>>>,
    next_token: Token,
    /// Of loading, carried out with the first step.
    effects: Vec<Effect<K>>,
}

impl<K: Kind> Coordinators<K> {
    /// The shard that a name belongs to. Creates the topic, and begins to read it, the first time.
    /// Waits a moment for a shard that is being read; it may not serve yet all the same.
    ///
    /// # Errors
    /// [`Kind::UNAVAILABLE`] when the topic cannot be created.
    pub async fn shard(
        &self,
        state: &Arc<BrokerState>,
        name: &str,
    ) -> Result<Arc<Shard<K>>, K::Error> {
        let shards = self.opened(state).await?;
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let index = partition_for_name(name, count) as usize;
        let shard = shards.get(index).cloned().ok_or(K::UNAVAILABLE)?;
        shard.be_patient(Instant::now() + LOADING_PATIENCE).await;
        Ok(shard)
    }

    /// The shard of a partition of the topic, when the topic is there.
    pub fn loaded(&self, partition: i32) -> Option<&Arc<Shard<K>>> {
        self.shards.get()?.get(usize::try_from(partition).ok()?)
    }

    /// All shards, when the topic is there.
    pub fn all_loaded(&self) -> &[Arc<Shard<K>>] {
        self.shards.get().map_or(&[], Vec::as_slice)
    }

    /// Reads the topic, if it is there, before somebody asks for it.
    pub async fn warm_up(&self, state: &Arc<BrokerState>) {
        if state.partitions.topic(K::TOPIC).is_some() {
            // Whoever asks next tries again, and hears of the error.
            let _ = self.all(state).await;
        }
    }

    /// All shards, in the order of the partitions.
    ///
    /// # Errors
    /// As [`Coordinators::shard`].
    pub async fn all(&self, state: &Arc<BrokerState>) -> Result<&[Arc<Shard<K>>], K::Error> {
        let shards = self.opened(state).await?;
        let until = Instant::now() + LOADING_PATIENCE;
        for shard in shards {
            shard.be_patient(until).await;
        }
        Ok(shards)
    }

    async fn opened(&self, state: &Arc<BrokerState>) -> Result<&[Arc<Shard<K>>], K::Error> {
        let opened = self
            .shards
            .get_or_try_init(|| async {
                let opening = state.clone();
                let opened = tokio::task::spawn_blocking(move || load::open::<K>(&opening)).await;
                let shards = opened.map_err(|_| K::UNAVAILABLE)?.map_err(|error| {
                    tracing::error!(topic = K::TOPIC, %error, "the topic of a coordinator cannot be used");
                    K::UNAVAILABLE
                })?;
                load::begin(state, &shards);
                tokio::spawn(time::keep::<K>(state.clone()));
                Ok(shards)
            })
            .await?;
        Ok(opened)
    }
}

impl<K: Kind> Shard<K> {
    /// Waits until the shard was read.
    pub async fn is_loaded(&self) {
        self.loaded.wait().await;
    }

    /// Waits until the shard was read, but not for long.
    async fn be_patient(&self, until: Instant) {
        if !self.loaded.initialized() {
            // Too long: the machine says what to tell whoever asks.
            let _ = timeout_at(until, self.loaded.wait()).await;
        }
    }

    /// The partition that holds the state.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Whether time has something to do here, or loading left something to do.
    fn is_due(&self, now_ms: i64) -> bool {
        let inner = self.inner.lock();
        let due_ms = inner.machine.next_deadline_ms();
        !inner.effects.is_empty() || due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Looks at the state.
    pub fn read<T>(&self, f: impl FnOnce(&K::Machine) -> T) -> T {
        f(&self.inner.lock().machine)
    }

    /// Runs a step whose answer comes at once.
    pub fn step<T>(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut K::Machine, i64, &mut Vec<Effect<K>>) -> T,
    ) -> T {
        let mut inner = self.inner.lock();
        let before_ms = inner.machine.next_deadline_ms();
        let mut effects = std::mem::take(&mut inner.effects);
        let result = f(&mut inner.machine, state.now_ms(), &mut effects);
        self.carry_out(state, &mut inner, effects);
        let after_ms = inner.machine.next_deadline_ms();
        drop(inner);
        if after_ms.is_some_and(|after| before_ms.is_none_or(|before| after < before)) {
            K::all_of(state).sooner.notify_one();
        }
        result
    }

    /// Runs a step whose answer comes later.
    ///
    /// # Errors
    /// [`Kind::UNAVAILABLE`] when the server stops first.
    pub async fn ask(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut K::Machine, i64, Token, &mut Vec<Effect<K>>),
    ) -> Result<Reply<K>, K::Error> {
        let answer = self.submit(state, f);
        tokio::select! {
            answer = answer => answer.map_err(|_| K::UNAVAILABLE),
            () = state.stopping.cancelled() => Err(K::UNAVAILABLE),
        }
    }

    /// As [`ask`](Self::ask), with the step taken when this returns: steps that are submitted one after
    /// the other are taken in that order.
    pub fn submit(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        f: impl FnOnce(&mut K::Machine, i64, Token, &mut Vec<Effect<K>>),
    ) -> oneshot::Receiver<Reply<K>> {
        let (caller, answer) = oneshot::channel();
        let token = {
            let mut inner = self.inner.lock();
            inner.next_token += 1;
            let token = inner.next_token;
            inner.callers.insert(token, caller);
            token
        };
        self.step(state, |machine, now_ms, effects| {
            f(machine, now_ms, token, effects);
        });
        answer
    }

    /// Does what the core asked for; what that leads to, too.
    fn carry_out(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        inner: &mut Inner<K>,
        mut effects: Vec<Effect<K>>,
    ) {
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                let action: Action<Reply<K>, Work<K>> = effect.into();
                match action {
                    Action::Reply { token, reply } => {
                        // A caller that went away needs no answer.
                        if let Some(caller) = inner.callers.remove(&token) {
                            let _ = caller.send(reply);
                        }
                    }
                    Action::Append { write, entry } => {
                        let written = self.write(state, &mut inner.machine, write, &entry);
                        if let Some(result) = written {
                            let now_ms = state.now_ms();
                            inner.machine.persisted(now_ms, write, result, &mut effects);
                        }
                    }
                    Action::Work(work) => K::work(state, self, work),
                }
            }
        }
    }

    /// Appends an entry. `None` when the write has still to be acknowledged: the core hears later.
    fn write(
        self: &Arc<Self>,
        state: &Arc<BrokerState>,
        machine: &mut K::Machine,
        write: WriteId,
        entry: &LogEntry,
    ) -> Option<Result<(), PersistError>> {
        // Somebody commits.
        state.compaction.client_served();
        let appended = append::entry(&self.partition, entry, state.now_ms());
        let (first_offset, acknowledged) = match appended {
            Ok(appended) => appended,
            Err(error) => return Some(Err(error)),
        };
        machine.appended(write, first_offset);
        if acknowledged.is_ready() {
            return Some(Ok(()));
        }
        let (shard, state) = (self.clone(), state.clone());
        tokio::spawn(async move {
            let result = acknowledged.await.map_err(|error| {
                tracing::error!(topic = K::TOPIC, partition = shard.partition.index, %error, "the state of a coordinator was not written");
                PersistError::Failed
            });
            shard.step(&state, |machine, now_ms, effects| {
                machine.persisted(now_ms, write, result, effects);
            });
        });
        None
    }
}
