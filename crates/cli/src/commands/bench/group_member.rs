//! Members of the groups that `dlog bench group` measures: they follow the protocol and read nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use dlog_client::{ClientError, Connection};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::group::{Board, View};

const PROTOCOL: StrBytes = StrBytes::from_static_str("range");
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");
/// How long a rebalance may take, in ms.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// Waiting for the others in JoinGroup and SyncGroup takes no longer.
const JOIN_PATIENCE: Duration = Duration::from_millis(90_000);
/// Before a request is sent again that the coordinator could not answer yet.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The group and its topic.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub group: String,
    pub topic: String,
    pub topic_id: Uuid,
    pub partitions: usize,
}

impl Place {
    fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.group.clone()))
    }

    fn topic_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.topic.clone()))
    }

    /// Kafka's subscription, version 0: version, topics, no user data.
    fn subscription(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(0);
        out.put_i32(1);
        put_text(&mut out, &self.topic);
        out.put_i32(-1);
        out.freeze()
    }

    /// Kafka's assignment, version 0: version, topic with partitions, no user data.
    fn assignment(&self, partitions: impl ExactSizeIterator<Item = i32>) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(0);
        out.put_i32(1);
        put_text(&mut out, &self.topic);
        out.put_i32(partitions.len() as i32);
        partitions.for_each(|partition| out.put_i32(partition));
        out.put_i32(-1);
        out.freeze()
    }

    /// The partitions of an assignment that [`Self::assignment`] wrote.
    fn assigned(&self, mut bytes: Bytes) -> Option<Vec<i32>> {
        // Version, one topic, the name's length.
        bytes.try_get_i16().ok()?;
        bytes.try_get_i32().ok()?;
        let name = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        bytes = bytes.get(name..).map(|rest| bytes.slice_ref(rest))?;
        let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
        let fits = bytes.len() / 4 >= count;
        fits.then(|| {
            (0..count)
                .filter_map(|_| bytes.try_get_i32().ok())
                .collect()
        })
    }
}

/// Names of topics are at most 249 bytes.
fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// Sleeps, unless the member is told to leave first.
async fn told_to_leave(leaving: &mut watch::Receiver<bool>, until: Instant) -> bool {
    let told = must_leave(leaving);
    tokio::time::timeout_at(until, told).await.is_ok()
}

/// Waits until the member is told to leave.
async fn must_leave(leaving: &mut watch::Receiver<bool>) {
    if leaving.wait_for(|leave| *leave).await.is_err() {
        // Nobody can tell it any more: the run is over.
        std::future::pending::<()>().await;
    }
}

/// A member of the classic protocol.
pub(super) struct ClassicMember {
    place: Place,
    connection: Arc<Connection>,
    session_ms: i32,
    number: u64,
    board: Arc<Board>,
    id: StrBytes,
    generation: i32,
}

impl ClassicMember {
    pub(super) fn new(
        place: Place,
        connection: Arc<Connection>,
        session_ms: i32,
        number: u64,
        board: Arc<Board>,
    ) -> Self {
        Self {
            place,
            connection,
            session_ms,
            number,
            board,
            id: StrBytes::default(),
            generation: -1,
        }
    }

    /// Is a member until it is told to leave.
    pub(super) async fn run(
        mut self,
        heartbeat: Duration,
        mut leaving: watch::Receiver<bool>,
    ) -> Result<()> {
        self.rebalance().await?;
        let mut due = Instant::now() + heartbeat;
        while !told_to_leave(&mut leaving, due).await {
            due = Instant::now() + heartbeat;
            self.board.beats(self.number);
            // The broker may keep the answer until there is something to say.
            let is_stable = tokio::select! {
                biased;
                () = must_leave(&mut leaving) => break,
                is_stable = self.heartbeat() => is_stable?,
                () = tokio::time::sleep_until(due) => true,
            };
            if !is_stable {
                self.rebalance().await?;
                due = Instant::now() + heartbeat;
            }
        }
        let member = MemberIdentity::default().with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default()
            .with_group_id(self.place.group_id())
            .with_members(vec![member]);
        self.connection.call(&request, 4).await?;
        Ok(())
    }

    /// Joins and syncs until one generation lasts.
    async fn rebalance(&mut self) -> Result<()> {
        loop {
            self.board.joins();
            let joined = self.join().await?;
            let Some(partitions) = self.sync(&joined).await? else {
                continue;
            };
            let epoch = self.generation;
            self.board.put(self.number, View { epoch, partitions });
            return Ok(());
        }
    }

    async fn join(&mut self) -> Result<JoinGroupResponse> {
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(PROTOCOL)
                .with_metadata(self.place.subscription());
            let request = JoinGroupRequest::default()
                .with_group_id(self.place.group_id())
                .with_session_timeout_ms(self.session_ms)
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_member_id(self.id.clone())
                .with_protocol_type(PROTOCOL_TYPE)
                .with_protocols(vec![protocol]);
            let call = self.connection.call_within(&request, 7, JOIN_PATIENCE);
            let answer = call.await?;
            match ClientError::check(answer.error_code, || "join".to_owned(), None) {
                Ok(()) => {
                    self.id = answer.member_id.clone();
                    self.generation = answer.generation_id;
                    return Ok(answer);
                }
                Err(error) => match error.response_error() {
                    Some(ResponseError::MemberIdRequired) => self.id = answer.member_id,
                    _ if error.is_retriable() => {}
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// What this member got; nothing when the group has moved on meanwhile.
    async fn sync(&self, joined: &JoinGroupResponse) -> Result<Option<Vec<i32>>> {
        let count = joined.members.len();
        let of = |index: usize| {
            let (first, last) = (
                index * self.place.partitions / count,
                (index + 1) * self.place.partitions / count,
            );
            self.place
                .assignment((first..last).map(|partition| partition as i32))
        };
        // Only the leader is told who the members are.
        let assignments = joined.members.iter().enumerate().map(|(index, member)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(of(index))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(self.place.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_protocol_type(Some(PROTOCOL_TYPE))
            .with_protocol_name(Some(PROTOCOL))
            .with_assignments(assignments.collect());
        let call = self.connection.call_within(&request, 5, JOIN_PATIENCE);
        let answer = call.await?;
        match ClientError::check(answer.error_code, || "sync".to_owned(), None) {
            Ok(()) => {
                let assigned = self.place.assigned(answer.assignment);
                Ok(Some(assigned.context("an assignment cannot be read")?))
            }
            Err(error) => match error.response_error() {
                Some(ResponseError::RebalanceInProgress) => Ok(None),
                _ => Err(error.into()),
            },
        }
    }

    /// Whether the generation lasts.
    async fn heartbeat(&self) -> Result<bool> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.place.group_id())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer = self.connection.call(&request, 4).await?;
        match ClientError::check(answer.error_code, || "heartbeat".to_owned(), None) {
            Ok(()) => Ok(true),
            Err(error) => match error.response_error() {
                Some(ResponseError::RebalanceInProgress) => Ok(false),
                _ => Err(error.into()),
            },
        }
    }
}

/// A member of the consumer protocol (KIP-848).
pub(super) struct ConsumerMember {
    place: Place,
    connection: Arc<Connection>,
    number: u64,
    board: Arc<Board>,
    id: StrBytes,
    epoch: i32,
    owned: Vec<i32>,
}

/// The member epoch that says goodbye.
const LEAVE: i32 = -1;

impl ConsumerMember {
    pub(super) fn new(
        place: Place,
        connection: Arc<Connection>,
        number: u64,
        board: Arc<Board>,
    ) -> Self {
        Self {
            place,
            connection,
            number,
            board,
            id: StrBytes::from_string(Uuid::new_v4().to_string()),
            epoch: 0,
            owned: Vec::new(),
        }
    }

    /// Is a member until it is told to leave.
    pub(super) async fn run(
        mut self,
        heartbeat: Duration,
        mut leaving: watch::Receiver<bool>,
    ) -> Result<()> {
        let mut changed = self.heartbeat(true).await?;
        loop {
            // What it was given or had to give up is confirmed at once, as real members do.
            while changed {
                changed = self.heartbeat(true).await?;
            }
            if told_to_leave(&mut leaving, Instant::now() + heartbeat).await {
                break;
            }
            self.board.beats(self.number);
            changed = self.heartbeat(false).await?;
        }
        self.epoch = LEAVE;
        let request = self.request();
        self.connection.call(&request, 1).await?;
        Ok(())
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.place.group_id())
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1)
            .with_topic_partitions(None)
    }

    /// One heartbeat, with what it owns when `full`; whether its partitions changed.
    async fn heartbeat(&mut self, full: bool) -> Result<bool> {
        let mut request = self.request();
        if self.epoch == 0 {
            request = request
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_subscribed_topic_names(Some(vec![self.place.topic_name()]));
        }
        if full {
            let owned = TopicPartitions::default()
                .with_topic_id(self.place.topic_id)
                .with_partitions(self.owned.clone());
            let none = self.owned.is_empty();
            request = request.with_topic_partitions(Some(if none { vec![] } else { vec![owned] }));
        }
        let answer = loop {
            let answer = self.connection.call(&request, 1).await?;
            let text = answer.error_message.as_deref();
            match ClientError::check(answer.error_code, || "heartbeat".to_owned(), text) {
                Ok(()) => break answer,
                // The coordinator may still be starting.
                Err(error) if error.is_retriable() => tokio::time::sleep(AGAIN_AFTER).await,
                Err(error) => return Err(error.into()),
            }
        };
        let before = self.owned.clone();
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics.flat_map(|topic| topic.partitions).collect();
            self.owned.sort_unstable();
        }
        let view = View {
            epoch: self.epoch,
            partitions: self.owned.clone(),
        };
        self.board.put(self.number, view);
        Ok(self.owned != before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let place = Place {
            group: "g".to_owned(),
            topic: "orders".to_owned(),
            topic_id: Uuid::nil(),
            partitions: 9,
        };
        let bytes = place.assignment((3..6).collect::<Vec<_>>().into_iter());
        assert_eq!(place.assigned(bytes.clone()), Some(vec![3, 4, 5]));
        for len in 0..bytes.len() - 4 {
            assert_eq!(place.assigned(bytes.slice(..len)), None, "cut at {len}");
        }
    }
}
