//! The commands that talk to a broker, with the real binary: what goes in comes out.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use dlog_system_tests::command::{Cli, json_lines};
use dlog_system_tests::server::Server;
use dlog_system_tests::wait_for;
use serde_json::{Value, json};

fn started(folder: &Path) -> (Server, Cli) {
    let server = Server::start(&folder.join("data")).unwrap();
    let cli = Cli::new(server.kafka);
    (server, cli)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn the_life_of_a_topic() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    let created = cli
        .run(&[
            "topic",
            "create",
            "orders",
            "-p",
            "3",
            "-c",
            "retention.ms=1000",
        ])
        .unwrap();
    assert_eq!(created, "created topic orders\n");
    let answer = cli.json(&["topic", "create", "--json", "events"]).unwrap();
    assert_eq!(answer, [json!({"topic": "events", "result": "created"})]);
    let again = ["topic", "create", "--if-not-exists", "orders"];
    assert_eq!(cli.run(&again).unwrap(), "exists topic orders\n");
    assert_eq!(cli.run(&["topic", "list"]).unwrap(), "events\norders\n");
    let listed = cli.json(&["topic", "list", "--json"]).unwrap();
    assert_eq!(listed[1], json!({"topic": "orders", "partitions": 3}));

    cli.run_with(&["produce", "orders", "-p", "2"], b"a\nb\n")
        .unwrap();
    let text = cli.run(&["topic", "describe", "orders"]).unwrap();
    assert!(text.contains("partitions 3"), "{text}");
    assert!(
        text.contains("partition 2  leader 1  replicas [1]  in sync [1]  offsets 0 to 2"),
        "{text}"
    );
    assert!(text.contains("retention.ms = 1000"), "{text}");
    let described = &cli
        .json(&["topic", "describe", "orders", "--json"])
        .unwrap()[0];
    assert_eq!(described["partitions"][2]["next_offset"], 2);
    assert_eq!(described["configs"], json!({"retention.ms": "1000"}));
    let all = &cli
        .json(&["topic", "describe", "orders", "--json", "--all"])
        .unwrap()[0];
    assert_eq!(all["configs"]["cleanup.policy"], "delete");

    let alter = [
        "topic",
        "alter",
        "orders",
        "-p",
        "5",
        "-c",
        "segment.bytes=1048576",
        "--reset",
        "retention.ms",
    ];
    assert_eq!(cli.run(&alter).unwrap(), "altered topic orders\n");
    let described = &cli
        .json(&["topic", "describe", "orders", "--json"])
        .unwrap()[0];
    assert_eq!(described["partitions"].as_array().unwrap().len(), 5);
    assert_eq!(described["configs"], json!({"segment.bytes": "1048576"}));

    let deleted = cli.run(&["topic", "delete", "orders", "events"]).unwrap();
    assert_eq!(deleted, "deleted topic orders\ndeleted topic events\n");
    let gone = ["topic", "delete", "--if-exists", "orders"];
    assert_eq!(cli.run(&gone).unwrap(), "missing topic orders\n");
    assert_eq!(cli.run(&["topic", "list"]).unwrap(), "");
}

#[test]
fn lines_of_standard_input_and_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t"]).unwrap();
    let written = cli
        .run_with(
            &["produce", "t", "--json"],
            "one\n\nthree ü\nno line end".as_bytes(),
        )
        .unwrap();
    let written = &json_lines(&written).unwrap()[0];
    assert_eq!(
        (&written["records"], &written["failed"]),
        (&json!(4), &json!(0))
    );
    let files = ["first", "second"].map(|name| folder.path().join(name));
    std::fs::write(&files[0], "five\nsix\n").unwrap();
    std::fs::write(&files[1], "seven").unwrap();
    let names = files.each_ref().map(|path| path.to_str().unwrap());
    // Quiet unless asked.
    assert_eq!(cli.run(&["produce", "t", names[0], names[1]]).unwrap(), "");
    let read = cli.run(&["consume", "t", "--from", "beginning"]).unwrap();
    assert_eq!(
        lines(&read),
        ["one", "", "three ü", "no line end", "five", "six", "seven"]
    );
    // A whole file, whatever is in it, is one record.
    let binary: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    std::fs::write(&files[0], &binary).unwrap();
    std::fs::write(&files[1], "").unwrap();
    cli.run(&["produce", "t", "--input", "whole", names[0], names[1]])
        .unwrap();
    let output = cli
        .output(&["consume", "t", "--from", "7", "--format", "raw"])
        .unwrap();
    assert!(output.stdout == binary, "{} bytes", output.stdout.len());
    assert_eq!(cli.records_of("t").unwrap(), 9);
}

#[test]
fn keys_nulls_headers_and_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t", "-p", "7"]).unwrap();
    let produce = [
        "produce",
        "t",
        "-k",
        ":",
        "--null-marker",
        "NULL",
        "-H",
        "trace=abc",
        "-H",
        "n=",
        "--timestamp",
        "1700000000000",
    ];
    cli.run_with(&produce, b"21:x\nfoobar:a:b\nabc:NULL\nNULL:v\n:\n")
        .unwrap();
    let template = "%p %T %k=%v %K %S [%h]\\n";
    let text = cli
        .run(&[
            "consume",
            "t",
            "--from",
            "beginning",
            "--template",
            template,
            "--null-marker",
            "~",
        ])
        .unwrap();
    let mut text = lines(&text);
    text.sort_unstable();
    // Java's murmur2 of "21", "foobar", "abc" and "" modulo 7; without a key the producer decides.
    let partition = |key: &str| {
        let line = text
            .iter()
            .find(|line| line.contains(&format!(" {key}=")))
            .unwrap();
        line.split(' ').next().unwrap().parse::<i64>().unwrap()
    };
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("abc", 479_470_107),
    ] {
        assert_eq!(partition(key), i64::from((hash & 0x7fff_ffff) % 7), "{key}");
    }
    assert!(
        text.iter()
            .any(|line| line.ends_with("1700000000000 abc=~ 3 -1 [trace=abc,n=]")),
        "{text:?}"
    );
    assert!(
        text.iter()
            .any(|line| line.ends_with("1700000000000 foobar=a:b 6 3 [trace=abc,n=]")),
        "{text:?}"
    );
    assert!(
        text.iter()
            .any(|line| line.ends_with("1700000000000 ~=v -1 1 [trace=abc,n=]")),
        "{text:?}"
    );

    // What JSON and hex show, they read: a copy is the same, whatever the bytes.
    let binary = r#"{"key_hex":"00ff","value_hex":"fe0a0d","headers":[{"key":"h","value_hex":"80"},{"key":"i","value":null}]}"#;
    cli.run_with(
        &["produce", "t", "--input", "json", "-p", "3"],
        binary.as_bytes(),
    )
    .unwrap();
    let whole = cli
        .run(&["consume", "t", "--from", "beginning", "--json"])
        .unwrap();
    cli.run(&["topic", "create", "copy", "-p", "7"]).unwrap();
    cli.run_with(&["produce", "copy", "--input", "json"], whole.as_bytes())
        .unwrap();
    let copied = cli
        .run(&["consume", "copy", "--from", "beginning", "--format", "json"])
        .unwrap();
    let sorted = |text: &str| {
        let mut records = json_lines(text).unwrap();
        records.sort_by_key(|record| (record["partition"].as_i64(), record["offset"].as_i64()));
        records
            .iter_mut()
            .for_each(|record| drop(record["topic"].take()));
        records
    };
    assert_eq!(sorted(&whole).len(), 6);
    assert_eq!(sorted(&whole), sorted(&copied));
    let hex = cli
        .run(&["consume", "copy", "--from", "beginning", "--format", "hex"])
        .unwrap();
    assert!(
        lines(&hex).contains(&"00ff fe0a0d") && lines(&hex).contains(&"- 76"),
        "{hex}"
    );
    cli.run(&["topic", "create", "hex"]).unwrap();
    cli.run_with(&["produce", "hex", "--input", "hex"], hex.as_bytes())
        .unwrap();
    let again = cli
        .run(&["consume", "hex", "--from", "beginning", "--format", "hex"])
        .unwrap();
    assert_eq!(again, hex);
}

#[test]
fn from_any_place_to_any_place() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t", "-p", "2"]).unwrap();
    let times: String = (0..10)
        .map(|n| {
            format!(
                "{}\n",
                json!({"value": n.to_string(), "timestamp_ms": 1000 + n})
            )
        })
        .collect();
    for partition in ["0", "1"] {
        let args = ["produce", "t", "--input", "json", "-p", partition];
        cli.run_with(&args, times.as_bytes()).unwrap();
    }
    let from = |args: &[&str]| {
        let args = [&["consume", "t", "-p", "1"], args].concat();
        let read = cli.run(&args).unwrap();
        read.lines()
            .map(|line| line.parse().unwrap())
            .collect::<Vec<i32>>()
    };
    assert_eq!(from(&["--from", "7"]), [7, 8, 9]);
    assert_eq!(from(&["--offset", "7"]), [7, 8, 9]);
    assert_eq!(from(&["--from", "@1005", "--count", "2"]), [5, 6]);
    assert_eq!(
        from(&["--from", "@1010"]),
        [0; 0],
        "no record is that young"
    );
    assert_eq!(from(&["--from", "-4"]), [6, 7, 8, 9]);
    assert_eq!(from(&["--from=-100"]).len(), 10);
    assert_eq!(from(&["--from", "10"]), [0; 0]);
    assert_eq!(from(&["--from", "earliest", "-n", "0"]), [0; 0]);
    assert_eq!(
        cli.run(&["consume", "t", "--from", "-1"]).unwrap(),
        "9\n9\n",
        "of each partition"
    );
    assert_eq!(
        cli.run(&["consume", "t", "--from", "0", "--committed"])
            .unwrap()
            .lines()
            .count(),
        20
    );

    // Following: what is there, then what comes, until there are enough.
    let mut following = cli
        .command(&[
            "consume", "t", "-p", "0", "--from", "8", "--follow", "--count", "4",
        ])
        .unwrap()
        .spawn()
        .unwrap();
    let mut out = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || out.next().unwrap().unwrap();
    assert_eq!([next(), next()], ["8", "9"]);
    cli.run_with(&["produce", "t", "-p", "0"], b"later\nlast\nnot any more\n")
        .unwrap();
    assert_eq!([next(), next()], ["later", "last"]);
    assert!(following.wait().unwrap().success());
}

#[test]
fn every_codec() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    let input: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        cli.run(&["topic", "create", codec]).unwrap();
        cli.run_with(&["produce", codec, "-z", codec], input.as_bytes())
            .unwrap();
        let read = cli.run(&["consume", codec, "--from", "beginning"]).unwrap();
        assert!(read == input, "{codec}: {} lines", read.lines().count());
        let log = folder.path().join(format!("data/{codec}-0"));
        let dumped = cli
            .json(&["log", "dump", "--json", log.to_str().unwrap()])
            .unwrap();
        assert!(
            dumped.iter().all(|batch| batch["codec"] == codec),
            "{codec}"
        );
        assert!(dumped.len() > 1, "{codec}");
        // Idempotent, as Java's producer is.
        assert!(
            dumped
                .iter()
                .all(|batch| batch["producer_id"].as_i64() >= Some(0)),
            "{codec}"
        );
    }
    let level = ["produce", "gzip", "-z", "gzip", "--compression-level", "9"];
    cli.run_with(&level, b"best\n").unwrap();
}

#[test]
fn batches_that_are_too_large_are_split() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t", "-c", "max.message.bytes=2000"])
        .unwrap();
    let input: String = (0..5_000).map(|n| format!("{n}\n")).collect();
    cli.run_with(&["produce", "t"], input.as_bytes()).unwrap();
    assert_eq!(
        cli.run(&["consume", "t", "--from", "beginning"]).unwrap(),
        input
    );
    // A large record has its place where the topic allows it.
    cli.run(&[
        "topic",
        "create",
        "large",
        "-c",
        "max.message.bytes=20000000",
    ])
    .unwrap();
    let large = "x".repeat(15_000_000) + "\nsmall\n";
    cli.run_with(&["produce", "large"], large.as_bytes())
        .unwrap();
    assert!(
        cli.run(&["consume", "large", "--from", "beginning"])
            .unwrap()
            == large
    );
}

#[test]
fn a_rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    let input = "x\n".repeat(40);
    let done = cli
        .run_with(
            &["produce", "t", "--rate", "100", "--json"],
            input.as_bytes(),
        )
        .unwrap();
    let done = &json_lines(&done).unwrap()[0];
    // The last of 40 is due after 390 ms, however fast or slow the machine is.
    assert!(done["seconds"].as_f64().unwrap() >= 0.39, "{done}");
    assert_eq!(cli.records_of("t").unwrap(), 40);
}

#[test]
fn what_is_typed_is_sent_before_the_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t"]).unwrap();
    let mut producing = cli
        .command(&["produce", "t"])
        .unwrap()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = producing.stdin.take().unwrap();
    for n in 1..=3 {
        writeln!(stdin, "{n}").unwrap();
        wait_for("the line", || {
            (cli.records_of("t").ok()? == n).then_some(())
        })
        .unwrap();
    }
    drop(stdin);
    assert!(producing.wait().unwrap().success());
}

fn number(report: &Value, name: &str) -> f64 {
    report[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} of {report}"))
}

#[test]
fn bench_counts_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t", "-p", "3"]).unwrap();
    let load = [
        "--seconds",
        "1",
        "--record-bytes",
        "100",
        "--batch-records",
        "10",
        "--json",
    ];
    let bench = |args: &[&str]| cli.json(&[&["bench"], args].concat()).unwrap().remove(0);
    let produced = bench(
        &[
            &["produce", "t", "--connections", "2", "--in-flight", "3"],
            &load[..],
        ]
        .concat(),
    );
    let records = number(&produced, "records");
    assert!(records > 0.0);
    assert_eq!(
        cli.records_of("t").unwrap() as f64,
        records,
        "every acknowledged record, once"
    );
    assert_eq!(number(&produced, "bytes"), records * 100.0);
    assert!(number(&produced, "seconds") >= 0.9, "{produced}");
    let rate = records / number(&produced, "seconds");
    assert!(
        (number(&produced, "records_per_s") / rate - 1.0).abs() < 0.01,
        "{produced}"
    );
    let latency = &produced["latency_us"];
    assert_eq!(number(latency, "count") * 10.0, records);
    let quantiles = ["p50", "p90", "p99", "p99_9", "max"].map(|name| number(latency, name));
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{latency}");
    // All partitions take part, and not only one connection's.
    let described = &cli.json(&["topic", "describe", "t", "--json"]).unwrap()[0];
    let partitions = described["partitions"].as_array().unwrap();
    assert!(
        partitions
            .iter()
            .all(|partition| partition["next_offset"].as_i64() > Some(0))
    );

    let fetched = bench(&["fetch", "t", "--consumers", "2", "--json"]);
    assert_eq!(number(&fetched, "records"), 2.0 * records);
    assert!(
        number(&fetched, "bytes") > 2.0 * records * 100.0,
        "batches and their headers"
    );
    cli.run(&["topic", "create", "empty"]).unwrap();
    assert_eq!(
        number(&bench(&["fetch", "empty", "--json"]), "records"),
        0.0
    );

    let before = cli.records_of("t").unwrap() as f64;
    let paced = bench(
        &[
            &["produce", "t", "--rate", "500", "--warmup", "1"],
            &load[..],
        ]
        .concat(),
    );
    let (records, missed) = (number(&paced, "records"), number(&paced, "missed_records"));
    assert!((490.0..=510.0).contains(&(records + missed)), "{paced}");
    let sent = cli.records_of("t").unwrap() as f64 - before;
    assert!(
        sent >= records && sent + missed >= 990.0,
        "the warm-up is sent but does not count: {sent}, {paced}"
    );

    let e2e = bench(&[&["e2e", "t", "--rate", "500"], &load[..]].concat());
    let (records, missed) = (number(&e2e, "records"), number(&e2e, "missed_records"));
    assert!((490.0..=510.0).contains(&(records + missed)), "{e2e}");
    assert_eq!(
        number(&e2e["latency_us"], "count") * 10.0,
        records,
        "every batch came back"
    );
    for acks in ["0", "1"] {
        let produced = bench(&[&["produce", "t", "--acks", acks, "-z", "lz4"], &load[..]].concat());
        assert!(number(&produced, "records") > 0.0);
        assert_eq!(produced.get("latency_us").is_some(), acks == "1");
    }
    let text = cli
        .run(&["bench", "produce", "t", "--seconds", "1"])
        .unwrap();
    assert!(
        text.contains("records/s") && text.contains("p99.9"),
        "{text}"
    );
}

/// A group that only stores offsets, as a simple consumer has it.
#[test]
fn the_offsets_of_a_group() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli) = started(folder.path());
    cli.run(&["topic", "create", "orders", "-p", "2"]).unwrap();
    let lines = b"a\nb\nc\nd\n";
    for partition in ["0", "1"] {
        cli.run_with(&["produce", "orders", "-p", partition], lines)
            .unwrap();
    }
    assert_eq!(cli.run(&["group", "list"]).unwrap(), "");

    // Nothing happens without --execute.
    let plan = [
        "group",
        "reset-offsets",
        "readers",
        "--topic",
        "orders",
        "--to-latest",
    ];
    let planned = cli.run(&plan).unwrap();
    assert_eq!(planned, "orders-0  - -> 4\norders-1  - -> 4\n");
    assert_eq!(cli.run(&["group", "list"]).unwrap(), "");
    cli.run(&[&plan[..], &["--execute"]].concat()).unwrap();
    assert_eq!(
        cli.run(&["group", "list"]).unwrap(),
        "readers  Empty  classic\n"
    );

    let reset = |to: &[&str]| {
        let command = ["group", "reset-offsets", "readers", "--execute", "--json"];
        let moved = cli.json(&[&command[..], to].concat()).unwrap();
        moved
            .iter()
            .map(|one| one["new_offset"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(reset(&["--all-topics", "--shift-by", "-3"]), [1, 1]);
    assert_eq!(reset(&["--all-topics", "--shift-by", "100"]), [4, 4]);
    assert_eq!(reset(&["--topic", "orders:1", "--to-offset", "2"]), [2]);
    assert_eq!(reset(&["--all-topics", "--to-current"]), [4, 2]);
    assert_eq!(
        reset(&["--topic", "orders:0", "--by-duration", "86400000"]),
        [0]
    );
    assert_eq!(reset(&["--topic", "orders:0", "--to-earliest"]), [0]);

    let described = &cli
        .json(&["group", "describe", "readers", "--json"])
        .unwrap()[0];
    assert_eq!(described["state"], "Empty");
    assert_eq!(described["lag"], 6);
    assert_eq!(
        described["offsets"][1],
        json!({
            "topic": "orders", "partition": 1, "offset": 2, "end_offset": 4, "lag": 2,
            "member_id": null,
        })
    );
    let text = cli.run(&["group", "describe", "readers"]).unwrap();
    assert!(text.contains("orders-0  offset 0  end 4  lag 4"), "{text}");

    let forget = ["group", "delete-offsets", "readers", "--topic", "orders:0"];
    cli.run(&forget).unwrap();
    let described = &cli
        .json(&["group", "describe", "readers", "--json"])
        .unwrap()[0];
    assert_eq!(described["offsets"].as_array().unwrap().len(), 1);
    cli.run(&["group", "delete", "readers"]).unwrap();
    let gone = cli.output(&["group", "describe", "readers"]).unwrap();
    assert_eq!(gone.status.code(), Some(3));
}
