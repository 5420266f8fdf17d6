//! Records in and out over real sockets.
#![allow(missing_docs)] // A test program has no readers of its documentation.

mod common;

use bytes::{Bytes, BytesMut};
use common::*;
use dlog_storage::record::Compression;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_produce_and_fetch_carries_the_same_bytes() {
    let server = start().await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    for version in 3..=13 {
        let request = produce_request("t", id, 0, batch(&[&format!("produce {version}")]), -1);
        let response: ProduceResponse = client.call(version, &request).await;
        let produced = Produced::of(&response);
        assert_eq!(
            (produced.error, produced.offset),
            (0, i64::from(version) - 3),
            "v{version}"
        );
    }
    let expected: Vec<_> = (3..=13)
        .map(|v| (i64::from(v) - 3, format!("produce {v}")))
        .collect();
    for version in 4..=18 {
        let request = fetch_request("t", id, 0, 0);
        let response: FetchResponse = client.call(version, &request).await;
        let answer = &response.responses[0].partitions[0];
        assert_eq!(
            (answer.error_code, answer.high_watermark),
            (0, 11),
            "v{version}"
        );
        assert_eq!(answer.last_stable_offset, 11);
        assert_eq!(
            records(answer.records.clone().unwrap()),
            expected,
            "v{version}"
        );
        if version >= 13 {
            assert_eq!(response.responses[0].topic_id, id);
        } else {
            assert_eq!(response.responses[0].topic, topic_name("t"));
        }
        let committed: FetchResponse = client.call(version, &request.with_isolation_level(1)).await;
        assert_eq!(
            committed.responses[0].partitions[0].aborted_transactions,
            Some(vec![])
        );
    }
    server.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_executed_and_answered_in_order() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let mut sent = Vec::new();
    for i in 0..300 {
        let request = produce_request(
            "t",
            Uuid::nil(),
            0,
            batch(&[&i.to_string()]),
            if i % 2 == 0 { -1 } else { 1 },
        );
        sent.push(client.send(9, &request).await);
        if sent.len() == 100 {
            for id in sent.drain(..) {
                let produced = Produced::of(&client.receive::<ProduceRequest>(9, id).await);
                assert_eq!(produced.error, 0);
            }
        }
    }
    let found = records(client.fetch("t", 0, 0).await);
    let expected: Vec<_> = (0..300).map(|i| (i, i.to_string())).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_woken_by_a_produce() {
    let server = start().await;
    let (mut reader, mut writer) = (server.client().await, server.client().await);
    writer.topic("t").await;
    let request = fetch_request("t", Uuid::nil(), 0, 0).with_max_wait_ms(i32::MAX);
    let id = reader.send(12, &request).await;
    for value in ["a", "b"] {
        writer.produce("t", 0, batch(&[value])).await;
    }
    let response = reader.receive::<FetchRequest>(12, id).await;
    let found = records(response.responses[0].partitions[0].records.clone().unwrap());
    assert_eq!(found[0], (0, "a".to_owned()));
    // Nothing new: the wait ends by itself.
    let response: FetchResponse = reader
        .call(
            12,
            &fetch_request("t", Uuid::nil(), 0, 2).with_max_wait_ms(20),
        )
        .await;
    assert_eq!(
        response.responses[0].partitions[0].records,
        Some(Bytes::new())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_fetch_hold_but_one_batch_always_comes() {
    let server = start_with(|config| config.num_partitions = 2).await;
    let mut client = server.client().await;
    client.topic("t").await;
    let large = "x".repeat(50_000);
    for partition in [0, 1] {
        for _ in 0..3 {
            client.produce("t", partition, batch(&[&large])).await;
        }
    }
    let mut request = fetch_request("t", Uuid::nil(), 0, 0).with_max_bytes(10);
    let second = request.topics[0].partitions[0].clone().with_partition(1);
    request.topics[0].partitions.push(second);
    let response: FetchResponse = client.call(12, &request).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(records(partitions[0].records.clone().unwrap()).len(), 1);
    assert_eq!(partitions[1].records, Some(Bytes::new()));
    request.max_bytes = 1 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 120_000;
    let response: FetchResponse = client.call(12, &request).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(records(partitions[0].records.clone().unwrap()).len(), 2);
    assert_eq!(records(partitions[1].records.clone().unwrap()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_refused_with_its_error() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let mut check = async |bytes: Bytes, error: ResponseError| {
        let produced = client.produce("t", 0, bytes).await;
        assert_eq!(
            (produced.error, produced.offset),
            (error.code(), -1),
            "{:?}",
            produced.message
        );
        assert!(produced.message.is_some());
    };
    let good = batch(&["a", "b"]);
    let changed = |at: usize, value: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = value;
        bytes.freeze()
    };
    let last = good.len() - 1;
    check(changed(last, good[last] ^ 1), ResponseError::CorruptMessage).await;
    check(changed(16, 1), ResponseError::InvalidRecord).await;
    check(good.slice(..good.len() - 1), ResponseError::CorruptMessage).await;
    check(Bytes::new(), ResponseError::InvalidRecord).await;
    check(
        [&good[..], &good[..]].concat().into(),
        ResponseError::InvalidRecord,
    )
    .await;
    check(
        batch(&["x".repeat(2 << 20).as_str()]),
        ResponseError::MessageTooLarge,
    )
    .await;
    check(
        builder(&["a"]).control(true).build().unwrap(),
        ResponseError::InvalidRecord,
    )
    .await;
    let mut future = dlog_storage::record::BatchBuilder::new();
    future
        .push(now_ms() + 7_200_000, None, Some(b"later"), &[])
        .unwrap();
    check(future.build().unwrap(), ResponseError::InvalidTimestamp).await;
    check(
        builder(&["a"])
            .producer(1, 0, -5)
            .build()
            .unwrap_or_default(),
        ResponseError::InvalidRecord,
    )
    .await;
    let unknown = client.produce("nowhere", 0, good.clone()).await;
    assert_eq!(unknown.error, ResponseError::UnknownTopicOrPartition.code());
    let unknown = client.produce("t", 7, good.clone()).await;
    assert_eq!(unknown.error, ResponseError::UnknownTopicOrPartition.code());
    let acks: ProduceResponse = client
        .call(9, &produce_request("t", Uuid::nil(), 0, good.clone(), 5))
        .await;
    assert_eq!(
        Produced::of(&acks).error,
        ResponseError::InvalidRequiredAcks.code()
    );
    let by_id: ProduceResponse = client
        .call(
            13,
            &produce_request("", Uuid::from_u128(9), 0, good.clone(), -1),
        )
        .await;
    assert_eq!(
        Produced::of(&by_id).error,
        ResponseError::UnknownTopicId.code()
    );
    assert_eq!(
        client.produce("t", 0, good).await.offset,
        0,
        "nothing of that was appended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgement_silence_is_success_and_closing_is_failure() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    for value in ["a", "b"] {
        client
            .send(9, &produce_request("t", Uuid::nil(), 0, batch(&[value]), 0))
            .await;
    }
    // Answered in order: the fetch sees both.
    let found = records(client.fetch("t", 0, 0).await);
    assert!(found.len() <= 2);
    client
        .send(9, &produce_request("t", Uuid::nil(), 9, batch(&["c"]), 0))
        .await;
    assert!(client.is_closed_by_server().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_of_an_idempotent_producer_are_checked() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let sequenced = |sequence, epoch| {
        builder(&["a", "b"])
            .producer(1000, epoch, sequence)
            .build()
            .unwrap()
    };
    assert_eq!(client.produce("t", 0, sequenced(0, 1)).await.offset, 0);
    assert_eq!(client.produce("t", 0, sequenced(2, 1)).await.offset, 2);
    let again = client.produce("t", 0, sequenced(0, 1)).await;
    assert_eq!(
        (again.error, again.offset),
        (0, 0),
        "a retry is answered with where it is"
    );
    let gap = client.produce("t", 0, sequenced(9, 1)).await;
    assert_eq!(gap.error, ResponseError::OutOfOrderSequenceNumber.code());
    let fenced = client.produce("t", 0, sequenced(4, 0)).await;
    assert_eq!(fenced.error, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(records(client.fetch("t", 0, 0).await).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_topic_hold_at_once() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let set = async |name: &str, value: &str| {
        let state = server.broker.state().clone();
        let change = vec![(name.to_owned(), Some(value.to_owned()))];
        let resource = dlog_metadata::ConfigResource::Topic("t".to_owned());
        tokio::task::spawn_blocking(move || state.change_configs(&resource, &change, false))
            .await
            .unwrap()
    };
    set("message.timestamp.type", "LogAppendTime")
        .await
        .unwrap();
    set("compression.type", "zstd").await.unwrap();
    let before = now_ms();
    let produced = client
        .produce("t", 0, compressed(&["a", "b"], Compression::Lz4))
        .await;
    assert!(produced.log_append_time >= before);
    let bytes = client.fetch("t", 0, 0).await;
    let stored = dlog_storage::record::BatchHeader::parse(&bytes).unwrap();
    assert_eq!(stored.compression().unwrap(), Compression::Zstd);
    assert_eq!(stored.max_timestamp, produced.log_append_time);
    assert_eq!(records(bytes), [(0, "a".to_owned()), (1, "b".to_owned())]);
    set("max.message.bytes", "10").await.unwrap();
    assert_eq!(
        client.produce("t", 0, batch(&["a"])).await.error,
        ResponseError::MessageTooLarge.code()
    );
    set("max.message.bytes", "100000").await.unwrap();
    set("cleanup.policy", "compact").await.unwrap();
    let mut keyless = dlog_storage::record::BatchBuilder::new();
    keyless.push(now_ms(), None, Some(b"v"), &[]).unwrap();
    let refused = client.produce("t", 0, keyless.build().unwrap()).await;
    assert_eq!(
        (refused.error, refused.record_errors),
        (ResponseError::InvalidRecord.code(), 1)
    );
    // No more replicas are asked for than the topic has, as in Kafka.
    set("min.insync.replicas", "2").await.unwrap();
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.error, 0);
    assert_eq!(
        set("retention.ms", "soon").await.unwrap_err().code,
        ResponseError::InvalidConfig
    );
    assert_eq!(
        set("retention.mss", "1").await.unwrap_err().code,
        ResponseError::InvalidConfig
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_session_carries_only_what_changed() {
    let server = start_with(|config| config.num_partitions = 3).await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    let mut request = fetch_request("t", id, 0, 0).with_session_epoch(0);
    for index in [1, 2] {
        let more = request.topics[0].partitions[0]
            .clone()
            .with_partition(index);
        request.topics[0].partitions.push(more);
    }
    let full: FetchResponse = client.call(18, &request).await;
    assert!(full.session_id > 0);
    assert_eq!(full.responses[0].partitions.len(), 3);
    let next = |epoch| {
        FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_session_id(full.session_id)
            .with_session_epoch(epoch)
    };
    let quiet: FetchResponse = client.call(18, &next(1)).await;
    assert!(quiet.responses.is_empty());
    client.produce("t", 1, batch(&["news"])).await;
    let news: FetchResponse = client.call(18, &next(2)).await;
    assert_eq!(news.responses[0].partitions.len(), 1);
    let partition = &news.responses[0].partitions[0];
    assert_eq!(partition.partition_index, 1);
    assert_eq!(records(partition.records.clone().unwrap()).len(), 1);
    let wrong: FetchResponse = client.call(18, &next(2)).await;
    assert_eq!(
        wrong.error_code,
        ResponseError::InvalidFetchSessionEpoch.code()
    );
    // Forgetting a partition, moving another one.
    let mut change = next(3);
    change.forgotten_topics_data = vec![
        kafka_protocol::messages::fetch_request::ForgottenTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![0]),
    ];
    change.topics = fetch_request("t", id, 1, 1).topics;
    let moved: FetchResponse = client.call(18, &change).await;
    assert!(moved.responses.is_empty(), "{moved:?}");
    let gone: FetchResponse = client.call(18, &next(0).with_session_epoch(-1)).await;
    assert_eq!((gone.error_code, gone.session_id), (0, 0));
    let unknown: FetchResponse = client.call(18, &next(4)).await;
    assert_eq!(
        unknown.error_code,
        ResponseError::FetchSessionIdNotFound.code()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_where_nothing_is_says_why() {
    let server = start().await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    client.produce("t", 0, batch(&["a"])).await;
    let mut check = async |version, request: FetchRequest, error: ResponseError| {
        let response: FetchResponse = client.call(version, &request).await;
        assert_eq!(response.responses[0].partitions[0].error_code, error.code());
    };
    check(
        12,
        fetch_request("t", id, 0, 5),
        ResponseError::OffsetOutOfRange,
    )
    .await;
    check(
        12,
        fetch_request("t", id, 0, -1),
        ResponseError::OffsetOutOfRange,
    )
    .await;
    check(
        12,
        fetch_request("t", id, 3, 0),
        ResponseError::UnknownTopicOrPartition,
    )
    .await;
    check(
        12,
        fetch_request("u", id, 0, 0),
        ResponseError::UnknownTopicOrPartition,
    )
    .await;
    check(
        13,
        fetch_request("", Uuid::from_u128(1), 0, 0),
        ResponseError::UnknownTopicId,
    )
    .await;
    let mut newer = fetch_request("t", id, 0, 0);
    newer.topics[0].partitions[0].current_leader_epoch = 8;
    check(12, newer, ResponseError::UnknownLeaderEpoch).await;
}
