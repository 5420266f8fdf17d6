//! The commands when things go wrong: killed brokers, interrupts, closed pipes, mistakes.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use dlog_system_tests::command::{Cli, Signal, json_lines, signal};
use dlog_system_tests::server::{Server, ServerOptions, binary};
use dlog_system_tests::wait_for;
use serde_json::json;

fn started(folder: &Path) -> (ServerOptions, Server, Cli) {
    let first = Server::start(&folder.join("data")).unwrap();
    let (kafka, cli) = (first.kafka.to_string(), Cli::new(first.kafka));
    // Started again, it is where it was.
    let options = ServerOptions::new(folder.join("data")).args(["--kafka".to_owned(), kafka]);
    (options, first, cli)
}

#[test]
fn a_killed_broker_costs_a_producer_time_but_no_record() {
    const KILLS: u64 = 4;
    let folder = tempfile::tempdir().unwrap();
    let (options, mut server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t", "-p", "3"]).unwrap();
    let mut producing = cli
        .command(&["produce", "t", "-k", ":", "--json", "--batch-bytes", "2000"])
        .unwrap()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = producing.stdin.take().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // Lines without an end, until we have seen enough.
    let feeding = std::thread::spawn(move || {
        let mut lines = 0_u64;
        while stopped.try_recv().is_err() {
            writeln!(stdin, "{}:{lines}", lines % 50).unwrap();
            lines += 1;
        }
        lines
    });
    let mut seen = 0;
    for _ in 0..KILLS {
        seen = wait_for("records", || {
            let records = cli.records_of("t").ok()?;
            (records > seen + 2_000).then_some(records)
        })
        .unwrap();
        server.kill().unwrap();
        server = options.start().unwrap();
    }
    wait_for("records after the last kill", || {
        (cli.records_of("t").ok()? > seen + 2_000).then_some(())
    })
    .unwrap();
    stop.send(()).unwrap();
    let lines = feeding.join().unwrap();
    let output = producing.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = &json_lines(&String::from_utf8(output.stdout).unwrap()).unwrap()[0];
    assert_eq!(
        (&report["records"], &report["failed"]),
        (&json!(lines), &json!(0))
    );

    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let read = cli
        .run(&[
            "consume",
            "t",
            "--from",
            "beginning",
            "--template",
            "%k %v\\n",
        ])
        .unwrap();
    for line in read.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        let values = by_key.entry(key.parse().unwrap()).or_default();
        values.push(value.parse().unwrap());
    }
    // Every line once, and those of a key in their order.
    for (key, values) in &by_key {
        let expected: Vec<u64> = (*key..lines).step_by(50).collect();
        assert!(
            *values == expected,
            "key {key}: {} of {}",
            values.len(),
            expected.len()
        );
    }
    assert_eq!(by_key.len(), 50);
}

#[test]
fn a_consumer_goes_on_when_the_broker_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (options, server, cli) = started(folder.path());
    cli.run_with(&["produce", "t"], b"1\n2\n").unwrap();
    let mut consuming = cli
        .command(&["consume", "t", "--from", "beginning", "--follow", "-n", "4"])
        .unwrap()
        .spawn()
        .unwrap();
    let mut out = BufReader::new(consuming.stdout.take().unwrap()).lines();
    let mut complaints = BufReader::new(consuming.stderr.take().unwrap()).lines();
    let mut next = || out.next().unwrap().unwrap();
    assert_eq!([next(), next()], ["1", "2"]);
    server.kill().unwrap();
    let complaint = complaints.next().unwrap().unwrap();
    assert!(complaint.contains("trying again"), "{complaint}");
    let _server = options.start().unwrap();
    cli.run_with(&["produce", "t"], b"3\n4\n").unwrap();
    assert_eq!([next(), next()], ["3", "4"]);
    assert!(consuming.wait().unwrap().success());
}

#[test]
fn an_interrupted_producer_sends_what_it_read_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (_options, _server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t"]).unwrap();
    let mut producing = cli
        .command(&["produce", "t"])
        .unwrap()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = producing.stdin.take().unwrap();
    stdin.write_all(b"1\n2\n3\nhalf a line").unwrap();
    wait_for("the lines", || {
        (cli.records_of("t").ok()? == 3).then_some(())
    })
    .unwrap();
    signal(producing.id(), Signal::INT).unwrap();
    let output = producing.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("3 records acknowledged"), "{said}");
    assert_eq!(cli.records_of("t").unwrap(), 3);
}

#[test]
fn an_interrupt_ends_following() {
    let folder = tempfile::tempdir().unwrap();
    let (_options, _server, cli) = started(folder.path());
    cli.run_with(&["produce", "t"], b"1\n").unwrap();
    let args = ["consume", "t", "--from", "beginning", "--follow"];
    let mut consuming = cli.command(&args).unwrap().spawn().unwrap();
    let mut out = BufReader::new(consuming.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    signal(consuming.id(), Signal::INT).unwrap();
    let output = consuming.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("interrupted after 1 record"), "{said}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (_options, _server, cli) = started(folder.path());
    let input: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
    cli.run_with(&["produce", "t"], input.as_bytes()).unwrap();
    let folder = folder.path().join("data");
    let data = folder.to_str().unwrap();
    let consume = ["consume", "t", "--from", "beginning"];
    let dump = ["log", "dump", "--records", &format!("{data}/t-0")];
    for args in [
        &consume[..],
        &[&consume[..], &["--json"]].concat(),
        &["topic", "list", "--json"],
        &["topic", "describe", "t"],
        &["topic", "describe", "t", "--all", "--json"],
        &["log", "verify", data],
        &dump,
        &["completions", "bash"],
        &["man"],
        &["config", "print", "--json"],
        &["bench", "fetch", "t"],
        &["--help"],
    ] {
        let mut running = cli.command(args).unwrap().spawn().unwrap();
        // Closed before anything can be written, or after the first byte of much.
        let mut out = running.stdout.take().unwrap();
        if args[0] == "consume" {
            out.read_exact(&mut [0]).unwrap();
        }
        drop(out);
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?}: {} {said}",
            output.status
        );
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn exit_codes_and_what_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let auto = ["--auto-create-topics-enable", "false"];
    let server = ServerOptions::new(folder.path().join("data"))
        .args(auto)
        .start()
        .unwrap();
    let cli = Cli::new(server.kafka);
    cli.run(&["topic", "create", "t", "-p", "2"]).unwrap();
    cli.run(&["topic", "create", "small", "-c", "max.message.bytes=1000"])
        .unwrap();
    let down = ["-b", "127.0.0.1:1"];
    let missing = folder.path().join("missing");
    let missing = missing.to_str().unwrap();
    let cases: &[(&[&str], &[u8], i32, &str)] = &[
        (&["topic", "create", "t"], b"", 4, "TopicAlreadyExists"),
        (&["topic", "create", "a b"], b"", 1, "InvalidTopicException"),
        (
            &["topic", "create", "u", "-c", "no.such=1"],
            b"",
            1,
            "no.such",
        ),
        (
            &["topic", "create", "u", "-c", "novalue"],
            b"",
            2,
            "not of the form name=value",
        ),
        (
            &["topic", "create", "u", "-p", "0"],
            b"",
            2,
            "0 is not in 1..",
        ),
        (
            &["topic", "describe", "none"],
            b"",
            3,
            "UnknownTopicOrPartition",
        ),
        (
            &["topic", "alter", "none", "-p", "9"],
            b"",
            3,
            "UnknownTopicOrPartition",
        ),
        (&["topic", "alter", "t"], b"", 2, "--reset <NAME>"),
        (
            &["topic", "list", "-b", "localhost"],
            b"",
            5,
            "cannot reach localhost: it is not HOST:PORT",
        ),
        (
            &["topic", "alter", "t", "-p", "1"],
            b"",
            1,
            "InvalidPartitions",
        ),
        (
            &["topic", "delete", "none"],
            b"",
            3,
            "UnknownTopicOrPartition",
        ),
        (
            &["topic", "list", down[0], down[1]],
            b"",
            5,
            "cannot reach 127.0.0.1:1",
        ),
        (&["consume", "none"], b"", 3, "UnknownTopicOrPartition"),
        (
            &["consume", "t", "-p", "2"],
            b"",
            3,
            "t has 2 partitions, no 2",
        ),
        (
            &["consume", "t", "--from", "yesterday"],
            b"",
            2,
            "none of beginning, end",
        ),
        (&["consume", "t", "--from", "7", "-p", "0"], b"", 0, ""),
        (
            &["consume", "t", "--from", "7", "-p", "0", "--follow"],
            b"",
            1,
            "OffsetOutOfRange",
        ),
        (
            &["consume", "t", "--template", "%q"],
            b"",
            2,
            "%q means nothing",
        ),
        (&["consume", "t", "--formt", "hex"], b"", 2, "--format"),
        (
            &["consume", "t", down[0], down[1]],
            b"",
            5,
            "is the broker running",
        ),
        (&["produce", "none"], b"x\n", 3, "UnknownTopicOrPartition"),
        (
            &["produce", "t", "-p", "2"],
            b"x\n",
            3,
            "partitions 0 to 1, not 2",
        ),
        (
            &["produce", "t", "-k", ":"],
            b"a:1\nb\n",
            1,
            "line 2 of standard input: no \":\"",
        ),
        (&["produce", "t", "-k", ""], b"", 2, "key-separator"),
        (
            &["produce", "t", "--input", "json"],
            b"{\"vale\":1}\n",
            1,
            "unknown field `vale`",
        ),
        (
            &["produce", "t", "--acks", "2"],
            b"",
            2,
            "none of 0, 1 and all",
        ),
        (&["produce", "t", "-z", "rar"], b"", 2, "rar"),
        (
            &["produce", "t", "-z", "zstd", "--compression-level", "99"],
            b"",
            1,
            "99",
        ),
        (&["produce", "t", missing], b"", 1, "cannot open"),
        (
            &["produce", "t", down[0], down[1]],
            b"x\n",
            5,
            "cannot reach",
        ),
        (
            &["bench", "fetch", "none"],
            b"",
            3,
            "UnknownTopicOrPartition",
        ),
        (
            &["bench", "produce", "none"],
            b"",
            3,
            "UnknownTopicOrPartition",
        ),
        (
            &["bench", "produce", "small", "--seconds", "1"],
            b"",
            1,
            "MessageTooLarge",
        ),
        (&["nonsense"], b"", 2, "unrecognized subcommand"),
        (&["man", "nonsense"], b"", 2, "there is no command nonsense"),
    ];
    for (args, input, code, said) in cases {
        let mut child = cli
            .command(args)
            .unwrap()
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // The command may end before it reads.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
    // What came before the mistake was sent, and the partition's number is told apart from it.
    assert_eq!(cli.records_of("t").unwrap(), 1);
}

#[test]
fn a_record_that_is_refused_is_counted_and_the_others_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (_options, _server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t", "-c", "max.message.bytes=1000"])
        .unwrap();
    let mut child = cli
        .command(&["produce", "t", "--json"])
        .unwrap()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!("first\n{}\n", "x".repeat(2_000));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("MessageTooLarge"), "{said}");
    let report = &json_lines(&String::from_utf8(output.stdout).unwrap()).unwrap()[0];
    assert_eq!(
        (&report["records"], &report["failed"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        cli.run(&["consume", "t", "--from", "beginning"]).unwrap(),
        "first\n"
    );
}

#[test]
fn acks_0_are_on_their_way_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (_options, server, cli) = started(folder.path());
    cli.run(&["topic", "create", "t"]).unwrap();
    let mut producing = cli
        .command(&["produce", "t", "--acks", "0"])
        .unwrap()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = producing.stdin.take().unwrap();
    writeln!(stdin, "first").unwrap();
    wait_for("the first", || {
        (cli.records_of("t").ok()? == 1).then_some(())
    })
    .unwrap();
    // A broker that stands still, and more than sockets hold.
    signal(server.pid(), Signal::STOP).unwrap();
    let input = format!("{}\n", "x".repeat(999)).repeat(30_000);
    // Beside us: the command reads no more than it may hold.
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    // Time for an end that comes too early; there is none to wait for.
    for _ in 0..100 {
        if producing.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    signal(server.pid(), Signal::CONT).unwrap();
    feeding.join().unwrap().unwrap();
    assert!(producing.wait().unwrap().success());
    wait_for("the records", || {
        (cli.records_of("t").ok()? == 30_001).then_some(())
    })
    .unwrap();
}

#[test]
fn completions_and_manual_pages() {
    let dlog = |args: &[&str]| {
        let output = Command::new(binary().unwrap()).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = dlog(&["completions", shell]);
        for word in ["produce", "consume", "topic", "bench"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        // A shell that the machine lacks cannot judge; bash is everywhere.
        let checking = Command::new(shell)
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut checking = match checking {
            Err(_) if shell != "bash" => continue,
            checking => checking.unwrap(),
        };
        checking
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        let output = checking.wait_with_output().unwrap();
        assert!(output.status.success(), "{shell}: {output:?}");
    }
    let page = dlog(&["man"]);
    assert!(
        page.contains(".TH dlog 1") && page.contains("Exit codes"),
        "{page}"
    );
    let page = dlog(&["man", "topic", "create"]);
    assert!(page.contains("\\-\\-partitions"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    dlog(&["man", "--dir", folder.path().to_str().unwrap()]);
    for name in [
        "dlog.1",
        "dlog-produce.1",
        "dlog-topic-create.1",
        "dlog-log-verify.1",
    ] {
        let page = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.len() > 300, "{name}");
    }
    let help = dlog(&["consume", "--help"]);
    assert!(help.contains("3 there is no such topic"), "{help}");
}
