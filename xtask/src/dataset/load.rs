//! A load: rows go to a client's standard input while the server is killed under it.
//!
//! Kills are placed by rows, not by time: one comes when the client has taken the row that the seed
//! chose, plus a moment that the seed chose too, so that it falls anywhere in the server's work. *The
//! client gets no row behind the next kill before the last one is over, and not the last rows before
//! all are: no kill comes too late, however fast the machine is.*

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rows::Rows;
use super::server::Server;

/// How often the runner looks whether a process has ended.
const GLANCE: Duration = Duration::from_millis(5);
/// The longest moment between the chosen row and the kill, in microseconds.
const LONGEST_MOMENT_US: u64 = 30_000;

/// A kill that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// When the client has taken the rows before this one, ...
    pub row: usize,
    /// ... and this has passed.
    pub moment: Duration,
}

/// Where the kills come: one in each of as many equal parts of the rows, none in the first twentieth
/// and the last tenth. The same seed gives the same ones.
///
/// # Errors
/// When there are too few rows for that many kills.
pub fn plan(seed: u64, range: &Range<usize>, kills: usize) -> Result<Vec<Kill>> {
    let begin = range.start + range.len() / 20;
    let part = (range.len() / 20 * 17).checked_div(kills).unwrap_or(0);
    ensure!(
        kills == 0 || part > 0,
        "{} rows are too few for {kills} kills",
        range.len()
    );
    let mut random = StdRng::seed_from_u64(seed);
    let plan = (0..kills).map(|i| Kill {
        row: begin + i * part + random.random_range(0..part),
        moment: Duration::from_micros(random.random_range(0..LONGEST_MOMENT_US)),
    });
    Ok(plan.collect())
}

/// How a load went.
#[derive(Clone, Debug)]
pub struct Load {
    /// From the start of the client to its end.
    pub took: Duration,
    /// For each kill, how long the server was away.
    pub away: Vec<Duration>,
}

/// Gives a client the rows, kills the server as planned, and waits until the client ends well.
///
/// # Errors
/// When the client fails or ends too early, the server does not come up again, or the time is over.
pub fn run(
    client: &mut Command,
    log: &Path,
    (rows, range): (&Rows, Range<usize>),
    plan: &[Kill],
    server: &mut Server,
    bound: Duration,
) -> Result<Load> {
    let started = Instant::now();
    let mut child = client
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(log)?)
        .spawn()
        .with_context(|| format!("cannot start {}", client.get_program().display()))?;
    let input = child.stdin.take().context("the pipe was asked for")?;
    let (reached, due) = mpsc::channel();
    let (done, over) = mpsc::channel();
    let away = thread::scope(|scope| {
        let feeder = scope.spawn(move || feed(input, rows, range, plan, &reached, &over));
        let away = attend(&mut child, server, &due, &done, started + bound);
        if away.is_err() {
            // The feeder ends with the client, whose pipe it writes to, or with the channel.
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(done);
        let fed = feeder.join().expect("the feeder does not panic");
        // What the client or the server did explains a broken pipe, not the other way round.
        away.and_then(|away| fed.map(|()| away))
    });
    let away = away.with_context(|| format!("see {}", log.display()))?;
    ensure!(
        away.len() == plan.len(),
        "{} kills of {} were done",
        away.len(),
        plan.len()
    );
    let took = started.elapsed();
    Ok(Load { took, away })
}

/// Writes the rows; reports each kill's row when the client has taken those before it.
fn feed(
    mut input: ChildStdin,
    rows: &Rows,
    range: Range<usize>,
    plan: &[Kill],
    reached: &Sender<Kill>,
    over: &Receiver<()>,
) -> Result<()> {
    let mut at = range.start;
    let mut under_way = false;
    for kill in plan {
        input.write_all(rows.bytes(at..kill.row))?;
        at = kill.row;
        if under_way {
            over.recv()?;
        }
        reached.send(*kill)?;
        under_way = true;
    }
    // Behind all kills by the plan.
    let tail = at.max(range.end - range.len() / 20);
    input.write_all(rows.bytes(at..tail))?;
    if under_way {
        over.recv()?;
    }
    input.write_all(rows.bytes(tail..range.end))?;
    Ok(())
}

/// Kills when it is time, until the client has ended.
fn attend(
    child: &mut Child,
    server: &mut Server,
    due: &Receiver<Kill>,
    done: &Sender<()>,
    end: Instant,
) -> Result<Vec<Duration>> {
    let mut away = Vec::new();
    loop {
        match due.recv_timeout(GLANCE) {
            Ok(kill) => {
                thread::sleep(kill.moment);
                ensure!(child.try_wait()?.is_none(), "the client ended too early");
                away.push(server.kill_and_restart()?);
                // A feeder that is gone is seen by the client's end.
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(GLANCE),
        }
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the client failed ({status})");
            return Ok(away);
        }
        server.must_run()?;
        if Instant::now() > end {
            bail!("the client did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_spread_and_repeatable() {
        for seed in 0..200 {
            let range = 1000..3000;
            let kills = plan(seed, &range, 7).unwrap();
            assert_eq!(kills, plan(seed, &range, 7).unwrap());
            assert_eq!(kills.len(), 7);
            assert!(kills.is_sorted_by_key(|kill| kill.row));
            assert!(kills.iter().all(|kill| (1100..2800).contains(&kill.row)));
        }
        assert_ne!(
            plan(1, &(0..1000), 3).unwrap(),
            plan(2, &(0..1000), 3).unwrap()
        );
    }

    #[test]
    fn too_many_kills_are_refused() {
        assert_eq!(plan(1, &(0..10), 0).unwrap(), []);
        assert!(plan(1, &(0..10), 3).is_err());
        assert!(plan(1, &(0..0), 1).is_err());
    }
}
