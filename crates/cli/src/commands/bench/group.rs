//! `dlog bench group`: how long a group of many members takes to agree again when its members change.
//!
//! Members are small: they join, heartbeat at a short interval and follow what they are told, without
//! reading anything, so that the coordinator is what is measured. A rebalance begins when one member
//! leaves and another joins in its place, and ends when all members know of it and every partition has
//! exactly one owner again. The next one begins when each member has sent a heartbeat, as in a group that has been
//! there for a while, and a part of the interval between heartbeats later, another one each time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dlog_client::{Client, Connection, CoordinatorKind};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::group_member::{ClassicMember, ConsumerMember, Place};
use super::report::{Latency, histogram, record, watched};
use crate::commands::remote::{self, RemoteArgs, now_ms};

#[derive(Args, Clone, Debug)]
pub(super) struct GroupArgs {
    /// Topic that the members subscribe to; created when it is missing and the broker does that.
    topic: String,
    /// Protocol of the members.
    #[arg(long, value_enum, default_value_t = Protocol::Consumer)]
    protocol: Protocol,
    /// Members of a group.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    members: u32,
    /// Groups, made one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    groups: u32,
    /// Rebalances of the first group that are timed.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=10_000))]
    rounds: u32,
    /// Between two heartbeats of a member, in ms.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    heartbeat_ms: u64,
    /// Session timeout of classic members, in ms; the broker has bounds for it.
    #[arg(long, default_value_t = 45_000, value_parser = clap::value_parser!(i32).range(1000..))]
    session_ms: i32,
    /// Connections that members of the consumer protocol share, on a cluster of one broker; one each
    /// without it. A classic join waits for others, so classic members always have their own.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<u32>,
    /// Print the report, then keep all groups until standard input ends.
    #[arg(long)]
    hold: bool,
}

/// Which protocol members speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    /// JoinGroup and SyncGroup: the leader assigns.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848): the coordinator assigns.
    Consumer,
}

/// What a run measured.
#[derive(Debug, Serialize)]
struct GroupReport {
    bench: &'static str,
    protocol: Protocol,
    groups: u32,
    members: u32,
    partitions: usize,
    /// From the first join until the first group was complete.
    assembly_ms: f64,
    /// Rebalances that were timed.
    rebalances: u64,
    rebalance_us: Option<Latency>,
    /// Of that, the time from when the last classic member had heard of it and joined: all that is left are
    /// the coordinator's work and the members' own, without the wait for heartbeats.
    after_last_join_us: Option<Latency>,
}

/// What the members of a group say of themselves.
#[derive(Default)]
pub(super) struct Board {
    views: Mutex<BTreeMap<u64, View>>,
    changed: Notify,
    /// When a classic member last asked to join.
    joined: Mutex<Option<Instant>>,
    /// Members that have sent a heartbeat since the last rebalance.
    beating: Mutex<BTreeSet<u64>>,
}

/// What one member knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Generation, or member epoch.
    pub epoch: i32,
    /// Partitions that it owns.
    pub partitions: Vec<i32>,
}

impl Board {
    /// A member is to join; it knows nothing yet.
    fn expect(&self, member: u64) {
        self.views.lock().insert(member, View::default());
    }

    /// What a member knows now. One that was told to leave may hear of something all the same.
    pub(super) fn put(&self, member: u64, view: View) {
        if let Some(known) = self.views.lock().get_mut(&member) {
            *known = view;
        }
        self.changed.notify_one();
    }

    /// A classic member asks to join, now.
    pub(super) fn joins(&self) {
        *self.joined.lock() = Some(Instant::now());
    }

    /// A member sends a heartbeat.
    pub(super) fn beats(&self, member: u64) {
        if self.beating.lock().insert(member) {
            self.changed.notify_one();
        }
    }

    /// Waits until this many members have sent a heartbeat from now on.
    async fn all_beat(&self, members: usize) {
        self.beating.lock().clear();
        while self.beating.lock().len() < members {
            self.changed.notified().await;
        }
    }

    fn remove(&self, member: u64) {
        self.views.lock().remove(&member);
    }

    /// The epoch that all `members` are in, once every partition has one owner.
    fn agreed(&self, members: usize, partitions: usize) -> Option<i32> {
        let views = self.views.lock();
        let epoch = views.values().next()?.epoch;
        let mut owned: Vec<i32> = views
            .values()
            .flat_map(|view| view.partitions.iter().copied())
            .collect();
        let count = owned.len();
        owned.sort_unstable();
        owned.dedup();
        let complete = views.len() == members && owned.len() == partitions && count == partitions;
        (complete && views.values().all(|view| view.epoch == epoch)).then_some(epoch)
    }

    /// Waits until all agree on an epoch above `above`.
    async fn wait(&self, members: usize, partitions: usize, above: i32) -> i32 {
        loop {
            if let Some(epoch) = self.agreed(members, partitions).filter(|e| *e > above) {
                return epoch;
            }
            self.changed.notified().await;
        }
    }
}

/// A group under way: its members are tasks that end when they are told to leave.
struct Group {
    arguments: GroupArgs,
    place: Place,
    /// Those that members share.
    shared: Arc<Vec<Arc<Connection>>>,
    board: Arc<Board>,
    members: JoinSet<Result<()>>,
    leaving: BTreeMap<u64, watch::Sender<bool>>,
    next: u64,
}

impl Group {
    fn new(arguments: &GroupArgs, place: Place, shared: Arc<Vec<Arc<Connection>>>) -> Self {
        Self {
            arguments: arguments.clone(),
            place,
            shared,
            board: Arc::default(),
            members: JoinSet::new(),
            leaving: BTreeMap::new(),
            next: 0,
        }
    }

    /// Between two heartbeats of a member.
    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.arguments.heartbeat_ms)
    }

    /// Another member joins over this connection.
    fn join(&mut self, connection: Arc<Connection>) {
        let number = self.next;
        self.next += 1;
        let (leave, leaving) = watch::channel(false);
        self.leaving.insert(number, leave);
        self.board.expect(number);
        let heartbeat = self.heartbeat();
        let (place, board) = (self.place.clone(), self.board.clone());
        match self.arguments.protocol {
            Protocol::Classic => {
                let session_ms = self.arguments.session_ms;
                let member = ClassicMember::new(place, connection, session_ms, number, board);
                self.members.spawn(member.run(heartbeat, leaving));
            }
            Protocol::Consumer => {
                let member = ConsumerMember::new(place, connection, number, board);
                self.members.spawn(member.run(heartbeat, leaving));
            }
        }
    }

    /// The member that joined first leaves.
    fn leave(&mut self) {
        if let Some((number, leave)) = self.leaving.pop_first() {
            self.board.remove(number);
            let _ = leave.send(true);
        }
    }

    /// Waits until the group agrees.
    async fn agree(&mut self, above: i32, patience: Duration) -> Result<i32> {
        let board = self.board.clone();
        let members = self.leaving.len();
        let partitions = self.place.partitions;
        let all = board.wait(members, partitions, above);
        self.watch("agree", patience, all).await
    }

    /// Waits until every member has sent a heartbeat.
    async fn settle(&mut self, patience: Duration) -> Result<()> {
        let board = self.board.clone();
        let members = self.leaving.len();
        let all = board.all_beat(members);
        self.watch("send heartbeats", patience, all).await
    }

    /// Waits for what all members do; one that fails fails the run.
    async fn watch<T>(
        &mut self,
        what: &str,
        patience: Duration,
        all: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::pin!(all);
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                done = &mut all => return Ok(done),
                Some(ended) = self.members.join_next() => ended??,
                () = &mut deadline => bail!(
                    "the members of {} do not {what} within {} s", self.place.group, patience.as_secs()
                ),
            }
        }
    }
}

/// Measures.
pub(super) async fn run(remote: &RemoteArgs, arguments: GroupArgs) -> Result<()> {
    let client = remote.connect().await?;
    let topic = client
        .await_topic(&arguments.topic, true, Duration::from_secs(5))
        .await?;
    let partitions = topic.partitions.len();
    let run = now_ms();
    let done = AtomicU64::new(0);
    let total = u64::from(arguments.groups) + u64::from(arguments.rounds);
    let shared = Arc::new(shared_connections(&client, &arguments, run).await?);
    let mut kept = Vec::new();
    let mut latencies = Latencies {
        whole: histogram()?,
        after_last_join: histogram()?,
    };
    let mut assembly = Duration::ZERO;
    let work = async {
        for number in 0..arguments.groups {
            let place = Place {
                group: format!("dlog-bench-{run}-{number}"),
                topic: arguments.topic.clone(),
                topic_id: topic.id,
                partitions,
            };
            let mut group = Group::new(&arguments, place, shared.clone());
            let took = assemble(&client, &mut group).await?;
            if number == 0 {
                assembly = took;
                rebalance(&client, &mut group, &mut latencies, &done).await?;
            }
            done.fetch_add(1, Ordering::Relaxed);
            kept.push(group);
        }
        anyhow::Ok(())
    };
    watched(total, || done.load(Ordering::Relaxed), &done, work).await?;
    let report = GroupReport {
        bench: "group",
        protocol: arguments.protocol,
        groups: arguments.groups,
        members: arguments.members,
        partitions,
        assembly_ms: assembly.as_secs_f64() * 1e3,
        rebalances: latencies.whole.len(),
        rebalance_us: Latency::of(&latencies.whole),
        after_last_join_us: Latency::of(&latencies.after_last_join),
    };
    report.print(remote)?;
    if arguments.hold {
        hold().await?;
    }
    Ok(())
}

/// All members join; the time until they agree.
async fn assemble(client: &Client, group: &mut Group) -> Result<Duration> {
    let mut connections = Vec::new();
    for number in 0..group.arguments.members as usize {
        connections.push(connect(client, group, number).await?);
    }
    let began = Instant::now();
    for connection in connections {
        group.join(connection);
    }
    group.agree(-1, client.timeout()).await?;
    Ok(began.elapsed())
}

/// What rebalances took.
struct Latencies {
    whole: Histogram<u64>,
    after_last_join: Histogram<u64>,
}

/// One leaves and one joins, again and again.
async fn rebalance(
    client: &Client,
    group: &mut Group,
    latencies: &mut Latencies,
    done: &AtomicU64,
) -> Result<()> {
    let mut epoch = group.agree(-1, client.timeout()).await?;
    for round in 0..group.arguments.rounds {
        let connection = connect(client, group, group.next as usize).await?;
        group.settle(client.timeout()).await?;
        tokio::time::sleep(group.heartbeat().mul_f64(phase(round))).await;
        let began = Instant::now();
        group.leave();
        group.join(connection);
        epoch = group.agree(epoch, client.timeout()).await?;
        let now = Instant::now();
        record(&mut latencies.whole, now - began);
        if let Some(joined) = *group.board.joined.lock() {
            record(&mut latencies.after_last_join, now - joined);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A part of an interval for each round, spread evenly by the golden ratio.
fn phase(round: u32) -> f64 {
    (f64::from(round) * 0.618_033_988_75).fract()
}

/// The connections that members share.
async fn shared_connections(
    client: &Client,
    arguments: &GroupArgs,
    run: i64,
) -> Result<Vec<Arc<Connection>>> {
    let count = match arguments.protocol {
        Protocol::Classic => 0,
        Protocol::Consumer => arguments.connections.unwrap_or(0),
    };
    let mut shared = Vec::new();
    for _ in 0..count {
        let group = format!("dlog-bench-{run}-0");
        shared.push(client.coordinator(CoordinatorKind::Group, &group).await?);
    }
    Ok(shared)
}

/// The connection of member `number`.
async fn connect(client: &Client, group: &Group, number: usize) -> Result<Arc<Connection>> {
    if let Some(place) = number.checked_rem(group.shared.len()) {
        return Ok(group.shared[place].clone());
    }
    let kind = CoordinatorKind::Group;
    Ok(client.coordinator(kind, &group.place.group).await?)
}

/// Returns when standard input ends.
async fn hold() -> Result<()> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut ignored = Vec::new();
        std::io::stdin().read_to_end(&mut ignored)
    });
    tokio::select! {
        read = reading => drop(read?),
        () = remote::stop_signal() => {}
    }
    Ok(())
}

impl GroupReport {
    fn print(&self, remote: &RemoteArgs) -> Result<()> {
        if remote.json {
            return remote::print_json(self);
        }
        println!(
            "{} groups of {} members with {} partitions; the first was complete after {:.0} ms",
            self.groups, self.members, self.partitions, self.assembly_ms
        );
        if let Some(latency) = &self.rebalance_us {
            println!("rebalance: {latency}");
        }
        if let Some(latency) = &self.after_last_join_us {
            println!("of that after the last join: {latency}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: i32, partitions: &[i32]) -> View {
        View {
            epoch,
            partitions: partitions.to_vec(),
        }
    }

    #[test]
    fn members_agree_when_each_partition_has_one_owner_in_one_epoch() {
        let board = Board::default();
        board.expect(0);
        board.put(0, view(3, &[0, 1]));
        assert_eq!(board.agreed(2, 3), None, "one is missing");
        board.expect(1);
        assert_eq!(board.agreed(2, 3), None, "one knows nothing");
        board.put(1, view(2, &[2]));
        assert_eq!(board.agreed(2, 3), None, "one is behind");
        board.put(1, view(3, &[1]));
        assert_eq!(board.agreed(2, 3), None, "two owners, and none for 2");
        board.put(1, view(3, &[2]));
        assert_eq!(board.agreed(2, 3), Some(3));
        board.remove(1);
        assert_eq!(board.agreed(1, 3), None);
        board.put(0, view(4, &[0, 1, 2]));
        board.put(1, view(3, &[2]));
        assert_eq!(board.agreed(1, 3), Some(4), "who left does not count");
    }
}
