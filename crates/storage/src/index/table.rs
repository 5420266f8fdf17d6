//! A table of fixed-size entries: on the heap while it grows, mapped once it is sealed.

use std::io;
use std::path::Path;

use crate::disk::{Disk, Mapping, OpenMode, read_file, replace_file_lazily};
use crate::error::Result;

/// Largest index file that is read: 2³¹ entries of the smallest kind would be a lie.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// Fixed-size entries of `N` bytes.
#[derive(Debug)]
pub(crate) enum EntryTable<const N: usize> {
    Heap(Vec<[u8; N]>),
    Mapped(Mapping),
}

impl<const N: usize> EntryTable<N> {
    pub(crate) fn heap() -> Self {
        Self::Heap(Vec::new())
    }

    /// Reads a table's file; one whose size is no multiple of the entry size is refused.
    pub(crate) fn load(disk: &dyn Disk, path: &Path, growing: bool) -> io::Result<Self> {
        if growing {
            let bytes = read_file(disk, path, MAX_INDEX_BYTES)?;
            let (entries, rest) = bytes.as_chunks::<N>();
            if !rest.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            return Ok(Self::Heap(entries.to_vec()));
        }
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > MAX_INDEX_BYTES || !len.is_multiple_of(N as u64) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self::Mapped(file.map(len as usize)?))
    }

    /// Writes the file whole or not at all: after a crash it is this table or the one before.
    pub(crate) fn store(&self, disk: &dyn Disk, path: &Path) -> Result<()> {
        match self {
            Self::Heap(entries) => replace_file_lazily(disk, path, entries.as_flattened()),
            Self::Mapped(_) => Ok(()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Heap(entries) => entries.len(),
            Self::Mapped(mapping) => mapping.len() / N,
        }
    }

    pub(crate) fn get(&self, i: usize) -> Option<[u8; N]> {
        match self {
            Self::Heap(entries) => entries.get(i).copied(),
            Self::Mapped(mapping) => mapping.read(i.checked_mul(N)?),
        }
    }

    /// Adds an entry; a mapped table is sealed and stays as it is.
    pub(crate) fn push(&mut self, entry: [u8; N]) {
        debug_assert!(
            matches!(self, Self::Heap(_)),
            "a sealed index does not grow"
        );
        if let Self::Heap(entries) = self {
            entries.push(entry);
        }
    }

    pub(crate) fn pop(&mut self) {
        if let Self::Heap(entries) = self {
            entries.pop();
        }
    }

    /// First index for which `before` is false, by binary search; `None` when an entry cannot be
    /// read (the file was cut under its mapping).
    pub(crate) fn partition_point(&self, before: impl Fn(usize) -> Option<bool>) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}
