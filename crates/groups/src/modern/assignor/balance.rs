//! Uniform, for members that read different topics. Everyone keeps what it has and may have; what
//! is free goes to the reader with the least; then partitions move along chains of members as long
//! as that takes one from a member that has at least two more than the one at the other end. When
//! no chain is left no assignment is better balanced.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

use super::{Assigned, Spec};

type Part = (Uuid, i32);

struct Balance<'a> {
    spec: &'a Spec<'a>,
    /// Members by topic.
    readers: Vec<Vec<usize>>,
    /// For each member: for each of its topics (as in its spec) the partitions it has.
    has: Vec<Vec<Vec<Part>>>,
    load: Vec<usize>,
}

pub(super) fn assign(spec: &Spec<'_>) -> Assigned {
    let mut balance = Balance::keep(spec);
    balance.hand_out();
    balance.even_out();
    let assigned = spec.members.iter().zip(balance.has);
    assigned
        .map(|(member, topics)| (member.id.clone(), topics.into_iter().flatten().collect()))
        .collect()
}

impl<'a> Balance<'a> {
    fn keep(spec: &'a Spec<'a>) -> Self {
        let mut taken: HashSet<Part> = HashSet::new();
        let mut has = Vec::with_capacity(spec.members.len());
        let mut load = Vec::with_capacity(spec.members.len());
        for member in &spec.members {
            let mut mine = vec![Vec::new(); member.topics.len()];
            let mut count = 0;
            for part in member.current.iter() {
                let place = spec.topic_of(part.0).and_then(|topic| {
                    let exists =
                        u32::try_from(part.1).is_ok_and(|p| p < spec.topics[topic].partitions);
                    exists
                        .then(|| member.topics.binary_search(&topic).ok())
                        .flatten()
                });
                if let Some(place) = place
                    && taken.insert(part)
                {
                    mine[place].push(part);
                    count += 1;
                }
            }
            has.push(mine);
            load.push(count);
        }
        let readers = spec.readers();
        Self {
            spec,
            readers,
            has,
            load,
        }
    }

    fn place(&self, member: usize, topic: usize) -> Option<usize> {
        self.spec.members[member].topics.binary_search(&topic).ok()
    }

    /// Gives every partition that nobody has to the reader with the least; topics with few readers
    /// first, because they leave no choice.
    fn hand_out(&mut self) {
        let taken: HashSet<Part> = self.has.iter().flatten().flatten().copied().collect();
        let mut order: Vec<usize> = (0..self.spec.topics.len())
            .filter(|&topic| !self.readers[topic].is_empty())
            .collect();
        order.sort_by_key(|&topic| self.readers[topic].len());
        for topic in order {
            for part in self.spec.topics[topic].parts() {
                if taken.contains(&part) {
                    continue;
                }
                let least = self.readers[topic]
                    .iter()
                    .copied()
                    .min_by_key(|&member| (self.load[member], member));
                if let Some(member) = least {
                    self.give(member, topic, part);
                }
            }
        }
    }

    fn give(&mut self, member: usize, topic: usize, part: Part) {
        if let Some(place) = self.place(member, topic) {
            self.has[member][place].push(part);
            self.load[member] += 1;
        }
    }

    fn even_out(&mut self) {
        // From the fullest down. A member from which no chain leads on has no better place for
        // anything; what others give it later only ends at members with less.
        loop {
            let mut order: Vec<usize> = (0..self.load.len()).collect();
            order.sort_by_key(|&member| (std::cmp::Reverse(self.load[member]), member));
            let moved = order.into_iter().any(|member| {
                let chain = self.chain_from(member);
                let found = chain.is_some();
                if let Some(chain) = chain {
                    self.shift(&chain);
                }
                found
            });
            if !moved {
                return;
            }
        }
    }

    /// The shortest chain of (member, topic) from `start` to a member that has at least two less:
    /// each gives a partition of the topic to the next.
    fn chain_from(&self, start: usize) -> Option<Vec<(usize, usize)>> {
        let mut came_by: Vec<Option<(usize, usize)>> = vec![None; self.load.len()];
        let mut topic_seen = vec![false; self.spec.topics.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(member) = queue.pop_front() {
            for (place, &topic) in self.spec.members[member].topics.iter().enumerate() {
                if self.has[member][place].is_empty() || topic_seen[topic] {
                    continue;
                }
                topic_seen[topic] = true;
                for &reader in &self.readers[topic] {
                    if reader == start || came_by[reader].is_some() {
                        continue;
                    }
                    came_by[reader] = Some((member, topic));
                    if self.load[reader] + 2 <= self.load[start] {
                        return Some(Self::walk_back(&came_by, reader));
                    }
                    queue.push_back(reader);
                }
            }
        }
        None
    }

    /// The chain that ends at `end`, the end itself with no topic of its own left out.
    fn walk_back(came_by: &[Option<(usize, usize)>], end: usize) -> Vec<(usize, usize)> {
        let mut chain = vec![(end, usize::MAX)];
        let mut at = end;
        while let Some((from, topic)) = came_by[at] {
            chain.push((from, topic));
            at = from;
        }
        chain.reverse();
        chain
    }

    fn shift(&mut self, chain: &[(usize, usize)]) {
        for pair in chain.windows(2) {
            let ((from, topic), (to, _)) = (pair[0], pair[1]);
            let part = self
                .place(from, topic)
                .and_then(|place| self.has[from][place].pop());
            if let Some(part) = part {
                self.load[from] -= 1;
                self.give(to, topic, part);
            }
        }
    }
}
