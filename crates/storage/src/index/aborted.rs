//! The aborted transactions of a segment: `.txnindex`, in Apache Kafka's layout.
//!
//! One entry for each abort marker in the segment that ended a transaction with records, in the order of
//! the markers. 34 bytes, big-endian: `i16` version (0), `i64` producer id, `i64` first offset, `i64`
//! last offset (the marker's), `i64` last stable offset when the marker was appended. A segment without
//! such markers has no file.
//!
//! A hint like the other indexes: how many entries there are, and their checksum, is known from the
//! snapshot (see [`crate::checkpoint`]); a file that is missing or says otherwise is made anew from the
//! log. Behind the entries that a snapshot vouches for the file may have more.
//!
//! Invariant: last offsets ascend, and so do last stable offsets.

use crate::producer_state::AbortedFacts;

/// Bytes of an entry.
pub const ABORTED_ENTRY_BYTES: usize = 34;

const VERSION: i16 = 0;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// Offset of the abort marker.
    pub last_offset: i64,
    /// Offset of its first record in this log.
    pub first_offset: i64,
    /// Id of the producer.
    pub producer_id: i64,
    /// First offset of the earliest transaction that was open when the marker was appended; the offset
    /// behind the marker when none was. No entry behind this one begins below it.
    pub last_stable_offset: i64,
}

impl AbortedTransaction {
    /// The entry's bytes.
    pub fn encode(&self) -> [u8; ABORTED_ENTRY_BYTES] {
        let mut bytes = [0; ABORTED_ENTRY_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        bytes[2..10].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.first_offset.to_be_bytes());
        bytes[18..26].copy_from_slice(&self.last_offset.to_be_bytes());
        bytes[26..].copy_from_slice(&self.last_stable_offset.to_be_bytes());
        bytes
    }

    /// Reads an entry; `None` when it is of another version, or cannot be true.
    pub fn decode(bytes: &[u8; ABORTED_ENTRY_BYTES]) -> Option<Self> {
        let at = |start: usize| {
            let mut wide = [0; 8];
            wide.copy_from_slice(&bytes[start..start + 8]);
            i64::from_be_bytes(wide)
        };
        let entry = Self {
            producer_id: at(2),
            first_offset: at(10),
            last_offset: at(18),
            last_stable_offset: at(26),
        };
        let version = i16::from_be_bytes([bytes[0], bytes[1]]);
        let possible = entry.producer_id >= 0
            && (0..entry.last_offset).contains(&entry.first_offset)
            && entry.last_stable_offset >= 0;
        (version == VERSION && possible).then_some(entry)
    }

    /// Whether some of its records, or its marker, may lie in `from..to`.
    pub(crate) fn touches(&self, from: i64, to: i64) -> bool {
        self.last_offset >= from && self.first_offset < to
    }
}

/// Number of entries and their checksum after one more.
pub(crate) fn facts_with(facts: AbortedFacts, entry: &[u8; ABORTED_ENTRY_BYTES]) -> AbortedFacts {
    AbortedFacts {
        entries: facts.entries.saturating_add(1),
        crc: ::crc32c::crc32c_append(facts.crc, entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kafkas_bytes() {
        let entry = AbortedTransaction {
            producer_id: 1,
            first_offset: 0x0203,
            last_offset: 0x0405,
            last_stable_offset: 0x0607,
        };
        let bytes = entry.encode();
        let mut expected = vec![0, 0];
        for field in [[0, 1], [2, 3], [4, 5], [6, 7]] {
            expected.extend([0; 6]);
            expected.extend(field);
        }
        assert_eq!(bytes.to_vec(), expected);
        assert_eq!(AbortedTransaction::decode(&bytes), Some(entry));
        assert!(entry.touches(0x0405, 0x0406) && !entry.touches(0x0406, 0x0500));
        assert!(entry.touches(0, 0x0204) && !entry.touches(0, 0x0203));
        for (at, lie) in [(1, 1), (2, 0x80), (10, 0x80), (11, 1), (26, 0x80)] {
            let mut bad = bytes;
            bad[at] = lie;
            assert_eq!(AbortedTransaction::decode(&bad), None, "byte {at}");
        }
    }
}
