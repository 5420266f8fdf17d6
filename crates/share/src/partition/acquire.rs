//! Handing records out.

use std::sync::Arc;

use super::runs::{Fate, Lock, Run};
use super::{ShareLimits, SharePartition};

/// A record batch of the log as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first offset.
    pub base_offset: i64,
    /// Its last offset.
    pub last_offset: i64,
}

/// How the number of records is limited (KIP-1206).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireMode {
    /// Whole record batches: a few records more than asked for.
    BatchOptimized,
    /// Never more records than asked for.
    RecordLimit,
}

/// What a member wants, and what there is to read.
#[derive(Debug, Clone, Copy)]
pub struct Acquire<'a> {
    /// Who wants it.
    pub member: &'a Arc<str>,
    /// How the number is limited.
    pub mode: AcquireMode,
    /// Records to acquire.
    pub max_records: i64,
    /// Ranges are cut at record batches when they have this many records.
    pub batch_size: i64,
    /// Where the read began: what [`SharePartition::next_fetch_offset`] said before it.
    pub fetch_offset: i64,
    /// The record batches that were read from there on, ascending: there are no others up to the
    /// end of the last one.
    pub spans: &'a [Span],
    /// Offsets of aborted transactions among them, inclusive, ascending; they are not handed out.
    pub aborted: &'a [(i64, i64)],
}

/// Records that were handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    /// First offset.
    pub first: i64,
    /// Last offset, inclusive.
    pub last: i64,
    /// How often they have been handed out, this time included.
    pub delivery_count: u16,
}

/// The bookkeeping of one acquire.
struct Taking<'a> {
    request: Acquire<'a>,
    lock: Lock,
    left: i64,
    taken: Vec<Acquired>,
}

impl Taking<'_> {
    fn add(&mut self, first: i64, last: i64, delivery_count: u16) {
        self.left -= last - first + 1;
        match self.taken.last_mut() {
            Some(before) if before.last + 1 == first && before.delivery_count == delivery_count => {
                before.last = last;
            }
            _ => self.taken.push(Acquired {
                first,
                last,
                delivery_count,
            }),
        }
    }

    /// Where to stop so that about `count` records from `first` on are taken, at most up to `last`.
    fn stop(&self, first: i64, last: i64, count: i64) -> i64 {
        let exact = first.saturating_add(count - 1);
        if exact >= last {
            return last;
        }
        match self.request.mode {
            AcquireMode::RecordLimit => exact,
            AcquireMode::BatchOptimized => end_of_batch(self.request.spans, exact).min(last),
        }
    }
}

/// The end of the record batch that holds an offset; the offset itself where there is none.
fn end_of_batch(spans: &[Span], offset: i64) -> i64 {
    let at = spans.partition_point(|span| span.base_offset <= offset);
    let before = at.checked_sub(1).and_then(|at| spans.get(at));
    before.map_or(offset, |span| span.last_offset.max(offset))
}

/// From this number of deliveries on, records are handed out in ever smaller groups, apart from all
/// others, so that one that nobody can process is found without its neighbours being given up too.
fn careful_from(limits: &ShareLimits) -> u16 {
    limits.max_deliveries.div_ceil(2).max(2)
}

impl SharePartition {
    /// Hands out what is available of that which was read. With an empty result, it may be worth
    /// looking again where the next read would begin.
    pub fn acquire(
        &mut self,
        request: Acquire<'_>,
        limits: &ShareLimits,
        now_ms: i64,
    ) -> Vec<Acquired> {
        let (Some(first), Some(last)) = (request.spans.first(), request.spans.last()) else {
            return Vec::new();
        };
        // A read that began behind `next` was meant for another incarnation of this state.
        let is_of_now = request.fetch_offset <= self.next && last.last_offset >= self.start;
        if request.max_records <= 0 || !is_of_now || last.last_offset == i64::MAX {
            return Vec::new();
        }
        self.drop_missing(request.fetch_offset, first.base_offset);
        let lock = Lock {
            member: request.member.clone(),
            until_ms: now_ms.saturating_add(limits.lock_ms),
        };
        let mut taking = Taking {
            request,
            lock,
            left: request.max_records,
            taken: Vec::new(),
        };
        let goes_on = self.take_available(&mut taking, first.base_offset, last.last_offset, limits);
        if goes_on && taking.left > 0 {
            self.take_new(&mut taking, first.base_offset, last.last_offset, limits);
        }
        let (aborted, until_ms) = (request.aborted, taking.lock.until_ms);
        let taken = self.leave_out(taking.taken, aborted);
        if !taken.is_empty() {
            self.earliest_lock_ms = self.earliest_lock_ms.min(until_ms);
        }
        self.advance();
        cut_at_batches(taken, request.spans, request.batch_size)
    }

    /// A read from `from` on found its first batch at `base`: what is between does not exist.
    fn drop_missing(&mut self, from: i64, base: i64) {
        self.runs.update(from, base - 1, |_, run| {
            if run.fate == Fate::Available {
                run.finish();
            }
        });
    }

    /// Takes what was handed out before, or not at all when state was lost. Returns whether more may
    /// be taken.
    fn take_available(
        &mut self,
        taking: &mut Taking<'_>,
        base: i64,
        last: i64,
        limits: &ShareLimits,
    ) -> bool {
        let last = last.min(self.next - 1);
        let mut from = base.max(self.start);
        while taking.left > 0 && from <= last {
            let found = self
                .runs
                .touching(from, last)
                .find(|(_, run)| run.fate == Fate::Available);
            let Some((first, run)) = found else { break };
            let (first, end) = (first.max(from), run.last.min(last));
            let is_careful = run.deliveries >= careful_from(limits);
            if is_careful && !taking.taken.is_empty() {
                return false;
            }
            let stop = if is_careful {
                let is_last_try = limits.max_deliveries > 2
                    && run.deliveries.saturating_add(1) >= limits.max_deliveries;
                let group = if is_last_try {
                    1
                } else {
                    i64::from(run.cohort / 2).max(1)
                };
                first + group.min(taking.left).min(end - first + 1) - 1
            } else {
                taking.stop(first, end, taking.left)
            };
            let deliveries = run.deliveries.saturating_add(1);
            self.hand_out(taking, first, stop, deliveries);
            if is_careful {
                return false;
            }
            from = stop + 1;
        }
        true
    }

    /// Takes what was never handed out.
    fn take_new(&mut self, taking: &mut Taking<'_>, base: i64, last: i64, limits: &ShareLimits) {
        if self.next < base {
            self.push(base - 1, Run::done(base - 1));
        }
        // Everything may be done with: then nothing is in flight.
        self.advance();
        let room = limits.max_in_flight - self.in_flight();
        let (first, count) = (self.next, taking.left.min(room));
        if first > last || count <= 0 {
            return;
        }
        let stop = taking.stop(first, last, count);
        let run = Run {
            last: stop,
            fate: Fate::Available,
            deliveries: 0,
            cohort: 0,
        };
        self.push(stop, run);
        self.hand_out(taking, first, stop, 1);
    }

    fn hand_out(&mut self, taking: &mut Taking<'_>, first: i64, last: i64, deliveries: u16) {
        let cohort = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
        self.runs.update(first, last, |_, run| {
            run.fate = Fate::Acquired(taking.lock.clone());
            run.deliveries = deliveries;
            run.cohort = cohort;
        });
        taking.add(first, last, deliveries);
    }

    /// Ends what belongs to aborted transactions, and takes it out of what was taken.
    fn leave_out(&mut self, taken: Vec<Acquired>, aborted: &[(i64, i64)]) -> Vec<Acquired> {
        if aborted.is_empty() {
            return taken;
        }
        let mut kept = Vec::with_capacity(taken.len());
        for range in taken {
            let mut from = range.first;
            for &(first, last) in aborted {
                let (first, last) = (first.max(from), last.min(range.last));
                if first > last {
                    continue;
                }
                self.runs.update(first, last, |_, run| run.finish());
                if from < first {
                    kept.push(Acquired {
                        first: from,
                        last: first - 1,
                        ..range
                    });
                }
                from = last + 1;
            }
            if from <= range.last {
                kept.push(Acquired {
                    first: from,
                    ..range
                });
            }
        }
        kept
    }
}

/// Cuts ranges at record batches when they have got `batch_size` records, so that a consumer can
/// acknowledge batch by batch.
fn cut_at_batches(taken: Vec<Acquired>, spans: &[Span], batch_size: i64) -> Vec<Acquired> {
    let size = batch_size.max(1);
    let mut cut = Vec::with_capacity(taken.len());
    for range in taken {
        let mut from = range.first;
        let at = spans.partition_point(|span| span.base_offset <= range.first);
        for span in &spans[at..] {
            if span.base_offset > range.last {
                break;
            }
            if span.base_offset - from >= size {
                cut.push(Acquired {
                    first: from,
                    last: span.base_offset - 1,
                    ..range
                });
                from = span.base_offset;
            }
        }
        cut.push(Acquired {
            first: from,
            ..range
        });
    }
    cut
}
