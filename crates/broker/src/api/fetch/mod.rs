//! Fetch (key 1): file ranges of the logs, at once or when enough is there.
//!
//! A fetch that must wait joins the waiting list of each of its partitions and is woken by the next
//! acknowledged append to any of them; nothing polls. The last stable offset moves only with these, or with
//! the log start, which wakes too. `session` keeps incremental fetches (KIP-227),
//! `read` evaluates, `encode` writes the response without touching record bytes.

mod encode;
mod read;
mod session;

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use tokio::time::Instant;
use uuid::Uuid;

use super::Context;
use crate::net::reply::Outcome;
use crate::partitions::Waiting;
use crate::protocol::{ProtocolError, RawRequest};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use read::{Evaluation, Limits, Target};
pub use session::FetchSessions;

/// Versions from this one on name topics by id.
const TOPIC_IDS: i16 = 13;

/// The isolation level of who wants nothing of transactions that are open or aborted (KIP-98).
const READ_COMMITTED: i8 = 1;

/// No fetch waits longer than this, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How a client names a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Name(TopicName),
    Id(Uuid),
}

impl TopicKey {
    /// The name is copied: as a slice it would keep the whole receive buffer with the session.
    fn new(version: i16, id: Uuid, name: &TopicName) -> Self {
        if version >= TOPIC_IDS {
            Self::Id(id)
        } else {
            Self::Name(TopicName(StrBytes::from_string(name.to_string())))
        }
    }
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    topic: TopicKey,
    index: i32,
    current_leader_epoch: i32,
    last_fetched_epoch: i32,
    offset: i64,
    max_bytes: usize,
}

/// Answers Fetch.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let mut request: FetchRequest = raw.decode()?;
    let wanted = take_wanted(&mut request, raw.version);
    let forgotten = take_forgotten(&mut request, raw.version);
    let sessions = &ctx.state.fetch_sessions;
    let by_id = raw.version >= TOPIC_IDS;
    let (id, epoch) = (request.session_id, request.session_epoch);
    let plan = match sessions.plan(id, epoch, by_id, wanted, &forgotten, ctx.state.now_ms()) {
        Ok(plan) => plan,
        Err(error) => return Ok(Outcome::Ready(encode::error(raw, error)?)),
    };
    let targets = plan
        .wanted()
        .iter()
        .map(|wanted| Target::find(&ctx.state.partitions, wanted))
        .collect();
    let evaluation = evaluate(&request, raw.version, ctx, targets).await;
    let answer = sessions.settle(plan, evaluation, ctx.state.now_ms());
    for result in &answer.results {
        result.count();
    }
    if answer.results.iter().any(|result| result.len() > 0) {
        ctx.state.compaction.client_served();
    }
    Ok(Outcome::Ready(encode::response(
        raw,
        answer.session_id,
        &answer.results,
    )?))
}

async fn evaluate(
    request: &FetchRequest,
    version: i16,
    ctx: &Context,
    targets: Vec<Target>,
) -> Evaluation {
    let most = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(ctx.state.config.fetch_max_bytes as usize);
    let limits = Limits {
        max_bytes: most,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(most),
        committed_only: request.isolation_level == READ_COMMITTED,
    };
    let replica = if version >= 15 {
        request.replica_state.replica_id.0
    } else {
        request.replica_id.0
    };
    if replica >= 0 {
        // There is no other replica in a cluster of one.
        return Evaluation::refuse(targets, ResponseError::NotLeaderOrFollower);
    }
    let (mut evaluation, targets) = first_look(ctx, targets, limits).await;
    let wait =
        Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
    if evaluation.is_enough(limits) || wait.is_zero() {
        return evaluation;
    }
    let deadline = Instant::now() + wait;
    let waiting = Waiting::default();
    loop {
        // First join, then look: an append in between wakes.
        for target in &targets {
            if let Some(partition) = target.partition() {
                waiting.join(partition);
            }
        }
        evaluation = Evaluation::of(&targets, limits);
        if evaluation.is_enough(limits) {
            return evaluation;
        }
        if tokio::time::timeout_at(deadline, waiting.changed())
            .await
            .is_err()
        {
            return Evaluation::of(&targets, limits);
        }
    }
}

/// Finding the place of an old offset may read an index and a batch header from the disk; near the end
/// both are in memory.
async fn first_look(
    ctx: &Context,
    targets: Vec<Target>,
    limits: Limits,
) -> (Evaluation, Vec<Target>) {
    let is_far = targets.iter().any(|target| target.is_far_behind());
    let look = move || (Evaluation::of(&targets, limits), targets);
    if is_far {
        ctx.blocking(move |_| look()).await
    } else {
        look()
    }
}

fn take_wanted(request: &mut FetchRequest, version: i16) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for topic in std::mem::take(&mut request.topics) {
        let key = TopicKey::new(version, topic.topic_id, &topic.topic);
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: key.clone(),
            index: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            offset: partition.fetch_offset,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        }));
    }
    wanted
}

fn take_forgotten(request: &mut FetchRequest, version: i16) -> Vec<(TopicKey, i32)> {
    let mut forgotten = Vec::new();
    for topic in std::mem::take(&mut request.forgotten_topics_data) {
        let key = TopicKey::new(version, topic.topic_id, &topic.topic);
        forgotten.extend(topic.partitions.iter().map(|&index| (key.clone(), index)));
    }
    forgotten
}
