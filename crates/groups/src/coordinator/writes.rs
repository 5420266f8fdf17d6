//! What happens when a write has ended.

use crate::api::{Effect, Reply, TopicResult, WriteId};
use crate::classic::Classic;
use crate::error::{PersistError, ToGroupError};
use crate::group::Group;
use crate::step::{OffsetChange, OffsetsThen, OpenWrite, Purpose, Step};

use super::GroupCoordinator;
use super::transactions::Transactional;

impl GroupCoordinator {
    /// The shell reports the end of a write. Reports may come in any order; each counts once.
    pub fn persisted(
        &mut self,
        now_ms: i64,
        write: WriteId,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(open) = self.writes.close(write) else {
            return;
        };
        let OpenWrite {
            group: group_id,
            purpose,
            orphaned,
        } = open;
        match purpose {
            Purpose::Empty => {}
            Purpose::Assign {
                generation,
                assignments,
            } => {
                self.with_classic(&group_id, now_ms, out, |group, step| {
                    group.finish_assignment(write, generation, assignments, result, step);
                });
            }
            Purpose::ReplaceStatic(replacement) => {
                self.with_classic(&group_id, now_ms, out, |group, step| {
                    group.finish_replacement(write, *replacement, result, step);
                });
            }
            Purpose::Offsets { changes, then } => {
                if !orphaned {
                    self.finish_offsets(now_ms, write, &group_id, changes, result, out);
                }
                self.answer_offsets(now_ms, then, result, out);
            }
            Purpose::TransactionalOffsets {
                producer_id,
                changes,
                then,
                committed,
            } => {
                if !orphaned {
                    let written = Transactional {
                        producer_id,
                        changes,
                        committed,
                    };
                    self.finish_transactional(now_ms, write, &group_id, written, result, out);
                }
                self.answer_offsets(now_ms, then, result, out);
            }
            Purpose::EndTransaction { marker, token } => {
                self.finish_end(now_ms, write, &marker, token, result, out);
            }
            Purpose::State => {
                self.with_group(&group_id, now_ms, out, |group, step| {
                    group.state_written(write, result, step);
                });
            }
            Purpose::Delete { token } => {
                self.finish_delete(write, &group_id, result, out);
                if let Some(token) = token {
                    let reply = Reply::DeleteGroup(result.map_err(ToGroupError::for_offsets));
                    self.step(now_ms, out).reply(token, reply);
                }
            }
        }
    }

    fn finish_offsets(
        &mut self,
        now_ms: i64,
        write: WriteId,
        group_id: &str,
        changes: Vec<OffsetChange>,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        if result.is_ok() {
            self.make_visible(write, group_id, changes);
        }
        self.with_group(group_id, now_ms, out, |group, _| group.offset_writes -= 1);
    }

    /// What the record of `write` says of these partitions counts from now on.
    pub(super) fn make_visible(
        &mut self,
        write: WriteId,
        group_id: &str,
        changes: Vec<OffsetChange>,
    ) {
        self.writes.supersede(write, group_id, &changes);
        let Some(group) = self.groups.get_mut(group_id) else {
            return;
        };
        for change in changes {
            let (topic, partition) = (&change.topic, change.partition);
            match change.value {
                // A later commit counts already.
                Some(_) if change.superseded => {}
                Some(offset) => {
                    group.transactional.supersede(topic, partition, write);
                    group.offsets.set(&mut self.names, topic, partition, offset);
                }
                None => {
                    group.transactional.forget(topic, partition, write);
                    if !change.superseded {
                        group.offsets.remove(topic, partition);
                    }
                }
            }
        }
    }

    fn answer_offsets(
        &mut self,
        now_ms: i64,
        then: OffsetsThen,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        let mark = |mut results: Vec<TopicResult>| {
            if let Err(error) = result {
                let partitions = results.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|(_, outcome)| {
                    outcome.get_or_insert(error.for_offsets());
                });
            }
            results
        };
        let mut step = self.step(now_ms, out);
        match then {
            OffsetsThen::Commit { token, results } => {
                step.reply(token, Reply::OffsetCommit(mark(results)));
            }
            OffsetsThen::Delete { token, results } => {
                step.reply(token, Reply::OffsetDelete(Ok(mark(results))));
            }
            OffsetsThen::Nobody => {}
        }
    }

    /// What ends here began in a classic group; by now it may be of another kind.
    fn with_classic(
        &mut self,
        group_id: &str,
        now_ms: i64,
        out: &mut Vec<Effect>,
        take: impl FnOnce(&mut Classic, &mut Step<'_>),
    ) {
        self.with_group(group_id, now_ms, out, |group, step| {
            if let Some(classic) = group.classic_mut() {
                take(classic, step);
            }
        });
    }

    fn finish_delete(
        &mut self,
        write: WriteId,
        group_id: &str,
        result: Result<(), PersistError>,
        out: &mut Vec<Effect>,
    ) {
        if result.is_ok() {
            self.writes.orphan(write, group_id);
            if let Some(group) = self.remove_group(group_id) {
                group.bury(out);
            }
        } else if let Some(group) = self.groups.get_mut(group_id) {
            Group::keep(group);
        }
    }
}
