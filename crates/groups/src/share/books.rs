//! For which partitions the state of the share-partition is set up, being set up, or being deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::codec::{SharePartitionsOf, ShareStatePartitionsValue};
use crate::modern::{Part, TopicCatalog};

/// Partitions of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    name: Arc<str>,
    partitions: BTreeSet<i32>,
}

type Entries = BTreeMap<Uuid, Entry>;

/// The books. A topic that is being deleted is in neither of the others.
#[derive(Debug, Default)]
pub(super) struct Books {
    initializing: Entries,
    /// When somebody was last asked to set up those of a topic, Unix ms.
    asked_ms: BTreeMap<Uuid, i64>,
    initialized: Entries,
    deleting: BTreeMap<Uuid, Arc<str>>,
    /// The log has a record of it.
    pub(super) is_stored: bool,
}

/// What topics that are gone were called, as far as anybody has to know.
const GONE: &str = "<UNKNOWN>";

fn name_of(topics: &dyn TopicCatalog, id: Uuid) -> Arc<str> {
    topics.name_of(id).unwrap_or_else(|| GONE.into())
}

fn put(entries: &mut Entries, topics: &dyn TopicCatalog, (id, partition): Part) {
    let new = || Entry {
        name: name_of(topics, id),
        partitions: BTreeSet::new(),
    };
    entries
        .entry(id)
        .or_insert_with(new)
        .partitions
        .insert(partition);
}

fn take(entries: &mut Entries, (id, partition): Part) {
    if let Some(entry) = entries.get_mut(&id) {
        entry.partitions.remove(&partition);
        if entry.partitions.is_empty() {
            entries.remove(&id);
        }
    }
}

impl Books {
    pub(super) fn is_empty(&self) -> bool {
        self.initializing.is_empty() && self.initialized.is_empty() && self.deleting.is_empty()
    }

    /// Whether the state of a partition is set up.
    pub(super) fn is_initialized(&self, (id, partition): &Part) -> bool {
        let entry = self.initialized.get(id);
        entry.is_some_and(|entry| entry.partitions.contains(partition))
    }

    /// Partitions whose state is set up, of topics that still exist.
    pub(super) fn initialized(&self, topics: &dyn TopicCatalog) -> Vec<Part> {
        let there = self
            .initialized
            .iter()
            .filter(|(id, _)| topics.name_of(**id).is_some());
        there
            .flat_map(|(id, entry)| entry.partitions.iter().map(|partition| (*id, *partition)))
            .collect()
    }

    /// Partitions whose state is set up, with the names of their topics.
    pub(super) fn initialized_named(&self) -> impl Iterator<Item = (&str, Part)> {
        self.initialized.iter().flat_map(|(id, entry)| {
            let parts = entry.partitions.iter();
            parts.map(|partition| (&*entry.name, (*id, *partition)))
        })
    }

    /// Partitions whose state may be there, set up or being so.
    pub(super) fn of_topic(&self, id: Uuid) -> Vec<Part> {
        let entries = [self.initialized.get(&id), self.initializing.get(&id)];
        let partitions = entries
            .into_iter()
            .flatten()
            .flat_map(|e| e.partitions.iter().copied());
        let each: BTreeSet<i32> = partitions.collect();
        each.into_iter().map(|partition| (id, partition)).collect()
    }

    /// Topics whose state may be there, being deleted included.
    pub(super) fn topics(&self) -> Vec<Uuid> {
        let ids = self.initialized.keys().chain(self.initializing.keys());
        let each: BTreeSet<Uuid> = ids.chain(self.deleting.keys()).copied().collect();
        each.into_iter().collect()
    }

    pub(super) fn is_deleting(&self, id: Uuid) -> bool {
        self.deleting.contains_key(&id)
    }

    /// The partitions of a topic that have still to be set up, each with its start: what a topic has
    /// grown by is read from its beginning, a topic that is new to the group from where the group's
    /// settings say (-1). Those that somebody was asked to set up a while ago are named again.
    pub(super) fn missing(
        &self,
        (id, count): (Uuid, u32),
        now_ms: i64,
        retry_ms: i64,
    ) -> Vec<(Part, i64)> {
        let nobody = BTreeSet::new();
        let done = self.initialized.get(&id);
        let done = done.map_or(&nobody, |entry| &entry.partitions);
        let asked = self.initializing.get(&id);
        let asked = asked.map_or(&nobody, |entry| &entry.partitions);
        let is_recent = self
            .asked_ms
            .get(&id)
            .is_some_and(|asked_ms| now_ms.saturating_sub(*asked_ms) < retry_ms);
        let start = if self.initialized.contains_key(&id) {
            0
        } else {
            -1
        };
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        (0..count)
            .filter(|partition| !done.contains(partition))
            .filter(|partition| !(is_recent && asked.contains(partition)))
            .map(|partition| ((id, partition), start))
            .collect()
    }

    pub(super) fn begin(&mut self, parts: &[Part], topics: &dyn TopicCatalog, now_ms: i64) {
        for &part in parts {
            put(&mut self.initializing, topics, part);
            self.asked_ms.insert(part.0, now_ms);
            self.deleting.remove(&part.0);
        }
    }

    pub(super) fn finish(&mut self, parts: &[Part], topics: &dyn TopicCatalog) {
        for &part in parts {
            take(&mut self.initializing, part);
            put(&mut self.initialized, topics, part);
        }
        self.forget_asked();
    }

    pub(super) fn give_up(&mut self, parts: &[Part]) {
        parts
            .iter()
            .for_each(|&part| take(&mut self.initializing, part));
        self.forget_asked();
    }

    fn forget_asked(&mut self) {
        self.asked_ms
            .retain(|id, _| self.initializing.contains_key(id));
    }

    pub(super) fn begin_delete(&mut self, ids: &[Uuid], topics: &dyn TopicCatalog) {
        for &id in ids {
            self.initializing.remove(&id);
            self.initialized.remove(&id);
            self.deleting.insert(id, name_of(topics, id));
        }
        self.forget_asked();
    }

    pub(super) fn finish_delete(&mut self, ids: &[Uuid]) {
        ids.iter().for_each(|id| drop(self.deleting.remove(id)));
    }

    /// Forgets topics that do not exist any more; whether there were any.
    pub(super) fn forget_gone(&mut self, topics: &dyn TopicCatalog) -> bool {
        let before = self.initializing.len() + self.initialized.len() + self.deleting.len();
        let is_there = |id: &Uuid| topics.name_of(*id).is_some();
        self.initializing.retain(|id, _| is_there(id));
        self.initialized.retain(|id, _| is_there(id));
        self.deleting.retain(|id, _| is_there(id));
        self.forget_asked();
        before != self.initializing.len() + self.initialized.len() + self.deleting.len()
    }

    pub(super) fn value(&self) -> ShareStatePartitionsValue {
        let named = |entries: &Entries| -> Vec<SharePartitionsOf> {
            let each = entries.iter().map(|(id, entry)| {
                let partitions = entry.partitions.iter().copied().collect();
                (*id, entry.name.to_string(), partitions)
            });
            each.collect()
        };
        let deleting = self
            .deleting
            .iter()
            .map(|(id, name)| (*id, name.to_string()));
        ShareStatePartitionsValue {
            initializing: named(&self.initializing),
            initialized: named(&self.initialized),
            deleting: deleting.collect(),
        }
    }

    pub(super) fn restore(&mut self, value: Option<ShareStatePartitionsValue>) {
        self.is_stored = value.is_some();
        let value = value.unwrap_or_default();
        let entries = |topics: Vec<SharePartitionsOf>| -> Entries {
            let each = topics.into_iter().map(|(id, name, partitions)| {
                let entry = Entry {
                    name: name.into(),
                    partitions: partitions.into_iter().collect(),
                };
                (id, entry)
            });
            each.collect()
        };
        self.initializing = entries(value.initializing);
        self.initialized = entries(value.initialized);
        let deleting = value.deleting.into_iter();
        self.deleting = deleting.map(|(id, name)| (id, name.into())).collect();
        // Whoever was asked is gone: with the next heartbeat somebody is asked again.
        self.asked_ms.clear();
    }
}
