//! Bytes of a `.snapshot` file: Kafka's layout (version 1), so that its tools decode it, followed by
//! the older batches of each producer's window, which Kafka's readers skip.
//!
//! ```text
//! i16 version = 1, u32 CRC32C of all that follows, i32 producers, then per producer:
//!   i64 producer id, i16 epoch, i32 last sequence, i64 last offset, i32 offset delta,
//!   i64 timestamp (ms), i32 coordinator epoch, i64 first offset of the open transaction (-1: none)
//! then per producer, in the same order: u8 older batches, each
//!   i32 first sequence, i32 last sequence, i64 base offset, i64 last offset, i64 timestamp (ms)
//! ```

use bytes::{Buf, BufMut};

use super::{ProducerState, ProducerStates, SentBatch, WINDOW};
use crate::record::crc32c;

const VERSION: i16 = 1;
const ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
const OLDER_BYTES: usize = 4 + 4 + 8 + 8 + 8;

/// Encodes all producers, ordered by id.
pub(crate) fn encode(states: &ProducerStates) -> Vec<u8> {
    let mut producers: Vec<_> = states.by_id.iter().collect();
    producers.sort_by_key(|(id, _)| **id);
    let mut body = Vec::with_capacity(4 + producers.len() * (ENTRY_BYTES + 1));
    body.put_i32(producers.len() as i32);
    for (id, state) in &producers {
        put_entry(&mut body, **id, state);
    }
    for (_, state) in &producers {
        let older = state.batches.len().saturating_sub(1);
        body.put_u8(older as u8);
        for batch in state.batches.iter().take(older) {
            put_older(&mut body, batch);
        }
    }
    let mut bytes = Vec::with_capacity(6 + body.len());
    bytes.put_i16(VERSION);
    bytes.put_u32(crc32c(&body));
    bytes.extend_from_slice(&body);
    bytes
}

fn put_entry(body: &mut Vec<u8>, id: i64, state: &ProducerState) {
    let last = state.batches.back();
    body.put_i64(id);
    body.put_i16(state.epoch);
    body.put_i32(last.map_or(-1, |batch| batch.last_sequence));
    body.put_i64(last.map_or(-1, |batch| batch.last_offset));
    body.put_i32(last.map_or(0, |batch| (batch.last_offset - batch.base_offset) as i32));
    body.put_i64(state.last_timestamp_ms);
    body.put_i32(state.coordinator_epoch);
    body.put_i64(state.current_txn_start.unwrap_or(-1));
}

fn put_older(body: &mut Vec<u8>, batch: &SentBatch) {
    body.put_i32(batch.first_sequence);
    body.put_i32(batch.last_sequence);
    body.put_i64(batch.base_offset);
    body.put_i64(batch.last_offset);
    body.put_i64(batch.timestamp_ms);
}

/// Decodes a snapshot; `None` when it is not whole and sound.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<ProducerStates> {
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
    for (_, state) in &mut producers {
        // Kafka's own snapshots end before the older batches.
        if bytes.is_empty() {
            break;
        }
        take_older(&mut bytes, state)?;
    }
    Some(ProducerStates {
        by_id: producers.into_iter().collect(),
    })
}

/// The caller checked that an entry's bytes are there.
fn take_entry(bytes: &mut &[u8]) -> (i64, ProducerState) {
    let id = bytes.get_i64();
    let mut state = ProducerState::new(bytes.get_i16());
    let last_sequence = bytes.get_i32();
    let last_offset = bytes.get_i64();
    let delta = bytes.get_i32();
    state.last_timestamp_ms = bytes.get_i64();
    state.coordinator_epoch = bytes.get_i32();
    state.current_txn_start = Some(bytes.get_i64()).filter(|offset| *offset >= 0);
    if last_sequence >= 0 {
        state.batches.push_back(SentBatch {
            first_sequence: first_sequence(last_sequence, delta),
            last_sequence,
            base_offset: last_offset.saturating_sub(i64::from(delta)),
            last_offset,
            timestamp_ms: state.last_timestamp_ms,
        });
    }
    (id, state)
}

/// Sequences wrap from `i32::MAX` to 0.
fn first_sequence(last: i32, delta: i32) -> i32 {
    let first = i64::from(last) - i64::from(delta);
    if first >= 0 {
        first as i32
    } else {
        (first + (1 << 31)) as i32
    }
}

fn take_older(bytes: &mut &[u8], state: &mut ProducerState) -> Option<()> {
    let count = usize::from(bytes.get_u8());
    if count >= WINDOW || bytes.len() < count * OLDER_BYTES {
        return None;
    }
    for i in 0..count {
        let batch = SentBatch {
            first_sequence: bytes.get_i32(),
            last_sequence: bytes.get_i32(),
            base_offset: bytes.get_i64(),
            last_offset: bytes.get_i64(),
            timestamp_ms: bytes.get_i64(),
        };
        state.batches.insert(i, batch);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let mut states = ProducerStates::default();
        for id in 0..3 {
            let state = states
                .by_id
                .entry(id)
                .or_insert_with(|| ProducerState::new(4));
            for i in 0..=id as i32 {
                state.batches.push_back(SentBatch {
                    first_sequence: i * 2,
                    last_sequence: i * 2 + 1,
                    base_offset: i64::from(i) * 2,
                    last_offset: i64::from(i) * 2 + 1,
                    timestamp_ms: 99,
                });
            }
            state.last_timestamp_ms = 99;
        }
        let bytes = encode(&states);
        assert_eq!(decode(&bytes), Some(states));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
        for i in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[i] ^= 1;
            assert_eq!(decode(&flipped), None, "flipped at {i}");
        }
    }
}
