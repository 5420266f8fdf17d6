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

/// Records whose keys are looked for together, at most.
const GROUP: usize = 256;

type KeyHash = [u64; 2];

/// A record's key, if it has one, and its offset.
pub(crate) type Keyed<'a> = (Option<&'a [u8]>, i64);

/// The same with the key's hash.
type Hashed = (Option<KeyHash>, i64);

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

    /// Notes that keys have records at these offsets, until one is a new key and the map is full; whether all
    /// were noted. There is nothing to note of a record without a key.
    ///
    /// # Errors
    /// That of the first record that could not be had.
    pub(crate) fn put_all<'k, E>(
        &mut self,
        mut records: impl Iterator<Item = Result<Keyed<'k>, E>>,
    ) -> Result<bool, E> {
        let mut group = Vec::with_capacity(GROUP);
        while self.next_group(&mut records, &mut group)? {
            for &(hash, offset) in &group {
                if let Some(hash) = hash
                    && !self.put(hash, offset)
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Says of each record, at the end of `are_newest`, whether no newer one of its key was noted. A record
    /// without a key is the newest of nothing.
    ///
    /// # Errors
    /// That of the first record that could not be had.
    pub(crate) fn find_newest<'k, E>(
        &self,
        mut records: impl Iterator<Item = Result<Keyed<'k>, E>>,
        are_newest: &mut Vec<bool>,
    ) -> Result<(), E> {
        let mut group = Vec::with_capacity(GROUP);
        while self.next_group(&mut records, &mut group)? {
            are_newest.extend(group.iter().map(|&hashed| self.is_newest_hashed(hashed)));
        }
        Ok(())
    }

    /// As [`Self::find_newest`], of one record.
    pub(crate) fn is_newest(&self, record: Keyed<'_>) -> bool {
        self.is_newest_hashed(self.hashed(record))
    }

    fn is_newest_hashed(&self, (hash, offset): Hashed) -> bool {
        hash.is_some_and(|hash| self.get(hash).is_none_or(|newest| offset >= newest))
    }

    /// Takes the next records and has the processor fetch what is known of their keys, side by side: whoever asks for
    /// one after the other waits for the memory each time. False when there is none.
    fn next_group<'k, E>(
        &self,
        records: &mut impl Iterator<Item = Result<Keyed<'k>, E>>,
        group: &mut Vec<Hashed>,
    ) -> Result<bool, E> {
        group.clear();
        for record in records.take(GROUP) {
            group.push(self.hashed(record?));
        }
        // Nothing else in this loop, so that many of the reads are under way at once. Both ends: a slot may lie in
        // two lines of the cache.
        let seen = group
            .iter()
            .filter_map(|(hash, _)| *hash)
            .map(|hash| &self.slots[self.home(hash)])
            .fold(0, |seen, slot| seen ^ slot[0] ^ slot[2]);
        // Else nobody would have to read it.
        std::hint::black_box(seen);
        Ok(!group.is_empty())
    }

    fn put(&mut self, hash: KeyHash, offset: i64) -> bool {
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
    fn get(&self, hash: KeyHash) -> Option<i64> {
        let slot = self.slots[self.find(hash)];
        slot[2].checked_sub(1).map(u64::cast_signed)
    }

    fn hashed(&self, (key, offset): Keyed<'_>) -> Hashed {
        (key.map(|key| self.hash(key)), offset)
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = SipHasher13::new_with_keys(self.key[0], self.key[1]).hash(key);
        [hash.h1, hash.h2]
    }

    /// Where the search for this hash begins.
    fn home(&self, hash: KeyHash) -> usize {
        ((u128::from(hash[0]) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot that has this hash, or the free one where it belongs; one slot is always free.
    fn find(&self, hash: KeyHash) -> usize {
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

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
                assert_eq!(put(&mut map, &key, offset), fits, "seed {seed}, {offset}");
                if fits {
                    model.insert(key, offset);
                }
            }
            assert_eq!(map.len(), model.len());
            for key in 0..130_u32 {
                let key = key.to_be_bytes();
                assert_eq!(get(&map, &key), model.get(&key).copied(), "seed {seed}");
            }
        }
    }

    fn put(map: &mut OffsetMap, key: &[u8], offset: i64) -> bool {
        let record: Result<_, Infallible> = Ok((Some(key), offset));
        map.put_all(std::iter::once(record)).unwrap()
    }

    fn get(map: &OffsetMap, key: &[u8]) -> Option<i64> {
        map.get(map.hash(key))
    }

    /// Records of which some have no key, and of whose keys some come again.
    fn records(keys: &[[u8; 4]]) -> impl Iterator<Item = Keyed<'_>> {
        let keys = keys.iter().map(|key| (key[3] != 7).then_some(&key[..]));
        keys.zip(0..)
    }

    fn put_all(map: &mut OffsetMap, keys: &[[u8; 4]]) -> bool {
        map.put_all(records(keys).map(Ok::<_, Infallible>)).unwrap()
    }

    fn find_newest(map: &OffsetMap, keys: &[[u8; 4]], are_newest: &mut Vec<bool>) {
        map.find_newest(records(keys).map(Ok::<_, Infallible>), are_newest)
            .unwrap();
    }

    #[test]
    fn many_at_once_are_as_one_after_the_other() {
        for count in [0, 1, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP] {
            let keys: Vec<_> = (0..count as u32)
                .map(|at| (at * at % 500).to_be_bytes())
                .collect();
            let mut map = OffsetMap::new(1 << 20, 0.9, 1_000, [3, 4]);
            assert!(put_all(&mut map, &keys));
            let mut are_newest = vec![true];
            find_newest(&map, &keys, &mut are_newest);
            let expected = records(&keys).map(|(key, offset)| {
                key.is_some()
                    && !records(&keys).any(|(other, later)| other == key && later > offset)
            });
            let expected: Vec<_> = [true].into_iter().chain(expected).collect();
            assert_eq!(are_newest, expected, "{count}");
        }
    }

    #[test]
    fn what_fits_no_more_ends_it() {
        let mut map = OffsetMap::new(SLOT_BYTES * 10, 0.5, 1_000, [5, 6]);
        let keys: Vec<_> = (0..9_u32).map(u32::to_be_bytes).collect();
        assert!(!put_all(&mut map, &keys));
        assert_eq!(
            (map.len(), get(&map, &keys[4]), get(&map, &keys[5])),
            (5, Some(4), None)
        );
        // What is known already still fits.
        assert!(put(&mut map, &keys[0], 20));
        let mut are_newest = Vec::new();
        find_newest(&map, &keys[..2], &mut are_newest);
        assert_eq!(are_newest, [false, true]);
    }

    #[test]
    fn an_offset_never_falls_and_an_empty_key_is_a_key() {
        let mut map = OffsetMap::new(1 << 10, 0.9, 8, [1, 2]);
        assert_eq!(get(&map, b""), None);
        assert!(put(&mut map, b"", 0));
        assert!(put(&mut map, b"", 9) && put(&mut map, b"", 3));
        assert_eq!(get(&map, b""), Some(9));
        assert_eq!(get(&map, b"x"), None);
    }
}
