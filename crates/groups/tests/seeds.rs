//! Random joins, syncs, heartbeats, departures, commits, deletions, pauses, failed and reordered
//! writes and restarts, thousands of seeds, against what must hold whatever happens.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::{GROUP, Random, Shell, commit_to, config, join, leaving, modern_join, protocol};
use dlog_groups::codec::{OffsetCommitValue, RecordKey};
use dlog_groups::{
    GroupConfig, GroupDescription, GroupError, GroupState, JoinGroup, OffsetDelete, PersistError,
    Reply, SyncGroup, Token,
};

const SEEDS: u64 = 2_000;
const STEPS: usize = 200;
const TOPICS: [&str; 3] = ["topic", "other", "third"];

/// A client as it sees itself.
#[derive(Debug, Clone, Default)]
struct Client {
    instance: Option<String>,
    member_id: String,
    generation: i32,
    /// Of the generation; the leader brings their assignments.
    members: Vec<String>,
}

enum Asked {
    Join { client: usize },
    Sync { member_id: String, generation: i32 },
    Heartbeat { member_id: String, generation: i32 },
    Other,
}

struct Run {
    random: Random,
    shell: Shell,
    config: GroupConfig,
    clients: Vec<Client>,
    open: BTreeMap<Token, Asked>,
    /// What each generation of this life of the group agreed on.
    protocols: BTreeMap<i32, Option<String>>,
    last_generation: i32,
    offset: i64,
    rebalances: u64,
    stable_seen: u64,
    held_seen: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let config = GroupConfig {
            initial_rebalance_delay_ms: if random.chance(50) { 0 } else { 3_000 },
            max_group_size: if random.chance(80) { 100 } else { 3 },
            offsets_retention_ms: 200_000,
            offsets_retention_check_interval_ms: 60_000,
            ..config()
        };
        let mut shell = Shell::new(config.clone());
        shell.auto_persist = false;
        let instance = |i: usize| (i < 2).then(|| format!("instance-{i}"));
        // Two processes for each static instance: they fence each other.
        let clients = (0..8).map(|i| Client {
            instance: instance(i / 2),
            ..Client::default()
        });
        Self {
            random,
            shell,
            config,
            clients: clients.collect(),
            open: BTreeMap::new(),
            protocols: BTreeMap::new(),
            last_generation: 0,
            offset: 0,
            rebalances: 0,
            stable_seen: 0,
            held_seen: 0,
        }
    }

    fn description(&self) -> Option<GroupDescription> {
        self.shell.coordinator.describe_group(GROUP).ok()
    }

    fn act(&mut self) {
        let client = self.random.below(self.clients.len());
        match self.random.below(100) {
            0..20 => self.join(client),
            20..45 => self.sync(client),
            45..48 => self.heartbeat(client),
            48..51 => self.hold_heartbeat(client),
            51..53 => self.release_heartbeat(),
            53..56 => self.leave(client),
            56..66 => self.commit(client),
            66..67 => self.delete_offset(),
            67..68 => self.delete_group(),
            68..76 => {
                let most_ms = [50, 3_000, 12_000, 100_000][self.random.below(4)];
                let ms = self.random.below(most_ms) as i64;
                self.pass(ms);
            }
            76..77 if self.random.chance(30) => self.restart(),
            77..80 => self.settle(),
            _ => self.end_write(),
        }
        self.hear();
        self.check();
    }

    fn join(&mut self, client: usize) {
        let me = &self.clients[client];
        let known = !me.member_id.is_empty() && self.random.chance(85);
        let member_id = if known { me.member_id.as_str() } else { "" };
        let base = if self.random.chance(70) {
            modern_join(member_id)
        } else {
            join(member_id)
        };
        let sets: [&[&str]; 4] = [
            &["range", "sticky"],
            &["range", "sticky"],
            &["sticky", "range"],
            &["range"],
        ];
        let names = sets[self.random.below(4)];
        let request = JoinGroup {
            group_instance_id: me.instance.clone(),
            protocols: names.iter().map(|name| protocol(name)).collect(),
            rebalance_timeout_ms: [100, 5_000, 30_000][self.random.below(3)],
            ..base
        };
        let token = self.shell.send_join(request);
        self.open.insert(token, Asked::Join { client });
    }

    fn sync(&mut self, client: usize) {
        let me = self.clients[client].clone();
        let generation_id = if self.random.chance(95) {
            me.generation
        } else {
            me.generation - 1
        };
        let assignments = me.members.iter().map(|member| {
            (
                member.clone(),
                Bytes::from(format!("{generation_id}:{member}")),
            )
        });
        let request = SyncGroup {
            group_id: GROUP.to_owned(),
            member_id: me.member_id.clone(),
            group_instance_id: me.instance.clone(),
            generation_id,
            protocol_type: Some("consumer".to_owned()),
            protocol_name: None,
            assignments: assignments.collect(),
        };
        let token = self.shell.send_sync(request);
        let asked = Asked::Sync {
            member_id: me.member_id,
            generation: generation_id,
        };
        self.open.insert(token, asked);
    }

    fn heartbeat(&mut self, client: usize) {
        let me = &self.clients[client];
        let outcome = self.shell.beat(&me.member_id, me.generation);
        if outcome == Ok(()) {
            let group = self.description().unwrap();
            assert_eq!(group.generation_id, me.generation);
            assert!(
                group
                    .members
                    .iter()
                    .any(|member| *member.member_id == *me.member_id)
            );
        }
    }

    fn hold_heartbeat(&mut self, client: usize) {
        let me = self.clients[client].clone();
        let (token, patience_ms) = self.shell.send_heartbeat(&me.member_id, me.generation);
        assert_eq!(patience_ms.is_none(), self.shell.has_reply(token));
        let asked = Asked::Heartbeat {
            member_id: me.member_id,
            generation: me.generation,
        };
        self.open.insert(token, asked);
        self.held_seen += u64::from(patience_ms.is_some());
    }

    /// Any heartbeat that waits, not only the oldest.
    fn release_heartbeat(&mut self) {
        let held = self.open.iter().filter_map(|(token, asked)| match asked {
            Asked::Heartbeat { member_id, .. } => Some((*token, member_id.clone())),
            _ => None,
        });
        let held: Vec<_> = held.collect();
        if held.is_empty() {
            return;
        }
        let (token, member_id) = &held[self.random.below(held.len())];
        self.shell.release_heartbeat(member_id, *token);
        assert!(self.shell.has_reply(*token), "{token} stays open");
    }

    fn leave(&mut self, client: usize) {
        let me = self.clients[client].clone();
        let by_instance = me.instance.is_some() && self.random.chance(50);
        let member_id = if by_instance {
            ""
        } else {
            me.member_id.as_str()
        };
        let left = self
            .shell
            .leave(vec![leaving(member_id, me.instance.as_deref())]);
        // The group may be under deletion.
        if left.is_ok_and(|left| left[0].error.is_none()) {
            let gone = self.description().is_none_or(|group| {
                group
                    .members
                    .iter()
                    .all(|member| *member.member_id != *member_id)
            });
            assert!(gone, "{member_id} left and is still a member");
        }
    }

    fn commit(&mut self, client: usize) {
        let me = self.clients[client].clone();
        self.offset += 1;
        let topic = TOPICS[self.random.below(3)];
        let (member_id, generation) = if self.random.chance(30) {
            ("", -1)
        } else {
            (me.member_id.as_str(), me.generation)
        };
        let mut request = commit_to(topic, member_id, generation, self.offset);
        request.group_instance_id = me.instance.filter(|_| generation >= 0);
        request.topics[0].partitions[0].partition = self.random.below(3) as i32;
        let token = self.shell.send_commit(&request);
        self.open.insert(token, Asked::Other);
    }

    fn delete_offset(&mut self) {
        let topics = vec![(TOPICS[self.random.below(3)].to_owned(), vec![0, 1])];
        let request = OffsetDelete {
            group_id: GROUP.to_owned(),
            topics,
        };
        let token = self.shell.token();
        self.open.insert(token, Asked::Other);
        self.shell.step(|coordinator, now_ms, out| {
            coordinator.delete_offsets(now_ms, &request, token, out);
        });
    }

    fn delete_group(&mut self) {
        let token = self.shell.token();
        self.open.insert(token, Asked::Other);
        self.shell.step(|coordinator, now_ms, out| {
            coordinator.delete_group(now_ms, GROUP, token, out);
        });
    }

    /// The clients behave for a while: the group gets a chance to become stable.
    fn settle(&mut self) {
        for client in 0..self.clients.len() {
            if self.random.chance(60) {
                self.join(client);
                self.hear();
            }
        }
        for _ in 0..3 {
            self.pass(3_000);
            for client in 0..self.clients.len() {
                let stable = self
                    .description()
                    .is_some_and(|g| g.state == GroupState::Stable);
                if !stable {
                    self.sync(client);
                    self.hear();
                }
            }
            self.end_all_writes();
        }
        for client in 0..self.clients.len() {
            if self.random.chance(30) {
                self.hold_heartbeat(client);
            }
        }
        self.hear();
    }

    /// Any open write ends, not only the oldest.
    fn end_write(&mut self) {
        let writes: Vec<_> = self.shell.open_writes.keys().copied().collect();
        if writes.is_empty() {
            return;
        }
        let write = writes[self.random.below(writes.len())];
        let errors = [
            PersistError::Unavailable,
            PersistError::TooLarge,
            PersistError::NotLeader,
        ];
        let result = match self.random.below(20) {
            kind @ 0..3 => Err(errors[kind]),
            _ => Ok(()),
        };
        self.shell.persist(write, result);
    }

    fn end_all_writes(&mut self) {
        while let Some((&write, _)) = self.shell.open_writes.first_key_value() {
            self.shell.persist(write, Ok(()));
            self.hear();
        }
    }

    fn restart(&mut self) {
        // The writes under way are lost; everyone is told.
        self.shell
            .step(|coordinator, now_ms, out| coordinator.resign(now_ms, out));
        self.hear();
        assert!(self.open.is_empty(), "a request stays open after resigning");
        let (last_token, uuid) = (self.shell.last_token, self.shell.uuid());
        let log = self.shell.log();
        self.shell = Shell::on_log(self.config.clone(), log, self.shell.now_ms);
        self.shell.auto_persist = false;
        self.shell.last_token = last_token;
        self.shell.skip_uuids_to(uuid);
        self.forget_life();
    }

    fn forget_life(&mut self) {
        self.protocols.clear();
        self.last_generation = 0;
    }

    fn pass(&mut self, ms: i64) {
        let end_ms = self.shell.now_ms + ms;
        while self.shell.now_ms < end_ms {
            let deadline_ms = self
                .shell
                .coordinator
                .next_deadline_ms()
                .unwrap_or(i64::MAX);
            let until_ms = deadline_ms.clamp(self.shell.now_ms + 1, end_ms);
            self.shell.pass(until_ms - self.shell.now_ms);
            self.hear();
        }
    }

    /// Takes the answers in. (That a token is answered twice is the shell's check.)
    fn hear(&mut self) {
        for (token, reply) in self.shell.take_replies() {
            let asked = self
                .open
                .remove(&token)
                .expect("an answer to an open request");
            match (asked, reply) {
                (Asked::Join { client }, Reply::Join(Ok(joined))) => {
                    self.assert_member(&joined.member_id);
                    // A returning static member of an old client is shown the leader of before.
                    if self.clients[client].instance.is_none() || !joined.members.is_empty() {
                        self.assert_member(&joined.leader);
                    }
                    let agreed = self.protocols.entry(joined.generation_id);
                    let agreed = agreed.or_insert_with(|| joined.protocol_name.clone());
                    assert_eq!(*agreed, joined.protocol_name, "one protocol per generation");
                    let members = joined.members.into_iter().map(|member| member.member_id);
                    let me = &mut self.clients[client];
                    me.members = members.collect();
                    me.member_id = joined.member_id;
                    me.generation = joined.generation_id;
                }
                (Asked::Join { client }, Reply::Join(Err(refused))) => {
                    let me = &mut self.clients[client];
                    match refused.error {
                        GroupError::MemberIdRequired => me.member_id = refused.member_id,
                        GroupError::UnknownMemberId | GroupError::FencedInstanceId => {
                            me.member_id.clear();
                        }
                        _ => {}
                    }
                }
                (
                    Asked::Sync {
                        member_id,
                        generation,
                    },
                    Reply::Sync(Ok(synced)),
                ) => {
                    self.assert_member(&member_id);
                    let group = self.description().unwrap();
                    assert_eq!(
                        (group.state, group.generation_id),
                        (GroupState::Stable, generation)
                    );
                    let text = String::from_utf8(synced.assignment.to_vec()).unwrap();
                    let ours = text.starts_with(&format!("{generation}:"));
                    assert!(text.is_empty() || ours, "{text} in generation {generation}");
                }
                (
                    Asked::Heartbeat {
                        member_id,
                        generation,
                    },
                    Reply::Heartbeat(Ok(())),
                ) => {
                    self.assert_member(&member_id);
                    assert_eq!(self.description().unwrap().generation_id, generation);
                }
                (Asked::Sync { .. }, Reply::Sync(Err(_)))
                | (Asked::Heartbeat { .. }, Reply::Heartbeat(Err(_)))
                | (
                    Asked::Other,
                    Reply::OffsetCommit(_) | Reply::OffsetDelete(_) | Reply::DeleteGroup(_),
                ) => {}
                (_, reply) => panic!("an answer of another kind: {reply:?}"),
            }
        }
    }

    /// Whoever is told something good is a member.
    fn assert_member(&self, member_id: &str) {
        let group = self.description().expect("the group of a member exists");
        let found = group
            .members
            .iter()
            .any(|member| *member.member_id == *member_id);
        assert!(found, "{member_id} is not in {group:?}");
    }

    /// Nobody waits for what has happened already.
    fn check_held(&self) {
        let group = self.description();
        for asked in self.open.values() {
            if let Asked::Heartbeat {
                member_id,
                generation,
            } = asked
            {
                let group = group.as_ref().expect("the group of a member exists");
                assert_eq!(
                    (group.state, group.generation_id),
                    (GroupState::Stable, *generation)
                );
                self.assert_member(member_id);
            }
        }
    }

    fn check(&mut self) {
        self.check_held();
        let Some(group) = self.description() else {
            self.forget_life();
            return;
        };
        assert!(
            group.generation_id >= self.last_generation,
            "generations go back"
        );
        self.rebalances += u64::from(group.generation_id > self.last_generation);
        self.stable_seen += u64::from(group.state == GroupState::Stable);
        self.last_generation = group.generation_id;
        let empty = matches!(group.state, GroupState::Empty | GroupState::Dead);
        assert!(!empty || group.members.is_empty(), "{group:?}");
        if matches!(
            group.state,
            GroupState::CompletingRebalance | GroupState::Stable
        ) {
            let leader = group
                .leader
                .clone()
                .expect("a group with members has a leader");
            assert!(
                group
                    .members
                    .iter()
                    .any(|member| member.member_id == leader),
                "{group:?}"
            );
        }
        let instances: Vec<_> = group
            .members
            .iter()
            .filter_map(|member| member.group_instance_id.clone())
            .collect();
        let distinct: BTreeSet<_> = instances.iter().collect();
        assert_eq!(
            instances.len(),
            distinct.len(),
            "an instance id is held twice"
        );
        self.check_offsets();
    }

    /// What can be read is what the log says, last record per key, always.
    fn check_offsets(&self) {
        let mut expected = BTreeMap::new();
        for record in self.shell.log() {
            let RecordKey::Offset {
                topic, partition, ..
            } = RecordKey::decode(&record.key).unwrap()
            else {
                continue;
            };
            let key = (topic.to_owned(), partition);
            match record.value {
                Some(value) => {
                    expected.insert(key, OffsetCommitValue::decode(&value).unwrap().offset);
                }
                None => drop(expected.remove(&key)),
            }
        }
        let live = self.shell.coordinator.fetch_offsets(GROUP, None).unwrap();
        let live: BTreeMap<_, _> = live
            .into_iter()
            .map(|o| ((o.topic.to_string(), o.partition), o.offset))
            .collect();
        assert_eq!(live, expected);
    }

    /// What a restart would make of the log is what is held now.
    fn check_replay(&self) {
        let again = Shell::on_log(self.config.clone(), self.shell.log(), self.shell.now_ms);
        let live = self.shell.coordinator.fetch_offsets(GROUP, None).unwrap();
        assert_eq!(again.coordinator.fetch_offsets(GROUP, None).unwrap(), live);
        let Some(group) = self.description() else {
            return;
        };
        let settled = matches!(group.state, GroupState::Empty | GroupState::Stable);
        // A loaded group above the limit rebalances at once.
        let fits = group.members.len() <= self.config.max_group_size;
        if !settled || !fits || self.shell.group_write_failed || group.generation_id == 0 {
            return;
        }
        let replayed = again.coordinator.describe_group(GROUP).unwrap();
        assert_eq!(
            replayed,
            GroupDescription {
                rebalance_reason: None,
                ..group
            }
        );
    }

    fn finish(&mut self) {
        self.end_all_writes();
        self.check();
        self.check_replay();
        // Time alone answers everyone: nobody sends anything any more.
        for _ in 0..20 {
            self.pass(100_000);
            self.end_all_writes();
            self.check();
        }
        assert!(
            self.open.is_empty(),
            "requests stay open: {:?}",
            self.open.keys()
        );
        assert_eq!(
            self.description(),
            None,
            "silent members, no offsets kept: the group ends"
        );
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    struct NameSeed(u64);
    impl Drop for NameSeed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with DLOG_GROUPS_SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("DLOG_GROUPS_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut rebalances, mut stable, mut held) = (0, 0, 0);
    for seed in seeds.clone() {
        let named = NameSeed(seed);
        let mut run = Run::new(seed);
        for step in 0..STEPS {
            run.act();
            if step % 20 == 19 && run.shell.open_writes.is_empty() {
                run.check_replay();
            }
        }
        run.finish();
        rebalances += run.rebalances;
        stable += run.stable_seen;
        held += run.held_seen;
        drop(named);
    }
    println!(
        "seeds {seeds:?}: {rebalances} rebalances, {stable} steps in a stable group, {held} heartbeats waited"
    );
    let enough = rebalances > 10 * SEEDS && stable > 5 * SEEDS && held > SEEDS / 2;
    assert!(only.is_some() || enough, "too little happens");
}
