//! The group as the log has it.

use crate::classic::Classic;
use crate::codec::GroupMetadataValue;
use crate::config::ConsumerSettings;
use crate::consumer::ConsumerGroup;
use crate::error::CodecError;
use crate::step::Step;

use super::{Group, Kind};

impl Group {
    /// Takes in a record of the log.
    pub(crate) fn restore_classic(&mut self, value: Option<GroupMetadataValue>) {
        match (&mut self.kind, value) {
            (Kind::Classic(classic), value) => classic.restore(value),
            // The end of the group's classic past.
            (Kind::Consumer(_) | Kind::Share(_), None) => {}
            (Kind::Consumer(_) | Kind::Share(_), Some(value)) => {
                let mut classic = Classic::new(self.id.clone(), None);
                classic.restore(Some(value));
                self.kind = Kind::Classic(Box::new(classic));
            }
        }
    }

    /// Takes in a record of a consumer group.
    pub(crate) fn restore_consumer(
        &mut self,
        record_kind: i16,
        part: &str,
        value: Option<&[u8]>,
        settings: ConsumerSettings,
    ) -> Result<(), CodecError> {
        if self.consumer().is_none() {
            if value.is_none() {
                // The end of the group's past as a consumer group.
                return Ok(());
            }
            let mut consumer = ConsumerGroup::new(self.id.clone(), settings);
            consumer.restore(record_kind, part, value)?;
            self.kind = Kind::Consumer(Box::new(consumer));
            return Ok(());
        }
        if let Kind::Consumer(consumer) = &mut self.kind {
            consumer.restore(record_kind, part, value)?;
            if consumer.is_bare() {
                self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone(), None)));
            }
        }
        Ok(())
    }

    /// Whether there is something to do once all records are read.
    pub(crate) fn needs_finishing(&self) -> bool {
        self.classic().is_none_or(Classic::has_members)
    }

    /// All records are read.
    pub(crate) fn finish_loading(&mut self, step: &mut Step<'_>) {
        match &mut self.kind {
            Kind::Classic(classic) => classic.finish_loading(step),
            Kind::Consumer(consumer) => consumer.finish_loading(step.now_ms),
            Kind::Share(share) => share.finish_loading(step.now_ms),
        }
    }
}
