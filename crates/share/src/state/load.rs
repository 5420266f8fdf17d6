//! Taking over what the log contains.

use dlog_coordination::CodecError;

use super::StateCoordinator;
use super::entry::{Change, Stored};
use crate::codec::{self, RecordKey, SnapshotValue, UpdateValue};

/// What became of a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is part of the state now.
    Yes,
    /// It is of a kind that this version does not know, and left alone.
    OtherKind(i16),
}

impl StateCoordinator {
    /// Applies a record of the log, in its order, before `finish_loading`.
    ///
    /// # Errors
    /// [`CodecError`]; the record is skipped.
    pub fn apply_record(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        offset: i64,
    ) -> Result<Applied, CodecError> {
        if !self.is_loading() {
            return Err(CodecError::NotLoading);
        }
        let (key, change) = match (codec::decode_key(key)?, value) {
            (RecordKey::Snapshot(key), None) => (key, Change::Gone),
            (RecordKey::Snapshot(key), Some(value)) => {
                let stored = Stored::from_snapshot(SnapshotValue::decode(value)?);
                (key, Change::Snapshot(Box::new(stored)))
            }
            // An update is never taken back by itself.
            (RecordKey::Update(_), None) => return Ok(Applied::Yes),
            (RecordKey::Update(key), Some(value)) => {
                (key, Change::Update(UpdateValue::decode(value)?))
            }
            (RecordKey::Other(kind), _) => return Ok(Applied::OtherKind(kind)),
        };
        self.load(&key, &change, offset);
        Ok(Applied::Yes)
    }
}
