//! How fast a coordinator takes in its log, and what members weigh. Prints one line each:
//!
//! ```text
//! cargo bench -p dlog-groups
//! ```

use std::sync::Arc;
use std::time::Instant;

use dlog_groups::codec::{OffsetCommitValue, RecordKey};
use dlog_groups::{
    Assignment, ConsumerConfig, ConsumerHeartbeat, Effect, GroupConfig, GroupCoordinator,
    GroupRecord, TopicCatalog, TopicInfo,
};
use uuid::Uuid;

const OFFSETS: i32 = 1_000_000;
const GROUPS: i32 = 1_000;
const MEMBERS: usize = 10_000;
const NOW_MS: i64 = 1_700_000_000_000;

fn main() {
    // First, while no memory of others can be used again.
    members();
    offsets();
}

/// A million offsets of a thousand groups, as they are read when the server starts.
fn offsets() {
    let value = OffsetCommitValue {
        offset: 1 << 40,
        leader_epoch: 7,
        metadata: "",
        commit_timestamp_ms: NOW_MS,
        expire_timestamp_ms: -1,
        topic_id: Uuid::nil(),
    };
    let value = value.encode(4).expect("it is short");
    let keys: Vec<_> = (0..OFFSETS)
        .map(|at| {
            let group = format!("group-{}", at % GROUPS);
            let topic = format!("topic-{}", at / GROUPS % 50);
            let key = RecordKey::Offset {
                group: &group,
                topic: &topic,
                partition: at / (GROUPS * 50),
            };
            key.encode().expect("it is short")
        })
        .collect();
    let before_kib = resident_kib();
    let begun = Instant::now();
    let mut groups = GroupCoordinator::new(GroupConfig::default());
    for key in &keys {
        groups
            .apply_record(key, Some(&value))
            .expect("it was just written");
    }
    groups.finish_loading(NOW_MS, &mut Vec::new());
    let took_ms = begun.elapsed().as_millis();
    let bytes = (resident_kib() - before_kib) * 1_024 / i64::from(OFFSETS);
    println!("{OFFSETS} offsets of {GROUPS} groups: {took_ms} ms, {bytes} bytes each");
}

#[derive(Debug)]
struct OneTopic;

impl TopicCatalog for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        (name == "events").then_some(TopicInfo {
            id: Uuid::from_u128(1),
            partitions: 20_000,
        })
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        (id == Uuid::from_u128(1)).then(|| "events".into())
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        visit("events");
    }
}

/// Ten thousand members of one group, two partitions each, joined and brought to rest; then the same
/// group read back from its log.
fn members() {
    let mut shell = Shell::new();
    let before_kib = resident_kib();
    let begun = Instant::now();
    let mut epochs: Vec<(i32, Assignment)> = Vec::with_capacity(MEMBERS);
    for at in 0..MEMBERS {
        epochs.push(shell.beat(at, 0, Some(Assignment::new()), Assignment::new()));
    }
    let mut rounds = 0;
    loop {
        rounds += 1;
        shell.now_ms += 5_000;
        let mut moved = false;
        for (at, state) in epochs.iter_mut().enumerate() {
            let (epoch, has) = state.clone();
            let next = shell.beat(at, epoch, Some(has.clone()), has.clone());
            moved |= next != (epoch, has);
            *state = next;
        }
        if !moved {
            break;
        }
    }
    let took_ms = begun.elapsed().as_millis();
    let kib = resident_kib() - before_kib;
    println!(
        "{MEMBERS} members: {took_ms} ms and {rounds} rounds of heartbeats to rest, {kib} KiB"
    );
    let records = std::mem::take(&mut shell.log);
    let begun = Instant::now();
    let mut groups = GroupCoordinator::new(GroupConfig::default());
    for record in &records {
        groups
            .apply_record(&record.key, record.value.as_deref())
            .expect("it was just written");
    }
    groups.finish_loading(NOW_MS, &mut Vec::new());
    let took_ms = begun.elapsed().as_millis();
    println!(
        "{} records of that group read back: {took_ms} ms",
        records.len()
    );
}

struct Shell {
    groups: GroupCoordinator,
    now_ms: i64,
    tokens: u64,
    log: Vec<GroupRecord>,
}

impl Shell {
    fn new() -> Self {
        let mut groups = GroupCoordinator::new(GroupConfig::default());
        groups.set_topics(Arc::new(OneTopic));
        groups.finish_loading(NOW_MS, &mut Vec::new());
        Self {
            groups,
            now_ms: NOW_MS,
            tokens: 0,
            log: Vec::new(),
        }
    }

    /// The member's epoch and what it has after one heartbeat. All it has to give back it has given
    /// back by the next.
    fn beat(
        &mut self,
        at: usize,
        epoch: i32,
        owned: Option<Assignment>,
        has: Assignment,
    ) -> (i32, Assignment) {
        let joins = epoch == 0;
        let request = ConsumerHeartbeat {
            group_id: "readers".to_owned(),
            member_id: format!("{at:022}"),
            member_epoch: epoch,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: if joins { 300_000 } else { -1 },
            topic_names: joins.then(|| vec!["events".to_owned()]),
            topic_regex: None,
            server_assignor: None,
            owned,
            client_id: "consumer-readers-1".to_owned(),
            client_host: "/10.0.0.1".to_owned(),
            requires_member_id: true,
            member_uuid: Uuid::nil(),
            settings: ConsumerConfig::default().defaults,
        };
        self.tokens += 1;
        let mut out = Vec::new();
        self.groups
            .consumer_heartbeat(self.now_ms, &request, self.tokens, &mut out);
        let mut told = (epoch, has);
        while let Some(effect) = out.pop() {
            match effect {
                Effect::Persist { write, records, .. } => {
                    self.log.extend(records);
                    self.groups.persisted(self.now_ms, write, Ok(()), &mut out);
                }
                Effect::Reply {
                    reply: dlog_groups::Reply::ConsumerHeartbeat(Ok(beat)),
                    ..
                } => {
                    told.0 = beat.member_epoch;
                    told.1 = beat.assignment.unwrap_or(told.1);
                }
                other => panic!("{other:?}"),
            }
        }
        told
    }
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
