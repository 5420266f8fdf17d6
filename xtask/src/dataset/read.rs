//! The two readers: each writes a whole topic into a file, one line a record.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Partition, offset, key and value, as [`super::verify`] takes them.
const TEMPLATE: &str = "%p\\t%o\\t%k\\t%v\\n";

/// A program that reads a topic.
#[derive(Clone, Copy, Debug)]
pub enum Reader<'a> {
    /// The Java client, started by this command.
    Java(&'a [OsString]),
    /// `dlog consume` of this program.
    Dlog(&'a Path),
}

impl Reader<'_> {
    /// As the report shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Java(_) => "Java client",
            Self::Dlog(_) => "dlog consume",
        }
    }

    /// Reads a topic; what the program wrote, and how long it ran.
    ///
    /// # Errors
    /// When the program fails, or does not end in time.
    pub fn read(
        self,
        bootstrap: &str,
        topic: &str,
        file: &Path,
        bound: Duration,
    ) -> Result<(Vec<u8>, Duration)> {
        let started = Instant::now();
        let mut command = match self {
            Self::Java(command) => {
                let (program, first) = command.split_first().context("an empty command")?;
                let mut java = Command::new(program);
                java.args(first).args(["read", bootstrap, topic]).arg(file);
                java.stdout(Stdio::null());
                java
            }
            Self::Dlog(program) => {
                let mut dlog = Command::new(program);
                dlog.args(["consume", topic, "--bootstrap", bootstrap])
                    .args(["--from", "beginning", "--template", TEMPLATE])
                    .stdout(File::create(file)?);
                dlog
            }
        };
        let log = file.with_extension("err");
        let mut child = command
            .stdin(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start the {}", self.name()))?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > bound {
                child.kill()?;
                child.wait()?;
                bail!("the {} did not end within {bound:?}", self.name());
            }
            thread::sleep(Duration::from_millis(5));
        };
        let took = started.elapsed();
        ensure!(
            status.success(),
            "the {} failed ({status}), see {}",
            self.name(),
            log.display()
        );
        let read = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((read, took))
    }
}
