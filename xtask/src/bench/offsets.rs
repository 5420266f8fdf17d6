//! How long a broker takes after SIGKILL until it serves the committed offsets of all groups again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::brokers::{Broker, Brokers};
use super::report::Whole;

/// Partitions of the topic, and groups that have an offset in each: a million offsets.
const OFFSETS: (u32, u32) = (1_000, 1_000);
/// Groups that commit at a time.
const AT_A_TIME: usize = 4;
/// How long loading may take.
const BOUND: Duration = Duration::from_secs(180);

/// Kills both brokers and waits until all groups are listed, from the first answer of any kind on: the
/// start of the process is measured elsewhere.
pub(super) fn loading(brokers: &Brokers, running: [Broker; 2]) -> Result<Whole> {
    let mut times_ms = [0.0; 2];
    for (broker, time_ms) in running.into_iter().zip(&mut times_ms) {
        let kind = broker.kind;
        println!("loading offsets, {kind:?}");
        commit(brokers, &broker).with_context(|| format!("offsets of {kind:?}"))?;
        broker.kill()?;
        let again = brokers.start(kind)?;
        let answered = Instant::now();
        while listed(brokers, &again) < OFFSETS.1 as usize {
            if answered.elapsed() > BOUND {
                bail!("{kind:?} does not list all groups");
            }
            thread::sleep(Duration::from_millis(5));
        }
        *time_ms = answered.elapsed().as_secs_f64() * 1e3;
        println!("  {time_ms:.0} ms");
        again.stop()?;
    }
    let [dlog, kafka] = times_ms;
    let count = OFFSETS.0 * OFFSETS.1;
    Ok(Whole {
        name: format!("{count} offsets served after SIGKILL, ms behind the first answer"),
        dlog,
        kafka,
    })
}

/// Every group commits its place in every partition.
fn commit(brokers: &Brokers, broker: &Broker) -> Result<()> {
    brokers.create_topic_with(broker, "wide", OFFSETS.0, [])?;
    let next = AtomicU32::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= OFFSETS.1 {
                return Ok(());
            }
            let group = format!("wide-{number}");
            let place = ["--topic", "wide", "--to-latest", "--execute", "--json"];
            let arguments = [&["group", "reset-offsets", &group][..], &place].concat();
            brokers.dlog(broker, &arguments)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| bail!("a worker of the load failed"))
        })
    })
}

/// Groups that the broker lists; none while it says that it is loading.
fn listed(brokers: &Brokers, broker: &Broker) -> usize {
    let output = brokers.dlog(broker, &["group", "list", "--json"]);
    output.map_or(0, |output| {
        let ours = output.lines().filter(|line| line.contains("\"wide-"));
        ours.count()
    })
}
