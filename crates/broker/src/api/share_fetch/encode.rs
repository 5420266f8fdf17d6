//! Writes the answer to ShareFetch: what there is to say into memory, records as file ranges between.

use bytes::{BufMut, BytesMut};
use dlog_share::Acquired;
use dlog_storage::SliceBytes;
use uuid::Uuid;

use crate::net::reply::{Part, Reply};
use crate::protocol::{ProtocolError, RawRequest};
use crate::share::Refusal;

/// What there is to say of one partition.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) topic: Uuid,
    pub(super) index: i32,
    pub(super) error: Option<Refusal>,
    pub(super) acknowledge_error: Option<Refusal>,
    pub(super) acquired: Vec<Acquired>,
    pub(super) records: SliceBytes,
}

/// Collects the pieces.
struct Pieces {
    buffer: BytesMut,
    parts: Vec<Part>,
    len: usize,
}

impl Pieces {
    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn no_tags(&mut self) {
        self.buffer.put_u8(0);
    }

    fn refusal(&mut self, refusal: Option<Refusal>) {
        self.buffer.put_i16(refusal.map_or(0, |r| r.error.code()));
        let message = refusal.and_then(|refusal| refusal.message);
        self.varint(message.map_or(0, |message| message.len() + 1));
        self.buffer
            .put_slice(message.unwrap_or_default().as_bytes());
    }

    fn partition(&mut self, said: &Said) {
        self.buffer.put_i32(said.index);
        self.refusal(said.error);
        self.refusal(said.acknowledge_error);
        // No other leader is known.
        self.buffer.put_i64(0);
        self.no_tags();
        self.records(&said.records);
        self.varint(said.acquired.len() + 1);
        for range in &said.acquired {
            self.buffer.put_i64(range.first);
            self.buffer.put_i64(range.last);
            self.buffer
                .put_i16(i16::try_from(range.delivery_count).unwrap_or(i16::MAX));
            self.no_tags();
        }
        self.no_tags();
    }

    fn records(&mut self, records: &SliceBytes) {
        match records {
            SliceBytes::Empty => self.varint(1),
            SliceBytes::Memory(bytes) => {
                self.varint(bytes.len() + 1);
                self.push(Part::Bytes(bytes.clone()));
            }
            SliceBytes::File {
                file,
                position,
                len,
            } => {
                self.varint(len + 1);
                self.push(Part::File {
                    file: file.clone(),
                    position: *position,
                    len: *len,
                });
            }
        }
    }

    fn push(&mut self, part: Part) {
        let before = self.buffer.split().freeze();
        self.len += before.len() + part.len();
        self.parts.push(Part::Bytes(before));
        self.parts.push(part);
    }
}

/// The answer. `error` is of the whole request; `said` is in the order of the topics.
pub(super) fn response(
    raw: &RawRequest,
    error: Option<Refusal>,
    lock_ms: i32,
    said: &[Said],
) -> Result<Reply, ProtocolError> {
    let mut pieces = Pieces {
        buffer: BytesMut::with_capacity(64 + said.len() * 96),
        parts: Vec::new(),
        len: 0,
    };
    pieces.buffer.put_i32(0);
    pieces.refusal(error);
    pieces.buffer.put_i32(lock_ms);
    let topics: Vec<&[Said]> = said.chunk_by(|a, b| a.topic == b.topic).collect();
    pieces.varint(topics.len() + 1);
    for partitions in topics {
        pieces.buffer.put_slice(partitions[0].topic.as_bytes());
        pieces.varint(partitions.len() + 1);
        partitions.iter().for_each(|said| pieces.partition(said));
        pieces.no_tags();
    }
    // No endpoints of other nodes.
    pieces.varint(1);
    pieces.no_tags();
    let mut reply = finish(raw, pieces)?;
    let refusals = said.iter().flat_map(|s| [s.error, s.acknowledge_error]);
    let refusals = std::iter::once(error).chain(refusals).flatten();
    reply.errors = refusals.map(|refusal| refusal.error.code()).collect();
    Ok(reply)
}

fn finish(raw: &RawRequest, mut pieces: Pieces) -> Result<Reply, ProtocolError> {
    let rest = pieces.buffer.freeze();
    let body = pieces.len + rest.len();
    // Correlation id and the header's tags.
    let prefix = i32::try_from(body + 5).map_err(|_| ProtocolError::Encoding {
        api: raw.api,
        version: raw.version,
        reason: format!("{body} bytes are more than a frame can have"),
    })?;
    let mut head = BytesMut::with_capacity(9);
    head.put_i32(prefix);
    head.put_i32(raw.correlation_id);
    head.put_u8(0);
    let mut parts = Vec::with_capacity(pieces.parts.len() + 2);
    parts.push(Part::Bytes(head.freeze()));
    parts.append(&mut pieces.parts);
    parts.push(Part::Bytes(rest));
    parts.retain(|part: &Part| !part.is_empty());
    Ok(Reply {
        parts,
        errors: Vec::new(),
    })
}
