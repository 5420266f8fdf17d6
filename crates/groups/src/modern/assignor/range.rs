//! Range: each topic is cut into as many pieces as it has readers; static members come first, by
//! instance id, then the others by member id, so that topics with the same readers and the same
//! number of partitions are cut alike.

use super::{Assigned, Spec};

pub(super) fn assign(spec: &Spec<'_>) -> Assigned {
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|&index| {
        let member = &spec.members[index];
        (member.instance_id.is_none(), member.instance_id, member.id)
    });
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); spec.topics.len()];
    for index in order {
        for &topic in &*spec.members[index].topics {
            readers[topic].push(index);
        }
    }
    let mut parts = vec![Vec::new(); spec.members.len()];
    for (topic, readers) in spec.topics.iter().zip(&readers) {
        if readers.is_empty() {
            continue;
        }
        let count = topic.partitions as usize;
        let (each, more) = (count / readers.len(), count % readers.len());
        let mut next = topic.parts();
        for (place, &reader) in readers.iter().enumerate() {
            let share = each + usize::from(place < more);
            parts[reader].extend(next.by_ref().take(share));
        }
    }
    let assigned = spec.members.iter().zip(parts);
    assigned
        .map(|(member, parts)| (member.id.clone(), parts.into_iter().collect()))
        .collect()
}
