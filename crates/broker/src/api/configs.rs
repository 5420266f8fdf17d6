//! What DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources share: which resource
//! is meant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dlog_metadata::ConfigResource;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use crate::loggers::Loggers;
use crate::state::BrokerState;
use crate::topics::TopicError;

/// Kafka's `ConfigResource.Type`.
pub const TOPIC: i8 = 2;
/// Kafka's `ConfigResource.Type`.
pub const BROKER: i8 = 4;
/// Kafka's `ConfigResource.Type`.
pub const BROKER_LOGGER: i8 = 8;
/// Kafka's `ConfigResource.Type`.
pub const CLIENT_METRICS: i8 = 16;
/// Kafka's `ConfigResource.Type`.
pub const GROUP: i8 = 32;

/// The resource that a request names.
///
/// # Errors
/// `INVALID_REQUEST` for a type that has no settings here, or a broker name that is no number.
pub fn resource(kind: i8, name: &str) -> Result<ConfigResource, TopicError> {
    match kind {
        TOPIC if name.is_empty() => Err(TopicError::new(
            ResponseError::InvalidRequest,
            "Default topic resources are not allowed.",
        )),
        TOPIC => {
            crate::topics::check_name(name)?;
            Ok(ConfigResource::Topic(name.to_owned()))
        }
        BROKER if name.is_empty() => Ok(ConfigResource::Broker(None)),
        BROKER => match name.parse() {
            Ok(node) => Ok(ConfigResource::Broker(Some(node))),
            Err(_) => Err(TopicError::new(
                ResponseError::InvalidRequest,
                format!("Node id must be an integer, but it is: {name}"),
            )),
        },
        GROUP if name.is_empty() => Err(TopicError::new(
            ResponseError::InvalidRequest,
            "Default group resources are not allowed.",
        )),
        GROUP => Ok(ConfigResource::Group(name.to_owned())),
        CLIENT_METRICS if name.is_empty() => Err(TopicError::new(
            ResponseError::InvalidRequest,
            "Subscription name can't be empty",
        )),
        CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name.to_owned())),
        other => Err(TopicError::new(
            ResponseError::InvalidRequest,
            format!("Unexpected resource type {other}"),
        )),
    }
}

/// The loggers that a request names by the id of this node.
///
/// # Errors
/// `INVALID_REQUEST` for another name.
pub fn loggers(state: &BrokerState, name: &str) -> Result<Option<Arc<dyn Loggers>>, TopicError> {
    let own = state.node_id();
    let refuse = |message| Err(TopicError::new(ResponseError::InvalidRequest, message));
    match name.parse::<i32>() {
        _ if name.is_empty() => refuse("Broker id must not be empty".to_owned()),
        Ok(node) if node == own => Ok(state.loggers.get().cloned()),
        Ok(node) => refuse(format!(
            "Unexpected broker id, expected {own} but received {node}"
        )),
        Err(_) => refuse(format!("Broker id must be an integer, but it is: {name}")),
    }
}

/// Gives each resource of a request to `change`, unless the request names it more than once.
///
/// # Errors
/// `INVALID_REQUEST` for a repeated resource; what `change` says.
pub fn change_each<T, R>(
    resources: &[T],
    named: impl Fn(&T) -> (i8, StrBytes),
    mut change: impl FnMut(&T) -> Result<(), TopicError>,
    answer: impl Fn(&T, Result<(), TopicError>) -> R,
) -> Vec<R> {
    let mut counts: HashMap<(i8, StrBytes), usize> = HashMap::with_capacity(resources.len());
    for resource in resources {
        *counts.entry(named(resource)).or_default() += 1;
    }
    let each = resources.iter().map(|resource| {
        let changed = if counts.get(&named(resource)).is_some_and(|&count| count > 1) {
            Err(TopicError::new(
                ResponseError::InvalidRequest,
                "Each resource must appear at most once.",
            ))
        } else {
            change(resource)
        };
        answer(resource, changed)
    });
    each.collect()
}

/// Refuses a request that sets a setting of a resource twice.
///
/// # Errors
/// `INVALID_REQUEST`.
pub fn check_named_once<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), TopicError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(TopicError::new(
                ResponseError::InvalidRequest,
                format!("Error due to duplicate config keys: {name}"),
            ));
        }
    }
    Ok(())
}

/// The error for a setting without a value.
pub fn null_value(name: &str) -> TopicError {
    TopicError::new(
        ResponseError::InvalidRequest,
        format!("Null value not supported for : {name}"),
    )
}
