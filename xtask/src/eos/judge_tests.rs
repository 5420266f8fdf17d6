//! The judge finds each fault that is put into a correct run, and nothing in the run itself.

use std::collections::BTreeMap;

use super::judge::{
    Fault, Findings, Inputs, Record, counted, joined, loaded, offsets, same, topic, transformed,
};

const LOADED: &str = "p-in\t0\t0\t\t11\np-in\t1\t0\t\t12\np-lines\t0\t5\t1\ta b a\ncommit\n\
    p-in\t0\t0\t\t13\np-lines\t0\t5\t1\tb c\nabort\n\
    p-in\t0\t0\t\t14\np-left\t0\t5000\t3\tl1\np-right\t0\t6000\t3\tr1\np-right\t0\t6001\t3\tr2\n\
    p-right\t1\t5000\t4\tr3\np-right\t0\t4000\t3\tr4\ncommit\np-in\t0\t0\t\t15\n";
const IN: &str = "0\t0\t\t11\n0\t4\t\t14\n1\t0\t\t12\n";
const OUT: &str = "0\t0\t0:0:11\t91\n0\t1\t0:4:14\t92\n1\t7\t1:0:12\t93\n";
const COUNTS: &str = "0\t0\ta\t1\n0\t1\tb\t1\n0\t2\ta\t2\n";
const JOINED: &str = "0\t0\t3\tl1+r4\n0\t1\t3\tl1+r1\n";

struct Run {
    inputs: Inputs,
    read: Vec<Record>,
    out: Vec<Record>,
    counts: Vec<Record>,
    joined: Vec<Record>,
    committed: BTreeMap<u32, i64>,
}

impl Run {
    fn new() -> Self {
        Self {
            inputs: Inputs::parse(LOADED, "p").unwrap(),
            read: topic(IN).unwrap(),
            out: topic(OUT).unwrap(),
            counts: topic(COUNTS).unwrap(),
            joined: topic(JOINED).unwrap(),
            committed: BTreeMap::from([(0, 5), (1, 1)]),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let mut findings = Findings::default();
        loaded(&self.inputs, &self.read, &mut findings);
        transformed("out", &self.read, &self.out, &mut findings);
        offsets("g", &self.read, &self.committed, &mut findings);
        counted(&self.inputs, &self.counts, &mut findings);
        joined(&self.inputs, &self.joined, &mut findings);
        findings.kept.iter().map(|finding| finding.fault).collect()
    }
}

#[test]
fn a_correct_run_has_no_fault() {
    let run = Run::new();
    assert_eq!(run.faults(), []);
    assert_eq!(run.inputs.aborted, 3);
}

#[test]
fn each_fault_has_its_name() {
    type Plant = fn(&mut Run);
    let planted: [(&str, Plant, &[Fault]); 14] = [
        (
            "an output is lost",
            |r| drop(r.out.remove(1)),
            &[Fault::Missing],
        ),
        (
            "an input is processed twice",
            |r| r.out.push(r.out[0].clone()),
            &[Fault::Repeated],
        ),
        (
            "outputs change places",
            |r| r.out.swap(0, 1),
            &[Fault::Disordered],
        ),
        (
            "an output of an aborted input",
            |r| r.out[1].key = "0:2:13".to_owned(),
            &[Fault::Unexpected, Fault::Missing],
        ),
        (
            "an output in another partition",
            |r| r.out[2].partition = 0,
            &[Fault::Unexpected, Fault::Missing],
        ),
        (
            "an aborted input is shown",
            |r| {
                r.read.insert(
                    1,
                    Record {
                        partition: 0,
                        offset: 2,
                        key: String::new(),
                        value: "13".to_owned(),
                    },
                );
                r.out.insert(
                    1,
                    Record {
                        partition: 0,
                        offset: 1,
                        key: "0:2:13".to_owned(),
                        value: "9".to_owned(),
                    },
                );
            },
            &[Fault::Unexpected],
        ),
        (
            "an offset is behind",
            |r| *r.committed.get_mut(&0).unwrap() = 4,
            &[Fault::Offset],
        ),
        (
            "an offset is ahead",
            |r| *r.committed.get_mut(&0).unwrap() = 6,
            &[Fault::Offset],
        ),
        (
            "an offset is lost",
            |r| r.committed.retain(|partition, _| *partition != 1),
            &[Fault::Offset],
        ),
        (
            "a word is counted twice",
            |r| r.counts.push(r.counts[2].clone()),
            &[Fault::Repeated],
        ),
        (
            "a count is left out",
            |r| drop(r.counts.remove(0)),
            &[Fault::Missing],
        ),
        (
            "an aborted word is counted",
            |r| {
                r.counts.push(Record {
                    key: "c".to_owned(),
                    ..r.counts[0].clone()
                });
            },
            &[Fault::Unexpected],
        ),
        (
            "a pair is joined twice",
            |r| r.joined.push(r.joined[0].clone()),
            &[Fault::Repeated],
        ),
        (
            "a pair is not joined",
            |r| drop(r.joined.remove(0)),
            &[Fault::Missing],
        ),
    ];
    for (what, plant, expected) in planted {
        let mut run = Run::new();
        plant(&mut run);
        assert_eq!(run.faults(), expected, "{what}");
    }
}

#[test]
fn readers_that_differ_are_told() {
    let (one, mut other) = (topic(OUT).unwrap(), topic(OUT).unwrap());
    let mut findings = Findings::default();
    same("out", &one, &other, &mut findings);
    assert_eq!(findings.count, 0);
    other.pop();
    same("out", &one, &other, &mut findings);
    assert_eq!(findings.kept[0].fault, Fault::Readers);
}

#[test]
fn what_is_no_record_is_refused() {
    for text in ["x\n", "0\t0\tk\n", "0\tx\tk\tv\n", "0\t0\tk\tv\tmore\n"] {
        assert!(topic(text).is_err(), "{text:?}");
    }
    for text in ["p-in\t0\t0\t\n", "q-in\t0\t0\tk\tv\n", "p-in\tx\t0\tk\tv\n"] {
        assert!(Inputs::parse(text, "p").is_err(), "{text:?}");
    }
}
