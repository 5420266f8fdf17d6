//! Records of `__consumer_offsets`, byte for byte as Kafka 4 writes and reads them (its
//! `OffsetCommitKey/Value` and `GroupMetadataKey/Value` schemas), so that its tools decode them.
//!
//! Read: keys 0 to 2, offset values 0 to 4, group values 0 to 4. Written: offset value 3, group value 3.

use bytes::{Buf, BufMut, Bytes};

use crate::groups::machine::api::CommittedOffset;

/// A decoded key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Of a committed offset.
    Offset {
        /// Group id.
        group_id: String,
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// Of a group's metadata.
    Group {
        /// Group id.
        group_id: String,
    },
    /// Of a kind that came later (KIP-848 and on).
    Other(i16),
}

/// Metadata of a group as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Kind of protocol.
    pub protocol_type: String,
    /// Generation.
    pub generation: i32,
    /// Chosen protocol.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: Option<String>,
    /// When the group came to its state, Unix ms; -1 when unknown.
    pub state_timestamp_ms: i64,
    /// Members.
    pub members: Vec<StoredMember>,
}

/// A member as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMember {
    /// Member id.
    pub member_id: String,
    /// Static instance id.
    pub instance_id: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client address.
    pub client_host: String,
    /// Rebalance timeout, in ms.
    pub rebalance_timeout_ms: i32,
    /// Session timeout, in ms.
    pub session_timeout_ms: i32,
    /// Metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Assignment.
    pub assignment: Bytes,
}

/// Bytes that are no record of the offsets topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no record of __consumer_offsets that this version reads")]
pub struct DecodeError;

type Decoded<T> = Result<T, DecodeError>;

/// Encodes the key of a committed offset.
pub fn offset_key(group_id: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + group_id.len() + topic.len());
    out.put_i16(1);
    put_string(&mut out, group_id);
    put_string(&mut out, topic);
    out.put_i32(partition);
    out
}

/// Encodes the key of a group's metadata.
pub fn group_key(group_id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + group_id.len());
    out.put_i16(2);
    put_string(&mut out, group_id);
    out
}

/// Encodes a committed offset.
pub fn offset_value(committed: &CommittedOffset) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + committed.metadata.len());
    // Version 1 is the only one that has an expiry; version 3 has the leader epoch instead.
    match committed.expire_timestamp_ms {
        Some(expire_ms) => {
            out.put_i16(1);
            out.put_i64(committed.offset);
            put_string(&mut out, &committed.metadata);
            out.put_i64(committed.commit_timestamp_ms);
            out.put_i64(expire_ms);
        }
        None => {
            out.put_i16(3);
            out.put_i64(committed.offset);
            out.put_i32(committed.leader_epoch);
            put_string(&mut out, &committed.metadata);
            out.put_i64(committed.commit_timestamp_ms);
        }
    }
    out
}

/// Encodes a group's metadata.
pub fn group_value(group: &GroupMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(3);
    put_string(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_nullable(&mut out, group.protocol.as_deref());
    put_nullable(&mut out, group.leader.as_deref());
    out.put_i64(group.state_timestamp_ms);
    out.put_i32(group.members.len() as i32);
    for member in &group.members {
        put_string(&mut out, &member.member_id);
        put_nullable(&mut out, member.instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out
}

/// Decodes a key.
///
/// # Errors
/// [`DecodeError`] for bytes that end early.
pub fn decode_key(bytes: &[u8]) -> Decoded<Key> {
    let mut reader = Reader(bytes);
    match reader.i16()? {
        0 | 1 => Ok(Key::Offset {
            group_id: reader.string()?,
            topic: reader.string()?,
            partition: reader.i32()?,
        }),
        2 => Ok(Key::Group {
            group_id: reader.string()?,
        }),
        other => Ok(Key::Other(other)),
    }
}

/// Decodes a committed offset.
///
/// # Errors
/// [`DecodeError`] for bytes that end early or a version that is not known.
pub fn decode_offset(bytes: &[u8]) -> Decoded<CommittedOffset> {
    let mut reader = Reader(bytes);
    let version = reader.i16()?;
    if !(0..=4).contains(&version) {
        return Err(DecodeError);
    }
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = if version >= 4 {
        reader.compact_string()?.unwrap_or_default()
    } else {
        reader.string()?
    };
    let commit_timestamp_ms = reader.i64()?;
    let expire = if version == 1 {
        Some(reader.i64()?).filter(|ms| *ms >= 0)
    } else {
        None
    };
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp_ms,
        expire_timestamp_ms: expire,
    })
}

/// Decodes a group's metadata.
///
/// # Errors
/// [`DecodeError`] for bytes that end early or a version that is not known.
pub fn decode_group(bytes: &[u8]) -> Decoded<GroupMetadata> {
    let mut reader = Reader(bytes);
    let version = reader.i16()?;
    if !(0..=4).contains(&version) {
        return Err(DecodeError);
    }
    let flexible = version >= 4;
    let mut group = GroupMetadata {
        protocol_type: reader.text(flexible)?.ok_or(DecodeError)?,
        generation: reader.i32()?,
        protocol: reader.text(flexible)?,
        leader: reader.text(flexible)?,
        state_timestamp_ms: if version >= 2 { reader.i64()? } else { -1 },
        members: Vec::new(),
    };
    let count = if flexible {
        reader.varint()?.checked_sub(1).ok_or(DecodeError)? as usize
    } else {
        usize::try_from(reader.i32()?).map_err(|_| DecodeError)?
    };
    // A member has at least 16 bytes; a count that does not fit is a lie.
    if count > reader.0.len() / 8 {
        return Err(DecodeError);
    }
    for _ in 0..count {
        group.members.push(decode_member(&mut reader, version)?);
    }
    Ok(group)
}

fn decode_member(reader: &mut Reader<'_>, version: i16) -> Decoded<StoredMember> {
    let flexible = version >= 4;
    let member_id = reader.text(flexible)?.ok_or(DecodeError)?;
    let instance_id = if version >= 3 {
        reader.text(flexible)?
    } else {
        None
    };
    let client_id = reader.text(flexible)?.ok_or(DecodeError)?;
    let client_host = reader.text(flexible)?.ok_or(DecodeError)?;
    let rebalance = if version >= 1 {
        Some(reader.i32()?)
    } else {
        None
    };
    let session_timeout_ms = reader.i32()?;
    let member = StoredMember {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: reader.blob(flexible)?,
        assignment: reader.blob(flexible)?,
    };
    if flexible {
        reader.skip_tags()?;
    }
    Ok(member)
}

/// Topics that a consumer's metadata subscribes to (`ConsumerProtocolSubscription`); `None` when
/// the bytes are not of that kind.
pub(crate) fn subscribed_topics(metadata: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(metadata);
    reader.i16().ok()?;
    let count = usize::try_from(reader.i32().ok()?).ok()?;
    if count > metadata.len() / 2 {
        return None;
    }
    (0..count).map(|_| reader.string().ok()).collect()
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    // Longer than 32 KiB: cut at a character, as the wire cannot carry more.
    let mut len = text.len().min(i16::MAX as usize);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    out.put_i16(len as i16);
    out.put_slice(&text.as_bytes()[..len]);
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

/// Reads with every length checked.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> Decoded<i16> {
        Ok(self.take(2)?.get_i16())
    }

    fn i32(&mut self) -> Decoded<i32> {
        Ok(self.take(4)?.get_i32())
    }

    fn i64(&mut self) -> Decoded<i64> {
        Ok(self.take(8)?.get_i64())
    }

    fn varint(&mut self) -> Decoded<u32> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f)
                .checked_shl(shift)
                .ok_or(DecodeError)?;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError)
    }

    fn utf8(&mut self, len: usize) -> Decoded<String> {
        Ok(str::from_utf8(self.take(len)?)
            .map_err(|_| DecodeError)?
            .to_owned())
    }

    fn nullable(&mut self) -> Decoded<Option<String>> {
        match self.i16()? {
            -1 => Ok(None),
            len => self
                .utf8(usize::try_from(len).map_err(|_| DecodeError)?)
                .map(Some),
        }
    }

    fn string(&mut self) -> Decoded<String> {
        self.nullable()?.ok_or(DecodeError)
    }

    fn compact_string(&mut self) -> Decoded<Option<String>> {
        match self.varint()? {
            0 => Ok(None),
            len => self.utf8(len as usize - 1).map(Some),
        }
    }

    fn text(&mut self, flexible: bool) -> Decoded<Option<String>> {
        if flexible {
            self.compact_string()
        } else {
            self.nullable()
        }
    }

    fn blob(&mut self, flexible: bool) -> Decoded<Bytes> {
        let len = if flexible {
            self.varint()?.checked_sub(1).ok_or(DecodeError)? as usize
        } else {
            usize::try_from(self.i32()?).map_err(|_| DecodeError)?
        };
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    fn skip_tags(&mut self) -> Decoded<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()? as usize;
            self.take(len)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupMetadata {
        GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 7,
            protocol: Some("range".to_owned()),
            leader: Some("m1".to_owned()),
            state_timestamp_ms: 5,
            members: vec![StoredMember {
                member_id: "m1".to_owned(),
                instance_id: Some("i".to_owned()),
                client_id: "c".to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::from_static(b"sub"),
                assignment: Bytes::from_static(b"assigned"),
            }],
        }
    }

    #[test]
    fn round_trips() {
        let bytes = group_value(&group());
        assert_eq!(decode_group(&bytes), Ok(group()));
        for cut in 0..bytes.len() {
            assert_eq!(
                decode_group(&bytes[..cut]),
                Err(DecodeError),
                "cut at {cut}"
            );
        }
        for expire_timestamp_ms in [None, Some(99)] {
            let committed = CommittedOffset {
                offset: 42,
                leader_epoch: if expire_timestamp_ms.is_some() { -1 } else { 3 },
                metadata: "note".to_owned(),
                commit_timestamp_ms: 8,
                expire_timestamp_ms,
            };
            assert_eq!(decode_offset(&offset_value(&committed)), Ok(committed));
        }
        let key = Key::Offset {
            group_id: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 3,
        };
        assert_eq!(decode_key(&offset_key("g", "t", 3)), Ok(key));
        assert_eq!(
            decode_key(&group_key("g")),
            Ok(Key::Group {
                group_id: "g".to_owned()
            })
        );
        assert_eq!(decode_key(&[0, 3, 0]), Ok(Key::Other(3)));
    }

    #[test]
    fn hostile_counts_are_refused() {
        let mut bytes = group_value(&GroupMetadata::default());
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(decode_group(&bytes), Err(DecodeError));
        assert_eq!(subscribed_topics(&[0, 1, 0x7f, 0xff, 0xff, 0xff]), None);
    }
}
