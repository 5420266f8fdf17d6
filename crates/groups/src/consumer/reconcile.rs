//! A member's way to the target: first it gives back what it shall have no more, then it enters the
//! target's epoch and gets what is free; what others still have follows when they gave it back.

use crate::codec::kind;
use crate::modern::{Assignment, Held, Part};

use super::member::{Duty, Member, MemberState};
use super::{ConsumerGroup, Ctx};

impl ConsumerGroup {
    /// Moves the member on as far as possible. `owned` is what it reports to have; without a report
    /// it counts as having everything it was given. Says whether anything changed.
    pub(super) fn reconcile(
        &mut self,
        member_id: &str,
        owned: Option<&Assignment>,
        subscription_changed: bool,
        ctx: &mut Ctx<'_>,
    ) -> bool {
        let Some(member) = self.members.get(member_id) else {
            return false;
        };
        let waits = match member.state {
            MemberState::Stable => {
                member.epoch == self.target.assignment_epoch && !subscription_changed
            }
            MemberState::Unrevoked => owned.is_none_or(|owned| member.revoking.meets(owned)),
            MemberState::Unreleased => false,
        };
        if waits {
            return false;
        }
        let (before, id) = (member.clone(), member.id.clone());
        let next = self.next_for(&before, owned, ctx);
        self.release(&id, &before.assigned);
        self.release(&id, &before.revoking);
        for part in next.assigned.parts().chain(next.revoking.parts()) {
            self.holders.insert(part, id.clone());
        }
        let changed = (next.epoch, next.state) != (before.epoch, before.state)
            || next.assigned != before.assigned
            || next.revoking != before.revoking;
        if changed {
            Self::mark(ctx, kind::CONSUMER_CURRENT, &id);
        }
        self.arm(next.deadline_ms());
        self.members.insert(id, next);
        changed
    }

    /// What the member shall have, as far as it still asks for it: a target that is behind may not
    /// know that a topic is no longer wanted.
    fn target_of(&self, member: &Member, ctx: &Ctx<'_>) -> Vec<Part> {
        let target = self.target.of(&member.id).iter();
        if !self.target.is_behind() {
            return target.collect();
        }
        let mut last = (None, false);
        let wanted = target.filter(|part| {
            if last.0 != Some(part.0) {
                let name = ctx.topics.name_of(part.0);
                last = (
                    Some(part.0),
                    name.is_some_and(|name| self.member_reads(member, &name)),
                );
            }
            last.1
        });
        wanted.collect()
    }

    fn member_reads(&self, member: &Member, topic: &str) -> bool {
        let by_name = member
            .topic_names
            .binary_search_by(|name| (**name).cmp(topic))
            .is_ok();
        by_name
            || member
                .topic_regex
                .as_ref()
                .and_then(|regex| self.subscriptions.resolved.get(regex))
                .is_some_and(|resolved| resolved.has(topic))
    }

    fn next_for(&self, before: &Member, owned: Option<&Assignment>, ctx: &Ctx<'_>) -> Member {
        let target = self.target_of(before, ctx);
        let is_target = |part: &Part| target.binary_search(part).is_ok();
        let (kept, lost): (Vec<_>, Vec<_>) = before
            .assigned
            .entries()
            .partition(|(part, _)| is_target(part));
        let lost: Held = lost.into_iter().collect();
        let mut next = before.clone();
        if !lost.is_empty() && owned.is_none_or(|owned| lost.meets(owned)) {
            next.state = MemberState::Unrevoked;
            next.assigned = kept.into_iter().collect();
            next.revoking = lost;
            next.set_duty(Duty::Revoke, ctx.now_ms);
            return next;
        }
        let epoch = self.target.assignment_epoch;
        let mut unreleased = false;
        let added = target.iter().filter_map(|&part| {
            if before.assigned.contains(&part) {
                return None;
            }
            let free = match self.holders.get(&part) {
                None => true,
                Some(holder) => *holder == before.id,
            };
            unreleased |= !free;
            free.then_some((part, epoch))
        });
        let added: Vec<(Part, i32)> = added.collect();
        // What it lost and does not have is free for others from now on.
        next.assigned = kept.into_iter().chain(added).collect();
        next.revoking = Held::new();
        if next.epoch != epoch {
            next.previous_epoch = next.epoch;
            next.epoch = epoch;
        }
        next.state = if unreleased {
            MemberState::Unreleased
        } else {
            MemberState::Stable
        };
        next.clear_duty(Duty::Revoke);
        next
    }

    /// Whether a partition that the member waits for is free by now.
    pub(super) fn can_get_more(&self, member: &Member) -> bool {
        member.state == MemberState::Unreleased
            && self
                .target
                .of(&member.id)
                .iter()
                .any(|part| !member.assigned.contains(&part) && !self.holders.contains_key(&part))
    }
}
