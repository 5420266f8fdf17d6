//! DescribeConfigs (key 32): settings with where they come from (KIP-133, KIP-226, KIP-569).

use dlog_metadata::configs::broker::BROKER_CONFIGS;
use dlog_metadata::configs::client_metrics::CLIENT_METRICS_CONFIGS;
use dlog_metadata::configs::group::GROUP_CONFIGS;
use dlog_metadata::configs::topic::TOPIC_CONFIGS;
use dlog_metadata::configs::{self, ConfigDef, ConfigKind, ConfigSource, Resolved, Update};
use dlog_metadata::{ConfigResource, MetadataImage};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::configs::{BROKER_LOGGER, CLIENT_METRICS, GROUP, loggers, resource};
use super::{Context, named_once, text};
use crate::topics::TopicError;

/// Answers DescribeConfigs.
pub async fn handle(ctx: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = ctx.state.image();
    // Each resource is answered once: the answer is thousands of times as large as the question, and must
    // not grow with how often that is asked.
    let each = named_once(&request.resources, |asked| {
        (asked.resource_type, asked.resource_name.clone())
    });
    let results = each.map(|(asked, _)| describe(ctx, &image, &request, asked));
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(
    ctx: &Context,
    image: &MetadataImage,
    request: &DescribeConfigsRequest,
    asked: &DescribeConfigsResource,
) -> DescribeConfigsResult {
    let answer = DescribeConfigsResult::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name.clone());
    if asked.resource_type == BROKER_LOGGER {
        return match loggers(&ctx.state, &asked.resource_name) {
            Ok(known) => {
                let levels = known.map(|known| known.levels()).unwrap_or_default();
                answer.with_configs(levels.into_iter().map(shown_logger).collect())
            }
            Err(error) => refused(answer, &error),
        };
    }
    match resolve(ctx, image, asked) {
        Ok(resolved) => {
            let wanted = |name: &str| match &asked.configuration_keys {
                // Before KIP-569 tools send an empty list for everything, as null.
                Some(keys) if !keys.is_empty() => keys.iter().any(|key| &**key == name),
                _ => true,
            };
            let shown = resolved
                .iter()
                .filter(|r| wanted(r.def.name))
                .map(|r| shown(request, r));
            answer.with_configs(shown.collect())
        }
        Err(error) => refused(answer, &error),
    }
}

fn refused(answer: DescribeConfigsResult, error: &TopicError) -> DescribeConfigsResult {
    answer
        .with_error_code(error.code.code())
        .with_error_message(Some(text(&error.message)))
}

/// Kafka's source of the levels of loggers.
const DYNAMIC_BROKER_LOGGER: i8 = 6;

fn shown_logger((name, level): (String, String)) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(level)))
        .with_config_source(DYNAMIC_BROKER_LOGGER)
        .with_config_type(ConfigKind::String as i8)
}

fn resolve(
    ctx: &Context,
    image: &MetadataImage,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Resolved>, TopicError> {
    let state = &ctx.state;
    check_named(asked)?;
    match resource(asked.resource_type, &asked.resource_name)? {
        ConfigResource::Topic(name) => {
            let topic = image.topic(&name).ok_or_else(|| {
                TopicError::new(
                    ResponseError::UnknownTopicOrPartition,
                    format!("The topic '{name}' does not exist."),
                )
            })?;
            let of = |def| {
                configs::resolve_topic(
                    def,
                    Some(&topic.configs),
                    image,
                    state.node_id(),
                    &state.statics,
                )
            };
            Ok(TOPIC_CONFIGS.iter().map(of).collect())
        }
        ConfigResource::Broker(Some(node)) if node != state.node_id() => Err(TopicError::new(
            ResponseError::InvalidRequest,
            format!(
                "Unexpected broker id, expected {} or empty string, but received {node}",
                state.node_id()
            ),
        )),
        ConfigResource::Broker(Some(node)) => Ok(BROKER_CONFIGS
            .iter()
            .map(|def| configs::resolve_broker(def, image, Some(node), &state.statics))
            .collect()),
        // The defaults of all brokers: only what was set there.
        ConfigResource::Broker(None) => Ok(BROKER_CONFIGS
            .iter()
            .map(|def| configs::resolve_broker(def, image, None, &state.statics))
            .filter(|resolved| resolved.source() == ConfigSource::DynamicDefaultBroker)
            .collect()),
        ConfigResource::Group(id) => {
            let config = state.group_config(image, &id);
            Ok(GROUP_CONFIGS
                .iter()
                .map(|def| config.resolve(def))
                .collect())
        }
        ConfigResource::ClientMetrics(name) => {
            let set = image.client_metrics(&name);
            let of = |def| {
                let source = ConfigSource::ClientMetrics;
                configs::resolve_set(def, set, source, image, state.node_id(), &state.statics)
            };
            Ok(CLIENT_METRICS_CONFIGS.iter().map(of).collect())
        }
    }
}

/// Says like Kafka that a name is missing: not as it does where settings are changed.
fn check_named(asked: &DescribeConfigsResource) -> Result<(), TopicError> {
    let what = match asked.resource_type {
        GROUP => "Group name",
        CLIENT_METRICS => "Client metrics subscription name",
        _ => return Ok(()),
    };
    if asked.resource_name.is_empty() {
        let message = format!("{what} must not be empty");
        return Err(TopicError::new(ResponseError::InvalidRequest, message));
    }
    Ok(())
}

fn shown(request: &DescribeConfigsRequest, resolved: &Resolved) -> DescribeConfigsResourceResult {
    let def: &ConfigDef = resolved.def;
    let visible = |value: Option<&str>| value.filter(|_| !def.is_sensitive()).map(text);
    let synonyms = if request.include_synonyms {
        let places = resolved
            .synonyms
            .iter()
            .filter(|synonym| synonym.value.is_some())
            // As Kafka shows subscriptions.
            .filter(|synonym| {
                def.update != Update::ClientMetrics || synonym.source != ConfigSource::Default
            });
        places
            .map(|synonym| {
                DescribeConfigsSynonym::default()
                    .with_name(StrBytes::from_static_str(synonym.name))
                    .with_value(visible(synonym.value.as_deref()))
                    .with_source(synonym.source as i8)
            })
            .collect()
    } else {
        Vec::new()
    };
    let documentation = request
        .include_documentation
        .then(|| StrBytes::from_static_str(def.doc));
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(def.name))
        .with_value(visible(resolved.value()))
        .with_read_only(def.update == Update::ReadOnly)
        .with_config_source(resolved.source() as i8)
        .with_is_sensitive(def.is_sensitive())
        .with_synonyms(synonyms)
        .with_config_type(def.kind as i8)
        .with_documentation(documentation)
}
