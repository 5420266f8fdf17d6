//! AlterConfigs (key 33): replaces all settings of a resource (KIP-133; superseded by
//! IncrementalAlterConfigs, but old tools send it).

use dlog_metadata::{ConfigResource, MetadataImage};
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::configs::{change_each, check_named_once, null_value, resource};
use super::{Context, text};
use crate::state::BrokerState;
use crate::topics::TopicError;

/// Answers AlterConfigs.
pub async fn handle(ctx: &Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let AlterConfigsRequest {
        resources,
        validate_only,
        ..
    } = request;
    let responses = ctx
        .blocking(move |state| {
            change_each(
                &resources,
                |asked| (asked.resource_type, asked.resource_name.clone()),
                |asked| replace(state, asked, validate_only),
                answer,
            )
        })
        .await;
    AlterConfigsResponse::default().with_responses(responses)
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

fn replace(
    state: &BrokerState,
    asked: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), TopicError> {
    let resource = resource(asked.resource_type, &asked.resource_name)?;
    check_named_once(asked.configs.iter().map(|config| &*config.name))?;
    let mut changes: Vec<(String, Option<String>)> = set_now(&state.image(), &resource)
        .into_iter()
        .filter(|name| asked.configs.iter().all(|config| *config.name != **name))
        .map(|name| (name, None))
        .collect();
    for config in &asked.configs {
        let value = config.value.as_ref();
        let value = value.ok_or_else(|| null_value(&config.name))?;
        changes.push((config.name.to_string(), Some(value.to_string())));
    }
    state.change_configs(&resource, &changes, validate_only)
}

/// Names of the settings that are set on a resource.
fn set_now(image: &MetadataImage, resource: &ConfigResource) -> Vec<String> {
    let configs = match resource {
        ConfigResource::Topic(name) => image.topic(name).map(|topic| &topic.configs),
        ConfigResource::Broker(node) => image.broker_configs(*node),
        ConfigResource::Group(id) => image.group_config(id),
        ConfigResource::ClientMetrics(name) => image.client_metrics(name),
    };
    configs
        .map(|configs| configs.keys().cloned().collect())
        .unwrap_or_default()
}
