//! `dlog consume`: records of a topic to standard output.
//!
//! Invariants: without `--follow` it ends at the ends that the partitions had when it began; a broker
//! that goes away and comes back costs time, not records, and none is printed twice.

mod print;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use dlog_client::{ClientError, Consumer, ConsumerConfig, Fetched, Position};
use indicatif::{ProgressBar, ProgressStyle};
use kafka_protocol::ResponseError;

use super::log::render;
use super::remote::{self, EXIT_CODES, INTERRUPTED, RemoteArgs};
use print::{Format, Printer, Template};

/// Between two attempts at a broker that does not answer.
const PAUSE: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "Examples:
  dlog consume greetings --from beginning
  dlog consume orders --from -10 --template '%p/%o %k: %v\\n'
  dlog consume orders --partitions 3 --from 1500 --count 1 --json
  dlog consume orders --from @1767225600000 --follow";

/// Options of `dlog consume`.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct ConsumeArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Topic.
    topic: String,
    /// Where to begin in each partition: beginning, end, an offset, -N for the last N records, or @MS
    /// for the first record that young (Unix ms).
    #[arg(long, visible_alias = "offset", default_value = "end", allow_hyphen_values = true, value_parser = position, value_name = "WHERE")]
    from: Position,
    /// Partitions, separated by commas; all without it.
    #[arg(short, long, visible_alias = "partition", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Stop after this many records.
    #[arg(short = 'n', long, visible_alias = "max", value_name = "N")]
    count: Option<u64>,
    /// Go on waiting for records at the end (what --from end does anyway).
    #[arg(short, long)]
    follow: bool,
    /// How a record is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Text for a record: %k key, %v value, %K and %S their bytes (-1: null), %t topic, %p partition,
    /// %o offset, %T timestamp (Unix ms), %h headers, %% percent; \n, \r, \t, \0 and \\.
    #[arg(long, default_value = "%v\\n", value_parser = |text: &str| text.parse::<Template>())]
    template: Template,
    /// Printed for a null key or value.
    #[arg(long, default_value = "", value_name = "TEXT")]
    null_marker: String,
    /// Show only records of committed transactions.
    #[arg(long)]
    committed: bool,
}

fn position(text: &str) -> Result<Position, String> {
    let wrong = || format!("{text:?} is none of beginning, end, an offset, -N and @MS");
    let number = |digits: &str| {
        digits
            .parse()
            .ok()
            .filter(|n: &i64| *n >= 0)
            .ok_or_else(wrong)
    };
    match text {
        "beginning" | "earliest" => Ok(Position::Beginning),
        "end" | "latest" => Ok(Position::End),
        _ => match text.split_at_checked(1) {
            Some(("@", ms)) => number(ms).map(Position::Timestamp),
            Some(("-", count)) => number(count).map(Position::Last),
            _ => number(text).map(Position::Offset),
        },
    }
}

/// Runs `dlog consume`.
pub fn run(arguments: ConsumeArgs) -> Result<ExitCode> {
    remote::run(async move {
        let follow = arguments.follow || arguments.from == Position::End;
        let mut printed = 0;
        let done = tokio::select! {
            done = consume(&arguments, follow, &mut printed) => Some(done),
            () = remote::stop_signal() => None,
        };
        if let Some(done) = done {
            return done.map(|()| ExitCode::SUCCESS);
        }
        remote::note(&format!(
            "interrupted after {}",
            render::count(printed, "record")
        ));
        // That is how one ends following.
        Ok(if follow {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(INTERRUPTED)
        })
    })
}

async fn consume(arguments: &ConsumeArgs, follow: bool, printed: &mut u64) -> Result<()> {
    let client = arguments.remote.connect().await?;
    let config = ConsumerConfig {
        committed_only: arguments.committed,
        ..ConsumerConfig::default()
    };
    let topic = &arguments.topic;
    let consumer =
        Consumer::new(client, topic, &arguments.partitions, arguments.from, config).await?;
    let ends = match follow {
        true => None,
        false => Some(consumer.find(Position::End).await?),
    };
    let mut reading = Reading {
        progress: progress(&consumer, ends.as_ref()),
        consumer,
        ends,
        patience: Duration::from_secs(arguments.remote.timeout),
        may_skip: !matches!(arguments.from, Position::Offset(_)),
        idle_polls: 0,
    };
    let printer = Printer {
        topic,
        format: if arguments.remote.json {
            Format::Json
        } else {
            arguments.format
        },
        template: &arguments.template,
        null_marker: &arguments.null_marker,
    };
    let most = arguments.count.unwrap_or(u64::MAX);
    while *printed < most {
        let Some(fetched) = reading.next().await? else {
            break;
        };
        let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
        for fetched in &fetched {
            for record in fetched.records(topic) {
                let record = record?;
                if *printed >= most || reading.is_behind_end(fetched.partition, record.offset) {
                    break;
                }
                printer.print(fetched.partition, &record, &mut out)?;
                *printed += 1;
            }
        }
        out.flush()?;
    }
    reading.progress.finish_and_clear();
    Ok(())
}

/// How far it is, when somebody watches and the records go elsewhere.
fn progress(consumer: &Consumer, ends: Option<&BTreeMap<i32, i64>>) -> ProgressBar {
    let Some(ends) = ends.filter(|_| io::stderr().is_terminal() && !io::stdout().is_terminal())
    else {
        return ProgressBar::hidden();
    };
    let left = consumer.positions().map(|(partition, next)| {
        let end = ends.get(&partition).copied().unwrap_or(next);
        u64::try_from(end.saturating_sub(next)).unwrap_or(0)
    });
    let bar = ProgressBar::new(left.sum());
    match ProgressStyle::with_template("{bar:40} {pos} of {len} offsets  {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

struct Reading {
    consumer: Consumer,
    /// Where each partition ends for us; nothing when following.
    ends: Option<BTreeMap<i32, i64>>,
    /// How long a broker may be away, when not following.
    patience: Duration,
    /// Whether records that are deleted before they were read are gone over.
    may_skip: bool,
    /// Polls in a row that brought nothing.
    idle_polls: u32,
    progress: ProgressBar,
}

impl Reading {
    fn is_behind_end(&self, partition: i32, offset: i64) -> bool {
        let end = self.ends.as_ref().and_then(|ends| ends.get(&partition));
        end.is_some_and(|end| offset >= *end)
    }

    /// The next records; nothing at the end.
    async fn next(&mut self) -> Result<Option<Vec<Fetched>>> {
        let began = Instant::now();
        let mut complained = false;
        loop {
            if !self.drop_finished() {
                return Ok(None);
            }
            let before: BTreeMap<i32, i64> = self.consumer.positions().collect();
            let error = match self.consumer.poll().await {
                Ok(fetched) => {
                    self.note_progress(&before, &fetched);
                    return Ok(Some(fetched));
                }
                Err(error) => error,
            };
            let patient = self.ends.is_none() || began.elapsed() < self.patience;
            let out_of_range = error.response_error() == Some(ResponseError::OffsetOutOfRange);
            if out_of_range && self.may_skip {
                self.skip_deleted(error).await?;
            } else if error.is_retriable() && patient {
                if !complained {
                    remote::note(&format!("{error}; trying again"));
                    complained = true;
                }
                tokio::time::sleep(PAUSE).await;
            } else {
                return Err(error.into());
            }
        }
    }

    fn note_progress(&mut self, before: &BTreeMap<i32, i64>, fetched: &[Fetched]) {
        let gone = fetched.iter().map(|fetched| {
            let from = before.get(&fetched.partition).copied();
            u64::try_from(fetched.next_offset() - from.unwrap_or(0)).unwrap_or(0)
        });
        let gone: u64 = gone.sum();
        self.progress.inc(gone);
        // Offsets at the end may belong to no record any more. Then the broker has no more to send.
        let at_end = self.ends.as_ref().is_some_and(|ends| {
            ends.iter().all(|(partition, end)| {
                !before.contains_key(partition)
                    || fetched
                        .iter()
                        .any(|of| of.partition == *partition && of.high_watermark >= *end)
            })
        });
        self.idle_polls = if gone == 0 && at_end {
            self.idle_polls + 1
        } else {
            0
        };
    }

    /// Leaves partitions that were read to their end; false when none is left.
    fn drop_finished(&mut self) -> bool {
        let Some(ends) = &self.ends else {
            return true;
        };
        let finished: Vec<i32> = self
            .consumer
            .positions()
            .filter(|(partition, next)| ends.get(partition).is_some_and(|end| next >= end))
            .map(|(partition, _)| partition)
            .collect();
        for partition in finished {
            self.consumer.drop_partition(partition);
        }
        self.idle_polls < 2 && self.consumer.positions().next().is_some()
    }

    /// Goes on at the first records that are left, when the next ones were deleted.
    async fn skip_deleted(&mut self, error: ClientError) -> Result<()> {
        let mut first = self.consumer.find(Position::Beginning).await?;
        let next: BTreeMap<i32, i64> = self.consumer.positions().collect();
        first.retain(|partition, first| next.get(partition).is_some_and(|next| next < first));
        if first.is_empty() {
            return Err(error.into());
        }
        for (partition, first) in &first {
            remote::note(&format!(
                "records of partition {partition} were deleted before they were read; going on at offset {first}"
            ));
        }
        self.consumer.seek(&first);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        for (text, expected) in [
            ("beginning", Position::Beginning),
            ("latest", Position::End),
            ("17", Position::Offset(17)),
            ("-5", Position::Last(5)),
            ("@1700000000000", Position::Timestamp(1_700_000_000_000)),
        ] {
            assert_eq!(position(text), Ok(expected));
        }
        for text in ["", "@", "-", "x", "@-1", "--1", "1.5", "ü"] {
            position(text).expect_err(text);
        }
    }
}
