//! A segment's aborted transactions: added to, stored, loaded, and searched.
//!
//! While a segment is appended to its entries are on the heap. A sealed segment's file is mapped when a
//! reader first needs it, after its entries turned out to be those that were counted; when they are not,
//! the log makes them anew ([`Segment::set_aborted`]).
//!
//! Invariant: the number of entries and their checksum are always known; they come from the log's bytes
//! or from a sound snapshot, never from the file.

use std::sync::atomic::Ordering;

use super::Segment;
use crate::disk::replace_file_lazily;
use crate::error::Result;
use crate::index::{ABORTED_ENTRY_BYTES, AbortedTransaction, EntryTable, IndexPaths, facts_with};
use crate::producer_state::AbortedFacts;

/// What is known of the aborted transactions of one segment.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    facts: AbortedFacts,
    /// The entries, at least as many as `facts` says; `None` until a reader needs them.
    table: Option<EntryTable<ABORTED_ENTRY_BYTES>>,
    /// What the file is known to hold.
    stored: AbortedFacts,
    /// A file may lie there that holds something else.
    may_be_stale: bool,
}

impl Aborted {
    /// Entries that came from the log, with a file that may say otherwise.
    fn of(transactions: &[AbortedTransaction]) -> Self {
        let mut table = EntryTable::heap();
        let mut facts = AbortedFacts::default();
        for entry in transactions.iter().map(AbortedTransaction::encode) {
            facts = facts_with(facts, &entry);
            table.push(entry);
        }
        Self {
            facts,
            table: Some(table),
            stored: AbortedFacts::default(),
            may_be_stale: true,
        }
    }

    /// Entry `i`; `None` past the end, or when it is not to be trusted.
    fn entry(&self, i: usize) -> Option<AbortedTransaction> {
        AbortedTransaction::decode(&self.table.as_ref()?.get(i)?)
    }

    /// Adds what touches `from..to`; true when nothing behind these entries can. `None` when an entry
    /// cannot be read.
    fn collect(&self, from: i64, to: i64, found: &mut Vec<AbortedTransaction>) -> Option<bool> {
        let entries = self.facts.entries as usize;
        let (mut low, mut high) = (0, entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.last_offset < from {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for i in low..entries {
            let entry = self.entry(i)?;
            if entry.touches(from, to) {
                found.push(entry);
            }
            if entry.last_stable_offset >= to {
                return Some(true);
            }
        }
        Some(false)
    }
}

impl Segment {
    /// How many aborted transactions end in this segment, with the checksum of their entries.
    pub(crate) fn aborted_facts(&self) -> AbortedFacts {
        self.aborted.read().facts
    }

    /// Notes a transaction whose abort marker was appended to this segment, which is not sealed.
    pub(crate) fn note_aborted(&self, transaction: &AbortedTransaction) {
        let mut aborted = self.aborted.write();
        let entry = transaction.encode();
        aborted.facts = facts_with(aborted.facts, &entry);
        aborted
            .table
            .get_or_insert_with(EntryTable::heap)
            .push(entry);
    }

    /// Takes these for the segment's aborted transactions, in the order of their markers.
    pub(crate) fn set_aborted(&self, transactions: &[AbortedTransaction]) {
        *self.aborted.write() = Aborted::of(transactions);
    }

    /// As [`Self::set_aborted`], for a reader that found no sound entries; by now a writer may have.
    pub(crate) fn offer_aborted(&self, transactions: &[AbortedTransaction]) {
        let mut aborted = self.aborted.write();
        if !matches!(aborted.table, Some(EntryTable::Heap(_))) {
            *aborted = Aborted::of(transactions);
        }
    }

    /// Takes a snapshot's word for how many entries there are; they are looked at when needed.
    pub(crate) fn expect_aborted(&self, facts: AbortedFacts) {
        *self.aborted.write() = Aborted {
            facts,
            table: None,
            stored: facts,
            may_be_stale: false,
        };
    }

    /// Reads the entries that a snapshot vouches for; false when the file does not have them. With
    /// `growing` they come to the heap, to be added to.
    pub(crate) fn load_aborted(&self, growing: bool) -> bool {
        let mut aborted = self.aborted.write();
        if aborted.table.is_some() || aborted.facts.entries == 0 {
            return true;
        }
        let paths = IndexPaths::of(&self.path);
        let Ok(mut table) =
            EntryTable::<ABORTED_ENTRY_BYTES>::load(&*self.disk, &paths.aborted, growing)
        else {
            return false;
        };
        let mut seen = AbortedFacts::default();
        for i in 0..aborted.facts.entries as usize {
            let Some(entry) = table.get(i) else {
                return false;
            };
            seen = facts_with(seen, &entry);
        }
        if seen != aborted.facts {
            return false;
        }
        if growing {
            // Behind them the file may tell of markers that were cut, or will be read again.
            aborted.may_be_stale |= table.len() > seen.entries as usize;
            while table.len() > seen.entries as usize {
                table.pop();
            }
        }
        aborted.table = Some(table);
        true
    }

    /// Adds the aborted transactions that touch `from..to`; true when no later segment has any more.
    /// `None` when the index has to be made anew first.
    pub(crate) fn collect_aborted(
        &self,
        from: i64,
        to: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> Option<bool> {
        {
            let aborted = self.aborted.read();
            if aborted.facts.entries == 0 {
                return Some(false);
            }
            if aborted.table.is_some() {
                return aborted.collect(from, to, found);
            }
        }
        if !self.load_aborted(false) {
            return None;
        }
        self.aborted.read().collect(from, to, found)
    }

    /// All entries that are in memory.
    pub(crate) fn all_aborted(&self) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        self.aborted.read().collect(0, i64::MAX, &mut found);
        found
    }

    /// Writes the file as the entries are now, or removes one that there is no entry for. Its name is
    /// durable after the folder's next sync.
    pub(crate) fn store_aborted(&self) -> Result<()> {
        if self.replaced.load(Ordering::Acquire) {
            return Ok(());
        }
        // Not while the lock is held: appends must not wait for the disk.
        let (facts, entries) = {
            let aborted = self.aborted.read();
            if aborted.facts == aborted.stored && !aborted.may_be_stale {
                return Ok(());
            }
            let entries = match &aborted.table {
                Some(EntryTable::Heap(entries)) => entries.clone(),
                _ if aborted.facts.entries == 0 => Vec::new(),
                // What is mapped, or was not looked at, is in the file.
                _ => return Ok(()),
            };
            (aborted.facts, entries)
        };
        let path = IndexPaths::of(&self.path).aborted;
        if facts.entries == 0 {
            super::files::remove_if_there(&*self.disk, &path)?;
        } else {
            replace_file_lazily(&*self.disk, &path, entries.as_flattened())?;
        }
        let mut aborted = self.aborted.write();
        aborted.stored = facts;
        aborted.may_be_stale = false;
        Ok(())
    }

    /// Gives the heap back that a sealed segment's stored entries take.
    pub(crate) fn release_aborted(&self) {
        let mut aborted = self.aborted.write();
        if aborted.facts == aborted.stored && !aborted.may_be_stale {
            aborted.table = None;
        }
    }

    /// A file of that name that nothing vouches for is removed with the next store.
    pub(crate) fn suspect_aborted_file(&self) {
        self.aborted.write().may_be_stale = true;
    }
}
