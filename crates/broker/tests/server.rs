//! The server itself: small APIs, restarts, damage, what it counts.
#![allow(missing_docs)] // A test program has no readers of its documentation.

mod common;

use std::io::Write as _;

use common::*;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, StrBytes};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_tells_what_is_served_even_to_strangers() {
    let server = start().await;
    let mut client = server.client().await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("test-client"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    for version in 0..=4 {
        let response: ApiVersionsResponse = client.call(version, &request).await;
        assert_eq!(response.error_code, 0);
        let fetch = response
            .api_keys
            .iter()
            .find(|api| api.api_key == 1)
            .unwrap();
        assert_eq!((fetch.min_version, fetch.max_version), (4, 18));
        assert_eq!(response.finalized_features.is_empty(), version < 3);
    }
    let nameless: ApiVersionsResponse = client
        .call(
            3,
            &request
                .clone()
                .with_client_software_name(StrBytes::from_static_str("-x")),
        )
        .await;
    assert_eq!(nameless.error_code, ResponseError::InvalidRequest.code());
    // A version from the future is answered in version 0.
    client
        .stream
        .write_all(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 77, 0, 0, 0])
        .await
        .unwrap();
    let mut frame = client.receive_frame().await.unwrap();
    assert_eq!(bytes::Buf::get_i32(&mut frame), 77);
    let response = ApiVersionsResponse::decode(&mut frame, 0).unwrap();
    assert_eq!(
        response.error_code,
        ResponseError::UnsupportedVersion.code()
    );
    assert_eq!(
        (
            response.api_keys[0].api_key,
            response.api_keys[0].max_version
        ),
        (18, 5)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_creates_and_describes_topics_in_every_version() {
    let server = start_with(|config| config.num_partitions = 3).await;
    let mut client = server.client().await;
    let id = client.topic("known").await;
    let named = |name: &str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    for version in 0..=13 {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![named("known")]))
            .with_allow_auto_topic_creation(true);
        let response: MetadataResponse = client.call(version, &request).await;
        assert_eq!(response.brokers[0].port, i32::from(server.address().port()));
        assert_eq!(response.topics[0].partitions.len(), 3);
        assert_eq!(
            response.topics[0].partitions[2].leader_id,
            response.brokers[0].node_id
        );
        let all =
            MetadataRequest::default().with_topics(if version == 0 { Some(vec![]) } else { None });
        let response: MetadataResponse = client.call(version, &all).await;
        assert_eq!(response.topics.len(), 1, "v{version}");
    }
    let ask = |name: &str, create| {
        MetadataRequest::default()
            .with_topics(Some(vec![named(name)]))
            .with_allow_auto_topic_creation(create)
    };
    let missing: MetadataResponse = client.call(12, &ask("missing", false)).await;
    assert_eq!(
        missing.topics[0].error_code,
        ResponseError::UnknownTopicOrPartition.code()
    );
    let bad: MetadataResponse = client.call(12, &ask("b/ad", true)).await;
    assert_eq!(
        bad.topics[0].error_code,
        ResponseError::InvalidTopicException.code()
    );
    let by_id = |id| {
        let topic = MetadataRequestTopic::default()
            .with_topic_id(id)
            .with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let found: MetadataResponse = client.call(12, &by_id(id)).await;
    assert_eq!(found.topics[0].name, Some(topic_name("known")));
    let unknown: MetadataResponse = client.call(12, &by_id(Uuid::from_u128(3))).await;
    assert_eq!(
        unknown.topics[0].error_code,
        ResponseError::UnknownTopicId.code()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_by_place_and_time() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let mut stamped = dlog_storage::record::BatchBuilder::new();
    for timestamp in [1000, 3000, 2000] {
        stamped.push(timestamp, None, Some(b"v"), &[]).unwrap();
    }
    client.produce("t", 0, stamped.build().unwrap()).await;
    let ask = |timestamp| {
        let partition = ListOffsetsPartition::default()
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        ListOffsetsRequest::default().with_topics(vec![topic])
    };
    for version in 1..=10 {
        for (timestamp, expected) in [
            (-2, (0, -1)),
            (-1, (3, -1)),
            (0, (0, 1000)),
            (1001, (1, 3000)),
            (3001, (-1, -1)),
            (-3, (1, 3000)),
            (-4, (0, -1)),
            (-5, (-1, -1)),
        ] {
            let response: ListOffsetsResponse = client.call(version, &ask(timestamp)).await;
            let found = &response.topics[0].partitions[0];
            // Special timestamps came with a version each.
            let since = [(-3, 7), (-4, 8), (-5, 9)];
            if since
                .iter()
                .any(|&(t, since)| t == timestamp && version < since)
            {
                let unsupported = ResponseError::UnsupportedVersion.code();
                assert_eq!(found.error_code, unsupported, "v{version} {timestamp}");
                continue;
            }
            assert_eq!(found.error_code, 0);
            assert_eq!(
                (found.offset, found.timestamp),
                expected,
                "v{version} {timestamp}"
            );
        }
    }
    let epochs = |epoch| {
        let partition = OffsetForLeaderPartition::default()
            .with_current_leader_epoch(-1)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    for version in 2..=4 {
        let response: OffsetForLeaderEpochResponse = client.call(version, &epochs(0)).await;
        let end = &response.topics[0].partitions[0];
        assert_eq!(
            (end.error_code, end.leader_epoch, end.end_offset),
            (0, 0, 3)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_unique_across_restarts() {
    let mut server = start().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut client = server.client().await;
        for version in 0..=5 {
            let response: InitProducerIdResponse = client
                .call(
                    version,
                    &InitProducerIdRequest::default().with_transactional_id(None),
                )
                .await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(seen.insert(response.producer_id.0), "{seen:?}");
        }
        server = server.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn this_node_coordinates_every_group_and_is_the_cluster() {
    let server = start().await;
    let mut client = server.client().await;
    let port = i32::from(server.address().port());
    for version in 0..=6 {
        let key = StrBytes::from_static_str("group");
        let mut request = FindCoordinatorRequest::default();
        if version >= 4 {
            request.coordinator_keys = vec![key.clone(), StrBytes::from_static_str("other")];
        } else {
            request.key = key;
        }
        let response: FindCoordinatorResponse = client.call(version, &request).await;
        let found = response
            .coordinators
            .first()
            .map_or(response.port, |coordinator| coordinator.port);
        assert_eq!(found, port);
        // Of transactions too, and of nothing else that is coordinated.
        for (key_type, known) in [(1, true), (9, false)] {
            if version == 0 {
                continue;
            }
            let request = request.clone().with_key_type(key_type);
            let response: FindCoordinatorResponse = client.call(version, &request).await;
            let code = response
                .coordinators
                .first()
                .map_or(response.error_code, |c| c.error_code);
            assert_eq!(code == 0, known, "key type {key_type}");
        }
    }
    for version in 0..=2 {
        let response: DescribeClusterResponse = client
            .call(version, &DescribeClusterRequest::default())
            .await;
        assert_eq!((response.error_code, response.brokers[0].port), (0, port));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let mut server = start().await;
    let id = server.client().await.topic("t").await;
    for round in 0..4 {
        let mut client = server.client().await;
        assert_eq!(client.topic("t").await, id);
        assert_eq!(
            client.produce("t", 0, batch(&["a", "b"])).await.offset,
            round * 2
        );
        assert_eq!(
            records(client.fetch("t", 0, 0).await).len() as i64,
            round * 2 + 2
        );
        server = server.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_what_is_under_way_and_closes() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let sent = client
        .send(
            9,
            &produce_request("t", Uuid::nil(), 0, batch(&["last"]), -1),
        )
        .await;
    let produced = Produced::of(&client.receive::<ProduceRequest>(9, sent).await);
    assert_eq!(produced.error, 0);
    // A long poll does not hold the server up.
    client
        .send(
            12,
            &fetch_request("t", Uuid::nil(), 0, 1).with_max_wait_ms(i32::MAX),
        )
        .await;
    tokio::time::timeout(PATIENCE, server.broker.shutdown())
        .await
        .expect("a shutdown in time")
        .unwrap();
    assert!(client.is_closed_by_server().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partition_is_offline_and_the_others_serve() {
    let mut server = start_with(|config| config.num_partitions = 2).await;
    let mut client = server.client().await;
    client.topic("t").await;
    for partition in [0, 1] {
        client.produce("t", partition, batch(&["a", "b"])).await;
    }
    server.broker.shutdown().await.unwrap();
    let dir = server.dir;
    drop(server.broker);
    let data = dir.path().join("data");
    let marker = std::fs::read_to_string(data.join("t-0/partition.metadata")).unwrap();
    assert!(marker.contains("topic_id: "));
    let segment = data.join("t-0/00000000000000000000.log");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .unwrap();
    file.write_all(&[0xee; 64]).unwrap();
    std::fs::write(
        data.join("t-0/partition.metadata"),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n",
    )
    .unwrap();
    let broker = dlog_broker::Broker::start(config(dir.path()))
        .await
        .unwrap();
    server = Server { broker, dir };
    let mut client = server.client().await;
    let refused = client.produce("t", 0, batch(&["c"])).await;
    assert_eq!(refused.error, ResponseError::KafkaStorageError.code());
    assert_eq!(client.produce("t", 1, batch(&["c"])).await.offset, 2);
    assert_eq!(records(client.fetch("t", 1, 0).await).len(), 3);
    let request = MetadataRequest::default().with_topics(None);
    let response: MetadataResponse = client.call(12, &request).await;
    let leaders: Vec<_> = response.topics[0]
        .partitions
        .iter()
        .map(|p| p.leader_id.0)
        .collect();
    assert_eq!(leaders, [-1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_gone_and_its_name_free() {
    let server = start().await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    client.produce("t", 0, batch(&["old"])).await;
    let state = server.broker.state().clone();
    let deleting = tokio::task::spawn_blocking(move || state.delete_topic(id));
    deleting.await.unwrap().unwrap();
    assert_eq!(
        client.produce("t", 0, batch(&["lost"])).await.error,
        ResponseError::UnknownTopicOrPartition.code()
    );
    assert_ne!(client.topic("t").await, id);
    assert_eq!(client.produce("t", 0, batch(&["new"])).await.offset, 0);
    let server = server.restart().await;
    let mut client = server.client().await;
    assert_eq!(
        records(client.fetch("t", 0, 0).await),
        [(0, "new".to_owned())]
    );
    let folders = std::fs::read_dir(server.dir.path().join("data")).unwrap();
    let names: Vec<_> = folders
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"t-0".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_owns_a_folder() {
    let server = start().await;
    let error = dlog_broker::Broker::start(config(server.dir.path()))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    client.fetch("t", 0, 0).await;
    client.produce("t", 4, batch(&["a"])).await;
    let nowhere = FindCoordinatorRequest::default().with_key_type(9);
    client.call(3, &nowhere).await;
    // A request is counted after its reply is sent: the next one on the connection proves that.
    client.fetch("t", 0, 0).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.broker.registry().lock()).unwrap();
    for line in [
        "dlog_requests_total{api=\"Produce\"} 2",
        "dlog_request_errors_total{api=\"Produce\",error=\"UnknownTopicOrPartition\"} 1",
        "dlog_request_errors_total{api=\"FindCoordinator\",error=\"InvalidRequest\"} 1",
        "dlog_request_seconds_count{api=\"Produce\"} 2",
        "dlog_topic_messages_in_total{topic=\"t\"} 2",
        "dlog_connections 1",
        "dlog_partition_log_end_offset{topic=\"t\",partition=\"0\"} 2",
        "dlog_offline_partitions 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_named() {
    let start = async |change: fn(&mut dlog_broker::BrokerConfig)| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        dlog_broker::Broker::start(config)
            .await
            .err()
            .unwrap()
            .to_string()
    };
    assert!(start(|c| c.listeners.clear()).await.contains("listeners"));
    assert!(start(|c| c.node_id = -1).await.contains("node.id"));
    assert!(
        start(|c| c.num_partitions = 0)
            .await
            .contains("num.partitions")
    );
    let unknown: fn(&mut dlog_broker::BrokerConfig) =
        |c| drop(c.defaults.insert("log.flsh".into(), "os".into()));
    assert!(start(unknown).await.contains("log.flsh"));
    let wrong: fn(&mut dlog_broker::BrokerConfig) =
        |c| drop(c.defaults.insert("log.flush".into(), "maybe".into()));
    assert!(start(wrong).await.contains("maybe"));
}
