//! Uniform, for members that all read the same topics: everyone keeps what it has up to its share,
//! the rest goes round.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Assigned, Spec};

type Part = (Uuid, i32);

pub(super) fn assign(spec: &Spec<'_>) -> Assigned {
    let Some(first) = spec.members.first() else {
        return Assigned::new();
    };
    let all: Vec<Part> = first
        .topics
        .iter()
        .flat_map(|&topic| spec.topics[topic].parts())
        .collect();
    let valid: HashSet<Part> = all.iter().copied().collect();
    let members = spec.members.len();
    let (share, mut extra) = (all.len() / members, all.len() % members);

    // Who has more than its share keeps one more, as long as there is one more to keep.
    let mut taken: HashSet<Part> = HashSet::with_capacity(all.len());
    let mut kept: Vec<Vec<Part>> = Vec::with_capacity(members);
    for member in &spec.members {
        let mut has: Vec<Part> = member
            .current
            .iter()
            .filter(|part| valid.contains(part) && !taken.contains(part))
            .collect();
        let keeps_one_more = has.len() > share && extra > 0;
        extra -= usize::from(keeps_one_more);
        has.truncate(share + usize::from(keeps_one_more));
        taken.extend(has.iter().copied());
        kept.push(has);
    }

    let mut free = all.into_iter().filter(|part| !taken.contains(part));
    // Rounds, so that neighbouring partitions go to different members.
    let mut waiting: Vec<usize> = (0..members)
        .filter(|&index| kept[index].len() < share)
        .collect();
    while !waiting.is_empty() {
        waiting.retain(|&index| {
            kept[index].extend(free.next());
            kept[index].len() < share
        });
    }
    // What is left is less than one for each who has just its share.
    for has in &mut kept {
        if has.len() == share {
            has.extend(free.next());
        }
    }
    let assigned = spec.members.iter().zip(kept);
    assigned
        .map(|(member, parts)| (member.id.clone(), parts.into_iter().collect()))
        .collect()
}
