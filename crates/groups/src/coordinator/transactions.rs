//! TxnOffsetCommit, and the ends of transactions in the coordinator's partition (KIP-98, KIP-890).
//!
//! What a transaction commits is written as part of it and waits for the marker, which comes from
//! the coordinator of the transaction through [`GroupCoordinator::end_transaction`]. Both are
//! writes like any other: what is later in the log counts, in whatever order ends are reported.

use std::collections::BTreeSet;
use std::sync::Arc;

use dlog_coordination::TransactionMarker;

use crate::api::{Effect, OffsetCommit, Producer, Reply, Token, WriteId};
use crate::codec::{OffsetCommitValue, RecordKey};
use crate::error::{CodecError, GroupError, PersistError};
use crate::offsets::CommittedOffset;
use crate::step::{OffsetChange, OffsetsThen, Purpose};

use super::GroupCoordinator;
use super::load::Applied;

/// A write of an open transaction that has come to its end.
pub(super) struct Transactional {
    pub(super) producer_id: i64,
    pub(super) changes: Vec<OffsetChange>,
    /// How the transaction ended, when that is known already.
    pub(super) committed: Option<bool>,
}

impl GroupCoordinator {
    /// TxnOffsetCommit. Answered with [`Reply::OffsetCommit`], once the offsets are stored; they
    /// count when the transaction is committed. Whether the transaction contains the coordinator's
    /// partition, and whether the producer is still the one it says, is for the shell to find out.
    pub fn commit_transactional_offsets(
        &mut self,
        now_ms: i64,
        request: &OffsetCommit,
        producer: Producer,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let prepared = self.prepare_commit(now_ms, request, true, token, out);
        let Some((results, changes, records)) = prepared else {
            return;
        };
        self.with_group(&request.group_id, now_ms, out, |group, step| {
            if records.is_empty() {
                step.reply(token, Reply::OffsetCommit(results));
                return;
            }
            group.offset_writes += 1;
            let purpose = Purpose::TransactionalOffsets {
                producer_id: producer.id,
                changes,
                then: OffsetsThen::Commit { token, results },
                committed: None,
            };
            step.persist_in_transaction(&group.id, producer, records, purpose);
        });
    }

    /// The end of a transaction is to be written into the coordinator's partition. Answered with
    /// [`Reply::EndTransaction`], once the marker is durable: from then on the offsets of a
    /// committed transaction count.
    pub fn end_transaction(
        &mut self,
        now_ms: i64,
        marker: TransactionMarker,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let refused = match self.check_active() {
            Ok(()) => return self.step(now_ms, out).persist_marker(marker, token),
            Err(GroupError::NotCoordinator) => PersistError::NotLeader,
            Err(_) => PersistError::Unavailable,
        };
        let reply = Reply::EndTransaction(Err(refused));
        self.step(now_ms, out).reply(token, reply);
    }

    /// The marker of `write` is durable, or has failed.
    pub(super) fn finish_end(
        &mut self,
        now_ms: i64,
        write: WriteId,
        marker: &TransactionMarker,
        token: Token,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        if result.is_ok() {
            let (producer_id, committed) = (marker.producer.id, marker.committed);
            self.writes.end_transaction(write, producer_id, committed);
            self.apply_end(now_ms, write, producer_id, committed, out);
        }
        self.step(now_ms, out)
            .reply(token, Reply::EndTransaction(result));
    }

    fn apply_end(
        &mut self,
        now_ms: i64,
        write: WriteId,
        producer_id: i64,
        committed: bool,
        out: &mut Vec<Effect>,
    ) {
        let groups = self.in_transaction.remove(&producer_id).unwrap_or_default();
        let mut still_waiting = BTreeSet::new();
        for group_id in groups {
            let Some(group) = self.groups.get_mut(&group_id) else {
                continue;
            };
            let place = (write, self.writes.open_marker(write, producer_id));
            let ended = group.transactional.end(producer_id, place);
            if group.transactional.of_producer(producer_id) {
                still_waiting.insert(group_id.clone());
            }
            for (topic, partition, written_by, offset) in ended.into_iter().filter(|_| committed) {
                let change = OffsetChange::set(topic, partition, offset);
                self.make_visible(written_by, &group_id, vec![change]);
            }
            // Files its deadline anew, and drops what nothing is left of.
            self.with_group(&group_id, now_ms, out, |_, _| ());
        }
        if !still_waiting.is_empty() {
            self.in_transaction.insert(producer_id, still_waiting);
        }
    }

    /// The offsets of an open transaction are durable, or have failed.
    pub(super) fn finish_transactional(
        &mut self,
        now_ms: i64,
        write: WriteId,
        group_id: &Arc<str>,
        written: Transactional,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        let changes = written.changes;
        match written.committed {
            _ if result.is_err() => {}
            None => self.wait_for_end(group_id, written.producer_id, write, changes),
            // The marker behind it was reported first.
            Some(true) => self.make_visible(write, group_id, changes),
            Some(false) => {}
        }
        self.with_group(group_id, now_ms, out, |group, _| group.offset_writes -= 1);
    }

    fn wait_for_end(
        &mut self,
        group_id: &Arc<str>,
        producer_id: i64,
        write: WriteId,
        changes: Vec<OffsetChange>,
    ) {
        let Some(group) = self.groups.get_mut(group_id) else {
            return;
        };
        let place = (write, self.writes.open_marker(write, producer_id));
        for change in changes {
            let topic = self.names.intern(&change.topic);
            let (partition, superseded) = (change.partition, change.superseded);
            let offset = change.value.filter(|_| !superseded);
            let transactional = &mut group.transactional;
            transactional.wait(producer_id, topic, partition, place, offset);
        }
        let of_producer = self.in_transaction.entry(producer_id).or_default();
        of_producer.insert(group.id.clone());
    }

    /// Applies one record of the log that is part of the transaction of this producer, as
    /// [`apply_record`](Self::apply_record) does for others.
    ///
    /// # Errors
    /// As there: the record counts as not there, and loading can go on.
    pub fn apply_transactional_record(
        &mut self,
        producer_id: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Applied, CodecError> {
        self.check_loading()?;
        match (RecordKey::decode(key)?, value) {
            (
                RecordKey::Offset {
                    group,
                    topic,
                    partition,
                },
                Some(value),
            ) => {
                let offset = CommittedOffset::new(&OffsetCommitValue::decode(value)?);
                let change = OffsetChange::set(topic.into(), partition, offset);
                let group_id = self.restored_group(group).id.clone();
                let write = self.writes.found_next();
                self.wait_for_end(&group_id, producer_id, write, vec![change]);
                Ok(Applied::Yes)
            }
            (RecordKey::Other { kind }, _) => Ok(Applied::OtherKind(kind)),
            // Nobody deletes, or forms groups, in a transaction.
            _ => Ok(Applied::Yes),
        }
    }

    /// The log has the end of this producer's transaction here.
    ///
    /// # Errors
    /// [`CodecError::NotLoading`].
    pub fn apply_transaction_end(
        &mut self,
        producer_id: i64,
        committed: bool,
    ) -> Result<(), CodecError> {
        self.check_loading()?;
        for group_id in self.in_transaction.remove(&producer_id).unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&group_id) else {
                continue;
            };
            // All of it is before this marker.
            let here = self.writes.behind_all();
            let ended = group.transactional.end(producer_id, (here, None));
            for (topic, partition, write, offset) in ended.into_iter().filter(|_| committed) {
                self.restore_offset(&group_id, &topic, partition, write, offset);
            }
            self.drop_if_blank(&group_id);
        }
        Ok(())
    }
}
