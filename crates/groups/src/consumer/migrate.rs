//! From the classic protocol and back while there are members (KIP-848's online migration): the
//! generation becomes the epoch and the other way round, and everyone keeps what it has.

use std::collections::HashSet;
use std::sync::Arc;

use crate::classic::ClassicMember;
use crate::codec::{Subscription, assigned_partitions};
use crate::config::ConsumerSettings;
use crate::error::GroupError;
use crate::modern::{Held, Part, TopicCatalog};

use super::classic::{encode_assignment, to_parts};
use super::member::{ClassicPart, Member};
use super::{ConsumerGroup, Ctx};

impl ConsumerGroup {
    /// The group that these classic members make. An error when what they brought cannot be read.
    pub(crate) fn from_classic(
        id: Arc<str>,
        generation: i32,
        members: Vec<ClassicMember>,
        settings: ConsumerSettings,
        ctx: &mut Ctx<'_>,
    ) -> Result<Self, GroupError> {
        let mut group = Self::new(id, settings);
        group.target.group_epoch = generation;
        group.target.assignment_epoch = generation;
        let held = held_by(&members, generation, ctx.topics)?;
        for (classic, held) in members.into_iter().zip(held) {
            let member = adopted(classic, generation, held)?;
            let member_id = member.id.clone();
            for part in member.assigned.parts() {
                group.holders.insert(part, member_id.clone());
            }
            group
                .target
                .set(member_id.clone(), member.assigned.assignment());
            group.insert(member, ctx);
            group.refresh_session(&member_id, ctx.now_ms);
        }
        group.target.metadata_hash = group.subscriptions.metadata_hash(ctx.topics);
        Ok(group)
    }

    /// Whether there are members and all of them speak the classic protocol.
    pub(crate) fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|m| m.classic.is_some())
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.target.group_epoch
    }

    /// The members as a classic group has them, with what they hold.
    pub(crate) fn to_classic(&self, topics: &dyn TopicCatalog) -> Vec<ClassicMember> {
        let members = self.members.values().filter_map(|member| {
            let classic = member.classic.as_ref()?;
            let version = classic
                .protocols
                .first()
                .and_then(|protocol| Subscription::decode(&protocol.metadata).ok())
                .map_or(0, |subscription| subscription.version);
            let assignment = encode_assignment(version, &member.assigned.assignment(), topics);
            Some(ClassicMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.to_string(),
                client_host: member.client_host.to_string(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.protocols.clone(),
                assignment: assignment.unwrap_or_default(),
            })
        });
        members.collect()
    }
}

fn unreadable<E>(_: E) -> GroupError {
    GroupError::InconsistentGroupProtocol
}

fn subscription_of(classic: &ClassicMember) -> Result<Subscription<'_>, GroupError> {
    let first = classic.protocols.first().ok_or(()).map_err(unreadable)?;
    Subscription::decode(&first.metadata).map_err(unreadable)
}

/// What each member holds: what it was assigned, and what it said to have when it last joined,
/// because a cooperative member keeps that while a rebalance is under way. A partition that two
/// claim stays with the first; one of them can keep it.
fn held_by(
    members: &[ClassicMember],
    generation: i32,
    topics: &dyn TopicCatalog,
) -> Result<Vec<Held>, GroupError> {
    let mut taken: HashSet<Part> = HashSet::new();
    let mut held: Vec<Vec<Part>> = Vec::with_capacity(members.len());
    for classic in members {
        let assigned = assigned_partitions(&classic.assignment).map_err(unreadable)?;
        let parts = to_parts(&assigned, topics);
        held.push(parts.iter().filter(|part| taken.insert(*part)).collect());
    }
    for (classic, held) in members.iter().zip(&mut held) {
        let claimed = to_parts(&subscription_of(classic)?.owned, topics);
        held.extend(claimed.iter().filter(|part| taken.insert(*part)));
    }
    let with_epochs = held
        .into_iter()
        .map(|parts| parts.into_iter().map(|part| (part, generation)).collect());
    Ok(with_epochs.collect())
}

fn adopted(classic: ClassicMember, generation: i32, held: Held) -> Result<Member, GroupError> {
    let subscription = subscription_of(&classic)?;
    let mut names: Vec<Arc<str>> = subscription.topics.iter().map(|&n| n.into()).collect();
    names.sort_unstable();
    names.dedup();
    let rack_id = subscription.rack_id.map(Arc::from);
    Ok(Member {
        instance_id: classic.instance_id,
        rack_id,
        client_id: classic.client_id.into(),
        client_host: classic.client_host.into(),
        rebalance_timeout_ms: classic.rebalance_timeout_ms,
        topic_names: names.into(),
        classic: Some(Box::new(ClassicPart {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.protocols,
        })),
        epoch: generation,
        previous_epoch: generation,
        assigned: held,
        ..Member::new(classic.id)
    })
}
