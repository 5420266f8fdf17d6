//! The assignor of share groups: every partition to some member, every member about as many as the
//! next one, and as little moved as that allows (Kafka's `simple`).
//!
//! When all members ask for the same topics their partitions are dealt out together, otherwise topic
//! by topic. With more members than partitions, several members share a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::modern::{Assignment, Part};

/// A member as the assignor sees it.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) id: &'a Arc<str>,
    /// The topics that it asks for.
    pub(super) topics: BTreeSet<Uuid>,
    /// What it was to have until now.
    pub(super) current: &'a Assignment,
}

/// Deals out `parts`, ascending, to the members. A member gets partitions of its topics only.
pub(super) fn assign(members: &[Candidate<'_>], parts: &[Part]) -> BTreeMap<Arc<str>, Assignment> {
    let mut dealt: Vec<Vec<Part>> = vec![Vec::new(); members.len()];
    let is_uniform = members
        .windows(2)
        .all(|pair| pair[0].topics == pair[1].topics);
    if is_uniform {
        let asks = |part: &&Part| members.first().is_some_and(|m| m.topics.contains(&part.0));
        let pool: Vec<Part> = parts.iter().filter(asks).copied().collect();
        let everybody: Vec<usize> = (0..members.len()).collect();
        deal(members, &everybody, &pool, &mut dealt);
    } else {
        for pool in parts.chunk_by(|a, b| a.0 == b.0) {
            let asks = |at: &usize| members[*at].topics.contains(&pool[0].0);
            let readers: Vec<usize> = (0..members.len()).filter(asks).collect();
            deal(members, &readers, pool, &mut dealt);
        }
    }
    let each = members.iter().zip(dealt);
    each.map(|(member, parts)| (member.id.clone(), parts.into_iter().collect()))
        .collect()
}

/// Deals one pool out to those who read it.
fn deal(members: &[Candidate<'_>], readers: &[usize], pool: &[Part], dealt: &mut [Vec<Part>]) {
    if readers.is_empty() || pool.is_empty() {
        return;
    }
    // How many members share a partition, and how many partitions each of them has then.
    let sharing = readers.len().div_ceil(pool.len());
    let total = sharing * pool.len();
    let quota = |nth: usize| {
        (total * (nth + 1)).div_ceil(readers.len()) - (total * nth).div_ceil(readers.len())
    };
    let mut left: Vec<usize> = (0..readers.len()).map(quota).collect();
    let mut holders: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); pool.len()];
    // Who has a partition keeps it, as far as there is room.
    for (nth, &reader) in readers.iter().enumerate() {
        for part in members[reader].current.iter() {
            if left[nth] == 0 {
                break;
            }
            if let Ok(at) = pool.binary_search(&part)
                && holders[at].len() < sharing
            {
                holders[at].insert(nth);
                left[nth] -= 1;
            }
        }
    }
    // Every partition gets its first member before any gets its second.
    let mut turn = 0;
    for round in 1..=sharing {
        for held in &mut holders {
            if held.len() >= round {
                continue;
            }
            let next = (turn..turn + readers.len())
                .map(|nth| nth % readers.len())
                .find(|nth| left[*nth] > 0 && !held.contains(nth));
            if let Some(nth) = next {
                held.insert(nth);
                left[nth] -= 1;
                turn = nth + 1;
            }
        }
    }
    for (part, held) in pool.iter().zip(holders) {
        for nth in held {
            dealt[readers[nth]].push(*part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|at| format!("m{at:03}").into()).collect()
    }

    /// SplitMix64.
    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize
    }

    #[test]
    fn everything_is_read_by_those_who_ask_and_evenly() {
        for first in 0..3_000_u64 {
            let mut seed = first;
            let count = 1 + random(&mut seed) % 9;
            let topics: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
            let ids = names(count);
            let is_uniform = random(&mut seed).is_multiple_of(2);
            let mut before: BTreeMap<Arc<str>, Assignment> = BTreeMap::new();
            let mut sizes = [0; 3];
            for _ in 0..4 {
                for size in &mut sizes {
                    *size += random(&mut seed) % 4;
                }
                let parts: Vec<Part> = topics
                    .iter()
                    .zip(sizes)
                    .flat_map(|(id, size)| (0..size as i32).map(move |part| (*id, part)))
                    .collect();
                let nothing = Assignment::new();
                let mut members = Vec::new();
                for id in &ids {
                    if !is_uniform && random(&mut seed).is_multiple_of(4) {
                        continue;
                    }
                    let mut asked = topics.clone();
                    asked.retain(|_| is_uniform || !random(&mut seed).is_multiple_of(3));
                    members.push(Candidate {
                        id,
                        topics: asked.into_iter().collect(),
                        current: before.get(id).unwrap_or(&nothing),
                    });
                }
                let after = assign(&members, &parts);
                assert_eq!(after.len(), members.len(), "seed {first}");
                for part in &parts {
                    let asked = members.iter().any(|m| m.topics.contains(&part.0));
                    let read = after.values().any(|has| has.contains(part));
                    assert_eq!(asked, read, "seed {first}: {part:?}");
                }
                for member in &members {
                    let has = &after[member.id];
                    assert!(
                        has.iter().all(|part| member.topics.contains(&part.0)),
                        "seed {first}"
                    );
                }
                if is_uniform {
                    let loads = after.values().map(Assignment::len);
                    let (least, most) = (loads.clone().min().unwrap(), loads.max().unwrap());
                    assert!(most - least <= 1, "seed {first}: {least} to {most}");
                }
                let again: Vec<Candidate<'_>> = members
                    .iter()
                    .map(|member| Candidate {
                        id: member.id,
                        topics: member.topics.clone(),
                        current: &after[member.id],
                    })
                    .collect();
                assert_eq!(assign(&again, &parts), after, "seed {first}: nothing moves");
                before = after;
            }
        }
    }
}
