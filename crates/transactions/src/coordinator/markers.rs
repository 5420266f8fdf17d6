//! After the decision: markers into all partitions, then the record that the transaction is over.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{Effect, MarkerOutcome, Markers, MarkersId, TopicPartition};
use crate::metadata::TransactionState;
use crate::step::{OpenMarkers, Then};

use super::TransactionCoordinator;

impl TransactionCoordinator {
    /// The shell reports what became of markers: of all partitions or of some. What is reported
    /// twice, or of work that is done, changes nothing.
    pub fn markers_written(
        &mut self,
        now_ms: i64,
        markers: MarkersId,
        outcomes: &[(TopicPartition, MarkerOutcome)],
        out: &mut Vec<Effect>,
    ) {
        let Some(id) = self.markers.get(&markers).cloned() else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let Some(open) = &mut entry.markers else {
            return;
        };
        for (partition, outcome) in outcomes {
            match outcome {
                MarkerOutcome::Done => {
                    entry.retries = 0;
                    entry.now.partitions.remove(partition);
                    open.again.remove(partition);
                }
                MarkerOutcome::Retry if entry.now.partitions.contains(partition) => {
                    open.again.insert(partition.clone());
                }
                MarkerOutcome::Retry => {}
                MarkerOutcome::CoordinatorFenced => open.fenced = true,
            }
        }
        let (again, fenced) = (!open.again.is_empty(), open.fenced);
        if entry.now.partitions.is_empty() {
            self.complete(now_ms, &id, out);
        } else if again && !fenced && entry.retry_at_ms.is_none() {
            self.retry_later(now_ms, &id);
        }
        self.file(&id);
    }

    /// PrepareCommit or PrepareAbort is durable: the end begins.
    pub(super) fn begin_ending(&mut self, now_ms: i64, id: &Arc<str>, out: &mut Vec<Effect>) {
        self.last_markers += 1;
        let markers = MarkersId(self.last_markers);
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.retry_at_ms = None;
        entry.markers = Some(OpenMarkers {
            id: markers,
            again: entry.now.partitions.clone(),
            fenced: false,
        });
        self.markers.insert(markers, id.clone());
        self.go_on_ending(now_ms, id, out);
    }

    /// Asks for the markers that are to be written (again), or finishes when none are left.
    pub(super) fn go_on_ending(&mut self, now_ms: i64, id: &Arc<str>, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let Some(open) = &mut entry.markers else {
            return;
        };
        let partitions: BTreeSet<_> = std::mem::take(&mut open.again);
        if entry.now.partitions.is_empty() {
            self.complete(now_ms, id, out);
        } else if !partitions.is_empty() && !open.fenced {
            out.push(Effect::WriteMarkers(Markers {
                id: open.id,
                transactional_id: id.clone(),
                producer: entry.now.producer,
                committed: entry.now.state == TransactionState::PrepareCommit,
                coordinator_epoch: self.epoch,
                transaction_version: entry.now.client_version,
                partitions: partitions.into_iter().collect(),
            }));
        }
    }

    fn complete(&mut self, now_ms: i64, id: &str, out: &mut Vec<Effect>) {
        let Some(entry) = self.entries.get(id) else {
            return;
        };
        if entry.pending || !entry.now.state.is_prepared() {
            return;
        }
        let next = entry.now.completed(now_ms);
        self.change(id, next, Then::Complete, out);
    }
}
