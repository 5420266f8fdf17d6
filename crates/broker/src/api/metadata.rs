//! Metadata (key 3): brokers, topics, partitions; creates a missing topic when that is allowed.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::authorized::{ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS, NOT_ASKED};
use super::{Context, named_once};
use crate::topics::{self, NewTopic};
use dlog_metadata::{MetadataImage, TopicImage};

/// Answers Metadata.
pub async fn handle(ctx: &Context, request: MetadataRequest) -> MetadataResponse {
    let mut answers = Vec::new();
    match &request.topics {
        // Version 0 has no null: an empty list asks for all topics.
        None => push_all(ctx, &request, &mut answers),
        Some(topics) if topics.is_empty() && ctx.version == 0 => {
            push_all(ctx, &request, &mut answers);
        }
        Some(topics) => {
            for (topic, _) in named_once(topics, |topic| (topic.name.clone(), topic.topic_id)) {
                answers.push(answer(ctx, &request, topic).await);
            }
        }
    }
    let image = ctx.state.image();
    let wants_operations = request.include_cluster_authorized_operations;
    MetadataResponse::default()
        .with_brokers(brokers(ctx, &image))
        .with_cluster_id(Some(StrBytes::from_string(
            ctx.state.identity.cluster_id.clone(),
        )))
        .with_controller_id(BrokerId(ctx.state.node_id()))
        .with_cluster_authorized_operations(
            if wants_operations && (8..=10).contains(&ctx.version) {
                ALL_CLUSTER_OPERATIONS
            } else {
                NOT_ASKED
            },
        )
        .with_topics(answers)
}

/// The brokers as clients of this listener reach them.
fn brokers(ctx: &Context, image: &MetadataImage) -> Vec<MetadataResponseBroker> {
    let reachable = image.brokers().filter_map(|broker| {
        let endpoint = broker.endpoint(&ctx.connection.endpoint.listener)?;
        Some(
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(broker.node_id))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.clone().map(StrBytes::from_string)),
        )
    });
    reachable.collect()
}

fn push_all(ctx: &Context, request: &MetadataRequest, answers: &mut Vec<MetadataResponseTopic>) {
    answers.extend(
        ctx.state
            .image()
            .topics()
            .map(|topic| describe(ctx, request, topic)),
    );
}

async fn answer(
    ctx: &Context,
    request: &MetadataRequest,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let image = ctx.state.image();
    // Java clients send an empty name along with an id, not null.
    let named = asked.name.as_ref().filter(|_| asked.topic_id.is_nil());
    let Some(name) = named else {
        return match image.topic_by_id(asked.topic_id) {
            Some(topic) => describe(ctx, request, topic),
            None => refusal(ResponseError::UnknownTopicId, None, asked.topic_id),
        };
    };
    if let Some(topic) = image.topic(name) {
        return describe(ctx, request, topic);
    }
    if let Err(error) = topics::check_name(name) {
        return refusal(error.code, Some(name.clone()), Uuid::nil());
    }
    // Clients before version 4 cannot say that they do not want it.
    let wanted = ctx.version < 4 || request.allow_auto_topic_creation;
    if !(ctx.state.config.auto_create_topics && wanted) {
        return refusal(
            ResponseError::UnknownTopicOrPartition,
            Some(name.clone()),
            Uuid::nil(),
        );
    }
    let new = NewTopic {
        name: name.to_string(),
        partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    };
    let created = ctx
        .blocking(move |state| state.create_topic(&new, false))
        .await;
    match created {
        Ok(topic) => describe(ctx, request, &topic),
        // Another client was faster.
        Err(error) if error.code == ResponseError::TopicAlreadyExists => {
            match ctx.state.image().topic(name) {
                Some(topic) => describe(ctx, request, topic),
                None => refusal(
                    ResponseError::LeaderNotAvailable,
                    Some(name.clone()),
                    Uuid::nil(),
                ),
            }
        }
        Err(error) => {
            tracing::warn!(connection = ctx.connection.id, topic = %name.0, %error, "the topic was not created");
            refusal(error.code, Some(name.clone()), Uuid::nil())
        }
    }
}

fn refusal(error: ResponseError, name: Option<TopicName>, id: Uuid) -> MetadataResponseTopic {
    // Before version 12 the name cannot be null; there the request has a name.
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(id)
}

fn describe(ctx: &Context, request: &MetadataRequest, topic: &TopicImage) -> MetadataResponseTopic {
    let hosted = ctx.state.partitions.topic_by_id(topic.id);
    let partitions = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(index, partition)| {
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            let offline = hosted
                .as_ref()
                .is_some_and(|hosted| hosted.is_offline(index));
            let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
            MetadataResponsePartition::default()
                .with_error_code(if offline {
                    ResponseError::LeaderNotAvailable.code()
                } else {
                    0
                })
                .with_partition_index(index)
                .with_leader_id(BrokerId(if offline { -1 } else { partition.leader }))
                .with_leader_epoch(partition.leader_epoch)
                .with_replica_nodes(ids(&partition.replicas))
                .with_isr_nodes(ids(&partition.isr))
                .with_offline_replicas(if offline {
                    ids(&partition.replicas)
                } else {
                    Vec::new()
                })
        });
    let operations = if request.include_topic_authorized_operations {
        ALL_TOPIC_OPERATIONS
    } else {
        NOT_ASKED
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(
            topic.name.to_string(),
        ))))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}
