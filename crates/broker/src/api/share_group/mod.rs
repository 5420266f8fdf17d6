//! The requests of members and operators of share groups (KIP-932).

pub mod alter_offsets;
pub mod delete_offsets;
pub mod describe;
pub mod describe_offsets;
pub mod heartbeat;
