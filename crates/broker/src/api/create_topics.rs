//! CreateTopics (key 19): topics with their partitions and settings (KIP-4, KIP-195, KIP-525).

use dlog_metadata::configs::{self, topic::TOPIC_CONFIGS};
use dlog_metadata::{MetadataImage, TopicImage};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, named_once, text};
use crate::state::BrokerState;
use crate::topics::{NewTopic, TopicError};

/// Answers CreateTopics.
pub async fn handle(ctx: &Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let CreateTopicsRequest {
        topics,
        validate_only,
        ..
    } = request;
    let results = ctx
        .blocking(move |state| {
            named_once(&topics, |topic| topic.name.clone())
                .map(|(topic, repeated)| {
                    if repeated {
                        return refused(topic, &TopicError::duplicate_topic());
                    }
                    create(state, topic, validate_only)
                })
                .collect()
        })
        .await;
    CreateTopicsResponse::default().with_topics(results)
}

fn create(
    state: &BrokerState,
    topic: &CreatableTopic,
    validate_only: bool,
) -> CreatableTopicResult {
    let made = planned(topic).and_then(|new| state.create_topic(&new, validate_only));
    match made {
        Ok(image) => created(state, &image),
        Err(error) => refused(topic, &error),
    }
}

/// The request as the server's own type.
fn planned(topic: &CreatableTopic) -> Result<NewTopic, TopicError> {
    let mut configs = Vec::with_capacity(topic.configs.len());
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            let message = format!(
                "Null value not supported for topic configs: {}",
                config.name
            );
            TopicError::new(ResponseError::InvalidConfig, message)
        })?;
        configs.push((config.name.to_string(), value.to_string()));
    }
    let mut assignments: Vec<_> = topic
        .assignments
        .iter()
        .map(|a| {
            (
                a.partition_index,
                a.broker_ids.iter().map(|id| id.0).collect::<Vec<_>>(),
            )
        })
        .collect();
    assignments.sort_by_key(|(index, _)| *index);
    if let Some(twice) = assignments.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let message = format!(
            "Found multiple manual partition assignments for partition {}",
            twice[0].0
        );
        return Err(TopicError::new(
            ResponseError::InvalidReplicaAssignment,
            message,
        ));
    }
    if assignments
        .iter()
        .enumerate()
        .any(|(at, (index, _))| i32::try_from(at) != Ok(*index))
    {
        return Err(TopicError::new(
            ResponseError::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ));
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .into_iter()
            .map(|(_, replicas)| replicas)
            .collect(),
        configs,
    })
}

fn created(state: &BrokerState, topic: &TopicImage) -> CreatableTopicResult {
    let replicas = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len());
    CreatableTopicResult::default()
        .with_name(TopicName(text(&*topic.name)))
        .with_topic_id(topic.id)
        .with_error_message(None)
        .with_num_partitions(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(Some(effective_configs(state, &state.image(), topic)))
}

/// Every setting as it holds for the new topic (KIP-525).
fn effective_configs(
    state: &BrokerState,
    image: &MetadataImage,
    topic: &TopicImage,
) -> Vec<CreatableTopicConfigs> {
    TOPIC_CONFIGS
        .iter()
        .map(|def| {
            let resolved = configs::resolve_topic(
                def,
                Some(&topic.configs),
                image,
                state.node_id(),
                &state.statics,
            );
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(def.name))
                .with_value(resolved.value().filter(|_| !def.is_sensitive()).map(text))
                .with_config_source(resolved.source() as i8)
                .with_is_sensitive(def.is_sensitive())
        })
        .collect()
}

fn refused(topic: &CreatableTopic, error: &TopicError) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error.code.code())
        .with_error_message(Some(text(&error.message)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}
