//! Server-side assignors (KIP-848): from members with their subscriptions to a target assignment.
//! Pure functions of their input; equal input gives equal output.

mod balance;
mod range;
mod uniform;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Assignment;

/// An assignor of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// Every member the same number of partitions as far as subscriptions allow, moving as few as
    /// possible.
    Uniform,
    /// Neighbouring partitions of each topic to the same member, and the same partitions of topics
    /// with equal counts to the same member (co-partitioning).
    Range,
}

impl Assignor {
    /// Its name in requests and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Computes the assignment.
    pub(crate) fn assign(self, spec: &Spec<'_>) -> Assigned {
        match self {
            Self::Range => range::assign(spec),
            Self::Uniform if spec.is_uniform() => uniform::assign(spec),
            Self::Uniform => balance::assign(spec),
        }
    }
}

/// What each member shall have.
pub(crate) type Assigned = BTreeMap<Arc<str>, Assignment>;

/// What an assignor decides on.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    /// The topics that exist and that a member reads, by id.
    pub(crate) topics: Vec<TopicSpec>,
    /// The members by id.
    pub(crate) members: Vec<MemberSpec<'a>>,
}

/// A topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) id: Uuid,
    pub(crate) partitions: u32,
}

impl TopicSpec {
    /// The partitions by number. A count beyond what a number can name is cut.
    pub(crate) fn parts(self) -> impl Iterator<Item = (Uuid, i32)> {
        let count = i32::try_from(self.partitions).unwrap_or(i32::MAX);
        (0..count).map(move |partition| (self.id, partition))
    }
}

/// A member.
#[derive(Debug)]
pub(crate) struct MemberSpec<'a> {
    pub(crate) id: &'a Arc<str>,
    pub(crate) instance_id: Option<&'a str>,
    /// Which of [`Spec::topics`] it reads, ascending. Members with the same topics share this.
    pub(crate) topics: Arc<[usize]>,
    /// What it shall have until now.
    pub(crate) current: &'a Assignment,
}

impl Spec<'_> {
    /// Whether all members read the same topics.
    fn is_uniform(&self) -> bool {
        let Some(first) = self.members.first() else {
            return true;
        };
        self.members.iter().all(|member| {
            Arc::ptr_eq(&member.topics, &first.topics) || member.topics == first.topics
        })
    }

    /// The index of the topic of this id.
    fn topic_of(&self, id: Uuid) -> Option<usize> {
        self.topics.binary_search_by_key(&id, |topic| topic.id).ok()
    }

    /// The members that read each topic, by index.
    fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.topics.len()];
        for (index, member) in self.members.iter().enumerate() {
            for &topic in &*member.topics {
                readers[topic].push(index);
            }
        }
        readers
    }
}

#[cfg(test)]
mod tests;
