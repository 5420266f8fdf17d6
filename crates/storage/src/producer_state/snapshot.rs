//! Bytes of a `.snapshot` file: Kafka's layout (version 1), so that its tools decode it, followed by
//! what its readers skip.
//!
//! ```text
//! i16 version = 1, u32 CRC32C of all that follows, i32 producers, then per producer:
//!   i64 producer id, i16 epoch, i32 last sequence, i64 last offset, i32 offset delta,
//!   i64 timestamp (ms), i32 coordinator epoch, i64 first offset of the open transaction (-1: none)
//! then per producer, in the same order: u8 older batches, each
//!   i32 last sequence, i32 offset delta, i64 last offset, i64 timestamp (ms)
//! then per open transaction, by first offset: i64 when it began (Unix ms)
//! then u32 segments with aborted transactions, each
//!   i64 base offset, u32 entries of its .txnindex, u32 CRC32C of these entries
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};

use super::entry::{ProducerState, SentBatch};
use super::{Open, ProducerStates, WINDOW};
use crate::record::crc32c;

const VERSION: i16 = 1;
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
const OLDER_BYTES: usize = 4 + 4 + 8 + 8;
const ABORTED_BYTES: usize = 8 + 4 + 4;

/// How many entries a segment's index of aborted transactions has, and their checksum: what tells an
/// index that is whole from one that is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AbortedFacts {
    pub(crate) entries: u32,
    pub(crate) crc: u32,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) states: ProducerStates,
    /// By base offset of the segment.
    pub(crate) aborted: BTreeMap<i64, AbortedFacts>,
}

impl Snapshot {
    /// Encodes all producers, ordered by id.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { states, aborted } = self;
        let mut producers: Vec<_> = states.by_id.iter().collect();
        producers.sort_unstable_by_key(|(id, _)| **id);
        let room = 14 + producers.len() * (ENTRY_BYTES + 1) + aborted.len() * ABORTED_BYTES;
        let mut bytes = Vec::with_capacity(room);
        bytes.put_i16(VERSION);
        bytes.put_u32(0);
        bytes.put_i32(producers.len() as i32);
        for (id, state) in &producers {
            let open = states.open.get(**id).map(|open| open.first_offset);
            put_entry(&mut bytes, **id, state, open);
        }
        for (_, state) in &producers {
            bytes.put_u8(state.older().len() as u8);
            for batch in state.older() {
                put_older(&mut bytes, batch);
            }
        }
        for (_, open) in states.open.iter() {
            bytes.put_i64(open.started_ms);
        }
        bytes.put_u32(aborted.len() as u32);
        for (base_offset, facts) in aborted {
            bytes.put_i64(*base_offset);
            bytes.put_u32(facts.entries);
            bytes.put_u32(facts.crc);
        }
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }
}

fn put_entry(bytes: &mut Vec<u8>, id: i64, state: &ProducerState, open: Option<i64>) {
    let newest = state.newest();
    bytes.put_i64(id);
    bytes.put_i16(state.epoch());
    bytes.put_i32(state.last_sequence());
    bytes.put_i64(newest.map_or(-1, |batch| batch.last_offset));
    bytes.put_i32(newest.map_or(0, |batch| batch.offset_delta));
    bytes.put_i64(state.last_timestamp_ms());
    bytes.put_i32(state.coordinator_epoch());
    bytes.put_i64(open.unwrap_or(-1));
}

fn put_older(bytes: &mut Vec<u8>, batch: &SentBatch) {
    bytes.put_i32(batch.last_sequence);
    bytes.put_i32(batch.offset_delta);
    bytes.put_i64(batch.last_offset);
    bytes.put_i64(batch.timestamp_ms);
}

/// Decodes a snapshot; `None` when it is not whole and sound, or says nothing of aborted transactions
/// (Kafka's own, or one from before this engine knew them): then the log is read instead.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Snapshot> {
    if bytes.len() < 10 || bytes.get_i16() != VERSION || bytes.get_u32() != crc32c(bytes) {
        return None;
    }
    let count = usize::try_from(bytes.get_i32()).ok()?;
    if count > bytes.len() / ENTRY_BYTES {
        return None;
    }
    let mut producers = Vec::with_capacity(count);
    for _ in 0..count {
        producers.push(take_entry(&mut bytes));
    }
    for (_, state, _) in &mut producers {
        take_older(&mut bytes, state)?;
    }
    let mut snapshot = Snapshot::default();
    let mut open: Vec<(i64, i64)> = producers
        .iter()
        .filter_map(|(id, _, first_offset)| Some(((*first_offset)?, *id)))
        .collect();
    open.sort_unstable();
    if open.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return None;
    }
    for (first_offset, id) in open {
        let started_ms = bytes.try_get_i64().ok()?;
        let open = Open {
            first_offset,
            place: None,
            started_ms,
        };
        snapshot.states.open.begin(id, open);
    }
    let segments = bytes.try_get_u32().ok()? as usize;
    if bytes.len() as u64 != segments as u64 * ABORTED_BYTES as u64 {
        return None;
    }
    for _ in 0..segments {
        let base_offset = bytes.get_i64();
        let (entries, crc) = (bytes.get_u32(), bytes.get_u32());
        snapshot
            .aborted
            .insert(base_offset, AbortedFacts { entries, crc });
    }
    snapshot.states.by_id = producers
        .into_iter()
        .map(|(id, state, _)| (id, state))
        .collect();
    (snapshot.states.by_id.len() == count).then_some(snapshot)
}

/// A producer's id, its state, and the first offset of its open transaction. The caller checked that an
/// entry's bytes are there.
fn take_entry(bytes: &mut &[u8]) -> (i64, ProducerState, Option<i64>) {
    let id = bytes.get_i64();
    let mut state = ProducerState::new(bytes.get_i16());
    let newest = SentBatch {
        last_sequence: bytes.get_i32(),
        last_offset: bytes.get_i64(),
        offset_delta: bytes.get_i32(),
        timestamp_ms: bytes.get_i64(),
    };
    if newest.last_sequence >= 0 {
        state.push(newest);
    }
    state.restore(newest.timestamp_ms, bytes.get_i32());
    let open = Some(bytes.get_i64()).filter(|offset| *offset >= 0);
    (id, state, open)
}

fn take_older(bytes: &mut &[u8], state: &mut ProducerState) -> Option<()> {
    let count = usize::from(bytes.try_get_u8().ok()?);
    let fits = count < WINDOW && bytes.len() >= count * OLDER_BYTES;
    if !fits || (count > 0 && state.newest().is_none()) {
        return None;
    }
    for _ in 0..count {
        state.push_older(SentBatch {
            last_sequence: bytes.get_i32(),
            offset_delta: bytes.get_i32(),
            last_offset: bytes.get_i64(),
            timestamp_ms: bytes.get_i64(),
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer_state::Place;

    fn states() -> ProducerStates {
        let mut states = ProducerStates::default();
        for id in 0..4 {
            let mut state = ProducerState::new(4);
            for i in 0..=id as i32 {
                state.push(SentBatch {
                    last_sequence: i * 2 + 1,
                    offset_delta: 1,
                    last_offset: i64::from(i) * 2 + 1,
                    timestamp_ms: 99,
                });
            }
            state.note_marker(40, 101, id as i32);
            states.by_id.insert(id, state);
        }
        for (id, first_offset) in [(1, 30), (3, 20)] {
            let open = Open {
                first_offset,
                place: None,
                started_ms: 77 + id,
            };
            states.open.begin(id, open);
        }
        states
    }

    #[test]
    fn round_trip_and_damage() {
        let facts = AbortedFacts { entries: 3, crc: 9 };
        let snapshot = Snapshot {
            states: states(),
            aborted: BTreeMap::from([(0, facts), (700, AbortedFacts::default())]),
        };
        let bytes = snapshot.encode();
        assert_eq!(decode(&bytes), Some(snapshot));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert_eq!(decode(&bad), None, "flip at {i}");
        }
    }

    #[test]
    fn counts_that_lie_are_refused() {
        let bytes = Snapshot {
            states: states(),
            ..Snapshot::default()
        }
        .encode();
        let with_crc = |mut bytes: Vec<u8>| {
            let crc = crc32c(&bytes[6..]);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
            bytes
        };
        for count in [-1_i32, 5, i32::MAX] {
            let mut bad = bytes.clone();
            bad[6..10].copy_from_slice(&count.to_be_bytes());
            assert_eq!(decode(&with_crc(bad)), None, "{count} producers");
        }
        for end in 10..bytes.len() {
            assert_eq!(
                decode(&with_crc(bytes[..end].to_vec())),
                None,
                "{end} bytes"
            );
        }
        let mut twice = bytes.clone();
        twice.copy_within(10..18, 10 + ENTRY_BYTES);
        assert_eq!(decode(&with_crc(twice)), None, "an id that is there twice");
        let mut together = bytes.clone();
        let first = 10 + ENTRY_BYTES * 2 - 8;
        together.copy_within(first..first + 8, 10 + ENTRY_BYTES * 4 - 8);
        assert_eq!(decode(&with_crc(together)), None, "two that begin at once");
        let mut long = bytes;
        long.push(0);
        assert_eq!(decode(&with_crc(long)), None);
    }

    #[test]
    fn what_recovery_needs_is_there() {
        let mut decoded = decode(
            &Snapshot {
                states: states(),
                ..Snapshot::default()
            }
            .encode(),
        )
        .unwrap();
        assert_eq!(decoded.states.unplaced().count(), 2);
        for open in decoded.states.unplaced() {
            open.place = Some(Place {
                segment: 0,
                position: 1,
            });
        }
        let first = decoded.states.first_open().unwrap();
        assert_eq!((first.first_offset, first.started_ms), (20, 80));
        assert_eq!(decoded.states.oldest_open_ms(), Some(78));
    }
}
