//! Connections: hostile, idle, deaf and too many peers cost little, and nobody else anything.
#![allow(missing_docs)] // A test program has no readers of its documentation.

mod common;

use common::*;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_end_their_connection_and_nobody_elses() {
    let server = start().await;
    let mut witness = server.client().await;
    witness.topic("t").await;
    let mut random: u64 = 0x1234_5678_9abc_def1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let frame = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let mut attacks: Vec<Vec<u8>> = vec![
        vec![0xff; 4],
        vec![0x7f, 0xff, 0xff, 0xff],
        (70_000u32).to_be_bytes().to_vec(),
        frame(&[]),
        frame(&[0, 3]),
        frame(&[0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        // Metadata v9 with 4 billion topics.
        frame(&[
            0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x0f,
        ]),
        // A client id longer than the request.
        frame(&[0, 3, 0, 9, 0, 0, 0, 1, 0x7f, 0xff, 0]),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
    ];
    for len in [1, 10, 100, 1000] {
        attacks.push((0..len).map(|_| next() as u8).collect());
        attacks.push(frame(&(0..len).map(|_| next() as u8).collect::<Vec<_>>()));
    }
    for attack in attacks {
        let mut client = server.client().await;
        client.stream.write_all(&attack).await.unwrap();
        client.stream.shutdown().await.unwrap();
        assert!(client.is_closed_by_server().await, "{attack:?}");
        assert_eq!(witness.produce("t", 0, batch(&["alive"])).await.error, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_cheap() {
    let server = start().await;
    let mut idle = Vec::new();
    for i in 0u8..200 {
        let mut client = server.client().await;
        // A large frame announced, little of it sent.
        client.stream.write_all(&[0, 0, 0xf0, 0, i]).await.unwrap();
        idle.push(client);
    }
    let mut client = server.client().await;
    client.topic("t").await;
    assert_eq!(client.produce("t", 0, batch(&["alive"])).await.error, 0);
    assert_eq!(server.broker.state().connections.total(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_a_limit_are_refused_until_others_end() {
    let server = start_with(|config| config.max_connections_per_ip = 2).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.topic("t").await;
    second.topic("t").await;
    assert!(server.client().await.is_closed_by_server().await);
    drop(second);
    let connected = async {
        loop {
            let mut client = server.client().await;
            client
                .stream
                .write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])
                .await
                .unwrap();
            if client.receive_frame().await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, connected)
        .await
        .expect("room after a connection ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let server = start_with(|config| config.connections_max_idle_ms = 50).await;
    assert!(server.client().await.is_closed_by_server().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = start_with(|config| config.write_timeout_ms = 100).await;
    let mut client = server.client().await;
    client.topic("t").await;
    let large = "x".repeat(900_000);
    for _ in 0..10 {
        client.produce("t", 0, batch(&[&large])).await;
    }
    let mut deaf = server.client().await;
    let mut request = fetch_request("t", Uuid::nil(), 0, 0);
    request.topics[0].partitions[0].partition_max_bytes = 9_000_000;
    for _ in 0..10 {
        deaf.send(12, &request).await;
    }
    server.until_connections_are(1).await;
    assert_eq!(client.produce("t", 0, batch(&["alive"])).await.error, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_ends_with_its_client() {
    let server = start().await;
    let mut witness = server.client().await;
    witness.topic("t").await;
    let mut leaving = server.client().await;
    leaving
        .send(
            12,
            &fetch_request("t", Uuid::nil(), 0, 0).with_max_wait_ms(i32::MAX),
        )
        .await;
    drop(leaving);
    server.until_connections_are(1).await;
}

/// Some answers are larger than what may wait for a client: requests are then read no faster than answers
/// are taken.
#[tokio::test(flavor = "multi_thread")]
async fn large_answers_to_pipelined_requests_come_whole_and_in_order() {
    let server = start().await;
    let mut client = server.client().await;
    let mut resources = Vec::new();
    for at in 0..300 {
        let name = format!("t{at}");
        client.topic(&name).await;
        resources.push(
            DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(StrBytes::from_string(name))
                .with_configuration_keys(None),
        );
    }
    let missing = |count: usize| {
        let topics = (0..count).map(|at| {
            let name = format!("{at:0>200}");
            MetadataRequestTopic::default().with_name(Some(topic_name(&name)))
        });
        MetadataRequest::default()
            .with_topics(Some(topics.collect()))
            .with_allow_auto_topic_creation(false)
    };
    // About 2 MB, and a few hundred bytes. The requests are small enough to be sent before an answer is read.
    let (one, two) = (missing(1), missing(2));
    let everything = DescribeConfigsRequest::default()
        .with_resources(resources)
        .with_include_documentation(true);
    let mut sent = Vec::new();
    for _ in 0..10 {
        let id = client.send(4, &everything).await;
        sent.push((id, client.send(12, &one).await, client.send(12, &two).await));
    }
    for (configs, one, two) in sent {
        let answer = client.receive::<DescribeConfigsRequest>(4, configs).await;
        assert_eq!(answer.results.len(), 300);
        let answer = client.receive::<MetadataRequest>(12, one).await;
        assert_eq!(answer.topics.len(), 1);
        let answer = client.receive::<MetadataRequest>(12, two).await;
        assert_eq!(answer.topics.len(), 2);
    }
}
