//! Producer ids: unique for ever, handed out from blocks, so that the metadata log is written once per
//! thousand.

use std::ops::Range;

use dlog_metadata::{ChangeError, LocalMetadataLog, MetadataError, MetadataRecord};
use parking_lot::Mutex;

/// Ids per block, as in Kafka.
const BLOCK: i64 = 1000;

/// The block that ids are handed out from. Ids of a block that a crash leaves unused stay unused.
#[derive(Debug)]
pub struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self {
            block: Mutex::new(0..0),
        }
    }
}

impl ProducerIds {
    /// The next id, while the block lasts.
    pub fn next(&self) -> Option<i64> {
        self.block.lock().next()
    }

    /// Takes the next block, durably, and an id of it. Waits for the disk.
    ///
    /// # Errors
    /// When the metadata cannot be written.
    pub fn allocate(&self, metadata: &LocalMetadataLog) -> Result<i64, MetadataError> {
        self.take(1, metadata).map(|ids| ids.start)
    }

    /// Up to `count` ids that follow each other, at least one; waits for the disk when the block has
    /// none left.
    ///
    /// # Errors
    /// When the metadata cannot be written.
    pub fn take(
        &self,
        count: i64,
        metadata: &LocalMetadataLog,
    ) -> Result<Range<i64>, MetadataError> {
        if let Some(ids) = self.take_of_block(count) {
            return Ok(ids);
        }
        let allocated = metadata.change(|image| {
            // Another request may have taken a block while this one waited for its turn.
            if let Some(ids) = self.take_of_block(count) {
                return Ok((Vec::new(), (ids, None)));
            }
            let first = image.next_producer_id();
            let next = first.checked_add(BLOCK).ok_or_else(|| {
                MetadataError::Contradiction("all producer ids have been handed out".to_owned())
            })?;
            let split = first + count.clamp(1, BLOCK);
            Ok((
                vec![MetadataRecord::ProducerIdsAllocated { next }],
                (first..split, Some(split..next)),
            ))
        });
        let (ids, block) = allocated.map_err(|error| match error {
            ChangeError::Refused(error) | ChangeError::Failed(error) => error,
        })?;
        if let Some(block) = block {
            *self.block.lock() = block;
        }
        Ok(ids)
    }

    fn take_of_block(&self, count: i64) -> Option<Range<i64>> {
        let mut block = self.block.lock();
        if block.is_empty() {
            return None;
        }
        let split = block.start.saturating_add(count.max(1)).min(block.end);
        let ids = block.start..split;
        block.start = split;
        Some(ids)
    }
}
