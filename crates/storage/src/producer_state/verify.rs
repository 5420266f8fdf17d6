//! Producers whose transaction a coordinator is being asked about (KIP-890).
//!
//! Before the first batch of a transaction is appended, the coordinator has to say that this partition is
//! part of the transaction. An end marker may be appended while it is asked; a batch that came after that
//! would open a transaction that nobody ends. So whoever asks takes a guard first, and the append takes
//! place only while the guard is the producer's current one: an end marker, or the first batch itself,
//! ends it.
//!
//! Invariant: at most [`MAX_VERIFYING`] producers, each with one guard.

use std::collections::HashMap;

/// More than that are not asked for at a time: the one that waits for the longest time starts over.
const MAX_VERIFYING: usize = 10_000;

/// The right to append the first batch of a producer's transaction; see
/// [`crate::LogCore::begin_verification`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationGuard(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verifying {
    guard: VerificationGuard,
    epoch: i16,
    /// The lowest first sequence under that epoch that was asked for.
    pub(crate) lowest_sequence: i32,
    /// The producer gets a new epoch with every transaction (transactions v2).
    pub(crate) epoch_bumps: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verifications {
    by_producer: HashMap<i64, Verifying>,
    counter: u64,
}

impl Verifications {
    pub(crate) fn get(&self, producer_id: i64) -> Option<&Verifying> {
        self.by_producer.get(&producer_id)
    }

    /// The producer's guard; requests that are under way share it.
    pub(crate) fn begin(
        &mut self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
        epoch_bumps: bool,
    ) -> VerificationGuard {
        if let Some(known) = self.by_producer.get_mut(&producer_id) {
            if epoch > known.epoch {
                known.epoch = epoch;
                known.lowest_sequence = first_sequence;
            } else if epoch == known.epoch {
                known.lowest_sequence = known.lowest_sequence.min(first_sequence);
            }
            return known.guard;
        }
        if self.by_producer.len() >= MAX_VERIFYING {
            let oldest = self
                .by_producer
                .iter()
                .min_by_key(|(_, known)| known.guard.0);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.by_producer.remove(&oldest);
            }
        }
        self.counter += 1;
        let guard = VerificationGuard(self.counter);
        let verifying = Verifying {
            guard,
            epoch,
            lowest_sequence: first_sequence,
            epoch_bumps,
        };
        self.by_producer.insert(producer_id, verifying);
        guard
    }

    pub(crate) fn holds(&self, producer_id: i64, guard: Option<VerificationGuard>) -> bool {
        let current = self.by_producer.get(&producer_id).map(|known| known.guard);
        guard.is_some() && guard == current
    }

    /// An end marker of this epoch came. Where every transaction has its own epoch, one that is not
    /// above that of the guard ends an earlier transaction: whoever is asked about the next one may have
    /// waited for just that.
    pub(crate) fn end_by_marker(&mut self, producer_id: i64, epoch: i16) {
        if let Some(known) = self.by_producer.get(&producer_id)
            && (!known.epoch_bumps || epoch > known.epoch || epoch == i16::MAX)
        {
            self.by_producer.remove(&producer_id);
        }
    }

    /// The transaction began.
    pub(crate) fn end(&mut self, producer_id: i64) {
        if !self.by_producer.is_empty() {
            self.by_producer.remove(&producer_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_earlier_transaction_leaves_the_guard_of_the_next() {
        let mut verifications = Verifications::default();
        let guard = verifications.begin(7, 4, 0, true);
        verifications.end_by_marker(7, 4);
        assert!(verifications.holds(7, Some(guard)));
        verifications.end_by_marker(7, 5);
        assert!(!verifications.holds(7, Some(guard)));
        let guard = verifications.begin(7, 5, 0, false);
        verifications.end_by_marker(7, 5);
        assert!(!verifications.holds(7, Some(guard)), "one epoch for all");
    }

    #[test]
    fn guards_are_shared_until_they_end_and_bounded() {
        let mut verifications = Verifications::default();
        let first = verifications.begin(7, 0, 4, false);
        assert_eq!(verifications.begin(7, 0, 2, false), first);
        assert_eq!(verifications.begin(7, 0, 9, false), first);
        assert_eq!(verifications.get(7).unwrap().lowest_sequence, 2);
        verifications.begin(7, 1, 5, false);
        assert_eq!(verifications.get(7).unwrap().lowest_sequence, 5);
        assert!(verifications.holds(7, Some(first)) && !verifications.holds(7, None));
        assert!(!verifications.holds(8, Some(first)) && !verifications.holds(8, None));
        verifications.end(7);
        assert!(!verifications.holds(7, Some(first)));
        assert_ne!(verifications.begin(7, 0, 0, false), first);
        for id in 100..100 + 2 * MAX_VERIFYING as i64 {
            verifications.begin(id, 0, 0, false);
        }
        assert_eq!(verifications.by_producer.len(), MAX_VERIFYING);
        assert!(verifications.get(7).is_none());
    }
}
