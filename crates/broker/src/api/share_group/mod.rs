//! The requests of members and operators of share groups (KIP-932).

pub mod alter_offsets;
pub mod delete_offsets;
pub mod describe;
pub mod describe_offsets;
pub mod heartbeat;

use dlog_groups::GroupError;

/// Kafka's words for an error.
fn words(error: GroupError) -> String {
    match error {
        GroupError::InvalidGroupId => "The group id is invalid.".to_owned(),
        GroupError::NonEmptyGroup => "The group is not empty.".to_owned(),
        _ => error.to_string(),
    }
}
