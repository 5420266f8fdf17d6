//! Heartbeat (key 12): a member's sign of life. Where the client goes on meanwhile, the answer waits for the next
//! rebalance, so that members hear of one when it begins.

use std::sync::Arc;
use std::time::Duration;

use dlog_groups::{GroupError, Heartbeat, Reply, Token};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Context;
use crate::groups::Shard;
use crate::net::Next;
use crate::net::reply::{self, Outcome};
use crate::protocol::{ProtocolError, RawRequest};
use crate::state::BrokerState;

/// Clients (KIP-511) that go on while a heartbeat is under way: they do their other work, and what they send next
/// ends the waiting. Others may wait for the answer before they do anything else. Those on librdkafka call
/// themselves by the name of the binding.
const GO_ON: [&str; 5] = [
    "apache-kafka-java",
    "librdkafka",
    "confluent-kafka-",
    "rust-rdkafka",
    "dlog",
];

/// Answers Heartbeat.
///
/// # Errors
/// When the connection must be closed because the peer breaks the protocol.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let beat = beat_of(raw.decode()?);
    let ready = |result| Ok(Outcome::Ready(raw.reply(&response(result))?));
    let shard = match crate::groups::shard_of(&ctx.state, &beat.group_id).await {
        Ok(shard) => shard,
        Err(error) => return ready(Err(error)),
    };
    if !ctx.connection.is_of(&GO_ON) {
        return ready(shard.step(&ctx.state, |groups, now_ms, _| {
            groups.heartbeat(now_ms, &beat)
        }));
    }
    let mut held = None;
    let answer = shard.submit(&ctx.state, |groups, now_ms, token, effects| {
        let patience_ms = groups.hold_heartbeat(now_ms, &beat, token, effects);
        held = patience_ms.map(|ms| (token, Duration::from_millis(ms.unsigned_abs().into())));
    });
    let Some((token, patience)) = held else {
        return ready(taken(answer.await));
    };
    let until = Instant::now() + patience;
    let held = Arc::new(Held {
        state: ctx.state.clone(),
        shard,
        beat,
        token,
    });
    let waiting = held.clone();
    // Before the client's own LeaveGroup or JoinGroup is heard: all was well when it sent the heartbeat.
    ctx.connection
        .before_next(move |next| waiting.release(next));
    let raw = raw.without_body();
    Ok(Outcome::Pending(Box::pin(async move {
        let response = response(held.answer(answer, until).await);
        raw.reply(&response).unwrap_or_else(|error| {
            tracing::error!(%error, "the answer to a heartbeat was lost");
            reply::Reply::default()
        })
    })))
}

/// A heartbeat whose answer waits.
struct Held {
    state: Arc<BrokerState>,
    shard: Arc<Shard>,
    beat: Heartbeat,
    token: Token,
}

impl Held {
    /// That of a rebalance, or that all is well when the client wants to go on, or time is over.
    async fn answer(
        &self,
        mut answer: oneshot::Receiver<Reply>,
        until: Instant,
    ) -> Result<(), GroupError> {
        match timeout_at(until, &mut answer).await {
            Ok(answer) => taken(answer),
            Err(_) => {
                self.release(Next::Request);
                taken(answer.await)
            }
        }
    }

    /// Answers, unless that was done. A client that gives up its connection meanwhile has no patience (for the Java
    /// client, a `request.timeout.ms` that is shorter than ours): it is not tried again.
    fn release(&self, next: Next) {
        let is_patient = next == Next::Request;
        self.shard.step(&self.state, |groups, now_ms, effects| {
            groups.release_heartbeat(now_ms, &self.beat, self.token, is_patient, effects);
        });
    }
}

/// What the coordinator said; it says nothing when the server stops.
fn taken<E>(answer: Result<Reply, E>) -> Result<(), GroupError> {
    match answer.map_err(|_| GroupError::CoordinatorNotAvailable)? {
        Reply::Heartbeat(answer) => answer,
        _ => Err(GroupError::UnknownServerError),
    }
}

fn beat_of(request: HeartbeatRequest) -> Heartbeat {
    Heartbeat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        generation_id: request.generation_id,
    }
}

fn response(result: Result<(), GroupError>) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(result.err().map_or(0, GroupError::code))
}
