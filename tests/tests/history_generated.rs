//! The checker of histories on thousands of them: nothing is found in what a correct log does, and an
//! anomaly that is put in is found.

use std::collections::BTreeMap;

use dlog_system_tests::history::{Anomaly, Event, Op, Rules, check, check_by, model, plant};
use dlog_system_tests::seed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// `DLOG_SEED`, else always the same.
fn given_seed() -> u64 {
    std::env::var("DLOG_SEED").map_or(1, |_| seed())
}

#[test]
fn nothing_is_found_in_correct_histories() {
    let seed = given_seed();
    for round in 0..300 {
        let seed = seed.wrapping_add(round);
        let events = model::generate(seed, 50 + 4 * round as usize);
        let report = check(&events).unwrap();
        assert!(report.findings.is_empty(), "seed {seed}: {report}");
        let rules = Rules {
            idempotent: false,
            ..Rules::default()
        };
        let report = check_by(&events, rules).unwrap();
        assert!(report.findings.is_empty(), "seed {seed}: {report}");
    }
}

/// Fixed unless `DLOG_SEED` says otherwise: with some seeds (about 1 plant in 5,000) the place that was
/// drawn makes a partial read another anomaly as well, which is then the one that is named.
#[test]
fn what_is_planted_is_found() {
    let seed = given_seed();
    let mut planted: BTreeMap<Anomaly, u32> = BTreeMap::new();
    for round in 0..600 {
        let seed = seed.wrapping_add(round);
        let mut random = StdRng::seed_from_u64(seed);
        let events = model::generate(seed, random.random_range(300..900));
        let anomaly = plant::ALL[round as usize % plant::ALL.len()];
        let Some(events) = plant::plant(&events, anomaly, &mut random) else {
            continue;
        };
        let report = check(&events).unwrap();
        assert!(
            report.anomalies().contains(&anomaly),
            "seed {seed}: no {} was found, but {report}",
            anomaly.name()
        );
        *planted.entry(anomaly).or_default() += 1;
    }
    println!("{planted:?}");
    for anomaly in plant::ALL {
        assert!(
            planted.get(&anomaly).is_some_and(|count| *count >= 5),
            "{} had too few chances: {planted:?}",
            anomaly.name()
        );
    }
}

#[test]
fn a_million_events_are_judged() {
    let events = model::generate(7, 200_000);
    // The model is what takes its time: five times the same, by other clients in other logs.
    let mut all = Vec::with_capacity(5 * events.len());
    for copy in 0..5 {
        all.extend(events.iter().map(|event| copied(event, copy)));
    }
    let report = check(&all).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert!(all.len() >= 1_000_000);
}

/// The event as of other clients, logs and groups.
fn copied(event: &Event, copy: u32) -> Event {
    let name = |log: &String| format!("{log}-{copy}");
    let mut op = event.op.clone();
    match &mut op {
        Op::Send { log, source, .. } => {
            *log = name(log);
            if let Some((log, _)) = source {
                *log = name(log);
            }
        }
        Op::Poll { records, ends, .. } => {
            *records = std::mem::take(records)
                .into_iter()
                .map(|(log, records)| (name(&log), records))
                .collect();
            *ends = ends.iter().map(name).collect();
        }
        Op::Seek { log, .. } => *log = name(log),
        Op::CommitOffsets { group, offsets } | Op::Committed { group, offsets } => {
            *group = name(group);
            *offsets = std::mem::take(offsets)
                .into_iter()
                .map(|(log, offset)| (name(&log), offset))
                .collect();
        }
        Op::Assign { logs } | Op::Subscribe { logs } | Op::Rebalance { logs } => {
            *logs = logs.iter().map(name).collect();
        }
        Op::Begin | Op::Commit | Op::Abort | Op::Crash => {}
    }
    Event::new(event.process + 100 * copy, event.phase, op)
}
