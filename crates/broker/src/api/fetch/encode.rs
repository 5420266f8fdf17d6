//! Writes a fetch response: metadata into memory, records as file ranges between.
//!
//! The generated encoder copies records into one buffer; this one does not. Versions 4 to 18.

use bytes::{BufMut, Bytes, BytesMut};
use dlog_storage::{AbortedTransaction, SliceBytes};
use kafka_protocol::ResponseError;

use super::TopicKey;
use super::read::Looked;
use crate::net::reply::{Part, Reply};
use crate::protocol::{ProtocolError, RawRequest};

/// Bytes of metadata per partition, about.
const PARTITION_BYTES: usize = 64;

/// Collects the pieces of a response.
struct Pieces {
    version: i16,
    buffer: BytesMut,
    parts: Vec<Part>,
    /// The first piece stays writable until the length is known.
    first: Option<BytesMut>,
    len: usize,
}

/// The response that says why the session cannot be used.
pub(super) fn error(raw: &RawRequest, error: ResponseError) -> Result<Reply, ProtocolError> {
    let mut pieces = Pieces::new(raw, 64);
    pieces.head(error.code(), 0);
    pieces.array_len(0);
    pieces.no_tags();
    let mut reply = pieces.finish(raw)?;
    reply.errors.push(error.code());
    Ok(reply)
}

/// The response with these results.
pub(super) fn response(
    raw: &RawRequest,
    session_id: i32,
    results: &[Looked],
) -> Result<Reply, ProtocolError> {
    let mut pieces = Pieces::new(raw, 64 + results.len() * PARTITION_BYTES);
    pieces.head(0, session_id);
    // Partitions of one topic that follow each other share an entry.
    let topics: Vec<&[Looked]> = results.chunk_by(|a, b| a.topic == b.topic).collect();
    pieces.array_len(topics.len());
    for partitions in topics {
        pieces.topic(&partitions[0].topic);
        pieces.array_len(partitions.len());
        for partition in partitions {
            pieces.partition(partition);
        }
        pieces.no_tags();
    }
    pieces.no_tags();
    let mut reply = pieces.finish(raw)?;
    reply.errors.extend(
        results
            .iter()
            .filter_map(|r| r.error)
            .map(|error| error.code()),
    );
    Ok(reply)
}

impl Pieces {
    fn new(raw: &RawRequest, capacity: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.put_i32(0);
        buffer.put_i32(raw.correlation_id);
        let mut pieces = Self {
            version: raw.version,
            buffer,
            parts: Vec::new(),
            first: None,
            len: 0,
        };
        // The header of a flexible response ends with its tagged fields.
        pieces.no_tags();
        pieces
    }

    fn is_flexible(&self) -> bool {
        self.version >= 12
    }

    fn head(&mut self, error: i16, session_id: i32) {
        self.buffer.put_i32(0);
        if self.version >= 7 {
            self.buffer.put_i16(error);
            self.buffer.put_i32(session_id);
        }
    }

    fn topic(&mut self, key: &TopicKey) {
        match key {
            TopicKey::Id(id) => self.buffer.put_slice(id.as_bytes()),
            TopicKey::Name(name) => {
                if self.is_flexible() {
                    self.varint(name.len() + 1);
                } else {
                    // The name came as a string of this length.
                    self.buffer
                        .put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
                }
                self.buffer.put_slice(name.as_bytes());
            }
        }
    }

    fn partition(&mut self, looked: &Looked) {
        self.buffer.put_i32(looked.index);
        self.buffer
            .put_i16(looked.error.map_or(0, |error| error.code()));
        self.buffer.put_i64(looked.high_watermark);
        self.buffer.put_i64(looked.last_stable);
        if self.version >= 5 {
            self.buffer.put_i64(looked.log_start);
        }
        self.aborted(looked.aborted.as_deref());
        if self.version >= 11 {
            // No other replica is preferred.
            self.buffer.put_i32(-1);
        }
        self.records(looked);
        match looked.diverging {
            Some((epoch, end_offset)) if self.is_flexible() => {
                // One tagged field: number 0, 13 bytes (epoch, end offset, no tagged fields).
                self.buffer.put_slice(&[1, 0, 13]);
                self.buffer.put_i32(epoch);
                self.buffer.put_i64(end_offset);
                self.buffer.put_u8(0);
            }
            _ => self.no_tags(),
        }
    }

    /// Null for who reads uncommitted records too.
    fn aborted(&mut self, aborted: Option<&[AbortedTransaction]>) {
        match aborted {
            Some(aborted) => {
                self.array_len(aborted.len());
                for transaction in aborted {
                    self.buffer.put_i64(transaction.producer_id);
                    self.buffer.put_i64(transaction.first_offset);
                    self.no_tags();
                }
            }
            None if self.is_flexible() => self.varint(0),
            None => self.buffer.put_i32(-1),
        }
    }

    fn records(&mut self, looked: &Looked) {
        let len = looked.len();
        if self.is_flexible() {
            self.varint(len + 1);
        } else {
            self.buffer.put_i32(i32::try_from(len).unwrap_or(i32::MAX));
        }
        match &looked.records {
            SliceBytes::Empty => {}
            SliceBytes::Memory(bytes) => self.push(Part::Bytes(bytes.clone())),
            SliceBytes::File {
                file,
                position,
                len,
            } => {
                self.push(Part::File {
                    file: file.clone(),
                    position: *position,
                    len: *len,
                });
            }
        }
    }

    /// Puts a piece behind what was written so far.
    fn push(&mut self, part: Part) {
        let before = self.buffer.split();
        self.len += before.len() + part.len();
        if self.first.is_none() {
            self.first = Some(before);
        } else {
            self.parts.push(Part::Bytes(before.freeze()));
        }
        self.parts.push(part);
    }

    fn array_len(&mut self, len: usize) {
        if self.is_flexible() {
            self.varint(len + 1);
        } else {
            self.buffer.put_i32(i32::try_from(len).unwrap_or(i32::MAX));
        }
    }

    fn no_tags(&mut self) {
        if self.is_flexible() {
            self.buffer.put_u8(0);
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn finish(mut self, raw: &RawRequest) -> Result<Reply, ProtocolError> {
        let rest = self.buffer.split();
        let len = self.len + rest.len() - 4;
        let prefix = i32::try_from(len).map_err(|_| ProtocolError::Encoding {
            api: raw.api,
            version: raw.version,
            reason: format!("{len} bytes are more than a frame can have"),
        })?;
        let (mut first, rest) = match self.first.take() {
            Some(first) => (first, rest.freeze()),
            None => (rest, Bytes::new()),
        };
        first[..4].copy_from_slice(&prefix.to_be_bytes());
        let mut parts = Vec::with_capacity(self.parts.len() + 2);
        parts.push(Part::Bytes(first.freeze()));
        parts.append(&mut self.parts);
        if !rest.is_empty() {
            parts.push(Part::Bytes(rest));
        }
        Ok(Reply {
            parts,
            errors: Vec::new(),
        })
    }
}
