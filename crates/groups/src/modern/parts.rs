//! Sets of partitions, sorted by topic id and partition: small, and compared in one pass.

use uuid::Uuid;

/// A partition of a topic.
pub type Part = (Uuid, i32);

/// A set of partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Assignment(Vec<Part>);

impl Assignment {
    /// A set with nothing in it.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// From partitions grouped by topic; what comes twice counts once.
    pub fn from_topics<'a>(topics: impl IntoIterator<Item = (Uuid, &'a [i32])>) -> Self {
        let parts = topics
            .into_iter()
            .flat_map(|(id, partitions)| partitions.iter().map(move |&partition| (id, partition)));
        parts.collect()
    }

    /// How many partitions there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the partition is in the set.
    pub fn contains(&self, part: &Part) -> bool {
        self.0.binary_search(part).is_ok()
    }

    /// The partitions in their order.
    pub fn iter(&self) -> impl Iterator<Item = Part> + '_ {
        self.0.iter().copied()
    }

    /// The partitions grouped by topic.
    pub fn by_topic(&self) -> Vec<(Uuid, Vec<i32>)> {
        by_topic(self.iter())
    }
}

impl FromIterator<Part> for Assignment {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        let mut parts: Vec<Part> = parts.into_iter().collect();
        parts.sort_unstable();
        parts.dedup();
        parts.shrink_to_fit();
        Self(parts)
    }
}

/// Sorted partitions grouped by topic.
pub(crate) fn by_topic(parts: impl Iterator<Item = Part>) -> Vec<(Uuid, Vec<i32>)> {
    let mut topics: Vec<(Uuid, Vec<i32>)> = Vec::new();
    for (id, partition) in parts {
        match topics.last_mut() {
            Some((last, partitions)) if *last == id => partitions.push(partition),
            _ => topics.push((id, vec![partition])),
        }
    }
    topics
}

/// Partitions that a member holds, each with the member's epoch when it got it (KIP-1251).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held(Vec<(Part, i32)>);

impl Held {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn epoch_of(&self, part: &Part) -> Option<i32> {
        let at = self.0.binary_search_by_key(part, |&(held, _)| held).ok()?;
        Some(self.0[at].1)
    }

    pub(crate) fn contains(&self, part: &Part) -> bool {
        self.epoch_of(part).is_some()
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.0.iter().map(|&(part, _)| part)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Part, i32)> + '_ {
        self.0.iter().copied()
    }

    /// Whether `owned` names nothing but partitions of this set.
    pub(crate) fn covers(&self, owned: &Assignment) -> bool {
        owned.iter().all(|part| self.contains(&part))
    }

    /// Whether a partition is in both.
    pub(crate) fn meets(&self, owned: &Assignment) -> bool {
        self.parts().any(|part| owned.contains(&part))
    }

    pub(crate) fn assignment(&self) -> Assignment {
        self.parts().collect()
    }
}

impl FromIterator<(Part, i32)> for Held {
    fn from_iter<I: IntoIterator<Item = (Part, i32)>>(entries: I) -> Self {
        let mut entries: Vec<(Part, i32)> = entries.into_iter().collect();
        entries.sort_unstable_by_key(|&(part, _)| part);
        entries.dedup_by_key(|&mut (part, _)| part);
        entries.shrink_to_fit();
        Self(entries)
    }
}
