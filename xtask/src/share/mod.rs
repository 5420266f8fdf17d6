//! `cargo xtask share`: the Java share consumer (KIP-932) against the server.
//!
//! First single situations, each with its own topic and group. Then several consumers share a topic while
//! records are sent, and while the server and the consumers are killed ([`mod@run`]); [`judge`] compares what they
//! wrote down with what was sent. *The same seed makes the same kills and the same decisions of the consumers;
//! what the processes make of the time between is theirs.*

mod judge;
#[cfg(test)]
mod judge_tests;
mod run;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::dlog::{self, DlogOptions, DlogServer};
use crate::kafka::{Distribution, Line};
use crate::steps::{Outcome, Steps, is_installed};

/// Options of `cargo xtask share`.
#[derive(Clone, Debug, Args)]
pub struct ShareOptions {
    /// How long the consumers are under load, in seconds.
    #[arg(long, default_value_t = 40)]
    pub seconds: u64,
    /// How often the server is killed.
    #[arg(long, default_value_t = 4)]
    pub kills: usize,
    /// How often a consumer is killed.
    #[arg(long, default_value_t = 5)]
    pub client_kills: usize,
    /// What decides when who is killed and what the consumers say; a new one without it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The load without the single situations.
    #[arg(long)]
    pub load_only: bool,
    /// The server's program instead of the one that cargo builds.
    #[arg(long, env = "DLOG_BIN")]
    pub dlog: Option<PathBuf>,
    /// Fail when a toolchain is missing.
    #[arg(long)]
    pub all: bool,
}

impl ShareOptions {
    /// Quick enough for every test run.
    pub fn quick(program: PathBuf, all: bool) -> Self {
        Self {
            seconds: 15,
            kills: 2,
            client_kills: 2,
            seed: None,
            load_only: false,
            dlog: Some(program),
            all,
        }
    }
}

/// Runs both parts.
pub fn run(steps: &mut Steps, options: &ShareOptions) {
    step(steps, options.all, |root| {
        let program = match &options.dlog {
            Some(program) => program.clone(),
            None => dlog::build(root)?,
        };
        let bench = Bench::prepare(root, program)?;
        if !options.load_only {
            single_situations(&bench)?;
        }
        run::chaos(&bench, options)
    });
}

/// A step that needs Java.
fn step(steps: &mut Steps, all: bool, work: impl FnOnce(&Path) -> Result<()>) {
    let missing = ["java", "javac", "mvn"]
        .into_iter()
        .find(|program| !is_installed(program, "-version"));
    if let Some(program) = missing {
        let missing = format!("{program} is not installed");
        steps.record("share groups", |_| {
            Ok(if all {
                Outcome::Failed(missing)
            } else {
                Outcome::Skipped(missing)
            })
        });
        return;
    }
    steps.step("share groups", work);
}

/// What every part needs.
struct Bench {
    folder: PathBuf,
    program: PathBuf,
    java: Vec<OsString>,
}

impl Bench {
    fn prepare(root: &Path, program: PathBuf) -> Result<Self> {
        let distribution = Distribution::fetch(root, Line::Newest)?;
        let folder = root.join("target/share");
        let classes = folder.join("classes");
        fs::create_dir_all(&classes)?;
        let mut sources = vec![root.join("tests/compat/java/src/Report.java")];
        for entry in fs::read_dir(root.join("tests/share/src"))? {
            sources.push(entry?.path());
        }
        let compiled = Command::new("javac")
            .args(["-nowarn", "-cp", &distribution.class_path, "-d"])
            .arg(&classes)
            .args(&sources)
            .status()?;
        ensure!(compiled.success(), "javac failed");
        let java = distribution.java(Some(&classes));
        let mut command = vec![java.get_program().to_owned()];
        command.extend(java.get_args().map(OsString::from));
        command.push("Main".into());
        Ok(Self {
            folder,
            program,
            java: command,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.java[0]);
        command.args(&self.java[1..]).args(arguments);
        command
    }

    /// A server on a fresh folder, with locks that a test can wait for.
    fn options(&self, name: &str) -> Result<DlogOptions> {
        let data_dir = self.folder.join(name);
        if data_dir.exists() {
            fs::remove_dir_all(&data_dir)?;
        }
        Ok(DlogOptions::new(self.program.clone(), data_dir)
            .with("GROUP_SHARE_MIN_RECORD_LOCK_DURATION_MS", "1000"))
    }
}

fn single_situations(bench: &Bench) -> Result<()> {
    let mut server = DlogServer::start(&bench.options("steps")?)?;
    let output = bench
        .command(&["steps", &server.address, "share-"])
        .output()?;
    server.must_run()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut failed = Vec::new();
    let mut passed = 0;
    for line in text.lines() {
        println!("{line}");
        let step: serde_json::Value = serde_json::from_str(line)?;
        if step["ok"] == true {
            passed += 1;
        } else {
            failed.push(step["step"].to_string());
        }
    }
    server.stop()?;
    if !failed.is_empty() {
        bail!(
            "{} of {} situations went wrong: {}",
            failed.len(),
            failed.len() + passed,
            failed.join(", ")
        );
    }
    ensure!(
        passed > 0,
        "nothing was tried: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
