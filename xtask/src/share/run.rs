//! Consumers share a topic while records are sent, and server and consumers are killed.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::judge::{Event, Expected, judge};
use super::{Bench, ShareOptions};
use crate::dlog::{DlogOptions, DlogServer};

const TOPIC: &str = "jobs";
const GROUP: &str = "workers";
const PARTITIONS: usize = 3;
const WORKERS: usize = 3;
/// `group.share.delivery.count.limit`.
const DELIVERIES: u16 = 5;
/// Records for each second under load.
const RECORDS_PER_SECOND: u64 = 400;
/// How long everything may take once nobody is killed any more.
const DRAIN_BOUND: Duration = Duration::from_secs(180);
/// How long a consumer that must get nothing is watched.
const WATCHED: Duration = Duration::from_secs(8);

/// What all consumers wrote down, in the order in which it came.
type Record = Arc<Mutex<Vec<Event>>>;

/// A consumer.
struct Worker {
    number: usize,
    child: Child,
    reader: JoinHandle<()>,
    errors: PathBuf,
}

impl Worker {
    fn start(
        bench: &Bench,
        server: &str,
        number: usize,
        seed: u64,
        record: &Record,
    ) -> Result<Self> {
        let seed = seed.wrapping_add(number as u64).to_string();
        let errors = bench.folder.join(format!("consumer-{number}.log"));
        let mut child = bench
            .command(&["worker", server, GROUP, TOPIC, &seed])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .context("cannot start a consumer")?;
        let output = child.stdout.take().context("the pipe was asked for")?;
        let record = record.clone();
        let reader = thread::spawn(move || write_down(output, number, &record));
        Ok(Self {
            number,
            child,
            reader,
            errors,
        })
    }

    /// A consumer goes on whatever the server does.
    fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let errors = fs::read_to_string(&self.errors).unwrap_or_default();
            bail!("consumer {} ended ({status}): {errors}", self.number);
        }
        Ok(())
    }

    /// SIGKILL.
    fn kill(mut self, record: &Record) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.finish(record)
    }

    /// The end of its input asks it to stop.
    fn stop(mut self, record: &Record) -> Result<()> {
        drop(self.child.stdin.take());
        let until = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                self.child.kill()?;
                self.child.wait()?;
                bail!("consumer {} does not stop", self.number);
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.finish(record)
    }

    fn finish(self, record: &Record) -> Result<()> {
        if self.reader.join().is_err() {
            bail!("what consumer {} said cannot be read", self.number);
        }
        push(record, Event::Ended(self.number));
        Ok(())
    }
}

fn push(record: &Record, event: Event) {
    match record.lock() {
        Ok(mut events) => events.push(event),
        // Whoever panicked with it is heard of by its thread.
        Err(poisoned) => poisoned.into_inner().push(event),
    }
}

fn write_down(output: ChildStdout, worker: usize, record: &Record) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some(event) = Event::parse(worker, &line) {
            push(record, event);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    Server,
    Worker(usize),
}

/// When who is killed, in milliseconds from the start.
fn plan(options: &ShareOptions, random: &mut StdRng) -> Vec<(u64, Blow)> {
    let end_ms = options.seconds * 1000;
    let mut blows = Vec::new();
    for _ in 0..options.kills {
        blows.push((random.random_range(1000..end_ms), Blow::Server));
    }
    for _ in 0..options.client_kills {
        let worker = random.random_range(0..WORKERS);
        blows.push((random.random_range(1000..end_ms), Blow::Worker(worker)));
    }
    blows.sort_by_key(|(at_ms, _)| *at_ms);
    blows
}

/// Runs it, and judges what the consumers wrote down.
pub(super) fn chaos(bench: &Bench, options: &ShareOptions) -> Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    println!("share chaos: seed {seed} (repeat with --seed {seed})");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server_options = bench.options("chaos")?;
    let mut server = DlogServer::start(&server_options)?;
    // It is started again where its clients look for it.
    server_options.kafka.clone_from(&server.address);
    let address = server.address.clone();
    once(
        bench,
        &["prepare", &address, TOPIC, &PARTITIONS.to_string(), GROUP],
    )?;

    let record = Record::default();
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(Worker::start(bench, &address, number, seed, &record)?);
    }
    let count = RECORDS_PER_SECOND * options.seconds;
    let mut sender = bench
        .command(&["send", &address, TOPIC, &count.to_string()])
        .stdin(Stdio::null())
        .spawn()?;
    let started = Instant::now();
    let mut next_number = WORKERS;
    for (at_ms, blow) in plan(options, &mut random) {
        let due = Duration::from_millis(at_ms).saturating_sub(started.elapsed());
        thread::sleep(due);
        match blow {
            Blow::Server => {
                println!("{at_ms:>6} ms: the server is killed");
                server = again(server, &server_options)?;
            }
            Blow::Worker(at) => {
                println!("{at_ms:>6} ms: consumer {} is killed", workers[at].number);
                let new = Worker::start(bench, &address, next_number, seed, &record)?;
                next_number += 1;
                std::mem::replace(&mut workers[at], new).kill(&record)?;
            }
        }
    }
    ensure!(sender.wait()?.success(), "not all records could be sent");
    drain(bench, &address, &mut workers)?;
    for worker in workers {
        worker.stop(&record)?;
    }
    let watched = Worker::start(bench, &address, next_number, seed, &record)?;
    thread::sleep(WATCHED);
    watched.stop(&record)?;
    server.must_run()?;
    server.stop()?;
    let events = record
        .lock()
        .map(|events| events.clone())
        .unwrap_or_default();
    let expected = Expected {
        records: count,
        deliveries: DELIVERIES,
        last_worker: next_number,
    };
    let verdict = judge(&events, &expected);
    println!("{verdict}");
    if verdict.findings.is_empty() {
        return Ok(());
    }
    bail!("seed {seed}: {}", verdict.findings.join("; "))
}

fn again(server: DlogServer, options: &DlogOptions) -> Result<DlogServer> {
    server.kill()?;
    DlogServer::start(options)
}

fn once(bench: &Bench, arguments: &[&str]) -> Result<String> {
    let output = bench.command(arguments).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {errors}", arguments[0]);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until the group has nothing left to do.
fn drain(bench: &Bench, address: &str, workers: &mut [Worker]) -> Result<()> {
    let until = Instant::now() + DRAIN_BOUND;
    loop {
        workers.iter_mut().try_for_each(Worker::must_run)?;
        let lags = once(bench, &["lag", address, GROUP])?;
        let is_done = |line: &str| line.ends_with("/0");
        if lags.lines().count() == PARTITIONS && lags.lines().all(is_done) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("records are left over (start offset and lag): {lags}");
        }
        thread::sleep(Duration::from_secs(1));
    }
}
