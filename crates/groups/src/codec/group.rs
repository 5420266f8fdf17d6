//! `GroupMetadataValue`, versions 0 to 4.

use bytes::Bytes;

use dlog_coordination::{CodecError, Reader, Writer};

/// A group of the classic protocol as it is stored: the outcome of its last rebalance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// `consumer`, `connect`, …; empty when the group never had a member.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol (assignor) chosen, `None` in an empty group.
    pub protocol: Option<String>,
    /// The leader's member id, `None` in an empty group.
    pub leader: Option<String>,
    /// When the group last changed its state, Unix ms; -1 when unknown (before version 2).
    pub state_timestamp_ms: i64,
    /// The members with their assignments.
    pub members: Vec<StoredMember>,
}

/// A member within a [`GroupMetadataValue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// The member's id.
    pub member_id: String,
    /// `group.instance.id` of a static member (version 3 on).
    pub group_instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Milliseconds the member may take to join again; -1 when unknown (version 0).
    pub rebalance_timeout_ms: i32,
    /// Milliseconds without a heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// The member's metadata for the chosen protocol.
    pub subscription: Bytes,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// Fewest bytes that a member takes, for the check of the count: six lengths of at least one
/// byte, the session timeout and, in version 4, the end of the tagged fields.
const MIN_MEMBER_BYTES: usize = 9;

fn check_version(version: i16) -> Result<bool, CodecError> {
    if (0..=4).contains(&version) {
        Ok(version >= 4)
    } else {
        Err(CodecError::UnknownVersion {
            what: "group metadata value",
            version,
        })
    }
}

impl GroupMetadataValue {
    /// The version Kafka 4.3 writes.
    pub const PREFERRED_VERSION: i16 = 3;

    /// Reads a value of any version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16("value version")?;
        let compact = check_version(version)?;
        let mut value = Self {
            protocol_type: reader.str(compact, "protocol type")?.to_owned(),
            generation: reader.i32("generation")?,
            protocol: reader.opt_str(compact, "protocol")?.map(str::to_owned),
            leader: reader.opt_str(compact, "leader")?.map(str::to_owned),
            state_timestamp_ms: if version >= 2 {
                reader.i64("state timestamp")?
            } else {
                -1
            },
            members: Vec::new(),
        };
        let count = reader.count(compact, MIN_MEMBER_BYTES, "members")?;
        value.members.reserve_exact(count);
        for _ in 0..count {
            value
                .members
                .push(StoredMember::decode(&mut reader, version, compact)?);
        }
        if compact {
            reader.tagged(|_, _| Ok(()))?;
        }
        Ok(value)
    }

    /// Writes the value in `version`; fields that the version does not have are dropped.
    pub fn encode(&self, version: i16) -> Result<Bytes, CodecError> {
        let compact = check_version(version)?;
        let mut writer = Writer::with_capacity(64 + 256 * self.members.len());
        writer.i16(version);
        writer.str(&self.protocol_type, compact, "protocol type")?;
        writer.i32(self.generation);
        writer.opt_str(self.protocol.as_deref(), compact, "protocol")?;
        writer.opt_str(self.leader.as_deref(), compact, "leader")?;
        if version >= 2 {
            writer.i64(self.state_timestamp_ms);
        }
        writer.count(self.members.len(), compact, "members")?;
        for member in &self.members {
            member.encode(&mut writer, version, compact)?;
        }
        if compact {
            writer.uvarint(0);
        }
        Ok(writer.finish())
    }
}

impl StoredMember {
    fn decode(reader: &mut Reader<'_>, version: i16, compact: bool) -> Result<Self, CodecError> {
        let member = Self {
            member_id: reader.str(compact, "member id")?.to_owned(),
            group_instance_id: match version {
                3.. => reader
                    .opt_str(compact, "group instance id")?
                    .map(str::to_owned),
                _ => None,
            },
            client_id: reader.str(compact, "client id")?.to_owned(),
            client_host: reader.str(compact, "client host")?.to_owned(),
            rebalance_timeout_ms: match version {
                1.. => reader.i32("rebalance timeout")?,
                _ => -1,
            },
            session_timeout_ms: reader.i32("session timeout")?,
            subscription: Bytes::copy_from_slice(reader.bytes(compact, "subscription")?),
            assignment: Bytes::copy_from_slice(reader.bytes(compact, "assignment")?),
        };
        if compact {
            reader.tagged(|_, _| Ok(()))?;
        }
        Ok(member)
    }

    fn encode(&self, writer: &mut Writer, version: i16, compact: bool) -> Result<(), CodecError> {
        writer.str(&self.member_id, compact, "member id")?;
        if version >= 3 {
            let instance_id = self.group_instance_id.as_deref();
            writer.opt_str(instance_id, compact, "group instance id")?;
        }
        writer.str(&self.client_id, compact, "client id")?;
        writer.str(&self.client_host, compact, "client host")?;
        if version >= 1 {
            writer.i32(self.rebalance_timeout_ms);
        }
        writer.i32(self.session_timeout_ms);
        writer.byte_field(&self.subscription, compact, "subscription")?;
        writer.byte_field(&self.assignment, compact, "assignment")?;
        if compact {
            writer.uvarint(0);
        }
        Ok(())
    }
}
