//! ListConfigResources (key 74): what has settings, by type (KIP-1142). Version 0 is
//! ListClientMetricsResources of KIP-714.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Context, text};

/// The types in Kafka's order.
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

/// Answers ListConfigResources.
pub async fn handle(
    ctx: &Context,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let asked: &[i8] = match (ctx.version, &request.resource_types[..]) {
        (0, _) => &[CLIENT_METRICS],
        (_, []) => &ALL,
        (_, types) => types,
    };
    let response = ListConfigResourcesResponse::default();
    if asked.iter().any(|kind| !ALL.contains(kind)) {
        return response.with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let image = ctx.state.image();
    let mut resources = Vec::new();
    // A type that is named twice is listed once.
    for kind in ALL.into_iter().filter(|kind| asked.contains(kind)) {
        let named = |name: &str| {
            ConfigResource::default()
                .with_resource_name(text(name))
                .with_resource_type(kind)
        };
        match kind {
            TOPIC => resources.extend(image.topics().map(|topic| named(&topic.name))),
            BROKER | BROKER_LOGGER => {
                resources.extend(image.brokers().map(|b| named(&b.node_id.to_string())));
            }
            CLIENT_METRICS => resources.extend(image.client_metrics_subscriptions().map(named)),
            _ => resources.extend(image.configured_groups().map(named)),
        }
    }
    response.with_config_resources(resources)
}
