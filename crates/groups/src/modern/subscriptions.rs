//! What the members of a group ask for, counted, and which topics that are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Resolved, TopicCatalog, topics::metadata_hash};

/// How many members ask for each topic name and each regular expression.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    names: BTreeMap<Arc<str>, usize>,
    regexes: BTreeMap<Arc<str>, usize>,
    /// What each expression matched, as far as that is known.
    pub(crate) resolved: BTreeMap<Arc<str>, Resolved>,
}

fn take_one(counts: &mut BTreeMap<Arc<str>, usize>, key: &str) -> bool {
    let Some(count) = counts.get_mut(key) else {
        return false;
    };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(key);
    }
    last
}

impl Subscriptions {
    pub(crate) fn add(&mut self, names: &[Arc<str>], regex: Option<&Arc<str>>) {
        for name in names {
            *self.names.entry(name.clone()).or_default() += 1;
        }
        if let Some(regex) = regex {
            *self.regexes.entry(regex.clone()).or_default() += 1;
        }
    }

    /// The expression that nobody asks for any more, if there is one; what it matched is forgotten.
    pub(crate) fn remove(
        &mut self,
        names: &[Arc<str>],
        regex: Option<&Arc<str>>,
    ) -> Option<Arc<str>> {
        for name in names {
            take_one(&mut self.names, name);
        }
        let regex = regex?;
        if !take_one(&mut self.regexes, regex) {
            return None;
        }
        self.resolved.remove(regex);
        Some(regex.clone())
    }

    /// The topic names that members ask for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    pub(crate) fn regexes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.regexes.keys()
    }

    pub(crate) fn wants_regex(&self, regex: &str) -> bool {
        self.regexes.contains_key(regex)
    }

    /// Whether a member reads the topic.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.names.contains_key(topic) || self.resolved.values().any(|resolved| resolved.has(topic))
    }

    /// The number for the topics that exist of those asked for.
    pub(crate) fn metadata_hash(&self, catalog: &dyn TopicCatalog) -> i64 {
        if self.resolved.is_empty() {
            return metadata_hash(catalog, self.names.keys().map(|name| &**name));
        }
        let matched = self.resolved.values().flat_map(Resolved::topics);
        let all: BTreeSet<&str> = self
            .names
            .keys()
            .map(|name| &**name)
            .chain(matched)
            .collect();
        metadata_hash(catalog, all.into_iter())
    }
}
