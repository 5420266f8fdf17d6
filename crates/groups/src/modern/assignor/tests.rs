//! The assignors under random groups, against what must hold of every assignment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{Assigned, Assignment, Assignor, MemberSpec, Spec, TopicSpec};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

type Wishes = BTreeMap<Arc<str>, Arc<[usize]>>;

fn topics(counts: &[u32]) -> Vec<TopicSpec> {
    let of = |(index, &partitions): (usize, &u32)| TopicSpec {
        id: Uuid::from_u128(index as u128 + 1),
        partitions,
    };
    counts.iter().enumerate().map(of).collect()
}

fn run(assignor: Assignor, counts: &[u32], wishes: &Wishes, before: &Assigned) -> Assigned {
    let nothing = Assignment::new();
    let members = wishes.iter().map(|(id, topics)| MemberSpec {
        id,
        instance_id: None,
        topics: topics.clone(),
        current: before.get(id).unwrap_or(&nothing),
    });
    let spec = Spec {
        topics: topics(counts),
        members: members.collect(),
    };
    assignor.assign(&spec)
}

fn wishes(members: &[(&str, &[usize])]) -> Wishes {
    members
        .iter()
        .map(|&(id, topics)| (id.into(), topics.into()))
        .collect()
}

/// Every partition that somebody reads belongs to exactly one reader of its topic.
fn check(counts: &[u32], wishes: &Wishes, assigned: &Assigned, context: &str) {
    let topics = topics(counts);
    let mut seen = BTreeSet::new();
    assert_eq!(assigned.len(), wishes.len(), "{context}");
    for (member, assignment) in assigned {
        for part in assignment.iter() {
            assert!(seen.insert(part), "{context}: {part:?} twice");
            let topic = topics.iter().position(|t| t.id == part.0).unwrap();
            assert!(
                wishes[member].contains(&topic),
                "{context}: {member} does not read it"
            );
            assert!((part.1 as u32) < counts[topic], "{context}");
        }
    }
    let expected: usize = (0..counts.len())
        .filter(|topic| wishes.values().any(|topics| topics.contains(topic)))
        .map(|topic| counts[topic] as usize)
        .sum();
    assert_eq!(seen.len(), expected, "{context}: something is not assigned");
}

/// No partition could go from a member to one that has at least two less.
fn check_balance(wishes: &Wishes, assigned: &Assigned, context: &str) {
    for (from, assignment) in assigned {
        for part in assignment.iter() {
            let topic = part.0.as_u128() as usize - 1;
            for (to, other) in assigned {
                let could = wishes[to].contains(&topic);
                let better = other.len() + 2 <= assignment.len();
                assert!(
                    !could || !better,
                    "{context}: {part:?} belongs to {to}, not {from}"
                );
            }
        }
    }
}

fn moved(before: &Assigned, after: &Assigned) -> usize {
    before
        .iter()
        .filter_map(|(member, had)| Some((had, after.get(member)?)))
        .map(|(had, has)| had.iter().filter(|part| !has.contains(part)).count())
        .sum()
}

#[test]
fn random_groups_are_assigned_completely_and_evenly() {
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let mut counts: Vec<u32> = (0..1 + random.below(6))
            .map(|_| random.below(9) as u32)
            .collect();
        let same = random.below(2) == 0;
        let mut group = Wishes::new();
        let mut assigned = Assigned::new();
        for round in 0..12 {
            match random.below(4) {
                0 if !group.is_empty() => {
                    let gone = group
                        .keys()
                        .nth(random.below(group.len()))
                        .cloned()
                        .unwrap();
                    group.remove(&gone);
                }
                1 => counts[0] += 1,
                _ => {
                    let wanted: Vec<usize> = (0..counts.len())
                        .filter(|_| same || random.below(2) == 0)
                        .collect();
                    group.insert(format!("m{}", random.below(20)).into(), wanted.into());
                }
            }
            let context = format!("seed {seed}, round {round}");
            let range = run(Assignor::Range, &counts, &group, &assigned);
            check(&counts, &group, &range, &context);
            let next = run(Assignor::Uniform, &counts, &group, &assigned);
            check(&counts, &group, &next, &context);
            check_balance(&group, &next, &context);
            let again = run(Assignor::Uniform, &counts, &group, &next);
            assert_eq!(again, next, "{context}: moves without a reason");
            assigned = next;
        }
    }
}

#[test]
fn uniform_moves_only_what_a_new_member_gets() {
    let mut group = wishes(&[("a", &[0]), ("b", &[0])]);
    let before = run(Assignor::Uniform, &[6], &group, &Assigned::new());
    group.insert("c".into(), [0].into());
    let after = run(Assignor::Uniform, &[6], &group, &before);
    assert_eq!(moved(&before, &after), 2);
    group.remove("a");
    let last = run(Assignor::Uniform, &[6], &group, &after);
    assert_eq!(
        moved(&after, &last),
        0,
        "those who stay keep what they have"
    );
}

#[test]
fn chains_of_members_even_out_what_single_moves_cannot() {
    // Only over b can something of a reach c.
    let group = wishes(&[("a", &[0]), ("b", &[0, 1]), ("c", &[1])]);
    let mut before = Assigned::new();
    let parts =
        |topic: u128, range: std::ops::Range<i32>| range.map(move |p| (Uuid::from_u128(topic), p));
    before.insert("a".into(), parts(1, 0..3).collect());
    before.insert("b".into(), parts(2, 0..2).collect());
    before.insert("c".into(), parts(2, 2..3).collect());
    let after = run(Assignor::Uniform, &[3, 3], &group, &before);
    let counts: Vec<usize> = after.values().map(Assignment::len).collect();
    assert_eq!(counts, [2, 2, 2]);
}

#[test]
fn range_cuts_topics_with_equal_counts_alike() {
    let group = wishes(&[("a", &[0, 1]), ("b", &[0, 1]), ("c", &[0])]);
    let assigned = run(Assignor::Range, &[7, 7], &group, &Assigned::new());
    let of = |member: &str, topic: u128| -> Vec<i32> {
        let parts = assigned[member].iter();
        parts
            .filter(|part| part.0.as_u128() == topic)
            .map(|part| part.1)
            .collect()
    };
    assert_eq!(of("a", 1), [0, 1, 2]);
    assert_eq!(of("b", 1), [3, 4]);
    assert_eq!(of("c", 1), [5, 6]);
    assert_eq!(of("a", 2), [0, 1, 2, 3]);
    assert_eq!(of("b", 2), [4, 5, 6]);
}
