//! One whole record batch v2 as bytes, with its header read.

use bytes::Bytes;

use super::header::ATTRIBUTES_OFFSET;
use super::iter::{RecordSection, Records};
use super::{
    BATCH_HEADER_BYTES, BatchHeader, Compression, DEFAULT_MAX_UNCOMPRESSED_BYTES, RecordError,
    codec, crc32c,
};

/// A record batch v2: its bytes, exactly as long as the header says, and the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes one whole batch off the front of `bytes`, sharing them.
    ///
    /// `None`, with `bytes` unchanged, when fewer bytes than a whole batch are there: a fetched
    /// range may end inside a batch.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], except that too few bytes are no error.
    pub fn split_first(bytes: &mut Bytes) -> Result<Option<Self>, RecordError> {
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(RecordError::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if bytes.len() < header.total_bytes() {
            return Ok(None);
        }
        let bytes = bytes.split_to(header.total_bytes());
        Ok(Some(Self { header, bytes }))
    }

    /// Takes bytes that must be exactly one batch.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`]; [`RecordError::Inconsistent`] when bytes follow the batch.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, RecordError> {
        let header = BatchHeader::parse(&bytes)?;
        let (needed, available) = (header.total_bytes(), bytes.len());
        if available < needed {
            return Err(RecordError::Truncated {
                what: "a batch",
                needed,
                available,
            });
        }
        if available > needed {
            return Err(RecordError::Inconsistent(format!(
                "{} bytes follow the batch",
                available - needed
            )));
        }
        Ok(Self { header, bytes })
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch, header included.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records as they stand in the batch, perhaps compressed.
    pub fn record_bytes(&self) -> Bytes {
        self.bytes.slice(BATCH_HEADER_BYTES..)
    }

    /// Compares the header's CRC with that of the bytes.
    ///
    /// # Errors
    /// [`RecordError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let actual = crc32c(&self.bytes[ATTRIBUTES_OFFSET..]);
        if actual == self.header.crc {
            return Ok(());
        }
        Err(RecordError::CrcMismatch {
            stored: self.header.crc,
            actual,
        })
    }

    /// The batch's records, decompressed once to at most [`DEFAULT_MAX_UNCOMPRESSED_BYTES`].
    /// Keys and values share the bytes of the batch, or those it was decompressed to.
    ///
    /// # Errors
    /// As [`Batch::section`]; what is wrong with a record comes from the iterator, which ends
    /// after it.
    pub fn records(&self) -> Result<Records, RecordError> {
        Ok(self.section(DEFAULT_MAX_UNCOMPRESSED_BYTES)?.into_records())
    }

    /// The batch's record bytes, decompressed if they were compressed.
    ///
    /// # Errors
    /// [`RecordError::UnknownCompression`], [`RecordError::Decompress`],
    /// [`RecordError::DecompressedTooLarge`] when they become more than `max_bytes` (no more than
    /// that is ever allocated for the result), [`RecordError::Inconsistent`] when the header
    /// counts more records than the bytes can hold.
    pub fn section(&self, max_bytes: usize) -> Result<RecordSection, RecordError> {
        let bytes = match self.header.compression()? {
            Compression::None => self.record_bytes(),
            compressed => {
                let packed = &self.bytes[BATCH_HEADER_BYTES..];
                codec::decompress(compressed, packed, max_bytes)?.into()
            }
        };
        RecordSection::new(self.header, bytes)
    }
}
