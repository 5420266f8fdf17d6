//! DescribeCluster (key 60): the brokers of the cluster (KIP-700).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::authorized::{ALL_CLUSTER_OPERATIONS, NOT_ASKED};

/// The request asks for brokers; controllers are not reachable by clients (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers DescribeCluster.
pub async fn handle(ctx: &Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if ctx.version >= 1 && request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            CONTROLLERS => (
                MISMATCHED_ENDPOINT_TYPE,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".to_owned(),
            ),
            other => (
                UNSUPPORTED_ENDPOINT_TYPE,
                format!("Unsupported endpoint type {other}"),
            ),
        };
        return DescribeClusterResponse::default()
            .with_error_code(code)
            .with_error_message(Some(StrBytes::from_string(message)))
            .with_endpoint_type(BROKERS)
            .with_cluster_id(StrBytes::from_string(ctx.state.identity.cluster_id.clone()));
    }
    let image = ctx.state.image();
    let brokers = image.brokers().filter_map(|broker| {
        let endpoint = broker.endpoint(&ctx.connection.endpoint.listener)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(broker.node_id))
                .with_host(StrBytes::from_string(endpoint.host.clone()))
                .with_port(i32::from(endpoint.port))
                .with_rack(broker.rack.clone().map(StrBytes::from_string)),
        )
    });
    let wants_operations = request.include_cluster_authorized_operations;
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(ctx.state.identity.cluster_id.clone()))
        .with_controller_id(BrokerId(ctx.state.node_id()))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(if wants_operations {
            ALL_CLUSTER_OPERATIONS
        } else {
            NOT_ASKED
        })
}

/// Kafka's error for a request sent to the wrong kind of endpoint.
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
/// Kafka's error for a kind of endpoint that does not exist.
const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;
