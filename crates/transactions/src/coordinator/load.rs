//! Reading the coordinator's state back from the log, and giving it up.

use std::collections::BTreeSet;
use std::sync::Arc;

use dlog_coordination::Phase;

use crate::api::{Effect, NO_PRODUCER_EPOCH, Producer, TopicPartition};
use crate::codec::{TransactionValue, decode_key};
use crate::error::{CodecError, TransactionError};
use crate::metadata::{Metadata, TransactionState, TransactionVersion};
use crate::step::{Entry, OpenWrite};

use super::writes::refuse;
use super::{MAX_NAME_BYTES, TransactionCoordinator};

/// What [`TransactionCoordinator::apply_record`] made of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is part of the state now.
    Yes,
    /// Its key is of a kind that is not known; it was left alone.
    OtherKind,
}

impl TransactionCoordinator {
    /// Applies one record of the log, in the order of the log. To be called before
    /// [`finish_loading`](Self::finish_loading). After an error the record counts as not there,
    /// and loading can go on.
    pub fn apply_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Applied, CodecError> {
        if self.phase != Phase::Loading {
            return Err(CodecError::NotLoading);
        }
        let Some(id) = decode_key(key)? else {
            return Ok(Applied::OtherKind);
        };
        match value {
            Some(value) => {
                let metadata = restored(TransactionValue::decode(value)?)?;
                self.entries.insert(id.into(), Entry::new(metadata));
            }
            None => {
                self.entries.remove(id);
            }
        }
        Ok(Applied::Yes)
    }

    /// All records are applied: what was decided is finished, requests are served.
    pub fn finish_loading(&mut self, now_ms: i64, out: &mut Vec<Effect>) {
        if self.phase != Phase::Loading {
            return;
        }
        self.phase = Phase::Active;
        let interval_ms = self.config.id_expiration_check_interval_ms.max(1);
        self.sweep.schedule(now_ms.saturating_add(interval_ms));
        let open = self
            .entries
            .values()
            .filter(|entry| entry.now.state.is_open());
        self.counts.open = open.count() as u64;
        let ids: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        for id in ids {
            let prepared = |entry: &Entry| entry.now.state.is_prepared();
            if self.entries.get(&id).is_some_and(prepared) {
                self.begin_ending(now_ms, &id, out);
            }
            self.file(&id);
        }
    }

    /// This broker no longer leads the partition, or shuts down: everything open is answered with
    /// [`TransactionError::NotCoordinator`] and the state is dropped. To lead again, begin with a
    /// new coordinator.
    pub fn resign(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Resigned;
        self.entries.clear();
        self.counts.open = 0;
        self.deadlines.clear();
        self.markers.clear();
        for (_, write) in std::mem::take(&mut self.writes.open) {
            if let OpenWrite::Change { then, .. } = write {
                refuse(then, TransactionError::NotCoordinator, out);
            }
        }
    }
}

/// The state that a record holds. States that are never stored are refused.
fn restored(value: TransactionValue) -> Result<Metadata, CodecError> {
    let unknown = |what, version: i16| CodecError::UnknownVersion { what, version };
    let state = TransactionState::from_id(value.status)
        .filter(|state| {
            state.may_expire() || state.is_prepared() || *state == TransactionState::Ongoing
        })
        .ok_or_else(|| unknown("transaction state", i16::from(value.status)))?;
    let client_version = TransactionVersion::from_level(value.client_version)
        .ok_or_else(|| unknown("transaction version", value.client_version))?;
    if value.producer_id < 0 || value.epoch < 0 {
        return Err(CodecError::BadLength {
            field: "producer id and epoch",
            length: value.producer_id.min(i64::from(value.epoch)),
        });
    }
    let mut partitions = BTreeSet::new();
    for topic in value.partitions.unwrap_or_default() {
        if topic.topic.len() > MAX_NAME_BYTES {
            return Err(CodecError::BadLength {
                field: "topic",
                length: topic.topic.len() as i64,
            });
        }
        let name: Arc<str> = topic.topic.into();
        partitions.extend(
            topic
                .partitions
                .into_iter()
                .map(|partition| TopicPartition {
                    topic: name.clone(),
                    partition,
                }),
        );
    }
    Ok(Metadata {
        producer: Producer {
            id: value.producer_id,
            epoch: value.epoch,
        },
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        next_epoch: value.next_epoch,
        last_epoch: NO_PRODUCER_EPOCH,
        timeout_ms: value.timeout_ms,
        state,
        partitions,
        start_ms: value.start_ms,
        last_update_ms: value.last_update_ms,
        client_version,
    })
}
