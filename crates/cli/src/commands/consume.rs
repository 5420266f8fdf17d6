//! `dlog consume`: records of a topic to standard output.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use dlog_client::{Consumer, ConsumerConfig, Position};
use dlog_storage::record::Record;
use serde_json::json;

use super::remote::{self, EXIT_CODES, RemoteArgs};

/// How a record is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The template of --template.
    Text,
    /// One JSON object a line.
    Json,
    /// Key and value as hexadecimal digits.
    Hex,
    /// The value's bytes and nothing else.
    Raw,
}

/// Options of `dlog consume`.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct ConsumeArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Topic.
    topic: String,
    /// Where to begin: beginning, end, an offset, or @MS for the first record that young (Unix ms).
    #[arg(long, default_value = "end", value_parser = position, value_name = "WHERE")]
    from: Position,
    /// Partitions, separated by commas; all without it.
    #[arg(short, long, value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Stop after this many records.
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Go on waiting for records at the end (what --from end does anyway).
    #[arg(short, long)]
    follow: bool,
    /// How a record is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Text for a record: %k key, %v value, %t topic, %p partition, %o offset, %T timestamp, %h headers,
    /// %% percent, \n line end, \t tab.
    #[arg(long, default_value = "%v\\n")]
    template: String,
    /// Printed for a null key or value.
    #[arg(long, default_value = "", value_name = "TEXT")]
    null_marker: String,
    /// Show only records of committed transactions.
    #[arg(long)]
    committed: bool,
}

fn position(text: &str) -> Result<Position, String> {
    match text {
        "beginning" | "earliest" => Ok(Position::Beginning),
        "end" | "latest" => Ok(Position::End),
        _ => {
            let wrong = || format!("{text:?} is none of beginning, end, an offset and @MS");
            match text.strip_prefix('@') {
                Some(ms) => ms.parse().map(Position::Timestamp).map_err(|_| wrong()),
                None => match text.parse() {
                    Ok(offset) if offset >= 0 => Ok(Position::Offset(offset)),
                    _ => Err(wrong()),
                },
            }
        }
    }
}

/// Runs `dlog consume`.
pub fn run(arguments: ConsumeArgs) -> Result<ExitCode> {
    remote::run(async move {
        tokio::select! {
            done = consume(&arguments) => done,
            // Ctrl-C is how one ends following.
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn consume(arguments: &ConsumeArgs) -> Result<()> {
    let client = arguments.remote.connect().await?;
    let config = ConsumerConfig {
        max_wait: Duration::from_millis(500),
        committed_only: arguments.committed,
        ..ConsumerConfig::default()
    };
    let topic = &arguments.topic;
    let mut consumer =
        Consumer::new(client, topic, &arguments.partitions, arguments.from, config).await?;
    let follow = arguments.follow || arguments.from == Position::End;
    let mut ends = HashMap::new();
    if !follow {
        let partitions: Vec<i32> = consumer
            .positions()
            .map(|(partition, _)| partition)
            .collect();
        for partition in partitions {
            ends.insert(partition, consumer.find(partition, Position::End).await?);
        }
    }
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 && (follow || drop_finished(&mut consumer, &ends)) {
        let fetched = match consumer.poll().await {
            Ok(fetched) => fetched,
            Err(error) if error.is_retriable() && follow => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
        for fetched in &fetched {
            for record in fetched.records(topic)? {
                if left > 0
                    && ends
                        .get(&fetched.partition)
                        .is_none_or(|end| record.offset < *end)
                {
                    print(arguments, fetched.partition, &record, &mut out)?;
                    left -= 1;
                }
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// Leaves partitions that were read to the end that they had at the start; false when none is left.
fn drop_finished(consumer: &mut Consumer, ends: &HashMap<i32, i64>) -> bool {
    let finished: Vec<i32> = consumer
        .positions()
        .filter(|(partition, next)| ends.get(partition).is_some_and(|end| next >= end))
        .map(|(partition, _)| partition)
        .collect();
    for partition in finished {
        consumer.drop_partition(partition);
    }
    consumer.positions().next().is_some()
}

fn print(
    arguments: &ConsumeArgs,
    partition: i32,
    record: &Record,
    out: &mut impl Write,
) -> Result<()> {
    let format = if arguments.remote.json {
        Format::Json
    } else {
        arguments.format
    };
    match format {
        Format::Raw => out.write_all(record.value.as_deref().unwrap_or_default())?,
        Format::Hex => writeln!(
            out,
            "{} {}",
            hex(record.key.as_deref()),
            hex(record.value.as_deref())
        )?,
        Format::Text => template(arguments, partition, record, out)?,
        Format::Json => {
            let text = |bytes: &Option<bytes::Bytes>| {
                bytes
                    .as_ref()
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|header| {
                    (
                        String::from_utf8_lossy(&header.key).into_owned(),
                        text(&header.value),
                    )
                })
                .collect();
            serde_json::to_writer(
                &mut *out,
                &json!({
                    "topic": arguments.topic,
                    "partition": partition,
                    "offset": record.offset,
                    "timestamp": record.timestamp_ms,
                    "key": text(&record.key),
                    "value": text(&record.value),
                    "headers": headers,
                }),
            )?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "-".to_owned(),
        Some(bytes) => {
            bytes
                .iter()
                .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{byte:02x}");
                    text
                })
        }
    }
}

fn template(
    arguments: &ConsumeArgs,
    partition: i32,
    record: &Record,
    out: &mut impl Write,
) -> Result<()> {
    let null = arguments.null_marker.as_bytes();
    let mut characters = arguments.template.chars();
    while let Some(character) = characters.next() {
        match (character, characters.clone().next()) {
            ('%', Some(what)) => {
                characters.next();
                match what {
                    'k' => out.write_all(record.key.as_deref().unwrap_or(null))?,
                    'v' => out.write_all(record.value.as_deref().unwrap_or(null))?,
                    't' => out.write_all(arguments.topic.as_bytes())?,
                    'p' => write!(out, "{partition}")?,
                    'o' => write!(out, "{}", record.offset)?,
                    'T' => write!(out, "{}", record.timestamp_ms)?,
                    'h' => write_headers(record, out)?,
                    '%' => out.write_all(b"%")?,
                    other => {
                        anyhow::bail!("--template has %{other}, which means nothing (see --help)")
                    }
                }
            }
            ('\\', Some('n')) => {
                characters.next();
                out.write_all(b"\n")?;
            }
            ('\\', Some('t')) => {
                characters.next();
                out.write_all(b"\t")?;
            }
            (other, _) => write!(out, "{other}")?,
        }
    }
    Ok(())
}

fn write_headers(record: &Record, out: &mut impl Write) -> Result<()> {
    for (i, header) in record.headers.iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        out.write_all(&header.key)?;
        out.write_all(b"=")?;
        out.write_all(header.value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}
