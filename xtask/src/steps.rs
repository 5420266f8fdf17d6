//! Runs the steps of a command, one after the other, and says at the end what became of each.
//!
//! Output of the tools goes straight to the terminal. A failed step does not stop the next one:
//! whoever waits for a run wants to know everything that is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What became of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Passed,
    /// It was not needed or not possible here, for this reason; the run does not fail for it.
    Skipped(String),
    /// It failed, for this reason.
    Failed(String),
}

struct Finished {
    name: String,
    outcome: Outcome,
    took: Duration,
}

/// The steps of one run.
pub struct Steps {
    root: PathBuf,
    finished: Vec<Finished>,
}

/// The folder of the workspace.
///
/// # Errors
/// When this program was moved out of its workspace.
pub fn workspace_root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask lies in no workspace")?;
    root.canonicalize()
        .with_context(|| format!("{} is gone", root.display()))
}

impl Steps {
    /// No step has run yet.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            finished: Vec::new(),
        }
    }

    /// The folder of the workspace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a step that passes or fails.
    pub fn step(&mut self, name: &str, step: impl FnOnce(&Path) -> Result<()>) {
        self.record(name, |root| step(root).map(|()| Outcome::Passed));
    }

    /// Runs a step that decides its own outcome.
    pub fn record(&mut self, name: &str, step: impl FnOnce(&Path) -> Result<Outcome>) {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome =
            step(&self.root).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        match &outcome {
            Outcome::Passed => {}
            Outcome::Skipped(reason) => println!("skipped: {reason}"),
            Outcome::Failed(reason) => println!("FAILED: {reason}"),
        }
        self.finished.push(Finished {
            name: name.to_owned(),
            outcome,
            took: started.elapsed(),
        });
    }

    /// Whether a step has failed so far.
    pub fn has_failed(&self) -> bool {
        self.finished
            .iter()
            .any(|step| matches!(step.outcome, Outcome::Failed(_)))
    }

    /// Prints the summary; the exit code is that of the whole run.
    pub fn finish(self) -> ExitCode {
        println!("\nSummary");
        for step in &self.finished {
            let seconds = step.took.as_secs_f64();
            let (word, reason) = match &step.outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Skipped(reason) => ("skipped", reason.as_str()),
                Outcome::Failed(reason) => ("FAILED", reason.as_str()),
            };
            println!("  {word:<8}{:<28}{seconds:>8.1} s  {reason}", step.name);
        }
        if self.has_failed() {
            println!("Some steps failed.");
            ExitCode::FAILURE
        } else {
            println!("All steps passed.");
            ExitCode::SUCCESS
        }
    }
}

/// Runs cargo in the workspace, with its output on the terminal.
///
/// # Errors
/// When it cannot be started or fails.
pub fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    println!("$ cargo {}", arguments.join(" "));
    let mut command = Command::new(cargo);
    command
        .args(arguments)
        .current_dir(root)
        .envs(environment.iter().copied());
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!(
            "cargo {} failed ({status})",
            arguments.first().unwrap_or(&"")
        );
    }
    Ok(())
}

/// Whether a program can be started with `--version`.
pub fn is_installed(program: &str, version_flag: &str) -> bool {
    let output = Command::new(program).arg(version_flag).output();
    output.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_run_but_not_the_next_step() {
        let mut steps = Steps::new(workspace_root().unwrap());
        steps.step("breaks", |_| bail!("on purpose"));
        assert!(steps.has_failed());
        let mut ran = false;
        steps.step("runs", |_| {
            ran = true;
            Ok(())
        });
        assert!(ran);
        assert_eq!(steps.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn a_skip_is_no_failure() {
        let mut steps = Steps::new(workspace_root().unwrap());
        steps.record("absent", |_| {
            Ok(Outcome::Skipped("no toolchain".to_owned()))
        });
        assert!(!steps.has_failed());
        assert_eq!(steps.finish(), ExitCode::SUCCESS);
    }
}
