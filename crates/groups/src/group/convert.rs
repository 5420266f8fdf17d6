//! A group changes its kind: at once when nobody is in it, and with its members as far as the
//! migration policy allows (KIP-848). Nobody loses what it holds by that.

use crate::classic::Classic;
use crate::codec::kind;
use crate::consumer::{ConsumerGroup, ConsumerHeartbeat, Ctx};
use crate::error::GroupError;
use crate::modern::{Ledger, Refused, StateKey};
use crate::step::Step;

use super::{Group, Kind};

impl Group {
    /// Makes a classic group a consumer group: at once when nobody is in it, else as far as the
    /// policy allows (KIP-848's online upgrade).
    pub(super) fn become_consumer(
        &mut self,
        request: &ConsumerHeartbeat,
        step: &mut Step<'_>,
    ) -> Result<(), Refused> {
        let Kind::Classic(classic) = &mut self.kind else {
            return Ok(());
        };
        let was_blank = classic.is_blank();
        let consumer = if classic.has_members() {
            let refuse = |why: &str| {
                let message = format!(
                    "Cannot upgrade classic group {} to consumer group because {why}",
                    self.id
                );
                Err(Refused::new(GroupError::GroupIdNotFound, message))
            };
            if !step.config.consumer.migration.upgrades() {
                return refuse("the migration policy does not allow it.");
            }
            if !classic.is_consumer_group() {
                return refuse("the group does not use the consumer embedded protocol.");
            }
            if classic.member_count() >= step.config.consumer.max_size {
                return refuse("the group size exceeds the maximum of consumer groups.");
            }
            let (generation, members) = (classic.generation, classic.snapshot());
            // All its keys are marked below, once there is a group.
            let mut ctx = Ctx {
                config: &step.config.consumer,
                topics: step.topics,
                now_ms: step.now_ms,
                ledger: &mut Ledger::default(),
            };
            let id = self.id.clone();
            let settings = request.settings;
            match ConsumerGroup::from_classic(id, generation, members, settings, &mut ctx) {
                Ok(consumer) => consumer,
                Err(_) => return refuse("its members' metadata cannot be read."),
            }
        } else {
            ConsumerGroup::new(self.id.clone(), request.settings)
        };
        classic.dismiss(step);
        // One without members has nothing to say yet.
        let keys = (!consumer.is_blank()).then(|| consumer.keys());
        for key in keys.into_iter().flatten() {
            self.ledger.mark(key);
        }
        if !was_blank {
            self.ledger.mark(StateKey::of_group(kind::CLASSIC_GROUP));
        }
        self.kind = Kind::Consumer(Box::new(consumer));
        Ok(())
    }

    pub(super) fn empty_becomes_classic(&mut self, step: &mut Step<'_>) {
        if let Kind::Consumer(consumer) = &self.kind {
            let keys = consumer.keys();
            keys.into_iter().for_each(|key| self.ledger.mark(key));
            self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone(), Some(step.now_ms))));
            self.flush(step);
        }
    }

    /// Members of a consumer group are gone: the group assigns anew, or becomes a classic one when
    /// only classic members are left (KIP-848's online downgrade).
    pub(super) fn departed(&mut self, step: &mut Step<'_>) {
        let Kind::Consumer(consumer) = &mut self.kind else {
            return;
        };
        let becomes_classic = consumer.is_all_classic()
            && step.config.consumer.migration.downgrades()
            && consumer.member_count() <= step.config.max_group_size;
        if !becomes_classic {
            let mut ctx = Ctx {
                config: &step.config.consumer,
                topics: step.topics,
                now_ms: step.now_ms,
                ledger: &mut self.ledger,
            };
            consumer.after_departure(&mut ctx);
            return;
        }
        let members = consumer.to_classic(step.topics);
        let classic = Classic::adopt(self.id.clone(), consumer.epoch(), members, step);
        for key in consumer.keys() {
            self.ledger.mark(key);
        }
        self.ledger.mark(StateKey::of_group(kind::CLASSIC_GROUP));
        self.kind = Kind::Classic(Box::new(classic));
        // The record says what everyone holds until the next generation begins.
        self.flush(step);
        if let Kind::Classic(classic) = &mut self.kind {
            classic.rebalance_after_downgrade(step);
        }
    }
}
