//! The rebalance: gathering the members, then beginning the next generation.

use crate::api::{Reply, Token};
use crate::error::GroupError;
use crate::step::{Purpose, Step};

use super::{Classic, GroupState, MemberId};

/// Joins are being gathered.
#[derive(Debug)]
pub(super) struct JoinPhase {
    /// When gathering ends, Unix ms.
    pub(super) deadline_ms: i64,
    /// The group was empty: gathering goes on until the deadline, and while new members keep
    /// coming it is prolonged by up to this many milliseconds in all.
    initial_remaining_ms: Option<i64>,
    /// Someone came since the deadline was set.
    pub(super) new_members: bool,
}

/// Characters of a member's reason that are kept; clients cut theirs at the same length (KIP-800).
const MAX_REASON_CHARS: usize = 255;

/// What happened, and what the client says about it.
pub(super) fn with_client_reason(what: &str, client_reason: Option<String>) -> String {
    match client_reason.filter(|reason| !reason.is_empty()) {
        Some(client) => {
            let client: String = client.chars().take(MAX_REASON_CHARS).collect();
            format!("{what}: {client}")
        }
        None => what.to_owned(),
    }
}

/// Least time to wait on when no member is there, so that a rebalance timeout of 0 does not spin.
const MIN_EXTENSION_MS: i64 = 1_000;

impl Classic {
    /// After a join: begins a rebalance, or completes the one that this join may have been the
    /// last for.
    pub(super) fn rebalance_or_complete(
        &mut self,
        reason: &str,
        client_reason: Option<String>,
        step: &mut Step<'_>,
    ) {
        if self.state == GroupState::PreparingRebalance {
            self.complete_join_if_all_came(step);
        } else {
            let reason = with_client_reason(reason, client_reason);
            self.prepare_rebalance(reason, step);
        }
    }

    /// After members were removed.
    pub(super) fn after_removal(&mut self, reason: &str, step: &mut Step<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(reason.to_owned(), step);
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_came(step),
            _ => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: String, step: &mut Step<'_>) {
        self.answer_heartbeats(Err(GroupError::RebalanceInProgress), step);
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(GroupError::RebalanceInProgress, step);
        }
        self.assignment_write = None;
        self.sync_deadline_ms = None;
        self.pending_sync.clear();
        self.rebalance_reason = Some(reason);
        let was_empty = self.state == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, step.now_ms);
        let delay_ms = i64::from(step.config.initial_rebalance_delay_ms);
        let timeout_ms = self.rebalance_timeout_ms();
        if was_empty && delay_ms > 0 {
            self.gather(delay_ms, Some((timeout_ms - delay_ms).max(0)), step);
        } else {
            self.gather(timeout_ms, None, step);
            self.complete_join_if_all_came(step);
        }
    }

    fn gather(&mut self, for_ms: i64, initial_remaining_ms: Option<i64>, step: &Step<'_>) {
        let deadline_ms = step.now_ms + for_ms;
        self.join_phase = Some(JoinPhase {
            deadline_ms,
            initial_remaining_ms,
            new_members: false,
        });
        self.arm(deadline_ms);
    }

    pub(super) fn complete_join_if_all_came(&mut self, step: &mut Step<'_>) {
        let waits_anyway = self
            .join_phase
            .as_ref()
            .is_none_or(|phase| phase.initial_remaining_ms.is_some());
        let all_came = self.joins_waiting == self.members.len() && self.pending.is_empty();
        if all_came && !waits_anyway {
            self.complete_join(step);
        }
    }

    /// The time for gathering is over.
    pub(super) fn join_deadline_passed(&mut self, step: &mut Step<'_>) {
        let Some(phase) = &self.join_phase else {
            return;
        };
        match phase.initial_remaining_ms {
            Some(remaining_ms) if phase.new_members && remaining_ms > 0 => {
                let delay_ms = i64::from(step.config.initial_rebalance_delay_ms).min(remaining_ms);
                self.gather(delay_ms, Some(remaining_ms - delay_ms), step);
            }
            _ => self.complete_join(step),
        }
    }

    /// Those who did not come are out, unless they are static; then the next generation begins.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        let absent = self
            .members
            .values()
            .filter(|m| m.join.is_none() && m.instance_id.is_none());
        let absent: Vec<MemberId> = absent.map(|member| member.id.clone()).collect();
        for member_id in absent {
            self.remove_member(&member_id, GroupError::UnknownMemberId, step);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none of them is here: wait on. Their sessions end
            // this if they do not come.
            self.gather(
                self.rebalance_timeout_ms().max(MIN_EXTENSION_MS),
                None,
                step,
            );
            return;
        }
        self.join_phase = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.choose_protocol();
        self.read_subscriptions();
        if self.members.is_empty() {
            self.enter(GroupState::Empty, step.now_ms);
            self.write_record(None, Purpose::Empty, step);
        } else {
            self.enter(GroupState::CompletingRebalance, step.now_ms);
            self.announce_generation(step);
        }
    }

    /// Keeps the leader if it is here, else takes the first who is. False when nobody is.
    fn elect_leader(&mut self) -> bool {
        let here = |id: &MemberId| self.members.get(id).is_some_and(|m| m.join.is_some());
        if self.leader.as_ref().is_some_and(here) {
            return true;
        }
        let Some(next) = self.members.values().find(|member| member.join.is_some()) else {
            return false;
        };
        self.leader = Some(next.id.clone());
        true
    }

    fn announce_generation(&mut self, step: &mut Step<'_>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in ids {
            if let Some(token) = self.take_join(&member_id) {
                let joined = self.joined(&member_id, self.is_leader(&member_id));
                step.reply(token, Reply::Join(Ok(joined)));
                self.refresh_session(&member_id, step.now_ms);
            }
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.pending_sync.insert(member_id);
        }
        let deadline_ms = step.now_ms + self.rebalance_timeout_ms();
        self.sync_deadline_ms = Some(deadline_ms);
        self.arm(deadline_ms);
    }

    /// Some members have not asked for their assignment in time: the group goes on without them.
    pub(super) fn sync_deadline_passed(&mut self, step: &mut Step<'_>) {
        self.sync_deadline_ms = None;
        let silent = std::mem::take(&mut self.pending_sync);
        if silent.is_empty() {
            return;
        }
        for member_id in silent {
            self.remove_member(&member_id, GroupError::UnknownMemberId, step);
        }
        self.after_removal("members did not sync in time", step);
    }

    /// Answers every waiting sync with `error`; assignments handed out before are void.
    pub(super) fn fail_syncs(&mut self, error: GroupError, step: &mut Step<'_>) {
        let mut tokens: Vec<(MemberId, Token)> = Vec::new();
        for member in self.members.values_mut() {
            member.assignment.clear();
            tokens.extend(member.sync.take().map(|token| (member.id.clone(), token)));
        }
        for (member_id, token) in tokens {
            step.reply(token, Reply::Sync(Err(error)));
            self.refresh_session(&member_id, step.now_ms);
        }
    }
}
