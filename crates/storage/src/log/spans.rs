//! The batches of a slice, by their headers: for whoever must know where offsets are without
//! touching records.

use std::io;

use bytes::Bytes;

use super::read::{LogSlice, SliceBytes};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader};

/// Bytes read at once; batches that are smaller share a read.
const CHUNK_BYTES: usize = 8 << 10;

/// A whole batch of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSpan {
    /// Where it begins in the slice.
    pub position: usize,
    /// Its header.
    pub header: BatchHeader,
}

impl BatchSpan {
    /// Where it ends in the slice.
    pub fn end(&self) -> usize {
        self.position + self.header.total_bytes()
    }
}

impl LogSlice {
    /// The whole batches from the front of the slice, up to and including the first one that
    /// `is_last` holds for. One that is cut short by the end of the slice is left out.
    ///
    /// # Errors
    /// The operating system's error, or `InvalidData` for what is no batch.
    pub fn batches(
        &self,
        mut is_last: impl FnMut(&BatchSpan) -> bool,
    ) -> io::Result<Vec<BatchSpan>> {
        let mut spans = Vec::new();
        let mut window = Window::default();
        let mut position = 0;
        while let Some(bytes) = window.header_at(self, position)? {
            let header = BatchHeader::parse(bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let span = BatchSpan { position, header };
            if span.end() > self.len() {
                break;
            }
            position = span.end();
            spans.push(span);
            if is_last(&span) {
                break;
            }
        }
        Ok(spans)
    }

    /// The part of the slice from `position` on, `len` bytes of it; both are of whole batches.
    pub fn part(&self, position: usize, len: usize) -> SliceBytes {
        let len = len.min(self.len().saturating_sub(position));
        if len == 0 {
            return SliceBytes::Empty;
        }
        match &self.bytes {
            SliceBytes::Empty => SliceBytes::Empty,
            SliceBytes::Memory(bytes) => SliceBytes::Memory(bytes.slice(position..position + len)),
            SliceBytes::File {
                file, position: at, ..
            } => SliceBytes::File {
                file: file.clone(),
                position: at + position as u64,
                len,
            },
        }
    }
}

/// A few bytes of the slice around a position.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: usize,
}

impl Window {
    /// The bytes of the header at `position`; `None` when the slice ends before it is complete.
    fn header_at<'a>(
        &'a mut self,
        slice: &'a LogSlice,
        position: usize,
    ) -> io::Result<Option<&'a [u8]>> {
        let end = position + BATCH_HEADER_BYTES;
        if end > slice.len() {
            return Ok(None);
        }
        match &slice.bytes {
            SliceBytes::Empty => Ok(None),
            SliceBytes::Memory(bytes) => Ok(Some(Bytes::as_ref(bytes)[position..end].as_ref())),
            SliceBytes::File {
                file, position: at, ..
            } => {
                let is_inside = self.start <= position && end <= self.start + self.bytes.len();
                if !is_inside {
                    self.bytes
                        .resize(CHUNK_BYTES.min(slice.len() - position), 0);
                    self.start = position;
                    crate::disk::read_exact_at(&**file, &mut self.bytes, at + position as u64)?;
                }
                let from = position - self.start;
                Ok(Some(&self.bytes[from..from + BATCH_HEADER_BYTES]))
            }
        }
    }
}
