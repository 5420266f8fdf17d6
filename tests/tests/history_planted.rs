//! The checker of histories on small ones written by hand: each anomaly is named, with the events that show
//! it and nothing else beside it, and not named in the twin that only looks like it.
//!
//! A history is written in short: `PROCESS SIGN OPERATION`, separated by `;`. The sign is `>` for the
//! beginning, `.` for ok, `!` for fail, `?` for info, and `+` for beginning and ok. Records are
//! `LOG:OFFSET=VALUE,…`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use dlog_system_tests::history::Anomaly::{self, *};
use dlog_system_tests::history::{
    Event, Isolation, Op, Phase, Rules, check, check_by, read_lines, write_lines,
};

fn pairs(text: &str) -> Vec<(i64, i64)> {
    let pair = |text: &str| {
        let (a, b) = text.split_once('=').unwrap();
        (a.parse().unwrap(), b.parse().unwrap())
    };
    text.split(',').map(pair).collect()
}

fn operation(name: &str, args: &[&str]) -> Op {
    let log = || args[0].to_owned();
    let logs = || args.iter().map(|log| (*log).to_owned()).collect();
    let offsets = || {
        let offset = |text: &&str| {
            let (log, offset) = text.split_once('=').unwrap();
            (log.to_owned(), offset.parse().unwrap())
        };
        args[1..].iter().map(offset).collect::<BTreeMap<_, _>>()
    };
    match name {
        "send" => {
            let (value, offset) = match args[1].split_once('@') {
                Some((value, offset)) => (value, Some(offset.parse().unwrap())),
                None => (args[1], None),
            };
            let source = args.get(2).map(|source| source.split_once(':').unwrap());
            Op::Send {
                log: log(),
                value: value.parse().unwrap(),
                offset,
                source: source.map(|(log, offset)| (log.to_owned(), offset.parse().unwrap())),
            }
        }
        "rc" | "ru" => {
            let given = args.iter().filter_map(|arg| arg.split_once(':'));
            let ends = args.iter().filter_map(|arg| arg.strip_prefix("end="));
            Op::Poll {
                isolation: if name == "rc" {
                    Isolation::ReadCommitted
                } else {
                    Isolation::ReadUncommitted
                },
                records: given
                    .map(|(log, records)| (log.to_owned(), pairs(records)))
                    .collect(),
                ends: ends.map(str::to_owned).collect(),
            }
        }
        "seek" => Op::Seek {
            log: log(),
            offset: args.get(1).map(|offset| offset.parse().unwrap()),
        },
        "assign" => Op::Assign { logs: logs() },
        "subscribe" => Op::Subscribe { logs: logs() },
        "rebalance" => Op::Rebalance { logs: logs() },
        "offsets" => Op::CommitOffsets {
            group: log(),
            offsets: offsets(),
        },
        "committed" => Op::Committed {
            group: log(),
            offsets: offsets(),
        },
        "begin" => Op::Begin,
        "commit" => Op::Commit,
        "abort" => Op::Abort,
        "crash" => Op::Crash,
        other => panic!("{other}?"),
    }
}

fn history(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for line in text.split(';') {
        let words: Vec<_> = line.split_whitespace().collect();
        let phases: &[Phase] = match words[1] {
            ">" => &[Phase::Invoke],
            "." => &[Phase::Ok],
            "!" => &[Phase::Fail],
            "?" => &[Phase::Info],
            "+" => &[Phase::Invoke, Phase::Ok],
            other => panic!("{other}?"),
        };
        let op = operation(words[2], &words[3..]);
        let process = words[0].parse().unwrap();
        events.extend(
            phases
                .iter()
                .map(|phase| Event::new(process, *phase, op.clone())),
        );
    }
    events
}

/// What is planted: the anomaly, its history, and the innocent twin.
const PLANTED: &[(Anomaly, &str, &str)] = &[
    (
        Unsent,
        "1 + send a 1@0; 2 + ru a:0=1,1=9",
        "1 + send a 1@0; 1 > send a 9; 2 + ru a:0=1,1=9",
    ),
    (
        LostWrite,
        "1 + send a 1@0; 1 + send a 2@1; 1 + send a 3@2; 2 + ru a:0=1,2=3",
        "1 + send a 1@0; 1 > send a 2; 1 ? send a 2; 1 + send a 3@2; 2 + ru a:0=1,2=3",
    ),
    (
        UnseenWrite,
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1 end=a",
        "1 + send a 1@0; 2 > ru; 1 + send a 2@1; 2 . ru a:0=1 end=a",
    ),
    (
        UnseenWrite,
        "1 + send a 1@0; 1 > send a 2; 1 . send a 2; 2 + ru a:0=1 end=a",
        "1 + send a 1@0; 1 > send a 2; 1 ? crash; 2 + ru a:0=1 end=a",
    ),
    (
        Duplicate,
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1,1=2,2=1",
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1,1=2; 2 + seek a 0; 2 + ru a:0=1,1=2",
    ),
    (
        Duplicate,
        "1 > send a 1; 1 ? send a 1; 2 + ru a:0=1,1=1",
        "1 > send a 1; 1 ? send a 1; 2 + ru a:0=1",
    ),
    (
        InconsistentOffset,
        "1 > send a 1; 3 > send a 2; 2 + ru a:0=1; 4 + ru a:0=2",
        "1 > send a 1; 3 > send b 2; 2 + ru a:0=1; 4 + ru b:0=2",
    ),
    (
        Reordered,
        "1 > send a 1; 1 > send a 2; 1 . send a 1@1; 1 . send a 2@0; 2 + ru a:0=2,1=1",
        "1 > send a 1; 3 > send a 2; 1 . send a 1@1; 3 . send a 2@0; 2 + ru a:0=2,1=1",
    ),
    (
        Reordered,
        "1 > send a 1; 1 ? send a 1; 1 + send a 2@0; 2 + ru a:0=2,1=1",
        "1 > send a 1; 1 ? crash; 1 + send a 2@0; 2 + ru a:0=2,1=1",
    ),
    (
        NonmonotonicSend,
        "1 + send a 1@1; 2 + send a 2@0; 3 + ru a:0=2,1=1",
        "1 > send a 1; 2 + send a 2@0; 1 . send a 1@1; 3 + ru a:0=2,1=1",
    ),
    (
        AbortedRead,
        "1 + begin; 1 + send a 1@0; 1 + abort; 2 + rc a:0=1",
        "1 + begin; 1 + send a 1@0; 1 + abort; 2 + ru a:0=1",
    ),
    (
        AbortedRead,
        "1 > send a 1; 1 ! send a 1; 2 + ru a:0=1",
        "1 > send a 1; 1 ? send a 1; 2 + ru a:0=1",
    ),
    (
        AbortedRead,
        "1 + begin; 1 + send a 1@0; 1 > commit; 1 ! commit; 2 + rc a:0=1",
        "1 + begin; 1 + send a 1@0; 1 > commit; 1 ? commit; 2 + rc a:0=1",
    ),
    (
        DirtyRead,
        "1 + begin; 1 + send a 1@0; 2 + rc a:0=1; 1 + commit",
        "1 + begin; 1 + send a 1@0; 1 > commit; 2 + rc a:0=1; 1 . commit",
    ),
    (
        DirtyRead,
        "1 + begin; 1 + send a 1@0; 1 ? crash; 2 + rc a:0=1",
        "1 + begin; 1 + send a 1@0; 1 ? crash; 2 + ru a:0=1",
    ),
    (
        PartialRead,
        "1 + begin; 1 + send a 1@0; 1 + send b 2@0; 1 > commit; 1 ? commit; 2 + rc a:0=1; \
         2 + rc end=b",
        "1 + begin; 1 + send a 1@0; 1 + send b 2@0; 1 > commit; 1 ? commit; 2 > rc; \
         3 + rc a:0=1; 2 . rc end=b",
    ),
    (
        PartialRead,
        "1 + begin; 1 + send a 1@0; 1 + send a 2@1; 1 + commit; 1 + send a 3@3; \
         2 + rc a:0=1,3=3; 3 + rc a:0=1,1=2,3=3",
        "1 + begin; 1 + send a 1@0; 1 + send a 2@1; 1 + commit; 1 + send a 3@3; \
         2 + rc a:0=1; 3 + rc a:0=1,1=2,3=3; 2 + rc a:1=2",
    ),
    (
        Cycle,
        "1 + begin; 2 + begin; 1 + send a 1@0; 2 + send b 2@0; 1 + rc b:0=2; 2 + rc a:0=1; \
         1 + commit; 2 + commit",
        "1 + begin; 2 + begin; 1 + send a 1@0; 2 + send b 2@0; 1 + rc; 1 + commit; \
         2 + rc a:0=1; 2 + commit",
    ),
    (
        InternalNonmonotonicPoll,
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:1=2,0=1",
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1,1=2",
    ),
    (
        ExternalNonmonotonicPoll,
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1,1=2; 2 + ru a:1=2",
        "1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1,1=2; 2 + rebalance a; 2 + ru a:1=2",
    ),
    (
        ExternalNonmonotonicPoll,
        "1 + send a 1@0; 2 + assign a; 2 + ru a:0=1; 2 + assign a b; 2 + ru a:0=1",
        "1 + send a 1@0; 2 + assign a; 2 + ru a:0=1; 2 + assign b; 2 + assign a; 2 + ru a:0=1",
    ),
    (
        InternalSkippedPoll,
        "1 + send a 1@0; 1 + send a 2@1; 1 + send a 3@2; 2 + ru a:0=1,2=3; 3 + ru a:0=1,1=2,2=3",
        "4 > send a 1; 1 + begin; 1 + send a 2@1; 1 + abort; 4 > send a 3; \
         2 + rc a:0=1,3=3; 3 + ru a:0=1,1=2,3=3",
    ),
    (
        ExternalSkippedPoll,
        "1 + send a 1@0; 1 + send a 2@1; 1 + send a 3@2; 2 + ru a:0=1; 2 + ru a:2=3; \
         3 + ru a:0=1,1=2,2=3",
        "1 + send a 1@0; 1 + send a 2@1; 1 + send a 3@2; 2 + ru a:0=1; 2 + seek a 2; \
         2 + ru a:2=3; 3 + ru a:0=1,1=2,2=3",
    ),
    (
        OffsetRegression,
        "1 + offsets g a=5; 2 + offsets g a=3",
        "1 > offsets g a=5; 2 + offsets g a=3; 1 . offsets g a=5; 2 + offsets h a=1",
    ),
    (
        OffsetRegression,
        "1 + begin; 1 + offsets g a=5; 1 + commit; 2 > committed g; 2 . committed g a=3",
        "1 + begin; 1 + offsets g a=5; 1 + abort; 2 > committed g; 2 . committed g a=3",
    ),
    (
        DoubleOutput,
        "1 + send in 1@0; 2 + begin; 2 + send out 2@0 in:0; 2 + commit; \
         3 + begin; 3 + send out 3@2 in:0; 3 + commit",
        "1 + send in 1@0; 2 + begin; 2 + send out 2@0 in:0; 2 + abort; \
         3 + begin; 3 + send out 3@2 in:0; 3 + commit",
    ),
    (
        DoubleOutput,
        "1 + send in 1@0; 2 + begin; 2 + send out 2@0 in:0; 2 + offsets g in=1; 2 + commit; \
         3 + begin; 3 + send out 3@2 in:0; 3 + offsets g in=1; 3 + commit",
        "1 + send in 1@0; 2 + begin; 2 + send out 2@0 in:0; 2 + offsets g in=1; 2 + commit; \
         3 + begin; 3 + send out 3@2 in:0; 3 + offsets h in=1; 3 + commit",
    ),
    (
        MissingOutput,
        "1 + send in 1@0; 4 + rc in:0=1; 2 + begin; 2 + send out 2@0 in:0; 2 + offsets g in=1; 2 + commit; \
         3 + begin; 3 + offsets h in=1; 3 + commit",
        "1 + send in 1@0; 4 + rc in:0=1; 2 + begin; 2 + send out 2@0 in:0; 2 + offsets g in=1; 2 + commit; \
         3 + begin; 3 + send out 3@2 in:0; 3 + offsets h in=1; 3 + commit",
    ),
    (
        MissingOutput,
        "1 + send in 1@0; 1 + send in 2@1; 2 + rc in:0=1,1=2; 2 + begin; \
         2 + send out 3@0 in:1; 2 + offsets g in=2; 2 + commit",
        "1 + send in 1@0; 1 + send in 2@1; 2 + rc in:0=1,1=2; 2 + begin; \
         2 + send out 3@0 in:0; 2 + offsets g in=1; 2 + commit",
    ),
];

#[test]
fn each_anomaly_is_named_and_its_twin_is_not() {
    for (anomaly, planted, twin) in PLANTED {
        let events = history(planted);
        let report = check(&events).unwrap();
        assert_eq!(report.findings.len(), 1, "{planted}\n{report}");
        assert_eq!(report.findings[0].anomaly, *anomaly, "{planted}\n{report}");
        assert!(!report.findings[0].events.is_empty());
        assert!(report.to_string().contains(anomaly.name()), "{report}");
        let events = history(twin);
        let report = check(&events).unwrap();
        assert!(report.findings.is_empty(), "{twin}\n{report}");
    }
}

#[test]
fn the_order_of_writes_counts_when_asked_for() {
    let events = history(
        "1 + begin; 2 + begin; 1 + send a 1@0; 2 + send a 2@1; 2 + send b 3@0; 2 + commit; \
         1 + rc b:0=3; 1 + commit; 4 + rc a:0=1,1=2",
    );
    assert!(check(&events).unwrap().findings.is_empty());
    let rules = Rules {
        write_order: true,
        ..Rules::default()
    };
    let report = check_by(&events, rules).unwrap();
    assert_eq!(report.anomalies(), [Cycle], "{report}");
    let what = &report.findings[0].what;
    assert!(what.contains("-ww->") && what.contains("-wr->"), "{what}");
}

#[test]
fn evidence_is_the_events_themselves() {
    let events = history("1 + begin; 1 + send a 1@0; 1 + abort; 2 + rc a:0=1");
    let report = check(&events).unwrap();
    assert_eq!(report.findings[0].events, [0, 3, 7, 5], "{report}");
    assert!(report.to_string().contains("line 8: "), "{report}");
}

#[test]
fn a_retry_may_double_what_is_not_idempotent() {
    let events = history("1 + send a 1@0; 1 + send a 2@1; 2 + ru a:0=1,1=2,2=1");
    let rules = Rules {
        idempotent: false,
        ..Rules::default()
    };
    assert!(check_by(&events, rules).unwrap().findings.is_empty());
}

#[test]
fn contradictions_are_refused() {
    for (text, at) in [
        ("1 . send a 1@0", 0),
        ("1 + send a 1@0; 2 > send a 1", 2),
        ("1 + begin; 1 + begin", 2),
        ("1 > commit", 0),
        ("1 + begin; 1 + commit; 1 + abort", 5),
        ("1 . offsets g a=1", 0),
    ] {
        assert_eq!(
            check(&history(text)).map(|_| ()).unwrap_err().event,
            at,
            "{text}"
        );
    }
}

#[test]
fn json_lines_come_back_as_they_went() {
    let all: String = PLANTED
        .iter()
        .map(|(_, text, _)| format!("{text};"))
        .collect();
    let events = history(all.trim_end_matches(';'));
    let mut lines = Vec::new();
    write_lines(&events, &mut lines).unwrap();
    assert_eq!(read_lines(lines.as_slice()).unwrap(), events);
    let by_hand = br#"{"process":2,"type":"ok","f":"poll","isolation":"read_committed","records":{"a":[[0,1]]}}"#;
    let read = read_lines(by_hand.as_slice()).unwrap();
    assert_eq!(read, history("2 . rc a:0=1"));
    assert!(read_lines(b"{}".as_slice()).is_err());
}
