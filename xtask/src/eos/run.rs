//! One run: a broker, a loader, the clients, the plan, the end, the judgement.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::EosOptions;
use super::broker::Broker;
use super::clients::{Clients, GLANCE, PATIENCE, Role, Setting, ended, signal, until};
use super::judge::{self, Findings, Inputs};
use super::plan::{self, Blow};
use super::programs::{Library, Programs};

/// What all names begin with; a run has a broker of its own.
const PREFIX: &str = "eos";
/// Instances of each transforming client.
const INSTANCES: usize = 2;
/// Topics without the prefix, and their partitions.
const TOPICS: [(&str, usize); 10] = [
    ("in", 4),
    ("mix", 4),
    ("out-java", 4),
    ("out-confluent", 4),
    ("out-franz", 4),
    ("lines", 2),
    ("left", 2),
    ("right", 2),
    ("counts", 2),
    ("joined", 2),
];

/// How a run went.
#[derive(Debug, Default)]
pub struct Told {
    /// SIGKILLs of the broker.
    pub kills: usize,
    /// SIGKILLs of clients.
    pub client_kills: usize,
    /// Clients that came back too late.
    pub zombies: usize,
    /// Records in committed transactions of the loader.
    pub inputs: usize,
    /// Records in aborted ones.
    pub aborted: usize,
    /// Outputs of all clients.
    pub outputs: usize,
    /// Events in the history.
    pub events: usize,
    /// Clients that began anew after an error.
    pub restarts: usize,
    away: Vec<Duration>,
    protocol: &'static str,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away = self
            .away
            .iter()
            .map(|away| format!("{:.0}", away.as_secs_f64() * 1e3));
        let away: Vec<_> = away.collect();
        write!(
            f,
            "{} broker kills (away {} ms), {} client kills, {} zombies fenced, {} restarts after errors, {} groups\n  \
             {} inputs committed and {} aborted; {} outputs, each once, in order; {} events without an anomaly",
            self.kills,
            away.join(", "),
            self.client_kills,
            self.zombies,
            self.restarts,
            self.protocol,
            self.inputs,
            self.aborted,
            self.outputs,
            self.events
        )
    }
}

/// Does one run.
///
/// # Errors
/// When something is wrong with the outputs, the history, a client or the broker.
pub fn run(programs: &Programs, options: &EosOptions, seed: u64, folder: &Path) -> Result<Told> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let protocol = match options.protocol.as_deref() {
        Some("consumer") => "consumer",
        Some(_) => "classic",
        None => ["classic", "consumer"][usize::from(seed.count_ones() % 2 == 1)],
    };
    let data = folder.join("data");
    let broker = Broker::start(options.against, programs, &data, protocol)?;
    for (topic, partitions) in TOPICS {
        broker.create_topic(programs, &format!("{PREFIX}-{topic}"), partitions)?;
    }
    let clients = Clients::new(Setting {
        programs,
        bootstrap: broker.bootstrap(),
        prefix: PREFIX.to_owned(),
        protocol,
        folder: folder.to_owned(),
        seed,
    });
    let mut run = Run {
        broker,
        clients,
        folder: folder.to_owned(),
        told: Told {
            protocol,
            ..Told::default()
        },
    };
    let mut loader = run.loader(seed)?;
    let mut follower = run.follower()?;
    run.start_clients()?;
    run.strike(options, seed)?;
    let inputs = loader.stop(folder)?;
    run.drain(&inputs, &follower)?;
    run.clients.stop()?;
    run.told.restarts = run.clients.restarts;
    follower.stop()?;
    run.judge(&inputs)?;
    run.broker.stop()?;
    // Only what passed: what did not is there to be looked at.
    fs::remove_dir_all(folder)?;
    Ok(run.told)
}

struct Run<'a> {
    broker: Broker,
    clients: Clients<'a>,
    folder: PathBuf,
    told: Told,
}

impl Run<'_> {
    fn loader(&mut self, seed: u64) -> Result<Loader> {
        let (process, history) = self.clients.number();
        let setting = self.clients.setting();
        let mut command = setting.programs.script("eos_load.py", &setting.bootstrap);
        command
            .args([PREFIX, &process.to_string(), &(seed >> 1).to_string()])
            .arg(history)
            .arg(self.folder.join("loaded"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.join("loader.err"))?);
        let mut child = command.spawn().context("cannot start the loader")?;
        let input = child.stdin.take();
        Ok(Loader { child, input })
    }

    fn follower(&mut self) -> Result<Follower> {
        let (process, history) = self.clients.number();
        let setting = self.clients.setting();
        let mut command = setting.programs.script("eos_read.py", "follow");
        command
            .args([&setting.bootstrap, &process.to_string()])
            .arg(history)
            .args(topic_arguments());
        Follower::start(&mut command, &self.folder)
    }

    fn start_clients(&mut self) -> Result<()> {
        self.clients.add(Role::Streams, "s0")?;
        for library in Library::ALL {
            for instance in 0..INSTANCES {
                let id = format!("{}-{instance}", library.name());
                self.clients.add(Role::Transform(library), &id)?;
            }
            let id = format!("{}-mix", library.name());
            self.clients.add(Role::Mix(library), &id)?;
        }
        let writers = self.clients.places(|role| matches!(role, Role::Mix(_)));
        let (broker, clients) = (&mut self.broker, &mut self.clients);
        until("every library to commit", || {
            broker.must_run()?;
            clients.attend()?;
            for place in &writers {
                if !clients.has_committed(*place)? {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// Does what the plan says, when it says it.
    fn strike(&mut self, options: &EosOptions, seed: u64) -> Result<()> {
        let span = Duration::from_secs(options.seconds);
        let all = self.clients.places(|_| true);
        let zombies = self
            .clients
            .places(|role| matches!(role, Role::Transform(_)));
        let begun = Instant::now();
        for (time, blow) in plan::plan(seed, span, options.blows(), &all, &zombies) {
            self.wait(begun + time)?;
            match blow {
                Blow::Broker => {
                    self.told.away.push(self.broker.kill_and_restart()?);
                    self.told.kills += 1;
                }
                Blow::Client(place) => {
                    self.clients.kill(place)?;
                    self.told.client_kills += 1;
                }
                Blow::Zombie(place) => {
                    let broker = &mut self.broker;
                    self.clients.make_zombie(place, || broker.must_run())?;
                    self.told.zombies += 1;
                }
            }
        }
        self.wait(begun + span)
    }

    fn wait(&mut self, end: Instant) -> Result<()> {
        loop {
            self.broker.must_run()?;
            self.clients.attend()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(GLANCE));
        }
    }

    /// Waits until a reader has had as many outputs as there must be. What is missing then is for the judge.
    fn drain(&mut self, inputs: &Inputs, follower: &Follower) -> Result<()> {
        let transformed = inputs.of("in").count();
        let mut expected = BTreeMap::from([
            ("counts", inputs.words().values().sum()),
            ("joined", inputs.pairs().len()),
        ]);
        expected.extend(["in", "out-java", "out-confluent", "out-franz"].map(|t| (t, transformed)));
        let begun = Instant::now();
        loop {
            self.broker.must_run()?;
            self.clients.attend()?;
            let counts = follower.counts();
            let count = |topic: &str| counts.get(&format!("{PREFIX}-{topic}")).copied();
            let lacks =
                |(topic, expected): &(&&str, &usize)| count(topic).unwrap_or(0) < **expected;
            if !expected.iter().any(|one| lacks(&one)) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                println!("  after {PATIENCE:?} there is {counts:?} of {expected:?}");
                return Ok(());
            }
            thread::sleep(GLANCE);
        }
    }

    fn judge(&mut self, inputs: &Inputs) -> Result<()> {
        let read = self.read()?;
        let mut findings = Findings::default();
        let topic = |name: &str| -> Result<Vec<judge::Record>> {
            let file = read.join(format!("{PREFIX}-{name}"));
            judge::topic(&fs::read_to_string(file)?).with_context(|| name.to_owned())
        };
        for (name, _) in TOPICS {
            let again = judge::topic(&self.read_with_dlog(name)?)?;
            judge::same(name, &topic(name)?, &again, &mut findings);
        }
        let loaded = topic("in")?;
        judge::loaded(inputs, &loaded, &mut findings);
        let committed = fs::read_to_string(read.join("committed"))?;
        for library in Library::ALL {
            let (name, group) = (format!("out-{}", library.name()), group(library));
            let outputs = topic(&name)?;
            self.told.outputs += outputs.len();
            judge::transformed(&name, &loaded, &outputs, &mut findings);
            judge::offsets(
                &group,
                &loaded,
                &offsets_of(&committed, &group)?,
                &mut findings,
            );
        }
        let (counts, joined) = (topic("counts")?, topic("joined")?);
        self.told.outputs += counts.len() + joined.len();
        judge::counted(inputs, &counts, &mut findings);
        judge::joined(inputs, &joined, &mut findings);
        self.told.inputs = inputs.committed.len();
        self.told.aborted = inputs.aborted;
        let anomalies = self.judge_history()?;
        for finding in &findings.kept {
            println!("    {finding}");
        }
        ensure!(
            findings.count == 0,
            "{} findings in the outputs",
            findings.count
        );
        ensure!(anomalies == 0, "{anomalies} findings in the history");
        ensure!(self.told.inputs > 0, "nothing was loaded");
        Ok(())
    }

    /// Reads everything with librdkafka; the folder with what it found.
    fn read(&mut self) -> Result<PathBuf> {
        let folder = self.folder.join("read");
        fs::create_dir_all(&folder)?;
        let (process, history) = self.clients.number();
        let setting = self.clients.setting();
        let mut groups: Vec<_> = Library::ALL.iter().map(|library| group(*library)).collect();
        groups.push(format!("{PREFIX}-mixers"));
        let mut command = setting.programs.script("eos_read.py", "read");
        command
            .args([&setting.bootstrap, &process.to_string()])
            .arg(history)
            .arg(&folder)
            .arg(groups.join(","))
            .args(topic_arguments());
        crate::compat::must(&mut command)?;
        Ok(folder)
    }

    fn read_with_dlog(&self, topic: &str) -> Result<String> {
        let setting = self.clients.setting();
        let mut command = Command::new(&setting.programs.dlog);
        command
            .args(["consume", &format!("{PREFIX}-{topic}"), "--committed"])
            .args(["--from", "beginning", "--template", "%p\\t%o\\t%k\\t%v\\n"])
            .args(["--bootstrap", &setting.bootstrap]);
        let output = command.output().context("cannot start dlog consume")?;
        ensure!(
            output.status.success(),
            "dlog consume failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The number of findings; they are printed, and the history is kept beside them.
    fn judge_history(&mut self) -> Result<usize> {
        let events = dlog_history::merge::merge(self.clients.histories()?);
        self.told.events = events.len();
        let file = self.folder.join("history.jsonl");
        dlog_history::write_lines(&events, std::io::BufWriter::new(File::create(&file)?))?;
        let report = dlog_history::check(&events).with_context(|| file.display().to_string())?;
        if !report.findings.is_empty() {
            println!("{report}\n  lines of {}", file.display());
        }
        Ok(report.findings.len())
    }
}

fn group(library: Library) -> String {
    format!("{PREFIX}-{}", library.name())
}

/// All topics; what is marked belongs to the history.
fn topic_arguments() -> impl Iterator<Item = String> {
    TOPICS.iter().map(|(topic, _)| {
        let recorded = *topic == "in" || *topic == "mix" || topic.starts_with("out-");
        format!("{}{PREFIX}-{topic}", if recorded { "+" } else { "" })
    })
}

/// What a group committed of the inputs, by partition: lines `group log offset`.
fn offsets_of(text: &str, group: &str) -> Result<BTreeMap<u32, i64>> {
    let mut offsets = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [name, log, offset] = fields[..] else {
            bail!("{line:?} is no committed offset");
        };
        let partition = log
            .strip_prefix(PREFIX)
            .and_then(|log| log.strip_prefix("-in-"));
        if name == group {
            let partition =
                partition.with_context(|| format!("{group} committed offsets of {log}"))?;
            offsets.insert(partition.parse()?, offset.parse()?);
        }
    }
    Ok(offsets)
}

/// The process that writes the inputs; it ends after its standard input.
struct Loader {
    child: Child,
    input: Option<ChildStdin>,
}

impl Loader {
    fn stop(&mut self, folder: &Path) -> Result<Inputs> {
        drop(self.input.take());
        let status = ended(&mut self.child, "the loader to end")?;
        ensure!(
            status.success(),
            "the loader failed ({status}), see {}",
            folder.display()
        );
        Inputs::parse(&fs::read_to_string(folder.join("loaded"))?, PREFIX)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Already ended, or to be ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that reads along and says how far it is.
struct Follower {
    child: Child,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Follower {
    fn start(command: &mut Command, folder: &Path) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(folder.join("follower.err"))?);
        let mut child = command.spawn().context("cannot start the follower")?;
        let output = child.stdout.take().context("the pipe was asked for")?;
        let counts: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let kept = Arc::clone(&counts);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(counts) = serde_json::from_str(&line) {
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = counts;
                }
            }
        });
        Ok(Self { child, counts })
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn stop(&mut self) -> Result<()> {
        signal(&self.child, Signal::TERM)?;
        let status = ended(&mut self.child, "the follower to end")?;
        ensure!(status.success(), "the follower failed ({status})");
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Already ended, or to be ended now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
