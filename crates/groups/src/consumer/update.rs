//! What changes a group's epoch, and the target assignment that follows: subscriptions, topics,
//! regular expressions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::kind;
use crate::error::GroupError;
use crate::modern::assignor::{MemberSpec, Spec, TopicSpec};
use crate::modern::{Assignor, Pattern, Refused, StateKey};

use super::member::{ClassicPart, Duty, Member};
use super::{ConsumerGroup, Ctx};

/// What a request says about its member; `None`: as before.
#[derive(Debug, Default)]
pub(super) struct MemberChange {
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: Option<i32>,
    pub(super) topic_names: Option<Vec<String>>,
    /// Empty: none any more.
    pub(super) topic_regex: Option<String>,
    pub(super) assignor: Option<Assignor>,
    /// Always as it is now.
    pub(super) classic: Option<Box<ClassicPart>>,
}

impl ConsumerGroup {
    /// Reads a new regular expression before anything is changed.
    pub(super) fn check_regex(&self, change: &MemberChange) -> Result<(), Refused> {
        let Some(regex) = change.topic_regex.as_deref() else {
            return Ok(());
        };
        if regex.is_empty() || self.subscriptions.wants_regex(regex) {
            return Ok(());
        }
        check_regex(regex)
    }

    /// Takes over what the request says. True when the member asks for other topics than before.
    pub(super) fn change_member(
        &mut self,
        member_id: &str,
        change: MemberChange,
        ctx: &mut Ctx<'_>,
    ) -> bool {
        let Some(before) = self.members.get(member_id).cloned() else {
            return false;
        };
        let names = change.topic_names.map(|names| self.shared_names(names));
        let member = before.clone();
        let mut next = Member {
            instance_id: text(change.instance_id.as_deref(), member.instance_id),
            rack_id: text(change.rack_id.as_deref(), member.rack_id),
            client_id: change.client_id.into(),
            client_host: change.client_host.into(),
            rebalance_timeout_ms: change
                .rebalance_timeout_ms
                .unwrap_or(member.rebalance_timeout_ms),
            topic_names: names.unwrap_or(member.topic_names),
            topic_regex: text(change.topic_regex.as_deref(), member.topic_regex)
                .filter(|regex| !regex.is_empty()),
            assignor: change.assignor.or(member.assignor),
            classic: change.classic,
            ..member
        };
        if before.classic.is_some() && next.classic.is_none() {
            next.clear_duty(Duty::Join);
            next.clear_duty(Duty::Sync);
        }
        if same_metadata(&before, &next) {
            return false;
        }
        Self::mark(ctx, kind::CONSUMER_MEMBER, &next.id);
        if let Some(old) = before
            .instance_id
            .as_ref()
            .filter(|old| Some(*old) != next.instance_id.as_ref())
            && self.static_members.get(old) == Some(&before.id)
        {
            self.static_members.remove(old);
        }
        if let Some(instance_id) = &next.instance_id {
            self.static_members
                .insert(instance_id.clone(), next.id.clone());
        }
        let changed =
            before.topic_names != next.topic_names || before.topic_regex != next.topic_regex;
        if changed {
            self.subscriptions
                .add(&next.topic_names, next.topic_regex.as_ref());
            let unused = self
                .subscriptions
                .remove(&before.topic_names, before.topic_regex.as_ref());
            if let Some(regex) = unused {
                Self::mark(ctx, kind::CONSUMER_REGEX, &regex);
            }
        }
        self.members.insert(next.id.clone(), next);
        changed
    }

    /// Sorted, each name once; shared with a member that has the same.
    fn shared_names(&self, mut names: Vec<String>) -> Arc<[Arc<str>]> {
        names.sort_unstable();
        names.dedup();
        let same = |member: &&Member| {
            let theirs = member.topic_names.iter().map(|name| &**name);
            theirs.eq(names.iter().map(String::as_str))
        };
        // Groups are mostly of one mind: the first members tell.
        if let Some(member) = self.members.values().take(3).find(same) {
            return member.topic_names.clone();
        }
        names.into_iter().map(Arc::from).collect()
    }

    /// Looks at the topics again, when the members ask for others or there are others. The epoch
    /// grows when that may change who gets what.
    pub(super) fn refresh(&mut self, subscription_changed: bool, ctx: &mut Ctx<'_>) {
        let matched = self.refresh_regexes(ctx);
        let version = ctx.topics.version();
        let mut changed = subscription_changed;
        if changed || matched || self.checked_version != Some(version) {
            self.checked_version = Some(version);
            let hash = self.subscriptions.metadata_hash(ctx.topics);
            changed |= hash != self.target.metadata_hash;
            self.target.metadata_hash = hash;
        }
        if changed {
            self.bump(ctx);
        }
    }

    /// Matches expressions that are new, or that other topics may match by now. True when another
    /// set of topics came out.
    fn refresh_regexes(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let (version, now_ms) = (ctx.topics.version(), ctx.now_ms);
        let due: Vec<Arc<str>> = self
            .subscriptions
            .regexes()
            .filter(|regex| {
                let Some(known) = self.subscriptions.resolved.get(*regex) else {
                    return true;
                };
                let age_ms = now_ms.saturating_sub(known.timestamp_ms);
                let least_ms = ctx.config.regex_refresh_min_interval_ms;
                // A timestamp of the future says nothing.
                let rested = age_ms < 0 || age_ms >= least_ms;
                let stale = age_ms < 0 || age_ms >= ctx.config.regex_refresh_interval_ms;
                (known.version != version && rested) || stale
            })
            .cloned()
            .collect();
        let mut changed = false;
        for regex in due {
            // A stored expression that cannot be read any more matches nothing.
            let Ok(pattern) = Pattern::compile(&regex) else {
                continue;
            };
            let resolved = pattern.resolve(ctx.topics, now_ms);
            let known = self.subscriptions.resolved.get(&regex);
            if known.is_none_or(|known| !known.same_topics(&resolved)) {
                changed = true;
                Self::mark(ctx, kind::CONSUMER_REGEX, &regex);
            }
            self.subscriptions.resolved.insert(regex, resolved);
        }
        changed
    }

    /// The assignor that most members prefer; the first of the server's when none does.
    pub(super) fn assignor(&self, configured: &[Assignor]) -> Assignor {
        let default = configured.first().copied().unwrap_or(Assignor::Uniform);
        let mut votes: Vec<(Assignor, usize)> = Vec::new();
        let wishes = self.members.values().filter_map(|member| member.assignor);
        for wish in wishes.filter(|wish| configured.contains(wish)) {
            match votes.iter_mut().find(|(assignor, _)| *assignor == wish) {
                Some((_, count)) => *count += 1,
                None => votes.push((wish, 1)),
            }
        }
        let best = votes.iter().map(|&(_, count)| count).max();
        // Of equal votes the one that the server names first.
        let ordered = configured.iter().copied();
        let mut chosen = ordered.filter(|assignor| {
            votes
                .iter()
                .any(|&(wish, count)| wish == *assignor && Some(count) == best)
        });
        chosen.next().unwrap_or(default)
    }

    /// Makes the target for the present epoch, unless the last one is too young and it can wait.
    pub(super) fn retarget(&mut self, can_wait: bool, ctx: &mut Ctx<'_>) {
        if !self.target.is_behind() || self.members.is_empty() {
            return;
        }
        let interval_ms = i64::from(self.settings.assignment_interval_ms.max(0));
        let too_young =
            self.target.computed_ms <= ctx.now_ms && ctx.now_ms < self.target.due_ms(interval_ms);
        if can_wait && too_young && self.target.assignment_epoch > 0 {
            return;
        }
        let assigned = {
            let spec = self.spec(ctx);
            self.assignor(&ctx.config.assignors).assign(&spec)
        };
        for member_id in self.target.install(assigned, ctx.now_ms) {
            Self::mark(ctx, kind::CONSUMER_TARGET_MEMBER, &member_id);
        }
        ctx.ledger.mark(StateKey::of_group(kind::CONSUMER_TARGET));
    }

    /// The group as assignors see it.
    fn spec(&self, ctx: &Ctx<'_>) -> Spec<'_> {
        let mut topics: BTreeMap<&str, TopicSpec> = BTreeMap::new();
        type Wish<'a> = (&'a [Arc<str>], Option<&'a str>);
        let mut wishes: BTreeMap<Wish<'_>, Vec<&str>> = BTreeMap::new();
        for member in self.members.values() {
            let regex = member.topic_regex.as_deref();
            wishes
                .entry((&member.topic_names, regex))
                .or_insert_with(|| self.topics_of(member));
        }
        for name in wishes.values().flatten() {
            if let Some(found) = ctx.topics.topic(name) {
                let spec = TopicSpec {
                    id: found.id,
                    partitions: found.partitions,
                };
                topics.insert(name, spec);
            }
        }
        let mut ordered: Vec<TopicSpec> = topics.values().copied().collect();
        ordered.sort_unstable_by_key(|topic| topic.id);
        let index_of = |name: &&str| {
            let id = topics.get(name)?.id;
            ordered.binary_search_by_key(&id, |topic| topic.id).ok()
        };
        let indexed: BTreeMap<Wish<'_>, Arc<[usize]>> = wishes
            .iter()
            .map(|(wish, names)| {
                let mut indexes: Vec<usize> = names.iter().filter_map(index_of).collect();
                indexes.sort_unstable();
                indexes.dedup();
                (*wish, indexes.into())
            })
            .collect();
        let members = self.members.values().map(|member| {
            let wish: Wish<'_> = (&member.topic_names, member.topic_regex.as_deref());
            MemberSpec {
                id: &member.id,
                instance_id: member.instance_id.as_deref(),
                topics: indexed.get(&wish).cloned().unwrap_or_default(),
                current: self.target.of(&member.id),
            }
        });
        Spec {
            members: members.collect(),
            topics: ordered,
        }
    }

    fn topics_of<'a>(&'a self, member: &'a Member) -> Vec<&'a str> {
        let matched = member
            .topic_regex
            .as_ref()
            .and_then(|regex| self.subscriptions.resolved.get(regex));
        let names = member.topic_names.iter().map(|name| &**name);
        names
            .chain(matched.into_iter().flat_map(|resolved| resolved.topics()))
            .collect()
    }
}

/// Whether an expression can be read; none at all is empty.
pub(crate) fn check_regex(regex: &str) -> Result<(), Refused> {
    Pattern::compile(regex).map(drop).map_err(|reason| {
        let message =
            format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {reason}.");
        Refused::new(GroupError::InvalidRegularExpression, message)
    })
}

/// The new text, or what was there; shared when both are equal.
fn text(new: Option<&str>, before: Option<Arc<str>>) -> Option<Arc<str>> {
    match (new, before) {
        (None, before) => before,
        (Some(new), Some(before)) if *before == *new => Some(before),
        (Some(new), _) => Some(new.into()),
    }
}

/// Whether the records of both would be the same.
fn same_metadata(a: &Member, b: &Member) -> bool {
    a.instance_id == b.instance_id
        && a.rack_id == b.rack_id
        && a.client_id == b.client_id
        && a.client_host == b.client_host
        && a.rebalance_timeout_ms == b.rebalance_timeout_ms
        && a.topic_names == b.topic_names
        && a.topic_regex == b.topic_regex
        && a.assignor == b.assignor
        && a.classic == b.classic
}
