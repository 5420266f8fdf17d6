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
        let allocated = metadata.change(|image| {
            // Another request may have taken a block while this one waited for its turn.
            if let Some(id) = self.next() {
                return Ok((Vec::new(), (id, None)));
            }
            let first = image.next_producer_id();
            let next = first.checked_add(BLOCK).ok_or_else(|| {
                MetadataError::Contradiction("all producer ids have been handed out".to_owned())
            })?;
            Ok((
                vec![MetadataRecord::ProducerIdsAllocated { next }],
                (first, Some(first + 1..next)),
            ))
        });
        let (id, block) = allocated.map_err(|error| match error {
            ChangeError::Refused(error) | ChangeError::Failed(error) => error,
        })?;
        if let Some(block) = block {
            *self.block.lock() = block;
        }
        Ok(id)
    }
}
