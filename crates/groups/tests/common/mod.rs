//! A shell for tests: it keeps the time, the log and the answers.
#![allow(dead_code, reason = "every test file uses another part of it")]

pub mod consumer;
pub mod share;

use std::collections::BTreeMap;

use bytes::Bytes;
use dlog_groups::{
    CommitPartition, CommitTopic, Effect, GroupConfig, GroupCoordinator, GroupError, GroupRecord,
    GroupState, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, LeavingMember, LeftMember,
    OffsetCommit, OffsetDelete, PersistError, Protocol, Reply, SyncGroup, Synced, Token, WriteId,
};
use uuid::Uuid;

pub const GROUP: &str = "g";

/// Kafka's defaults, but rebalances of empty groups begin at once.
pub fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub struct Shell {
    pub coordinator: GroupCoordinator,
    pub now_ms: i64,
    /// What was durable at the start, in order.
    base: Vec<GroupRecord>,
    /// What became durable since; the log has it in the order of the writes.
    durable: BTreeMap<WriteId, Vec<GroupRecord>>,
    /// Whether the last write of the group's own record failed.
    pub group_write_failed: bool,
    latest_group_write: Option<WriteId>,
    /// Writes that nobody has reported yet.
    pub open_writes: BTreeMap<WriteId, Vec<GroupRecord>>,
    /// Report every write as durable at once.
    pub auto_persist: bool,
    replies: BTreeMap<Token, Reply>,
    pub last_token: Token,
    uuids: u128,
}

impl Shell {
    /// With an empty log, loaded.
    pub fn new(config: GroupConfig) -> Self {
        Self::on_log(config, Vec::new(), 1_000_000)
    }

    /// After a restart: with the state that the log gives.
    pub fn on_log(config: GroupConfig, log: Vec<GroupRecord>, now_ms: i64) -> Self {
        let mut shell = Self {
            coordinator: GroupCoordinator::new(config),
            now_ms,
            base: log,
            durable: BTreeMap::new(),
            group_write_failed: false,
            latest_group_write: None,
            open_writes: BTreeMap::new(),
            auto_persist: true,
            replies: BTreeMap::new(),
            last_token: 0,
            uuids: 0,
        };
        for record in &shell.base {
            shell
                .coordinator
                .apply_record(&record.key, record.value.as_deref())
                .unwrap();
        }
        shell.step(|coordinator, now_ms, out| coordinator.finish_loading(now_ms, out));
        shell
    }

    pub fn step<R>(
        &mut self,
        take: impl FnOnce(&mut GroupCoordinator, i64, &mut Vec<Effect>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let result = take(&mut self.coordinator, self.now_ms, &mut out);
        self.carry_out(out);
        result
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, reply } => {
                    assert!(
                        token <= self.last_token,
                        "a reply to {token}, which nobody asked"
                    );
                    let twice = self.replies.insert(token, reply);
                    assert!(twice.is_none(), "two replies to {token}");
                }
                Effect::PersistInTransaction { .. } | Effect::PersistMarker { .. } => {
                    panic!("nobody here speaks of transactions")
                }
                Effect::Persist { write, records } => {
                    assert!(
                        self.open_writes.keys().all(|open| *open < write),
                        "writes ascend"
                    );
                    self.open_writes.insert(write, records);
                    if self.auto_persist {
                        self.persist(write, Ok(()));
                    }
                }
            }
        }
    }

    /// What a restart would find.
    pub fn log(&self) -> Vec<GroupRecord> {
        self.base
            .iter()
            .chain(self.durable.values().flatten())
            .cloned()
            .collect()
    }

    /// Ends a write.
    pub fn persist(&mut self, write: WriteId, result: Result<(), PersistError>) {
        let records = self.open_writes.remove(&write).unwrap();
        let of_group = records.iter().any(|record| record.key.starts_with(&[0, 2]));
        if of_group && self.latest_group_write.is_none_or(|latest| latest < write) {
            self.latest_group_write = Some(write);
            self.group_write_failed = result.is_err();
        }
        if result.is_ok() {
            self.durable.insert(write, records);
        }
        self.step(|coordinator, now_ms, out| coordinator.persisted(now_ms, write, result, out));
    }

    pub fn only_write(&self) -> WriteId {
        assert_eq!(self.open_writes.len(), 1, "{:?}", self.open_writes);
        *self.open_writes.keys().next().unwrap()
    }

    /// Lets time pass, ticking at every deadline.
    pub fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        let mut ticks = 0;
        while let Some(deadline_ms) = self.coordinator.next_deadline_ms().filter(|d| *d <= end_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            self.step(|coordinator, now_ms, out| coordinator.tick(now_ms, out));
            ticks += 1;
            assert!(ticks < 1_000_000, "the deadlines do not advance");
        }
        self.now_ms = end_ms;
    }

    pub fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    pub fn uuid(&mut self) -> Uuid {
        self.uuids += 1;
        Uuid::from_u128(self.uuids)
    }

    /// Goes on where another shell stopped, so that no member id comes twice.
    pub fn skip_uuids_to(&mut self, last: Uuid) {
        self.uuids = last.as_u128();
    }

    pub fn take_reply(&mut self, token: Token) -> Option<Reply> {
        self.replies.remove(&token)
    }

    pub fn take_replies(&mut self) -> BTreeMap<Token, Reply> {
        std::mem::take(&mut self.replies)
    }

    pub fn has_reply(&self, token: Token) -> bool {
        self.replies.contains_key(&token)
    }

    pub fn state(&self) -> Option<GroupState> {
        self.coordinator
            .describe_group(GROUP)
            .ok()
            .map(|group| group.state)
    }

    pub fn send_join(&mut self, mut request: JoinGroup) -> Token {
        let token = self.token();
        request.member_uuid = self.uuid();
        self.step(|coordinator, now_ms, out| coordinator.join_group(now_ms, request, token, out));
        token
    }

    pub fn join_reply(&mut self, token: Token) -> Result<Joined, JoinRefused> {
        match self.take_reply(token) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("no answer to the join: {other:?}"),
        }
    }

    /// A join that is answered at once.
    pub fn join(&mut self, request: JoinGroup) -> Result<Joined, JoinRefused> {
        let token = self.send_join(request);
        self.join_reply(token)
    }

    pub fn send_sync(&mut self, request: SyncGroup) -> Token {
        let token = self.token();
        self.step(|coordinator, now_ms, out| coordinator.sync_group(now_ms, request, token, out));
        token
    }

    pub fn sync_reply(&mut self, token: Token) -> Result<Synced, GroupError> {
        match self.take_reply(token) {
            Some(Reply::Sync(reply)) => reply,
            other => panic!("no answer to the sync: {other:?}"),
        }
    }

    pub fn sync(&mut self, request: SyncGroup) -> Result<Synced, GroupError> {
        let token = self.send_sync(request);
        self.sync_reply(token)
    }

    pub fn beat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.coordinator
            .heartbeat(self.now_ms, &heartbeat(member, generation))
    }

    /// A heartbeat whose answer may wait, and for how long, in ms.
    pub fn send_heartbeat(&mut self, member: &str, generation: i32) -> (Token, Option<i32>) {
        let token = self.token();
        let request = heartbeat(member, generation);
        let patience_ms = self.step(|coordinator, now_ms, out| {
            coordinator.hold_heartbeat(now_ms, &request, token, out)
        });
        (token, patience_ms)
    }

    /// A heartbeat waited long enough.
    pub fn release_heartbeat(&mut self, member: &str, token: Token) {
        self.end_heartbeat(member, token, true);
    }

    pub fn end_heartbeat(&mut self, member: &str, token: Token, is_patient: bool) {
        let request = heartbeat(member, -1);
        self.step(|coordinator, now_ms, out| {
            coordinator.release_heartbeat(now_ms, &request, token, is_patient, out);
        });
    }

    pub fn leave(&mut self, members: Vec<LeavingMember>) -> Result<Vec<LeftMember>, GroupError> {
        let request = LeaveGroup {
            group_id: GROUP.to_owned(),
            members,
        };
        self.step(|coordinator, now_ms, out| coordinator.leave_group(now_ms, request, out))
    }

    pub fn leave_by_id(&mut self, member: &str) -> Option<GroupError> {
        self.leave(vec![leaving(member, None)])
            .unwrap()
            .remove(0)
            .error
    }

    pub fn send_commit(&mut self, request: &OffsetCommit) -> Token {
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.commit_offsets(now_ms, request, token, out);
        });
        token
    }

    /// The outcome of the first partition.
    pub fn commit_reply(&mut self, token: Token) -> Option<GroupError> {
        match self.take_reply(token) {
            Some(Reply::OffsetCommit(results)) => results[0].partitions[0].1,
            other => panic!("no answer to the commit: {other:?}"),
        }
    }

    pub fn commit(&mut self, request: &OffsetCommit) -> Option<GroupError> {
        let token = self.send_commit(request);
        self.commit_reply(token)
    }

    pub fn offset(&self, topic: &str, partition: i32) -> i64 {
        let topics = [(topic.to_owned(), vec![partition])];
        self.coordinator
            .fetch_offsets(GROUP, Some(&topics))
            .unwrap()[0]
            .offset
    }

    pub fn delete_group(&mut self) -> Result<(), GroupError> {
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.delete_group(now_ms, GROUP, token, out);
        });
        match self.take_reply(token) {
            Some(Reply::DeleteGroup(reply)) => reply,
            other => panic!("no answer to the deletion: {other:?}"),
        }
    }

    /// The outcome of the one partition.
    pub fn delete_offset(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Result<Option<GroupError>, GroupError> {
        let token = self.token();
        let topics = vec![(topic.to_owned(), vec![partition])];
        let request = OffsetDelete {
            group_id: GROUP.to_owned(),
            topics,
        };
        self.step(|coordinator, now_ms, out| {
            coordinator.delete_offsets(now_ms, &request, token, out);
        });
        match self.take_reply(token) {
            Some(Reply::OffsetDelete(reply)) => reply.map(|results| results[0].partitions[0].1),
            other => panic!("no answer to the deletion: {other:?}"),
        }
    }

    /// A stable group of one dynamic member: its id. Generation 1.
    pub fn one_member(&mut self) -> String {
        let joined = self.join(join("")).unwrap();
        self.sync(sync(&joined, &[(&joined.member_id, "all")]))
            .unwrap();
        joined.member_id
    }

    /// A stable group of two dynamic members, the leader first. Generation 2.
    pub fn two_members(&mut self) -> (String, String) {
        let first = self.one_member();
        let waiting = self.send_join(join(""));
        let leader = self.join(join(&first)).unwrap();
        let second = self.join_reply(waiting).unwrap();
        let follower = self.send_sync(sync(&second, &[]));
        let (a, b) = (leader.member_id.clone(), second.member_id);
        self.sync(sync(&leader, &[(&a, "left"), (&b, "right")]))
            .unwrap();
        assert_eq!(self.sync_reply(follower).unwrap().assignment, "right");
        (a, b)
    }

    /// A stable group of one static member: its id. Generation 1.
    pub fn one_static(&mut self, instance: &str) -> String {
        let joined = self.join(static_join("", instance)).unwrap();
        let all = [(joined.member_id.as_str(), "all")];
        let mut request = sync(&joined, &all);
        request.group_instance_id = Some(instance.to_owned());
        self.sync(request).unwrap();
        joined.member_id
    }
}

/// A consumer's subscription to one topic, version 0.
pub fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend((topic.len() as u16).to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend([0xff; 4]);
    bytes.into()
}

pub fn protocol(name: &str) -> Protocol {
    Protocol {
        name: name.to_owned(),
        metadata: subscription("topic"),
    }
}

/// A join as clients sent it before version 4: a new member is let in at once.
pub fn join(member: &str) -> JoinGroup {
    JoinGroup {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        group_instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range"), protocol("roundrobin")],
        reason: None,
        require_known_member_id: false,
        supports_skipping_assignment: false,
        member_uuid: Uuid::nil(),
    }
}

pub fn static_join(member: &str, instance: &str) -> JoinGroup {
    JoinGroup {
        group_instance_id: Some(instance.to_owned()),
        ..join(member)
    }
}

/// A join of version 9.
pub fn modern_join(member: &str) -> JoinGroup {
    let modern = join(member);
    JoinGroup {
        require_known_member_id: true,
        supports_skipping_assignment: true,
        ..modern
    }
}

pub fn sync(joined: &Joined, assignments: &[(&str, &'static str)]) -> SyncGroup {
    SyncGroup {
        group_id: GROUP.to_owned(),
        member_id: joined.member_id.clone(),
        group_instance_id: None,
        generation_id: joined.generation_id,
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: assignments
            .iter()
            .map(|(id, bytes)| ((*id).to_owned(), Bytes::from_static(bytes.as_bytes())))
            .collect(),
    }
}

pub fn heartbeat(member: &str, generation: i32) -> Heartbeat {
    Heartbeat {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        group_instance_id: None,
        generation_id: generation,
    }
}

pub fn leaving(member: &str, instance: Option<&str>) -> LeavingMember {
    LeavingMember {
        member_id: member.to_owned(),
        group_instance_id: instance.map(str::to_owned),
        reason: None,
    }
}

/// A commit of `offset` for partition 0 of `topic`; generation -1 and no member: a simple consumer.
pub fn commit(member: &str, generation: i32, offset: i64) -> OffsetCommit {
    commit_to("topic", member, generation, offset)
}

pub fn commit_to(topic: &str, member: &str, generation: i32, offset: i64) -> OffsetCommit {
    OffsetCommit {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        group_instance_id: None,
        generation_id: generation,
        retention_ms: None,
        knows_member_epochs: true,
        topics: vec![CommitTopic {
            topic: topic.to_owned(),
            topic_id: Uuid::nil(),
            partitions: vec![CommitPartition {
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }],
        }],
    }
}
