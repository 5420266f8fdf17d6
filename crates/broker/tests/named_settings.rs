//! Settings of groups and of client metrics subscriptions, as the real Apache Kafka 4.4.0 answers: each
//! question was asked of both.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::*;

use common::{Client, start, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;

const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

/// Error code and message of a change.
async fn alter(
    client: &mut Client,
    resource: (i8, &str),
    operation: i8,
    setting: (&str, &str),
) -> (i16, String) {
    let config = incremental::AlterableConfig::default()
        .with_name(text(setting.0))
        .with_config_operation(operation)
        .with_value((operation != DELETE).then(|| text(setting.1)));
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(resource.0)
        .with_resource_name(text(resource.1))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(1, &request).await;
    let answer = &answer.responses[0];
    let message = answer.error_message.as_deref().unwrap_or_default();
    (answer.error_code, message.to_owned())
}

async fn described(
    client: &mut Client,
    resource: (i8, &str),
) -> Result<Vec<DescribeConfigsResourceResult>, (i16, String)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource.0)
        .with_resource_name(text(resource.1))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    let mut answer = client.call(4, &request).await;
    let answer = answer.results.remove(0);
    match answer.error_code {
        0 => Ok(answer.configs),
        code => Err((code, answer.error_message.unwrap_or_default().to_string())),
    }
}

/// Type and name of everything listed.
async fn listed(client: &mut Client, version: i16, types: &[i8]) -> (i16, Vec<(i8, String)>) {
    let request = ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
    let answer = client.call(version, &request).await;
    let all = answer.config_resources.iter();
    let all = all.map(|r| (r.resource_type, r.resource_name.to_string()));
    (answer.error_code, all.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_have_settings_within_the_brokers_bounds() {
    let server = start().await;
    let mut client = server.client().await;
    let group = (GROUP, "g");
    let timeout = "consumer.session.timeout.ms";
    let fine = (0, String::new());
    assert_eq!(
        alter(&mut client, group, SET, (timeout, "50000")).await,
        fine
    );
    for (name, value, message) in [
        ("no.such", "1", "Unknown group config name: no.such"),
        (
            timeout,
            "1",
            "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive.",
        ),
        (
            timeout,
            "x",
            "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
        ),
        (
            timeout,
            "-5",
            "Invalid value -5 for configuration consumer.session.timeout.ms: Value must be at least 1",
        ),
        (
            "share.isolation.level",
            "x",
            "Invalid value x for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted",
        ),
        (
            "share.auto.offset.reset",
            "bla",
            "Invalid value bla for configuration share.auto.offset.reset: Invalid value `bla` for configuration share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.",
        ),
        (
            "streams.num.standby.replicas",
            "7",
            "streams.num.standby.replicas must be less than or equal to 2",
        ),
        (
            "streams.assignor.name",
            "x",
            "streams.assignor.name 'x' is not a registered task assignor. Registered assignors are: [sticky].",
        ),
        (
            "streams.rack.aware.assignment.tags",
            "a,a",
            "streams.rack.aware.assignment.tags must not contain duplicate tag keys.",
        ),
        (
            "errors.deadletterqueue.topic.name",
            "__x",
            "errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'",
        ),
    ] {
        let answer = alter(&mut client, group, SET, (name, value)).await;
        assert_eq!(
            answer,
            (INVALID_CONFIG, message.to_owned()),
            "{name}={value}"
        );
    }
    assert_eq!(
        alter(&mut client, (GROUP, ""), SET, (timeout, "50000")).await,
        (
            INVALID_REQUEST,
            "Default group resources are not allowed.".to_owned()
        )
    );

    let configs = described(&mut client, group).await.unwrap();
    assert_eq!(configs.len(), 21);
    let of = |name: &str| configs.iter().find(|config| *config.name == *name).unwrap();
    let set = of(timeout);
    assert_eq!(
        (set.value.as_deref(), set.config_source),
        (Some("50000"), 8)
    );
    let places: Vec<_> = set.synonyms.iter().map(|s| (&*s.name, s.source)).collect();
    assert_eq!(
        places,
        [(timeout, 8), ("group.consumer.session.timeout.ms", 5)]
    );
    assert_eq!(of("share.auto.offset.reset").config_source, 5);
    assert_eq!(
        described(&mut client, (GROUP, "")).await.unwrap_err(),
        (INVALID_REQUEST, "Group name must not be empty".to_owned())
    );

    assert_eq!(
        listed(&mut client, 1, &[GROUP]).await.1,
        [(GROUP, "g".to_owned())]
    );
    let server = server.restart().await;
    let mut client = server.client().await;
    let image = server.broker.state().image();
    assert_eq!(
        server
            .broker
            .state()
            .group_config(&image, "g")
            .number(timeout),
        50_000
    );
    // What does not exist may be removed, too.
    for name in [timeout, "no.such"] {
        assert_eq!(alter(&mut client, group, DELETE, (name, "")).await, fine);
    }
    assert_eq!(listed(&mut client, 1, &[GROUP]).await, (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_to_client_metrics_are_kept_and_listed() {
    let server = start().await;
    let mut client = server.client().await;
    let subscription = (CLIENT_METRICS, "c1");
    for (name, value, code, message) in [
        (
            "nix",
            "1",
            INVALID_REQUEST,
            "Unknown client metrics configuration: nix",
        ),
        (
            "interval.ms",
            "1",
            INVALID_REQUEST,
            "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        (
            "match",
            "xx=a",
            INVALID_CONFIG,
            "Illegal client matching pattern: xx=a",
        ),
    ] {
        let answer = alter(&mut client, subscription, SET, (name, value)).await;
        assert_eq!(answer, (code, message.to_owned()), "{name}={value}");
    }
    assert_eq!(listed(&mut client, 0, &[]).await, (0, Vec::new()));
    for (name, value) in [("interval.ms", "60000"), ("match", "client_id=a.*")] {
        alter(&mut client, subscription, SET, (name, value)).await;
    }
    let configs = described(&mut client, subscription).await.unwrap();
    let sources: Vec<_> = configs
        .iter()
        .map(|c| (&*c.name, c.config_source))
        .collect();
    assert_eq!(sources, [("interval.ms", 7), ("match", 7), ("metrics", 5)]);
    assert!(configs[2].synonyms.is_empty(), "as Kafka shows it");
    let c1 = (CLIENT_METRICS, "c1".to_owned());
    assert_eq!(listed(&mut client, 0, &[]).await, (0, vec![c1.clone()]));
    client.topic("t").await;
    let (code, all) = listed(&mut client, 1, &[]).await;
    assert_eq!(code, 0);
    let node = server.broker.state().node_id().to_string();
    for expected in [c1, (TOPIC, "t".to_owned()), (BROKER, node)] {
        assert_eq!(
            all.iter().filter(|one| **one == expected).count(),
            1,
            "{all:?}"
        );
    }
    assert_eq!(listed(&mut client, 1, &[99]).await.0, 35);
}
