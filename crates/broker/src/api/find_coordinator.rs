//! FindCoordinator (key 10): on a single node, this node.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::identity::parse_kafka_uuid;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The keeper of a share-partition's state (KIP-932).
const SHARE: i8 = 2;

/// Share-partitions are found from this version on.
const SHARE_PARTITIONS: i16 = 6;

/// Versions from this one on ask for several coordinators at once (KIP-699).
const BATCHED: i16 = 4;

/// Answers FindCoordinator.
pub async fn handle(ctx: &Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if ctx.version >= BATCHED {
        let found = request
            .coordinator_keys
            .into_iter()
            .map(|key| find(ctx, request.key_type, key));
        return FindCoordinatorResponse::default().with_coordinators(found.collect());
    }
    let found = find(ctx, request.key_type, request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(ctx: &Context, key_type: i8, key: StrBytes) -> Coordinator {
    let refuse = |key, error: ResponseError, message: Option<&'static str>| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(message.map(StrBytes::from_static_str))
    };
    match key_type {
        SHARE if ctx.version < SHARE_PARTITIONS || !names_share_partition(&key) => {
            refuse(key, ResponseError::InvalidRequest, None)
        }
        GROUP | TRANSACTION | SHARE => {
            let endpoint = &ctx.connection.endpoint;
            Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(ctx.state.node_id()))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_error_message((ctx.version >= BATCHED).then(StrBytes::new))
        }
        _ => refuse(
            key,
            ResponseError::InvalidRequest,
            Some("There is no coordinator of this type."),
        ),
    }
}

/// Whether a key is `group:topic id:partition`.
fn names_share_partition(key: &str) -> bool {
    let mut words = key.rsplitn(3, ':');
    let partition = words.next().and_then(|word| word.parse::<i32>().ok());
    let topic = words.next().and_then(parse_kafka_uuid);
    let group = words.next().filter(|group| !group.is_empty());
    partition.is_some_and(|partition| partition >= 0) && topic.is_some() && group.is_some()
}
