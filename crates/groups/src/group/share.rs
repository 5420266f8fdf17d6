//! The steps of share groups (KIP-932).

use crate::api::{Reply, Token};
use crate::classic::Classic;
use crate::config::ShareSettings;
use crate::consumer::{JOIN_EPOCH, LEAVE_EPOCH};
use crate::error::{CodecError, GroupError};
use crate::modern::Refused;
use crate::share::{Ctx, ShareBeat, ShareGroup, ShareHeartbeat, ShareStateChange};
use crate::step::Step;

use super::{Group, Kind};

/// The share group and what its step may touch; returns when the group is of another kind.
macro_rules! share_step {
    ($group:ident, $share:ident, $ctx:ident, $step:ident, else $other:expr) => {
        let Kind::Share($share) = &mut $group.kind else {
            $other
        };
        let mut $ctx = Ctx {
            config: &$step.config.share,
            topics: $step.topics,
            now_ms: $step.now_ms,
            ledger: &mut $group.ledger,
        };
    };
}

impl Group {
    pub(crate) fn share(&self) -> Option<&ShareGroup> {
        match &self.kind {
            Kind::Share(share) => Some(share),
            Kind::Classic(_) | Kind::Consumer(_) => None,
        }
    }

    /// ShareGroupHeartbeat. A group that there is nothing to say of becomes a share group.
    pub(crate) fn share_beat(
        &mut self,
        request: ShareHeartbeat,
        token: Token,
        step: &mut Step<'_>,
    ) {
        let outcome = if self.deleting.is_some() {
            Err(GroupError::CoordinatorNotAvailable.into())
        } else {
            self.try_share_beat(request, step)
        };
        self.settle(token, Reply::ShareHeartbeat(outcome), step);
    }

    fn try_share_beat(
        &mut self,
        request: ShareHeartbeat,
        step: &Step<'_>,
    ) -> Result<ShareBeat, Refused> {
        if request.member_epoch == JOIN_EPOCH {
            self.become_share(request.settings);
        }
        share_step!(self, share, ctx, step, else return Err(self.not_a_share_group()));
        if request.member_epoch == LEAVE_EPOCH {
            share.leave(&request.member_id, &mut ctx)
        } else {
            share.beat(request, &mut ctx)
        }
    }

    fn not_a_share_group(&self) -> Refused {
        let message = format!("Group {} is not a share group.", self.id);
        Refused::new(GroupError::GroupIdNotFound, message)
    }

    /// A group without any past becomes a share group.
    fn become_share(&mut self, settings: ShareSettings) {
        if !self.is_blank() || !matches!(&self.kind, Kind::Classic(_)) {
            return;
        }
        let share = ShareGroup::new(self.id.clone(), settings);
        self.kind = Kind::Share(Box::new(share));
    }

    /// The state of share-partitions is set up or deleted, or about to be.
    pub(crate) fn share_state(
        &mut self,
        change: &ShareStateChange,
        token: Token,
        step: &mut Step<'_>,
    ) {
        let outcome = if self.deleting.is_some() {
            Err(GroupError::CoordinatorNotAvailable)
        } else {
            self.try_share_state(change, step)
        };
        self.settle(token, Reply::ShareState(outcome), step);
    }

    fn try_share_state(
        &mut self,
        change: &ShareStateChange,
        step: &Step<'_>,
    ) -> Result<i32, GroupError> {
        if matches!(change, ShareStateChange::Initializing(_)) {
            self.become_share(step.config.share.defaults);
        }
        share_step!(self, share, ctx, step, else return Err(GroupError::GroupIdNotFound));
        let needs_nobody = matches!(
            change,
            ShareStateChange::Initializing(_) | ShareStateChange::Deleting(_)
        );
        if needs_nobody && !share.is_empty() {
            return Err(GroupError::NonEmptyGroup);
        }
        share.change_state(change, &mut ctx);
        Ok(share.epoch())
    }

    pub(super) fn share_tick(&mut self, step: &Step<'_>) {
        share_step!(self, share, ctx, step, else return);
        share.tick(&mut ctx);
    }

    /// Takes in a record of a share group.
    pub(crate) fn restore_share(
        &mut self,
        record_kind: i16,
        part: &str,
        value: Option<&[u8]>,
        settings: ShareSettings,
    ) -> Result<(), CodecError> {
        if self.share().is_none() {
            if value.is_none() {
                // The end of the group's past as a share group.
                return Ok(());
            }
            let mut share = ShareGroup::new(self.id.clone(), settings);
            share.restore(record_kind, part, value)?;
            self.kind = Kind::Share(Box::new(share));
            return Ok(());
        }
        if let Kind::Share(share) = &mut self.kind {
            share.restore(record_kind, part, value)?;
            if share.is_bare() {
                self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone(), None)));
            }
        }
        Ok(())
    }
}
