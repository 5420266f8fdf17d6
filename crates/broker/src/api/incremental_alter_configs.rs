//! IncrementalAlterConfigs (key 44): sets, removes, appends to and subtracts from settings (KIP-339).

use dlog_metadata::configs::{
    self, ConfigDef, ConfigKind, ConfigSource, broker, client_metrics, group, split_list, topic,
};
use dlog_metadata::{ConfigResource, MetadataImage};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::configs::{BROKER_LOGGER, change_each, check_named_once, loggers, null_value, resource};
use super::{Context, text};
use crate::loggers::{LEVELS, ROOT};
use crate::state::BrokerState;
use crate::topics::TopicError;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Answers IncrementalAlterConfigs.
pub async fn handle(
    ctx: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let IncrementalAlterConfigsRequest {
        resources,
        validate_only,
        ..
    } = request;
    let responses = ctx
        .blocking(move |state| {
            change_each(
                &resources,
                |asked| (asked.resource_type, asked.resource_name.clone()),
                |asked| alter(state, asked, validate_only),
                answer,
            )
        })
        .await;
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn answer(
    asked: &AlterConfigsResource,
    changed: Result<(), TopicError>,
) -> AlterConfigsResourceResponse {
    let answer = AlterConfigsResourceResponse::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name.clone());
    match changed {
        Ok(()) => answer.with_error_message(None),
        Err(error) => answer
            .with_error_code(error.code.code())
            .with_error_message(Some(text(&error.message))),
    }
}

fn alter(
    state: &BrokerState,
    asked: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    check_named_once(asked.configs.iter().map(|config| &*config.name))?;
    if asked.resource_type == BROKER_LOGGER {
        return alter_loggers(state, asked, validate_only);
    }
    let resource = resource(asked.resource_type, &asked.resource_name)?;
    let image = state.image();
    let mut changes = Vec::with_capacity(asked.configs.len());
    for config in &asked.configs {
        changes.push((
            config.name.to_string(),
            new_value(state, &image, &resource, config)?,
        ));
    }
    state.change_configs(&resource, &changes, validate_only)
}

/// Changes levels of loggers: all of them, or none.
fn alter_loggers(
    state: &BrokerState,
    asked: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    let known = loggers(state, &asked.resource_name)?;
    let levels = known
        .as_ref()
        .map(|known| known.levels())
        .unwrap_or_default();
    let refuse = |code, message| Err(TopicError::new(code, message));
    let mut changes = Vec::with_capacity(asked.configs.len());
    for config in &asked.configs {
        let name = &*config.name;
        if !levels.iter().any(|(logger, _)| logger == name) {
            let message = format!("Logger {name} does not exist!");
            return refuse(ResponseError::InvalidConfig, message);
        }
        let level = match config.config_operation {
            SET => {
                let level = config.value.as_deref().unwrap_or_default();
                if !LEVELS.contains(&level) {
                    let message = format!(
                        "Cannot set the log level of {name} to {level} as it is not a supported log level. Valid log levels are {}",
                        LEVELS.join(", ")
                    );
                    return refuse(ResponseError::InvalidConfig, message);
                }
                Some(level)
            }
            DELETE if name == ROOT => {
                let message = "Removing the log level of the root logger is not allowed";
                return refuse(ResponseError::InvalidRequest, message.to_owned());
            }
            DELETE => None,
            other => {
                let message =
                    format!("Operation {other} is not allowed for the BROKER_LOGGER resource");
                return refuse(ResponseError::InvalidRequest, message);
            }
        };
        changes.push((name, level));
    }
    let Some(known) = known.filter(|_| !validate_only) else {
        return Ok(());
    };
    for (name, level) in changes {
        tracing::info!(logger = name, level, "level of a logger changed");
        known
            .set(name, level)
            .map_err(|reason| TopicError::new(ResponseError::UnknownServerError, reason))?;
    }
    Ok(())
}

/// The value that the setting gets; `None` removes it.
fn new_value(
    state: &BrokerState,
    image: &MetadataImage,
    resource: &ConfigResource,
    config: &AlterableConfig,
) -> Result<Option<String>, TopicError> {
    let given = || {
        let value = config.value.as_deref().map(str::to_owned);
        value.ok_or_else(|| null_value(&config.name))
    };
    match config.config_operation {
        SET => given().map(Some),
        DELETE => Ok(None),
        APPEND => {
            let mut words = list(state, image, resource, &config.name, "APPEND")?;
            for word in split_list(&given()?) {
                if !words.iter().any(|have| have == word) {
                    words.push(word.to_owned());
                }
            }
            Ok(Some(words.join(",")))
        }
        SUBTRACT => {
            let mut words = list(state, image, resource, &config.name, "SUBTRACT")?;
            let given = given()?;
            words.retain(|word| !split_list(&given).any(|gone| gone == word));
            Ok(Some(words.join(",")))
        }
        other => Err(TopicError::new(
            ResponseError::InvalidRequest,
            format!("Unknown config operation {other}"),
        )),
    }
}

/// The words that a list setting has now.
fn list(
    state: &BrokerState,
    image: &MetadataImage,
    resource: &ConfigResource,
    name: &str,
    operation: &str,
) -> Result<Vec<String>, TopicError> {
    let def: Option<&'static ConfigDef> = match resource {
        ConfigResource::Topic(_) => topic::find(name),
        ConfigResource::Broker(_) => broker::find(name),
        ConfigResource::Group(_) => group::find(name),
        ConfigResource::ClientMetrics(_) => client_metrics::find(name),
    };
    let def = def.ok_or_else(|| {
        TopicError::new(
            ResponseError::InvalidConfig,
            format!("Unknown config name: {name}"),
        )
    })?;
    if def.kind != ConfigKind::List {
        let message = format!("Can't {operation} to key {name} because its type is not LIST.");
        return Err(TopicError::new(ResponseError::InvalidConfig, message));
    }
    let resolved = match resource {
        ConfigResource::Topic(topic) => {
            let set = image.topic(topic).map(|topic| &topic.configs);
            configs::resolve_topic(def, set, image, state.node_id(), &state.statics)
        }
        ConfigResource::Broker(node) => configs::resolve_broker(def, image, *node, &state.statics),
        ConfigResource::Group(id) => state.group_config(image, id).resolve(def),
        ConfigResource::ClientMetrics(name) => configs::resolve_set(
            def,
            image.client_metrics(name),
            ConfigSource::ClientMetrics,
            image,
            state.node_id(),
            &state.statics,
        ),
    };
    Ok(split_list(resolved.value().unwrap_or_default())
        .map(str::to_owned)
        .collect())
}
