//! ShareFetch (key 78): acknowledgements, then records of which the member becomes the holder.
//!
//! A fetch that finds nothing joins the waiting lists of its partitions' logs (something was appended)
//! and of its share-partitions (something was released), and is woken by either; nothing polls.
//! Records are not touched: they leave as ranges of files.

mod encode;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dlog_share::{AcquireMode, Acquired, FetchStep, SessionError, SessionKey};
use dlog_storage::SliceBytes;
use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::Context;
use super::share_acknowledge::{acknowledge, session_key};
use crate::net::reply::Outcome;
use crate::partitions::{HostedTopic, Partition, Waiting};
use crate::protocol::share::{ShareFetchRequest, share_fetch_request};
use crate::protocol::{ProtocolError, RawRequest};
use crate::share::{Look, Refusal, SharePart, Take, TopicPartition, limits};
use encode::Said;

/// Renewals are known from this version on.
const RENEWALS: i16 = 2;

/// No fetch waits longer than this, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A partition to fetch from.
struct Target {
    of: TopicPartition,
    found: Result<(Arc<HostedTopic>, Arc<Partition>), ResponseError>,
}

/// What was found in one partition.
struct Found {
    of: TopicPartition,
    error: Option<Refusal>,
    acquired: Vec<Acquired>,
    records: SliceBytes,
}

/// Answers ShareFetch.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let mut request = share_fetch_request(raw)?;
    let refuse = |refusal: Refusal| {
        let reply = encode::response(raw, Some(refusal), 0, &[]);
        reply.map(Outcome::Ready)
    };
    let key = match begin(&request, raw.version) {
        Ok(key) => key,
        Err(refusal) => return refuse(refusal),
    };
    let step = match session_step(ctx, &key, &request) {
        Ok(step) => step,
        Err(error) => {
            if error == SessionError::LimitReached {
                // The member would ask again at once.
                tokio::time::sleep(wait_of(&request)).await;
            }
            return refuse(error.into());
        }
    };
    let is_renewal = raw.version >= RENEWALS && request.is_renewal;
    let topics = std::mem::take(&mut request.topics);
    let acknowledged = acknowledge(ctx, &key, topics, is_renewal).await;
    let (found, must_tell) = match step {
        FetchStep::Final => {
            ctx.state.share.end_session(&ctx.state, &key);
            (Vec::new(), HashMap::new())
        }
        FetchStep::Fetch(_) if is_renewal => (Vec::new(), HashMap::new()),
        FetchStep::Fetch(partitions) => {
            let targets = partitions.iter().map(|(of, _)| Target::find(ctx, *of));
            let found = fetch(ctx, &key, &request, &targets.collect::<Vec<_>>()).await;
            (found, partitions.into_iter().collect())
        }
    };
    let said = say(ctx, &key, found, acknowledged, &must_tell);
    let lock_ms = i32::try_from(limits(&ctx.state, &key.group).lock_ms).unwrap_or(i32::MAX);
    let reply = encode::response(raw, None, lock_ms, &said)?;
    Ok(Outcome::Ready(reply))
}

/// Checks what does not need a session.
fn begin(request: &ShareFetchRequest, version: i16) -> Result<SessionKey, Refusal> {
    let key = session_key(request.group_id.as_ref(), request.member_id.as_ref())?;
    let fetches = request.max_bytes != 0
        || request.min_bytes != 0
        || request.max_records != 0
        || request.max_wait_ms != 0;
    if version >= RENEWALS && request.is_renewal && fetches {
        return Err(Refusal {
            error: ResponseError::InvalidRequest,
            message: Some(
                "maxBytes, minBytes, maxRecords and maxWaitMs must be set to 0 if isRenewAck is true.",
            ),
        });
    }
    Ok(key)
}

fn session_step(
    ctx: &Context,
    key: &SessionKey,
    request: &ShareFetchRequest,
) -> Result<FetchStep, SessionError> {
    let mut add = Vec::new();
    let mut acknowledges = false;
    for (topic, partitions) in &request.topics {
        for (index, batches) in partitions {
            add.push((*topic, *index));
            acknowledges |= !batches.is_empty();
        }
    }
    let forget: Vec<TopicPartition> = request
        .forgotten
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|index| (*topic, *index)))
        .collect();
    ctx.state.share.session_fetch(
        key,
        request.session_epoch,
        (&add, &forget),
        acknowledges,
        ctx.connection.id,
    )
}

fn wait_of(request: &ShareFetchRequest) -> Duration {
    Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT)
}

impl Target {
    fn find(ctx: &Context, of: TopicPartition) -> Self {
        let topic = ctx.state.partitions.topic_by_id(of.0);
        let found = topic
            .ok_or(ResponseError::UnknownTopicId)
            .and_then(|topic| {
                let partition = topic.partition(of.1).cloned();
                let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
                Ok((topic, partition))
            });
        Self { of, found }
    }
}

/// Fetches until there is something, or the time is up.
async fn fetch(
    ctx: &Context,
    key: &SessionKey,
    request: &ShareFetchRequest,
    targets: &[Target],
) -> Vec<Found> {
    if targets.is_empty() || request.max_records <= 0 || request.max_bytes <= 0 {
        // Nothing is taken; what is wrong with a partition is told still.
        let wrong = targets.iter().filter_map(|target| {
            let error = target.found.as_ref().err()?;
            Some(Found::refused(target.of, Refusal::from(*error)))
        });
        return wrong.collect();
    }
    let deadline = Instant::now() + wait_of(request);
    let waiting = Waiting::default();
    loop {
        let is_late = Instant::now() >= deadline;
        let (found, again) = look(ctx, key, request, targets, &waiting, is_late).await;
        if again {
            tokio::task::yield_now().await;
            continue;
        }
        if is_late
            || found
                .iter()
                .any(|f| f.error.is_some() || !f.acquired.is_empty())
        {
            return found;
        }
        // Whether woken or late: the last look is after it.
        drop(tokio::time::timeout_at(deadline, waiting.changed()).await);
    }
}

/// One look at all partitions; whether another one is due at once.
async fn look(
    ctx: &Context,
    key: &SessionKey,
    request: &ShareFetchRequest,
    targets: &[Target],
    waiting: &Waiting,
    is_late: bool,
) -> (Vec<Found>, bool) {
    let mut found = Vec::with_capacity(targets.len());
    let mut parts = Vec::with_capacity(targets.len());
    for target in targets {
        match part_of(ctx, key, target).await {
            Ok(part) => {
                // First join, then look: what changes in between wakes.
                waiting.join(part.partition());
                waiting.join_list(part.waiters());
                parts.push((target.of, part));
            }
            Err(refusal) => found.push(Found::refused(target.of, refusal)),
        }
    }
    let is_urgent = is_late || !found.is_empty();
    let (state, member) = (ctx.state.clone(), key.member.clone());
    let asked = Asked::new(ctx, key, request);
    let is_far = parts.iter().any(|(_, part)| part.is_far_behind(&state));
    let work = move || asked.take_from(&state, &member, &parts, is_urgent);
    let (taken, again) = if is_far {
        ctx.blocking(move |_| work()).await
    } else {
        work()
    };
    let is_empty = taken
        .iter()
        .all(|f| f.acquired.is_empty() && f.error.is_none());
    found.extend(taken);
    (found, again && is_empty && !is_urgent)
}

async fn part_of(
    ctx: &Context,
    key: &SessionKey,
    target: &Target,
) -> Result<Arc<SharePart>, Refusal> {
    let (_, partition) = target
        .found
        .as_ref()
        .map_err(|error| Refusal::from(*error))?;
    ctx.state
        .share
        .part(&ctx.state, &key.group, partition)
        .await
}

/// What a request asks for in all.
struct Asked {
    mode: AcquireMode,
    max_records: i64,
    batch_size: i64,
    max_bytes: usize,
    min_bytes: usize,
    committed_only: bool,
}

impl Asked {
    fn new(ctx: &Context, key: &SessionKey, request: &ShareFetchRequest) -> Self {
        let image = ctx.state.image();
        let config = ctx.state.group_config(&image, &key.group);
        let isolation = config.text("share.isolation.level");
        let most = ctx.state.config.fetch_max_bytes as usize;
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(most);
        Self {
            mode: if request.acquire_mode == 1 {
                AcquireMode::RecordLimit
            } else {
                AcquireMode::BatchOptimized
            },
            max_records: i64::from(request.max_records),
            batch_size: i64::from(request.batch_size),
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes)
                .unwrap_or(0)
                .min(max_bytes),
            committed_only: isolation.eq_ignore_ascii_case("read_committed"),
        }
    }

    /// Acquires from one after the other. Nothing is acquired while fewer bytes are there than were
    /// asked for and there is time left.
    fn take_from(
        &self,
        state: &Arc<crate::state::BrokerState>,
        member: &Arc<str>,
        parts: &[(TopicPartition, Arc<SharePart>)],
        is_urgent: bool,
    ) -> (Vec<Found>, bool) {
        let mut take = Take {
            member: member.clone(),
            mode: self.mode,
            max_records: self.max_records,
            batch_size: self.batch_size,
            max_bytes: self.max_bytes,
            committed_only: self.committed_only,
        };
        if !is_urgent && self.min_bytes > 1 {
            let readable = parts
                .iter()
                .map(|(_, part)| part.readable_bytes(state, &take));
            // A partition that cannot be read is told of at once.
            let readable = readable.map(|bytes| bytes.unwrap_or(usize::MAX));
            if readable.fold(0_usize, usize::saturating_add) < self.min_bytes {
                return (Vec::new(), false);
            }
        }
        let mut found = Vec::with_capacity(parts.len());
        let mut again = false;
        for (of, part) in parts {
            if take.max_records <= 0 || take.max_bytes == 0 {
                break;
            }
            match part.take(state, &take) {
                Ok(Look::Taken(taken)) => {
                    let count = taken
                        .acquired
                        .iter()
                        .map(|range| range.last - range.first + 1);
                    take.max_records -= count.sum::<i64>();
                    let bytes = len_of(&taken.records);
                    take.max_bytes = take.max_bytes.saturating_sub(bytes);
                    found.push(Found {
                        of: *of,
                        error: None,
                        acquired: taken.acquired,
                        records: taken.records,
                    });
                }
                Ok(Look::Nothing) => {}
                Ok(Look::Again) => again = true,
                Err(refusal) => found.push(Found::refused(*of, refusal)),
            }
        }
        (found, again)
    }
}

fn len_of(records: &SliceBytes) -> usize {
    match records {
        SliceBytes::Empty => 0,
        SliceBytes::File { len, .. } => *len,
        SliceBytes::Memory(bytes) => bytes.len(),
    }
}

impl Found {
    fn refused(of: TopicPartition, refusal: Refusal) -> Self {
        Self {
            of,
            error: Some(refusal),
            acquired: Vec::new(),
            records: SliceBytes::Empty,
        }
    }
}

/// What the member must hear, by topic: what it got, what went wrong, and of partitions that are new
/// to its session.
fn say(
    ctx: &Context,
    key: &SessionKey,
    found: Vec<Found>,
    acknowledged: Vec<(TopicPartition, Option<Refusal>)>,
    must_tell: &HashMap<TopicPartition, bool>,
) -> Vec<Said> {
    let mut said: HashMap<TopicPartition, Said> = HashMap::new();
    let empty = |of: TopicPartition| Said {
        topic: of.0,
        index: of.1,
        error: None,
        acknowledge_error: None,
        acquired: Vec::new(),
        records: SliceBytes::Empty,
    };
    for (&of, _) in must_tell.iter().filter(|(_, must_tell)| **must_tell) {
        said.insert(of, empty(of));
    }
    for found in found {
        let bytes = len_of(&found.records);
        if bytes > 0 {
            ctx.state.compaction.client_served();
        }
        if let Some(topic) = ctx.state.partitions.topic_by_id(found.of.0) {
            topic.metrics.bytes_out.inc_by(bytes as u64);
        }
        let one = said.entry(found.of).or_insert_with(|| empty(found.of));
        one.error = found.error;
        one.acquired = found.acquired;
        one.records = found.records;
    }
    let told = said.iter().map(|(of, said)| (*of, said.error.is_some()));
    ctx.state.share.told(key, told);
    for (of, refusal) in acknowledged {
        said.entry(of)
            .or_insert_with(|| empty(of))
            .acknowledge_error = refusal;
    }
    let mut said: Vec<Said> = said.into_values().collect();
    said.sort_by_key(|said| (said.topic, said.index));
    said
}
