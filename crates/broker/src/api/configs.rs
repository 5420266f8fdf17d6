//! What DescribeConfigs, AlterConfigs and IncrementalAlterConfigs share: which resource is meant.

use dlog_metadata::ConfigResource;
use kafka_protocol::ResponseError;

use crate::topics::TopicError;

/// Kafka's `ConfigResource.Type`.
pub const TOPIC: i8 = 2;
/// Kafka's `ConfigResource.Type`.
pub const BROKER: i8 = 4;

/// The resource that a request names.
///
/// # Errors
/// `INVALID_REQUEST` for a type that has no settings here, or a broker name that is no number.
pub fn resource(kind: i8, name: &str) -> Result<ConfigResource, TopicError> {
    match kind {
        TOPIC => {
            crate::topics::check_name(name)?;
            Ok(ConfigResource::Topic(name.to_owned()))
        }
        BROKER if name.is_empty() => Ok(ConfigResource::Broker(None)),
        BROKER => match name.parse() {
            Ok(node) => Ok(ConfigResource::Broker(Some(node))),
            Err(_) => Err(TopicError::new(
                ResponseError::InvalidRequest,
                format!("Broker id must be an integer, but it is: {name}"),
            )),
        },
        other => Err(TopicError::new(
            ResponseError::InvalidRequest,
            format!("Unexpected resource type {other}: topics (2) and brokers (4) have settings"),
        )),
    }
}
