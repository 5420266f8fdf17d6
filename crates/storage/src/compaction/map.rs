//! The newest offset of each key, in a fixed amount of memory.
//!
//! Open addressing over slots of 24 bytes: 128 bits of the key's hash and the offset. Keys are not
//! kept. The hash is keyed (SipHash-1-3 with a secret), so that nobody who chooses keys can make two
//! of them look alike; that two do by chance is less likely than a broken disk by far.
//!
//! Invariants: at most `capacity` keys; an offset that was put for a key never gets smaller.

use siphasher::sip128::SipHasher13;

/// Bytes of memory for each slot.
pub(crate) const SLOT_BYTES: usize = 24;

/// What makes hashes secret: drawn anew for each process, or fixed in a test.
pub type HashKey = [u64; 2];

/// Keys that are approached together at most.
const APPROACHED: usize = 256;

/// Hash, hash, offset + 1 (0: the slot is free).
type Slot = [u64; 3];

/// See the module's documentation.
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    capacity: usize,
    key: HashKey,
}

impl OffsetMap {
    /// A map in at most `memory_bytes`, of which the share `load_factor` may be filled, for at most
    /// `expected` keys.
    pub(crate) fn new(memory_bytes: usize, load_factor: f64, expected: u64, key: HashKey) -> Self {
        let load = load_factor.clamp(0.1, 0.95);
        let most = (memory_bytes / SLOT_BYTES).max(2);
        // Half empty where memory allows it: lookups of keys that are not there then end soon.
        let wanted = usize::try_from(expected.saturating_mul(2)).unwrap_or(usize::MAX);
        let slots = wanted.clamp(2, most);
        // Zeroed memory from the operating system is not touched before it is used.
        Self {
            slots: vec![[0; 3]; slots],
            len: 0,
            capacity: ((slots as f64 * load) as usize).clamp(1, slots - 1),
            key,
        }
    }

    /// Whether no further key fits.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.capacity
    }

    /// Number of keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Has the processor fetch what is known of the first of these keys, side by side: whoever asks for one after the
    /// other waits for the memory each time.
    pub(crate) fn approach<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        if self.len == 0 {
            return;
        }
        let mut homes = [0; APPROACHED];
        let count = homes
            .iter_mut()
            .zip(keys)
            .map(|(home, key)| *home = self.home(self.hash(key)))
            .count();
        // Nothing else in this loop, so that many of the reads are under way at once. Both ends: a slot may lie in
        // two lines of the cache.
        let seen = homes[..count]
            .iter()
            .fold(0, |seen, &at| seen ^ self.slots[at][0] ^ self.slots[at][2]);
        // Else nobody would have to read it.
        std::hint::black_box(seen);
    }

    /// Notes that a key has a record at `offset`; false, with nothing noted, when it is a new key and
    /// the map is full.
    pub(crate) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        let at = self.find(hash);
        let stored = offset.cast_unsigned() + 1;
        if self.slots[at][2] != 0 {
            self.slots[at][2] = self.slots[at][2].max(stored);
            return true;
        }
        if self.is_full() {
            return false;
        }
        self.slots[at] = [hash[0], hash[1], stored];
        self.len += 1;
        true
    }

    /// The newest offset that was noted for a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<i64> {
        if self.len == 0 {
            return None;
        }
        let slot = self.slots[self.find(self.hash(key))];
        slot[2].checked_sub(1).map(u64::cast_signed)
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let hash = SipHasher13::new_with_keys(self.key[0], self.key[1]).hash(key);
        [hash.h1, hash.h2]
    }

    /// Where the search for this hash begins.
    fn home(&self, hash: [u64; 2]) -> usize {
        ((u128::from(hash[0]) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot that has this hash, or the free one where it belongs; one slot is always free.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len();
        let mut at = self.home(hash);
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || (slot[0], slot[1]) == (hash[0], hash[1]) {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn it_is_a_map_until_it_is_full() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let memory = random.random_range(48..4_000);
            let mut map = OffsetMap::new(memory, 0.9, random.random_range(1..300), [seed, 7]);
            assert!(map.slots.len() * SLOT_BYTES <= memory, "seed {seed}");
            let mut model = HashMap::new();
            for offset in 0..400_i64 {
                let key = random.random_range(0..120_u32).to_be_bytes();
                let fits = model.contains_key(&key) || model.len() < map.capacity;
                assert_eq!(map.put(&key, offset), fits, "seed {seed}, offset {offset}");
                if fits {
                    model.insert(key, offset);
                }
            }
            assert_eq!(map.len(), model.len());
            // More than are looked at, and some that are not there: it changes nothing.
            let keys: Vec<_> = (0..300_u32).map(u32::to_be_bytes).collect();
            map.approach(keys.iter().map(|key| &key[..]));
            for key in 0..130_u32 {
                let key = key.to_be_bytes();
                assert_eq!(map.get(&key), model.get(&key).copied(), "seed {seed}");
            }
        }
    }

    #[test]
    fn an_offset_never_falls_and_an_empty_key_is_a_key() {
        let mut map = OffsetMap::new(1 << 10, 0.9, 8, [1, 2]);
        assert_eq!(map.get(b""), None);
        assert!(map.put(b"", 0));
        assert!(map.put(b"", 9) && map.put(b"", 3));
        assert_eq!(map.get(b""), Some(9));
        assert_eq!(map.get(b"x"), None);
    }
}
