//! Compaction, for both brokers: how fast it is while nobody else wants anything, and what a producer to
//! another topic feels of it.
//!
//! A p99 of some hundred microseconds says little in a moment in which the host of a virtual machine takes
//! its processors away for milliseconds. So samples without and with compaction take turns, and those
//! during which the host took least count; what it took is printed beside each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::brokers::{Broker, Brokers, Durability, topic_setting};
use super::duties::{self, Figures};
use super::load::{self, Pace, Shape};
use super::machine::{self, Filler};
use super::report::{self, Whole};

/// How long compaction may take.
const BOUND: Duration = Duration::from_secs(180);
/// How long a folder is without a file of compaction when there is none.
const QUIET: Duration = Duration::from_secs(1);
/// Keyed records that are compacted, a second for so many seconds, and how many keys they have.
const KEYED: (u32, u64, u64) = (60_000, 15, 450_000);
/// Records a second that keep the log dirty, so that compaction has no end.
const FED: &str = "2000";
/// Half of the samples of a kind, whose median counts.
const SAMPLES: usize = 4;
/// Of the processors' time, in 1/1000, what the host may take during a sample.
const STOLEN: f64 = 2.0;
/// Samples that are taken at most for one that is quiet.
const TRIES: usize = 3;
/// Runs over a whole log that are made at most for one that is quiet.
const RUNS: u32 = 3;
/// The topics of the producer that is watched.
const WATCHED: [(Durability, &str); 2] = [
    (Durability::Os, "other-os"),
    (Durability::Fsync, "other-fsync"),
];
const KEYED_RECORD: [&str; 4] = ["--record-bytes", "1024", "--batch-records", "15"];

/// Measures the compaction of one broker.
pub(super) struct Compaction<'a> {
    pub(super) brokers: &'a Brokers,
    pub(super) broker: &'a Broker,
    /// Of a sample.
    pub(super) time: Duration,
}

/// What a producer feels of compaction that goes on all the time.
pub(super) fn effect(
    brokers: &Brokers,
    running: &[Broker; 2],
    rounds: u32,
    time: Duration,
) -> Result<Vec<Whole>> {
    let compactions = running.each_ref().map(|broker| Compaction {
        brokers,
        broker,
        time,
    });
    for compaction in &compactions {
        println!("keyed records, {:?}", compaction.broker.kind);
        compaction.prepare()?;
        for (durability, topic) in WATCHED {
            brokers.create_topic(compaction.broker, topic, durability)?;
        }
        // New segments are small: what is fed becomes due at once.
        compaction.alter(&["segment.bytes=1048576", "min.cleanable.dirty.ratio=0.0001"])?;
    }
    let mut all: [Vec<Figures>; 2] = Default::default();
    for round in 0..rounds {
        for turn in 0..2 {
            let at = (turn + round as usize) % 2;
            let compaction = &compactions[at];
            let kind = compaction.broker.kind;
            println!(
                "lasting compaction, round {} of {rounds}, {kind:?}",
                round + 1
            );
            all[at].push(compaction.lasting()?);
        }
    }
    for compaction in &compactions {
        compaction.clear()?;
        for (_, topic) in WATCHED {
            brokers.delete_topic(compaction.broker, topic)?;
        }
    }
    duties::medians(&all)
}

impl Compaction<'_> {
    /// Compacts a log once, while nobody else wants anything; the quietest of a few times.
    pub(super) fn once(&self, filler: &Filler) -> Result<Figures> {
        let mut quietest = self.one_run(filler)?;
        for _ in 1..RUNS {
            if quietest.0 <= STOLEN {
                break;
            }
            let again = self.one_run(filler)?;
            if again.0 < quietest.0 {
                quietest = again;
            }
        }
        Ok(quietest.1)
    }

    /// What the host took during the run, and the figures.
    fn one_run(&self, filler: &Filler) -> Result<(f64, Figures)> {
        self.prepare()?;
        filler.fill_page_cache()?;
        let folder = self.folder();
        let before = segment_bytes(&folder)?;
        let watched = thread::spawn(move || watch_compaction(&folder));
        let thief = Thief::watch()?;
        self.alter(&["cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01"])?;
        let watched = watched
            .join()
            .unwrap_or_else(|_| bail!("the watcher failed"))?;
        let stolen = thief.took()?;
        self.clear()?;
        let mb_per_s = before as f64 / 1e6 / watched.took.as_secs_f64().max(1e-3);
        let left = watched.left as f64 / before as f64;
        println!("    {mb_per_s:.0} MB/s, {stolen:.1}/1000 stolen");
        let figures = [
            ("compaction, MB/s read", mb_per_s),
            ("compaction, part of the bytes that is left", left),
        ];
        let figures = figures.map(|(name, value)| (name.to_owned(), value));
        Ok((stolen, figures.to_vec()))
    }

    /// The same producer without compaction, and with a log that is compacted again and again.
    fn lasting(&self) -> Result<Figures> {
        let mut feeder = self.feed()?;
        let figures: Result<Vec<_>> = WATCHED
            .into_iter()
            .map(|watched| self.without_and_with(watched))
            .collect();
        // It is ours, and its work is done.
        feeder.kill()?;
        feeder.wait()?;
        Ok(figures?.concat())
    }

    fn without_and_with(&self, (durability, topic): (Durability, &str)) -> Result<Figures> {
        let folder = self.folder();
        let (mut alone, mut meanwhile) = (Vec::new(), Vec::new());
        let sample = |kind: &str| self.sample(topic, kind);
        // The first after a start, or after other work, is slower.
        sample("warm-up")?;
        // Half of those without come before and half after, so that a machine that slows down does so for
        // both.
        take_quiet(&mut alone, SAMPLES, || sample("alone"))?;
        self.alter(&["cleanup.policy=compact"])?;
        wait_until_compacted(&folder)?;
        take_quiet(&mut meanwhile, 2 * SAMPLES, || sample("meanwhile"))?;
        self.alter(&["cleanup.policy=delete"])?;
        wait_until_quiet(&folder, QUIET)?;
        take_quiet(&mut alone, 2 * SAMPLES, || sample("alone"))?;
        let (alone, meanwhile) = (median_p99(alone)?, median_p99(meanwhile)?);
        let name = format!("{durability:?}").to_lowercase();
        Ok(vec![
            (
                format!("p99 ms of a producer, {name}, without compaction"),
                alone,
            ),
            (
                format!("p99 ms of a producer, {name}, beside compaction"),
                meanwhile,
            ),
            (
                format!("p99 of a producer, {name}, beside / without compaction"),
                meanwhile / alone,
            ),
        ])
    }

    fn folder(&self) -> PathBuf {
        self.brokers.folder_of(self.broker.kind).join("keyed-0")
    }

    /// The keyed log, not compacted yet.
    fn prepare(&self) -> Result<()> {
        let variant = (self.broker.kind, Durability::Os);
        let settings = ["segment.bytes=67108864"];
        let settings = settings.into_iter().chain(topic_setting(variant));
        self.brokers
            .create_topic_with(self.broker, "keyed", 1, settings)?;
        let (rate, seconds, keys) = KEYED;
        let (rate, seconds, keys) = (rate.to_string(), seconds.to_string(), keys.to_string());
        let load = ["bench", "produce", "keyed", "--json", "--connections", "2"];
        let pace = ["--rate", &rate, "--seconds", &seconds, "--keys", &keys];
        let arguments = [&load[..], &KEYED_RECORD, &pace].concat();
        self.brokers.dlog(self.broker, &arguments)?;
        machine::settle()
    }

    /// Starts to overwrite keys.
    fn feed(&self) -> Result<Child> {
        let keys = KEYED.2.to_string();
        Command::new(&self.brokers.program)
            .args(["bench", "produce", "keyed", "--json", "--seconds", "1000"])
            .args(KEYED_RECORD)
            .args(["--rate", FED, "--keys", &keys])
            .args(["--bootstrap", &self.broker.address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start dlog")
    }

    fn alter(&self, settings: &[&str]) -> Result<()> {
        let mut arguments = vec!["topic", "alter", "keyed"];
        for setting in settings {
            arguments.extend(["--config", setting]);
        }
        self.brokers.dlog(self.broker, &arguments)?;
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        self.brokers.delete_topic(self.broker, "keyed")
    }

    /// The p99 of 2,000 records a second to the other topic.
    fn sample(&self, topic: &str, kind: &str) -> Result<Paced> {
        let shape = Shape {
            record_bytes: 1024,
            batch_records: 1,
        };
        let thief = Thief::watch()?;
        let sample = load::produce(
            self.brokers,
            self.broker,
            topic,
            shape,
            Pace::Tried(2_000),
            self.time,
        )?;
        let paced = Paced {
            p99_ms: sample.p99_us.context("no latency")? / 1e3,
            stolen: thief.took()?,
        };
        println!(
            "    {topic}, {kind}: p99 {:.2} ms, {:.1}/1000 stolen",
            paced.p99_ms, paced.stolen
        );
        Ok(paced)
    }
}

/// Watches what the host of a virtual machine takes of the processors' time.
struct Thief {
    began: Instant,
    before: Duration,
}

impl Thief {
    fn watch() -> Result<Self> {
        Ok(Self {
            began: Instant::now(),
            before: machine::stolen()?,
        })
    }

    /// In 1/1000 of the processors' time.
    fn took(&self) -> Result<f64> {
        let stolen = machine::stolen()?.saturating_sub(self.before);
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        Ok(stolen.as_secs_f64() / self.began.elapsed().as_secs_f64() / cores * 1e3)
    }
}

/// A sample of the producer that is watched.
struct Paced {
    p99_ms: f64,
    /// Of the processors' time, in 1/1000, what the host took.
    stolen: f64,
}

/// Takes samples until there are `count` that are quiet, or no moment for them comes.
fn take_quiet(
    samples: &mut Vec<Paced>,
    count: usize,
    mut take: impl FnMut() -> Result<Paced>,
) -> Result<()> {
    let quiet = |samples: &[Paced]| {
        let quiet = samples.iter().filter(|sample| sample.stolen <= STOLEN);
        quiet.count()
    };
    let missing = count.saturating_sub(quiet(samples));
    for _ in 0..missing * TRIES {
        if quiet(samples) >= count {
            return Ok(());
        }
        samples.push(take()?);
    }
    if quiet(samples) < count {
        println!("    the machine is too busy: noisy samples count as well");
    }
    Ok(())
}

/// The median p99 of the quietest samples.
fn median_p99(mut samples: Vec<Paced>) -> Result<f64> {
    samples.sort_by(|a, b| a.stolen.total_cmp(&b.stolen));
    samples.truncate(2 * SAMPLES);
    report::median(samples.iter().map(|sample| sample.p99_ms)).context("no sample")
}

/// What was seen of a compaction.
struct Watched {
    took: Duration,
    left: u64,
}

/// Watches a log's folder from the first file that compaction makes until it makes none for a while.
fn watch_compaction(folder: &Path) -> Result<Watched> {
    let first = wait_until_compacted(folder)?;
    let last = wait_until_quiet(folder, Duration::from_secs(3))?;
    Ok(Watched {
        took: last - first,
        left: segment_bytes(folder)?,
    })
}

/// Waits for the first file that compaction makes; returns when it was seen.
fn wait_until_compacted(folder: &Path) -> Result<Instant> {
    let asked = Instant::now();
    while !is_being_compacted(folder)? {
        if asked.elapsed() > BOUND {
            bail!("{} is not compacted", folder.display());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(Instant::now())
}

/// Waits until compaction has had no file for a while; returns when one was last seen, or the beginning.
fn wait_until_quiet(folder: &Path, quiet: Duration) -> Result<Instant> {
    let asked = Instant::now();
    let mut last = asked;
    while last.elapsed() < quiet {
        if asked.elapsed() > BOUND {
            bail!("{} was not compacted in time", folder.display());
        }
        if is_being_compacted(folder)? {
            last = Instant::now();
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(last)
}

fn is_being_compacted(folder: &Path) -> Result<bool> {
    Ok(files(folder)?.iter().any(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".cleaned") || name.ends_with(".swap")
    }))
}

fn segment_bytes(folder: &Path) -> Result<u64> {
    let segments = files(folder)?;
    let segments = segments
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "log"));
    // A file may be renamed between the listing and here.
    Ok(segments
        .filter_map(|path| fs::metadata(path).ok())
        .map(|file| file.len())
        .sum())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect())
}
