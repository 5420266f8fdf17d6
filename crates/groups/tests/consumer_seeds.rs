//! Random consumers of the new and of the classic protocol in one group: joins, heartbeats, lost
//! answers, slow revocations, departures, crashes, other topics, failed writes and restarts, under
//! thousands of seeds, against what must hold whatever happens:
//!
//! - no partition is with two members at once, as the members themselves see it;
//! - epochs never go back;
//! - the log gives the state that the coordinator has;
//! - once everyone behaves, a bounded number of heartbeats leads to a stable group in which every
//!   partition that somebody reads belongs to a member.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::consumer::{SETTINGS, Topics, join_beat, owning_beat, owning_subscription, plain_beat};
use common::{GROUP, Random, Shell, config, join, leaving};
use dlog_groups::codec::{assigned_partitions, assignment_of};
use dlog_groups::{
    Assignment, ConsumerDescription, ConsumerHeartbeat, ConsumerSettings, GroupConfig, GroupError,
    GroupState, Heartbeat, JoinGroup, Part, PersistError, Protocol, Reply, SyncGroup, Token,
    WriteId,
};

const SEEDS: u64 = 400;
const STEPS: usize = 250;
/// Heartbeats of everyone until a group that is left alone is stable.
const ROUNDS: usize = 12;

/// By member id, encoded.
type Assignments = Vec<(String, Vec<u8>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Consumer,
    Eager,
    Cooperative,
}

/// A consumer as it sees itself.
#[derive(Debug, Clone)]
struct Client {
    speaks: Speaks,
    instance: Option<String>,
    member_id: String,
    epoch: i32,
    topics: Vec<String>,
    regex: Option<String>,
    owned: BTreeSet<Part>,
    /// What it has been told to give up and still reads.
    revoking: BTreeSet<Part>,
    /// Its next heartbeat says what it owns.
    reports: bool,
    runs: bool,
    waits: Option<Token>,
    /// Classic: has joined and must ask for its assignment.
    must_sync: Option<(i32, Assignments)>,
    must_join: bool,
}

struct Run {
    random: Random,
    shell: Shell,
    config: GroupConfig,
    settings: ConsumerSettings,
    topics: Topics,
    clients: Vec<Client>,
    asked: BTreeMap<Token, usize>,
    names: u64,
    epochs: BTreeMap<String, i32>,
    /// The latest write that was reported to be in the log.
    durable: Option<WriteId>,
    /// The latest write that failed, until a later one is in the log.
    failed: Option<WriteId>,
    behaves: bool,
    stable_seen: u64,
    migrations: u64,
    was_consumer: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let config = config();
        let topics = Topics::of(&[("a", 4), ("b", 3), ("c", 2)]);
        let mut shell = Shell::new(config.clone());
        shell.auto_persist = false;
        shell.set_topics(&topics);
        let mixed = random.chance(50);
        let clients = (0..6).map(|i| {
            let speaks = match random.below(3) {
                0 if mixed => Speaks::Eager,
                1 if mixed => Speaks::Cooperative,
                _ => Speaks::Consumer,
            };
            Client {
                speaks,
                instance: (i < 2).then(|| format!("instance-{i}")),
                member_id: String::new(),
                epoch: 0,
                topics: vec!["a".to_owned()],
                regex: None,
                owned: BTreeSet::new(),
                revoking: BTreeSet::new(),
                reports: false,
                runs: false,
                waits: None,
                must_sync: None,
                must_join: false,
            }
        });
        let clients = clients.collect();
        let interval_ms = [0, 1_000][random.below(2)];
        let settings = ConsumerSettings {
            assignment_interval_ms: interval_ms,
            ..SETTINGS
        };
        Self {
            random,
            shell,
            config,
            settings,
            topics,
            clients,
            asked: BTreeMap::new(),
            names: 0,
            epochs: BTreeMap::new(),
            durable: None,
            failed: None,
            behaves: false,
            stable_seen: 0,
            migrations: 0,
            was_consumer: false,
        }
    }

    fn act(&mut self) {
        let client = self.random.below(self.clients.len());
        match self.random.below(100) {
            0..50 => self.turn(client),
            50..55 => self.finish_revoking(client),
            55..58 => self.leave(client),
            58..60 => self.crash(client),
            60..63 => self.change_topics(),
            63..66 => self.change_wish(client),
            66..72 => {
                let most_ms = [50, 3_000, 50_000][self.random.below(3)];
                let ms = self.random.below(most_ms) as i64;
                self.shell.pass(ms);
            }
            72..73 if self.random.chance(40) => self.restart(),
            73..75 => self.everyone(),
            _ => self.end_write(),
        }
        self.hear();
        self.check();
    }

    fn everyone(&mut self) {
        for client in 0..self.clients.len() {
            self.turn(client);
            self.finish_revoking(client);
            self.end_all_writes();
            self.hear();
        }
    }

    /// The client does what is next for it.
    fn turn(&mut self, client: usize) {
        if self.clients[client].waits.is_some() {
            return;
        }
        match self.clients[client].speaks {
            Speaks::Consumer => self.beat(client),
            Speaks::Eager | Speaks::Cooperative => self.classic_turn(client),
        }
    }

    fn beat(&mut self, client: usize) {
        let me = self.clients[client].clone();
        let names: Vec<&str> = me.topics.iter().map(String::as_str).collect();
        let held: Assignment = me.owned.union(&me.revoking).copied().collect();
        let request = if !me.runs {
            self.start(client);
            let me = &self.clients[client];
            ConsumerHeartbeat {
                topic_regex: me.regex.clone(),
                ..join_beat(&me.member_id, &names)
            }
        } else if me.reports || self.random.chance(20) {
            self.clients[client].reports = false;
            ConsumerHeartbeat {
                topic_names: Some(me.topics.clone()),
                topic_regex: Some(me.regex.unwrap_or_default()),
                rebalance_timeout_ms: 60_000,
                ..owning_beat(&me.member_id, me.epoch, &held)
            }
        } else {
            plain_beat(&me.member_id, me.epoch)
        };
        let request = ConsumerHeartbeat {
            instance_id: me.instance,
            settings: self.settings,
            ..request
        };
        let token = self.shell.send_beat(&request);
        self.clients[client].waits = Some(token);
        self.asked.insert(token, client);
    }

    fn start(&mut self, client: usize) {
        self.names += 1;
        let name = format!("member-{}", self.names);
        let me = &mut self.clients[client];
        if me.speaks == Speaks::Consumer {
            me.member_id = name;
        }
        me.epoch = 0;
        me.owned.clear();
        me.revoking.clear();
        me.runs = true;
    }

    fn protocols(&self, client: usize) -> Vec<Protocol> {
        let me = &self.clients[client];
        let mut owned: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (id, partition) in &me.owned {
            let known = self.topics.names();
            if let Some(name) = known.into_iter().find(|name| self.topics.id(name) == *id) {
                owned.entry(name).or_default().push(*partition);
            }
        }
        let owned: Vec<(String, Vec<i32>)> = owned.into_iter().collect();
        let metadata = owning_subscription(&me.topics, &owned);
        vec![Protocol {
            name: "any".to_owned(),
            metadata,
        }]
    }

    fn classic_turn(&mut self, client: usize) {
        let me = self.clients[client].clone();
        let token = if let Some((generation_id, assignments)) = me.must_sync {
            self.clients[client].must_sync = None;
            let assignments = assignments
                .into_iter()
                .map(|(id, bytes)| (id, bytes.into()))
                .collect();
            self.shell.send_sync(SyncGroup {
                group_id: GROUP.to_owned(),
                member_id: me.member_id.clone(),
                group_instance_id: me.instance.clone(),
                generation_id,
                protocol_type: Some("consumer".to_owned()),
                protocol_name: Some("any".to_owned()),
                assignments,
            })
        } else if !me.runs || me.must_join {
            if !me.runs {
                self.start(client);
            }
            let eager = me.speaks == Speaks::Eager;
            let me = &mut self.clients[client];
            me.must_join = false;
            if eager {
                me.owned.clear();
            }
            let (member_id, instance) = (me.member_id.clone(), me.instance.clone());
            let request = JoinGroup {
                protocols: self.protocols(client),
                group_instance_id: instance,
                session_timeout_ms: 45_000,
                require_known_member_id: self.random.chance(50),
                ..join(&member_id)
            };
            self.shell.send_join(request)
        } else {
            let beat = Heartbeat {
                group_id: GROUP.to_owned(),
                member_id: me.member_id.clone(),
                group_instance_id: me.instance.clone(),
                generation_id: me.epoch,
            };
            let outcome = self
                .shell
                .step(|coordinator, now_ms, _| coordinator.heartbeat(now_ms, &beat));
            match outcome {
                Ok(()) => {}
                Err(GroupError::RebalanceInProgress) => self.clients[client].must_join = true,
                Err(GroupError::IllegalGeneration) => {
                    let me = &mut self.clients[client];
                    me.owned.clear();
                    me.must_join = true;
                }
                Err(_) => self.lose(client),
            }
            return;
        };
        self.clients[client].waits = Some(token);
        self.asked.insert(token, client);
    }

    /// The client is out: it has nothing any more, and starts anew.
    fn lose(&mut self, client: usize) {
        let me = &mut self.clients[client];
        me.owned.clear();
        me.revoking.clear();
        me.runs = false;
        me.must_sync = None;
        me.must_join = false;
        me.member_id.clear();
    }

    fn finish_revoking(&mut self, client: usize) {
        let me = &mut self.clients[client];
        if !me.revoking.is_empty() {
            me.revoking.clear();
            me.reports = true;
        }
    }

    fn leave(&mut self, client: usize) {
        let me = self.clients[client].clone();
        if !me.runs || me.member_id.is_empty() || me.waits.is_some() {
            return;
        }
        if me.speaks == Speaks::Consumer {
            let epoch = match me.instance {
                Some(_) if self.random.chance(70) => -2,
                _ => -1,
            };
            let request = ConsumerHeartbeat {
                instance_id: me.instance,
                settings: self.settings,
                ..plain_beat(&me.member_id, epoch)
            };
            let token = self.shell.send_beat(&request);
            self.asked.insert(token, usize::MAX);
        } else {
            let instance = me.instance.as_deref();
            let _ = self.shell.leave(vec![leaving(&me.member_id, instance)]);
        }
        self.lose(client);
    }

    /// The process is gone without a word; perhaps the next one speaks another protocol.
    fn crash(&mut self, client: usize) {
        self.lose(client);
        self.clients[client].waits = None;
        let other = match self.clients[client].speaks {
            Speaks::Consumer => Speaks::Cooperative,
            _ => Speaks::Consumer,
        };
        if self.random.chance(30) {
            self.clients[client].speaks = other;
            self.clients[client].regex = None;
        }
    }

    fn change_topics(&mut self) {
        let name = ["a", "b", "c"][self.random.below(3)];
        match self.topics.info(name) {
            None => self.topics.create(name, 1 + self.random.below(4) as u32),
            Some(_) if self.random.chance(25) => self.topics.delete(name),
            Some(topic) => self.topics.grow(name, (topic.partitions + 1).min(8)),
        }
        self.shell.set_topics(&self.topics);
    }

    fn change_wish(&mut self, client: usize) {
        let wanted = ["a", "b", "c"]
            .into_iter()
            .filter(|_| self.random.chance(60));
        let wanted: Vec<String> = wanted.map(str::to_owned).collect();
        let regex = self.random.chance(30).then(|| "[bc]".to_owned());
        let me = &mut self.clients[client];
        me.topics = wanted;
        if me.speaks == Speaks::Consumer {
            me.regex = regex;
        } else {
            me.must_join |= me.runs && !me.member_id.is_empty() && me.must_sync.is_none();
        }
        me.reports = true;
    }

    /// Writes are reported in any order, but the log has them in theirs: what comes before a write
    /// that is durable is durable, and what comes after one that failed has failed.
    fn end_write(&mut self) {
        let writes: Vec<WriteId> = self.shell.open_writes.keys().copied().collect();
        if writes.is_empty() {
            return;
        }
        let write = writes[self.random.below(writes.len())];
        let may_fail = self.durable.is_none_or(|durable| durable < write);
        if !may_fail || !self.random.chance(4) {
            self.durable = self.durable.max(Some(write));
            self.failed = self.failed.filter(|failed| *failed > write);
            self.shell.persist(write, Ok(()));
            return;
        }
        self.failed = writes.last().copied();
        for write in writes.into_iter().filter(|later| *later >= write) {
            self.shell.persist(write, Err(PersistError::Unavailable));
        }
    }

    fn end_all_writes(&mut self) {
        while let Some((&write, _)) = self.shell.open_writes.first_key_value() {
            self.failed = self.failed.filter(|failed| *failed > write);
            self.shell.persist(write, Ok(()));
        }
    }

    fn restart(&mut self) {
        while let Some((&write, _)) = self.shell.open_writes.first_key_value() {
            if self.durable.is_none_or(|durable| durable < write) {
                break;
            }
            self.shell.persist(write, Ok(()));
        }
        self.hear();
        self.shell
            .step(|coordinator, now_ms, out| coordinator.resign(now_ms, out));
        self.hear();
        assert!(
            self.asked.is_empty(),
            "a request stays open after resigning"
        );
        self.reload();
    }

    fn reload(&mut self) {
        let (last_token, uuid) = (self.shell.last_token, self.shell.uuid());
        let log = self.shell.log();
        self.shell = Shell::on_log(self.config.clone(), log, self.shell.now_ms);
        self.shell.auto_persist = false;
        self.shell.last_token = last_token;
        self.shell.skip_uuids_to(uuid);
        self.shell.set_topics(&self.topics);
        self.epochs.clear();
        self.durable = None;
        self.failed = None;
    }

    fn hear(&mut self) {
        for (token, reply) in self.shell.take_replies() {
            let client = self.asked.remove(&token).expect("an answer to a request");
            let Some(me) = self.clients.get_mut(client) else {
                continue;
            };
            if me.waits != Some(token) {
                continue;
            }
            me.waits = None;
            // The answer is lost on its way: the client asks again as if it had not asked.
            if !self.behaves && self.random.chance(5) {
                me.reports = true;
                me.must_join |= me.speaks != Speaks::Consumer;
                continue;
            }
            match reply {
                Reply::ConsumerHeartbeat(Ok(beat)) => {
                    me.epoch = beat.member_epoch;
                    if let Some(assignment) = beat.assignment {
                        take_assignment(me, &assignment);
                    }
                }
                Reply::ConsumerHeartbeat(Err(refused)) => match refused.error {
                    GroupError::FencedMemberEpoch
                    | GroupError::UnknownMemberId
                    | GroupError::GroupIdNotFound
                    | GroupError::UnreleasedInstanceId
                    | GroupError::FencedInstanceId => self.lose(client),
                    GroupError::CoordinatorNotAvailable | GroupError::NotCoordinator => {
                        me.reports = true;
                        // Whether it is in the group it does not know.
                        me.runs &= me.epoch > 0;
                    }
                    other => panic!("{other:?}"),
                },
                Reply::Join(Ok(joined)) => {
                    me.member_id = joined.member_id.clone();
                    let assignments = if joined.leader == joined.member_id {
                        lead(&self.topics, &joined.members)
                    } else {
                        Vec::new()
                    };
                    me.must_sync = Some((joined.generation_id, assignments));
                }
                Reply::Join(Err(refused)) => match refused.error {
                    GroupError::MemberIdRequired => {
                        me.member_id = refused.member_id;
                        me.must_join = true;
                    }
                    GroupError::UnknownMemberId | GroupError::FencedInstanceId => {
                        self.lose(client);
                    }
                    _ => me.must_join = true,
                },
                Reply::Sync(Ok(synced)) => {
                    self.take_synced(client, &synced.assignment);
                }
                Reply::Sync(Err(GroupError::UnknownMemberId | GroupError::FencedInstanceId)) => {
                    self.lose(client);
                }
                Reply::Sync(Err(GroupError::IllegalGeneration)) => {
                    me.owned.clear();
                    me.must_join = true;
                }
                Reply::Sync(Err(_)) => me.must_join = true,
                other => panic!("{other:?}"),
            }
        }
    }

    fn take_synced(&mut self, client: usize, assignment: &[u8]) {
        let named = assigned_partitions(assignment).unwrap();
        let parts: BTreeSet<Part> = named
            .iter()
            .filter_map(|(name, partitions)| Some((self.topics.info(name)?.id, partitions)))
            .flat_map(|(id, partitions)| partitions.iter().map(move |&p| (id, p)))
            .collect();
        let generation = self.generation_of(client);
        let me = &mut self.clients[client];
        me.epoch = generation.unwrap_or(me.epoch);
        let lost = !me.owned.is_subset(&parts);
        me.must_join = lost && me.speaks == Speaks::Cooperative;
        me.owned = parts;
    }

    /// The generation that the coordinator has the member in.
    fn generation_of(&self, client: usize) -> Option<i32> {
        let me = &self.clients[client];
        if let Some(group) = self.shell.consumer_group() {
            let mut found = group.members.iter();
            return found
                .find(|member| *member.member_id == *me.member_id)
                .map(|member| member.member_epoch);
        }
        let group = self.shell.coordinator.describe_group(GROUP).ok()?;
        Some(group.generation_id)
    }

    fn check(&mut self) {
        let group = self.shell.consumer_group();
        self.migrations += u64::from(group.is_some() != self.was_consumer);
        self.was_consumer = group.is_some();
        let Some(group) = group else {
            self.epochs.clear();
            return;
        };
        self.stable_seen += u64::from(group.state == GroupState::Stable);
        self.check_epochs(&group);
        self.check_held(&group);
        if self.shell.open_writes.is_empty() && self.random.chance(5) {
            self.check_log(&group);
        }
    }

    fn check_epochs(&mut self, group: &ConsumerDescription) {
        assert!(group.assignment_epoch <= group.group_epoch);
        let mut now = BTreeMap::new();
        for member in &group.members {
            let id = member.member_id.to_string();
            assert!(member.member_epoch <= group.assignment_epoch.max(0));
            if let Some(&before) = self.epochs.get(&id) {
                let left = member.member_epoch == -2 || before == -2;
                assert!(left || member.member_epoch >= before, "{id} goes back");
            }
            now.insert(id, member.member_epoch);
        }
        self.epochs = now;
    }

    /// Nobody reads what somebody else in the group reads.
    fn check_held(&self, group: &ConsumerDescription) {
        let mut holders: BTreeMap<Part, usize> = BTreeMap::new();
        for (index, client) in self.clients.iter().enumerate() {
            let member = group
                .members
                .iter()
                .find(|m| *m.member_id == *client.member_id);
            // Whoever is out does not count: it will hear of it. In an older epoch than the one
            // before it is out, too.
            if member.is_none_or(|member| member.member_epoch == -2) {
                continue;
            }
            for part in client.owned.union(&client.revoking) {
                if let Some(other) = holders.insert(*part, index) {
                    panic!(
                        "{part:?} is with {:?} and {:?} of {group:#?}",
                        self.clients[other], client
                    );
                }
            }
        }
    }

    /// A coordinator made of the log has the same state.
    fn check_log(&self, group: &ConsumerDescription) {
        if self.failed.is_some() {
            // What failed is written with the next change.
            return;
        }
        let mut again = Shell::on_log(self.config.clone(), self.shell.log(), self.shell.now_ms);
        again.set_topics(&self.topics);
        assert_eq!(again.consumer_group().as_ref(), Some(group));
    }

    /// Everyone behaves: the group comes to rest.
    fn settle(&mut self) {
        self.behaves = true;
        self.end_all_writes();
        self.hear();
        // What crashed silently is out first.
        let runs: Vec<bool> = self.clients.iter().map(|client| client.runs).collect();
        for round in 0..ROUNDS + 12 {
            for _ in 0..4 {
                for client in 0..self.clients.len() {
                    self.turn(client);
                    self.finish_revoking(client);
                    self.end_all_writes();
                    self.hear();
                }
            }
            self.shell.pass(5_000);
            self.end_all_writes();
            self.hear();
            self.check();
            if round > 11 && self.rests() {
                return;
            }
        }
        panic!(
            "no rest: {runs:?} {:#?} {:#?}",
            self.shell.consumer_group(),
            self.clients
        );
    }

    fn rests(&self) -> bool {
        let Some(group) = self.shell.consumer_group() else {
            let classic = self.clients.iter().all(|c| c.speaks != Speaks::Consumer);
            return classic
                && self
                    .shell
                    .coordinator
                    .describe_group(GROUP)
                    .is_ok_and(|group| group.state == GroupState::Stable);
        };
        let wanted: BTreeSet<Part> = self
            .topics
            .names()
            .iter()
            .filter(|name| {
                self.clients.iter().any(|client| {
                    let matched = client.regex.is_some() && name.as_str() != "a";
                    client.topics.contains(name) || matched
                })
            })
            .flat_map(|name| self.topics.all(name).iter().collect::<Vec<_>>())
            .collect();
        let held: BTreeSet<Part> = self.clients.iter().flat_map(|c| c.owned.clone()).collect();
        group.state == GroupState::Stable && wanted == held
    }
}

fn take_assignment(me: &mut Client, assignment: &Assignment) {
    let given: BTreeSet<Part> = assignment.iter().collect();
    let kept: BTreeSet<Part> = me.owned.intersection(&given).copied().collect();
    let lost: Vec<Part> = me.owned.difference(&kept).copied().collect();
    if lost.is_empty() {
        me.reports |= me.owned != given;
    }
    me.revoking.extend(lost);
    me.owned = given.difference(&me.revoking).copied().collect();
}

/// A leader that shares out each topic, and gives nothing to one that another still has.
fn lead(topics: &Topics, members: &[dlog_groups::JoinedMember]) -> Assignments {
    let mut parts: Vec<BTreeMap<String, Vec<i32>>> = vec![BTreeMap::new(); members.len()];
    let read: Vec<_> = members
        .iter()
        .map(|member| dlog_groups::codec::Subscription::decode(&member.metadata).unwrap())
        .collect();
    for name in topics.names() {
        let readers: Vec<usize> = (0..members.len())
            .filter(|&at| read[at].topics.contains(&name.as_str()))
            .collect();
        let count = topics.info(&name).unwrap().partitions as i32;
        for partition in (0..count).filter(|_| !readers.is_empty()) {
            let at = readers[partition as usize % readers.len()];
            let owner = read.iter().position(|subscription| {
                let mut owned = subscription.owned.iter();
                owned.any(|(topic, has)| *topic == name && has.contains(&partition))
            });
            if owner.is_none_or(|owner| owner == at) {
                parts[at].entry(name.clone()).or_default().push(partition);
            }
        }
    }
    let assignments = members.iter().zip(parts).map(|(member, parts)| {
        let named = parts.iter().map(|(name, has)| (name.as_str(), has.clone()));
        let bytes = assignment_of(1, &named.collect()).unwrap();
        (member.member_id.clone(), bytes.to_vec())
    });
    assignments.collect()
}

fn run(seed: u64) -> (u64, u64) {
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.act();
    }
    run.settle();
    (run.stable_seen, run.migrations)
}

#[test]
fn random_consumers_never_share_a_partition_and_come_to_rest() {
    let only: Option<u64> = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let count = seeds.end - seeds.start;
    let (mut stable, mut migrations) = (0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        match outcome {
            Ok((seen, moved)) => {
                stable += seen;
                migrations += moved;
            }
            Err(panic) => {
                eprintln!("SEED={seed} repeats this");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{count} seeds: {stable} times stable, {migrations} migrations");
    assert!(
        only.is_some() || (stable > 10 * SEEDS && migrations > SEEDS),
        "{stable} {migrations}"
    );
}
