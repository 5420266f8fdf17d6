//! Random members, acknowledgements, failed writes, lost sessions, a trimmed log and crashes, under
//! thousands of seeds, against a model that remembers every offset by itself.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::collections::BTreeMap;
use std::sync::Arc;

use dlog_share::{
    AcknowledgementBatch, Acquire, AcquireMode, DeliveryState, ShareLimits, SharePartition, Span,
    StateBatch, StateWrite, combine,
};

const SEEDS: u64 = 400;
const STEPS: usize = 250;
const MEMBERS: usize = 3;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: i64) -> i64 {
        (self.next() % bound as u64) as i64
    }

    fn chance(&mut self, percent: i64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Available,
    Held {
        member: usize,
        until_ms: i64,
    },
    /// The write, what it makes of the offset, and the lock that holds should it fail.
    Ending {
        write: u64,
        done: bool,
        until_ms: i64,
        member: usize,
    },
    Done,
}

#[derive(Clone, Debug)]
struct Known {
    fate: Fate,
    deliveries: u16,
    /// The member was told that its acceptance is stored.
    accepted: bool,
}

impl Known {
    fn new() -> Self {
        Self {
            fate: Fate::Available,
            deliveries: 0,
            accepted: false,
        }
    }
}

struct Run {
    random: Random,
    limits: ShareLimits,
    members: Vec<Arc<str>>,
    now_ms: i64,
    partition: SharePartition,
    /// Batches of the log, ascending, with holes between them.
    log: Vec<(Span, bool)>,
    log_start: i64,
    offsets: BTreeMap<i64, Known>,
    writes: Vec<(u64, StateWrite, bool)>,
    last_write: u64,
    stored: (i64, Vec<StateBatch>),
    handed_out: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = ShareLimits {
            max_deliveries: 1 + random.below(6) as u16,
            lock_ms: 50 + random.below(100),
            max_in_flight: 20 + random.below(100),
            may_renew: random.chance(80),
        };
        Self {
            random,
            limits,
            members: (0..MEMBERS).map(|at| format!("m{at}").into()).collect(),
            now_ms: 0,
            partition: SharePartition::load(0, &[]).unwrap(),
            log: Vec::new(),
            log_start: 0,
            offsets: BTreeMap::new(),
            writes: Vec::new(),
            last_write: 0,
            stored: (0, Vec::new()),
            handed_out: 0,
        }
    }

    fn end(&self) -> i64 {
        self.log.last().map_or(0, |(span, _)| span.last_offset + 1)
    }

    fn append(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            let hole = if self.random.chance(15) {
                self.random.below(4)
            } else {
                0
            };
            let base_offset = self.end() + hole;
            let last_offset = base_offset + self.random.below(12);
            let aborted = self.random.chance(10);
            self.log.push((
                Span {
                    base_offset,
                    last_offset,
                },
                aborted,
            ));
        }
    }

    fn is_record(&self, offset: i64) -> bool {
        self.log.iter().any(|(span, aborted)| {
            !aborted && (span.base_offset..=span.last_offset).contains(&offset)
        })
    }

    fn acquire(&mut self, max_records: i64) -> usize {
        if self.partition.start_offset() < self.log_start {
            self.partition.raise_start(self.log_start);
            self.forget_trimmed();
        }
        if !self.partition.can_acquire(&self.limits) {
            return 0;
        }
        let from = self.partition.next_fetch_offset();
        let visible: Vec<_> = self
            .log
            .iter()
            .filter(|(s, _)| s.last_offset >= from)
            .collect();
        let count = visible.len().min(1 + self.random.below(5) as usize);
        let spans: Vec<Span> = visible[..count].iter().map(|(span, _)| *span).collect();
        let aborted: Vec<_> = visible[..count]
            .iter()
            .filter(|(_, aborted)| *aborted)
            .map(|(span, _)| (span.base_offset, span.last_offset))
            .collect();
        let member = self.random.below(MEMBERS as i64) as usize;
        let mode = if self.random.chance(50) {
            AcquireMode::RecordLimit
        } else {
            AcquireMode::BatchOptimized
        };
        let request = Acquire {
            member: &self.members[member],
            mode,
            max_records,
            batch_size: 1 + self.random.below(10),
            fetch_offset: from,
            spans: &spans,
            aborted: &aborted,
        };
        let taken = self.partition.acquire(request, &self.limits, self.now_ms);
        let until_ms = self.now_ms + self.limits.lock_ms;
        let mut count = 0;
        let mut before = -1;
        for range in &taken {
            assert!(range.first > before, "ranges are ascending: {taken:?}");
            before = range.last;
            for offset in range.first..=range.last {
                count += 1;
                let in_aborted = aborted.iter().any(|(a, b)| (*a..=*b).contains(&offset));
                assert!(!in_aborted, "{offset} was aborted");
                let known = self.offsets.entry(offset).or_insert_with(Known::new);
                assert_eq!(known.fate, Fate::Available, "{offset} is handed out twice");
                assert!(!known.accepted, "{offset} was accepted");
                known.deliveries += 1;
                assert_eq!(
                    known.deliveries, range.delivery_count,
                    "deliveries of {offset}"
                );
                assert!(
                    known.deliveries <= self.limits.max_deliveries,
                    "{offset} too often"
                );
                known.fate = Fate::Held { member, until_ms };
            }
        }
        if mode == AcquireMode::RecordLimit {
            assert!(count <= max_records as usize, "{count} of {max_records}");
        }
        self.handed_out += count;
        // What was read and is aborted or does not exist is done with, unless it is not reached yet.
        let (start, reached) = (self.partition.start_offset(), self.reached());
        for offset in from..reached {
            let known = self.offsets.entry(offset).or_insert_with(Known::new);
            if known.fate == Fate::Available && !self.is_record(offset) && offset < start {
                self.offsets.get_mut(&offset).unwrap().fate = Fate::Done;
            }
        }
        count
    }

    fn reached(&self) -> i64 {
        self.partition.start_offset() + self.partition.in_flight()
    }

    fn forget_trimmed(&mut self) {
        let start = self.log_start;
        for (_, known) in self.offsets.range_mut(..start) {
            known.fate = Fate::Done;
        }
    }

    /// Acknowledges a random stretch for a random member; right or wrong.
    fn acknowledge(&mut self) {
        let reached = self.reached();
        if reached == 0 {
            return;
        }
        let held: Vec<(i64, usize)> = self
            .offsets
            .iter()
            .filter_map(|(&at, known)| match known.fate {
                Fate::Held { member, .. } => Some((at, member)),
                _ => None,
            })
            .collect();
        let (first, member) = if held.is_empty() || self.random.chance(10) {
            (
                self.random.below(reached),
                self.random.below(MEMBERS as i64) as usize,
            )
        } else {
            held[self.random.below(held.len() as i64) as usize]
        };
        let is_his = |run: &Self, at: i64| matches!(run.offsets.get(&at), Some(Known { fate: Fate::Held { member: m, .. }, .. }) if *m == member);
        let wanted = 1 + self.random.below(15);
        let mut last = first;
        while last - first + 1 < wanted && (is_his(self, last + 1) || self.random.chance(3)) {
            last += 1;
        }
        let each = self.random.chance(40);
        let count = if each { last - first + 1 } else { 1 };
        let kinds: Vec<i8> = (0..count).map(|_| self.random.below(5) as i8).collect();
        let kind_at = |offset: i64| {
            kinds[if kinds.len() > 1 {
                (offset - first) as usize
            } else {
                0
            }]
        };
        let start = self.partition.start_offset();
        self.last_write += 1;
        let write = self.last_write;
        let batch = AcknowledgementBatch {
            first,
            last,
            kinds: kinds.clone(),
        };
        let result = self.partition.acknowledge(
            &self.members[member],
            &[batch],
            &self.limits,
            write,
            self.now_ms,
        );
        let renews = (first.max(start)..=last).any(|at| kind_at(at) == 4);
        let right = last < start
            || (last < reached
                && (first.max(start)..=last).all(|at| is_his(self, at))
                && (self.limits.may_renew || !renews));
        assert_eq!(
            result.is_ok(),
            right,
            "{first}..={last} of {member} from {start}: {result:?}"
        );
        let Ok(to_write) = result else { return };
        if last < start {
            assert_eq!(to_write, None);
            return;
        }
        let mut accepts = false;
        for offset in first.max(start)..=last {
            let known = self.offsets.get_mut(&offset).unwrap();
            let kind = kind_at(offset);
            let Fate::Held { until_ms, .. } = known.fate else {
                unreachable!()
            };
            known.fate = match kind {
                4 => Fate::Held {
                    member,
                    until_ms: self.now_ms + self.limits.lock_ms,
                },
                2 if known.deliveries < self.limits.max_deliveries => Fate::Ending {
                    write,
                    done: false,
                    until_ms,
                    member,
                },
                _ => Fate::Ending {
                    write,
                    done: true,
                    until_ms,
                    member,
                },
            };
            accepts |= kind == 1;
        }
        if let Some(to_write) = to_write {
            self.check_write(&to_write, first.max(start), last);
            self.writes.push((write, to_write, accepts));
        }
    }

    fn check_write(&self, write: &StateWrite, first: i64, last: i64) {
        assert!(
            write.start_offset <= first,
            "{write:?} begins behind {first}"
        );
        for batch in &write.batches {
            assert!(
                batch.first >= first && batch.last <= last,
                "{batch:?} in {first}..={last}"
            );
        }
    }

    /// The oldest open write ends.
    fn end_write(&mut self, stored: bool) {
        if self.writes.is_empty() {
            return;
        }
        let (write, to_write, _) = self.writes.remove(0);
        if stored {
            self.store(&to_write);
        }
        self.partition
            .persisted(write, stored, &self.limits, self.now_ms);
        for (&offset, known) in &mut self.offsets {
            let Fate::Ending {
                write: of,
                done,
                until_ms,
                member,
            } = known.fate
            else {
                continue;
            };
            if of != write {
                continue;
            }
            let gives_up = known.deliveries >= self.limits.max_deliveries;
            known.fate = match (stored, done, until_ms <= self.now_ms) {
                (true, true, _) => Fate::Done,
                (true, false, _) => Fate::Available,
                (false, _, false) => Fate::Held { member, until_ms },
                (false, _, true) if gives_up => Fate::Done,
                (false, _, true) => Fate::Available,
            };
            known.accepted |= stored
                && to_write.batches.iter().any(|batch| {
                    (batch.first..=batch.last).contains(&offset)
                        && batch.delivered.state == DeliveryState::Acknowledged
                });
        }
    }

    fn store(&mut self, write: &StateWrite) {
        let start = write.start_offset.max(self.stored.0);
        self.stored = (start, combine(&self.stored.1, &write.batches, start));
    }

    fn release(&mut self) {
        let member = self.random.below(MEMBERS as i64) as usize;
        self.last_write += 1;
        let write = self.last_write;
        let start = self.partition.start_offset();
        let to_write = self
            .partition
            .release_member(&self.members[member], &self.limits, write);
        let mut count = 0;
        for (_, known) in self.offsets.range_mut(start..) {
            if let Fate::Held {
                member: m,
                until_ms,
            } = known.fate
                && m == member
            {
                let done = known.deliveries >= self.limits.max_deliveries;
                known.fate = Fate::Ending {
                    write,
                    done,
                    until_ms,
                    member,
                };
                count += 1;
            }
        }
        let named: i64 = to_write
            .iter()
            .flat_map(|w| &w.batches)
            .map(|batch| batch.last - batch.first + 1)
            .sum();
        assert_eq!(named, count, "what is released is what the member held");
        if let Some(to_write) = to_write {
            self.writes.push((write, to_write, false));
        }
    }

    fn pass_time(&mut self) {
        self.now_ms += self.random.below(80);
        let start = self.partition.start_offset();
        let to_write = self.partition.expire(&self.limits, self.now_ms);
        for (_, known) in self.offsets.range_mut(start..) {
            if let Fate::Held { until_ms, .. } = known.fate
                && until_ms <= self.now_ms
            {
                let gives_up = known.deliveries >= self.limits.max_deliveries;
                known.fate = if gives_up {
                    Fate::Done
                } else {
                    Fate::Available
                };
            }
        }
        // It is stored, or not: nobody waits for it.
        if let Some(to_write) = to_write
            && self.random.chance(70)
        {
            self.store(&to_write);
        }
        let earliest = self.offsets.values().filter_map(|known| match known.fate {
            Fate::Held { until_ms, .. } => Some(until_ms),
            _ => None,
        });
        if let Some(earliest) = earliest.min() {
            let told = self.partition.next_deadline_ms();
            assert!(
                told.is_some_and(|told| told <= earliest),
                "a lock is forgotten"
            );
        }
    }

    fn trim(&mut self) {
        if self.end() > self.log_start {
            self.log_start += self.random.below(self.end() - self.log_start);
            let start = self.log_start;
            self.log.retain(|(span, _)| span.last_offset >= start);
        }
    }

    /// The broker is killed: what was not stored is forgotten, open writes may have been stored.
    fn crash(&mut self) {
        for (_, to_write, _) in std::mem::take(&mut self.writes) {
            if self.random.chance(50) {
                self.store(&to_write);
            } else {
                // The log ends here.
                break;
            }
        }
        let (start, batches) = &self.stored;
        self.partition = SharePartition::load(*start, batches).unwrap();
        let mut stored_at = BTreeMap::new();
        for batch in batches {
            (batch.first..=batch.last).for_each(|at| {
                stored_at.insert(at, batch.delivered);
            });
        }
        for (&offset, known) in &mut self.offsets {
            let stored = stored_at.get(&offset);
            let is_done = offset < *start
                || stored.is_some_and(|stored| stored.state != DeliveryState::Available);
            assert!(
                !known.accepted || is_done,
                "the acceptance of {offset} is lost"
            );
            known.fate = if is_done { Fate::Done } else { Fate::Available };
            known.deliveries = stored.map_or(0, |stored| stored.count);
        }
    }

    fn check(&self) {
        let start = self.partition.start_offset();
        for (offset, known) in self.offsets.range(..start) {
            let is_over = known.fate == Fate::Done || !self.is_record(*offset);
            assert!(
                is_over || *offset < self.log_start,
                "{offset} is lost: {known:?}, {start}"
            );
        }
        assert!(
            self.partition.in_flight() <= self.limits.max_in_flight + 12 + 4,
            "too many"
        );
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=14 => self.append(),
            15..=44 => drop({
                let most = 1 + self.random.below(30);
                self.acquire(most)
            }),
            45..=69 => self.acknowledge(),
            70..=84 => {
                let stored = self.random.chance(85);
                self.end_write(stored);
            }
            85..=88 => self.release(),
            89..=96 => self.pass_time(),
            97..=98 => self.trim(),
            _ => self.crash(),
        }
        self.check();
    }

    /// Everybody does their best: nothing must be left behind.
    fn finish(&mut self) {
        for _ in 0..20_000 {
            while !self.writes.is_empty() {
                self.end_write(true);
            }
            for member in 0..MEMBERS {
                let held: Vec<i64> = self
                    .offsets
                    .iter()
                    .filter(|(_, known)| matches!(known.fate, Fate::Held { member: m, .. } if m == member))
                    .map(|(&at, _)| at)
                    .collect();
                for offset in held {
                    self.last_write += 1;
                    let write = self.last_write;
                    let batch = AcknowledgementBatch {
                        first: offset,
                        last: offset,
                        kinds: vec![1],
                    };
                    let result = self.partition.acknowledge(
                        &self.members[member],
                        &[batch],
                        &self.limits,
                        write,
                        self.now_ms,
                    );
                    let until_ms = self.now_ms;
                    if let Some(to_write) = result.unwrap() {
                        let known = self.offsets.get_mut(&offset).unwrap();
                        known.fate = Fate::Ending {
                            write,
                            done: true,
                            until_ms,
                            member,
                        };
                        self.writes.push((write, to_write, true));
                    }
                }
            }
            let taken = self.acquire(1000);
            if taken == 0 && self.writes.is_empty() && self.partition.start_offset() >= self.end() {
                break;
            }
        }
        assert_eq!(
            self.partition.start_offset(),
            self.end(),
            "not all is done with"
        );
        assert_eq!(self.partition.in_flight(), 0);
        for (span, aborted) in &self.log {
            for offset in span.base_offset.max(self.log_start)..=span.last_offset {
                let fate = self.offsets.get(&offset).map(|known| &known.fate);
                assert!(
                    *aborted || fate == Some(&Fate::Done),
                    "{offset} is lost: {fate:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_handed_out_twice_or_lost() {
    let seeds = std::env::var("SHARE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut handed_out = 0;
    for seed in seeds.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..STEPS {
                run.step();
            }
            run.finish();
            run.handed_out
        });
        match outcome {
            Ok(count) => handed_out += count,
            Err(panic) => {
                eprintln!("the failing seed is SHARE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(handed_out > 20_000, "the test did little: {handed_out}");
}
