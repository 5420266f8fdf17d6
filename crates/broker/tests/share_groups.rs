//! Share-partitions over the wire: sessions, acknowledgements, waiting, lost connections, restarts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail that way"
)]

mod common;

use common::{Client, Server, batch, builder, records, start, start_with, text};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request as alter;
use kafka_protocol::messages::initialize_share_group_state_request as initialize;
use kafka_protocol::messages::read_share_group_state_request as read;
use kafka_protocol::messages::share_acknowledge_request as ack;
use kafka_protocol::messages::share_fetch_request as fetch;
use kafka_protocol::messages::share_fetch_response::{AcquiredRecords, PartitionData};
use kafka_protocol::messages::write_share_group_state_request as write;
use kafka_protocol::messages::{
    GroupId, IncrementalAlterConfigsRequest, InitializeShareGroupStateRequest,
    ReadShareGroupStateRequest, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
    ShareFetchRequest, ShareFetchResponse, WriteShareGroupStateRequest,
};
use uuid::Uuid;

const GROUP: &str = "workers";
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;

async fn initialize(client: &mut Client, topic: Uuid, state_epoch: i32, start: i64) -> i16 {
    let partition = initialize::PartitionData::default()
        .with_partition(0)
        .with_state_epoch(state_epoch)
        .with_start_offset(start);
    let topic = initialize::InitializeStateData::default()
        .with_topic_id(topic)
        .with_partitions(vec![partition]);
    let request = InitializeShareGroupStateRequest::default()
        .with_group_id(text(GROUP))
        .with_topics(vec![topic]);
    let response = client.call(0, &request).await;
    response.results[0].partitions[0].error_code
}

/// A member with its connection and session.
struct Member {
    client: Client,
    name: &'static str,
    topic: Uuid,
    epoch: i32,
}

type Kinds<'a> = &'a [(i64, i64, i8)];

impl Member {
    async fn join(server: &Server, name: &'static str, topic: Uuid) -> Self {
        let client = server.client().await;
        Self {
            client,
            name,
            topic,
            epoch: 0,
        }
    }

    fn request(&self, wait_ms: i32, max_records: i32, kinds: Kinds<'_>) -> ShareFetchRequest {
        let batches = kinds.iter().map(|(first, last, kind)| {
            fetch::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![*kind])
        });
        let partition = fetch::FetchPartition::default()
            .with_partition_index(0)
            .with_acknowledgement_batches(batches.collect());
        let topic = fetch::FetchTopic::default()
            .with_topic_id(self.topic)
            .with_partitions(vec![partition]);
        ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text(GROUP))))
            .with_member_id(Some(text(self.name)))
            .with_share_session_epoch(self.epoch)
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(max_records)
            .with_batch_size(max_records)
            .with_topics(vec![topic])
    }

    async fn send(&mut self, wait_ms: i32, max_records: i32, kinds: Kinds<'_>) -> i32 {
        let request = self.request(wait_ms, max_records, kinds);
        self.epoch += 1;
        self.client.send(1, &request).await
    }

    async fn receive(&mut self, id: i32) -> PartitionData {
        let response: ShareFetchResponse = self.client.receive::<ShareFetchRequest>(1, id).await;
        assert_eq!(response.error_code, 0);
        let partition = response.responses.first().map(|t| t.partitions[0].clone());
        let partition = partition.unwrap_or_default();
        assert_eq!(partition.error_code, 0);
        partition
    }

    async fn fetch(&mut self, max_records: i32, kinds: Kinds<'_>) -> PartitionData {
        let id = self.send(0, max_records, kinds).await;
        self.receive(id).await
    }

    async fn acknowledge(&mut self, epoch: i32, kinds: Kinds<'_>) -> ShareAcknowledgeResponse {
        let batches = kinds.iter().map(|(first, last, kind)| {
            ack::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![*kind])
        });
        let partition = ack::AcknowledgePartition::default()
            .with_partition_index(0)
            .with_acknowledgement_batches(batches.collect());
        let topic = ack::AcknowledgeTopic::default()
            .with_topic_id(self.topic)
            .with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text(GROUP))))
            .with_member_id(Some(text(self.name)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic]);
        self.client.call(1, &request).await
    }

    /// Acknowledges and gives the partition's error code.
    async fn says(&mut self, kinds: Kinds<'_>) -> i16 {
        let epoch = self.epoch;
        self.epoch += 1;
        let response = self.acknowledge(epoch, kinds).await;
        assert_eq!(response.error_code, 0);
        response.responses[0].partitions[0].error_code
    }
}

fn ranges(partition: &PartitionData) -> Vec<(i64, i64, i16)> {
    let range =
        |range: &AcquiredRecords| (range.first_offset, range.last_offset, range.delivery_count);
    partition.acquired_records.iter().map(range).collect()
}

async fn ten_records(server: &Server) -> (Client, Uuid) {
    let mut client = server.client().await;
    let topic = client.topic("jobs").await;
    for at in 0..5 {
        let values = [format!("{}", 2 * at), format!("{}", 2 * at + 1)];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        assert_eq!(client.produce("jobs", 0, batch(&values)).await.error, 0);
    }
    assert_eq!(initialize(&mut client, topic, 0, 0).await, 0);
    (client, topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_partition_and_acknowledge() {
    let server = start().await;
    let (_client, topic) = ten_records(&server).await;
    let mut a = Member::join(&server, "a", topic).await;
    let mut b = Member::join(&server, "b", topic).await;

    let got = a.fetch(4, &[]).await;
    assert_eq!(ranges(&got), [(0, 3, 1)]);
    let values: Vec<i64> = records(got.records.unwrap()).iter().map(|r| r.0).collect();
    assert_eq!(
        values,
        [0, 1, 2, 3],
        "only the batches with what was acquired"
    );
    // Three records are half a batch more than one: whole batches are given.
    assert_eq!(ranges(&b.fetch(3, &[]).await), [(4, 7, 1)]);

    // What another one holds cannot be acknowledged, what oneself holds can.
    let not_owner = ResponseError::InvalidRecordState.code();
    assert_eq!(b.says(&[(0, 1, ACCEPT)]).await, not_owner);
    assert_eq!(
        a.says(&[(0, 1, ACCEPT), (2, 2, RELEASE), (3, 3, REJECT)])
            .await,
        0
    );
    assert_eq!(
        a.says(&[(0, 1, ACCEPT)]).await,
        0,
        "done with, and so ignored"
    );
    let past = ResponseError::InvalidRequest.code();
    assert_eq!(a.says(&[(20, 21, ACCEPT)]).await, past);

    // The released record comes with those that nobody had.
    let got = b.fetch(10, &[(4, 7, ACCEPT)]).await;
    assert_eq!(got.acknowledge_error_code, 0);
    assert_eq!(ranges(&got), [(2, 2, 2), (8, 9, 1)]);
    server.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_its_rules() {
    let server = start().await;
    let (_client, topic) = ten_records(&server).await;
    let mut a = Member::join(&server, "a", topic).await;
    let not_found = ResponseError::ShareSessionNotFound.code();
    let wrong_epoch = ResponseError::InvalidShareSessionEpoch.code();
    a.epoch = 3;
    let request = a.request(0, 5, &[]);
    assert_eq!(a.client.call(1, &request).await.error_code, not_found);
    assert_eq!(a.acknowledge(0, &[]).await.error_code, wrong_epoch);
    assert_eq!(a.acknowledge(-1, &[]).await.error_code, not_found);
    a.epoch = 0;
    let request = a.request(0, 5, &[(0, 0, ACCEPT)]);
    let invalid = ResponseError::InvalidRequest.code();
    assert_eq!(a.client.call(1, &request).await.error_code, invalid);
    assert_eq!(ranges(&a.fetch(2, &[]).await), [(0, 1, 1)]);
    a.epoch = 5;
    let request = a.request(0, 5, &[]);
    assert_eq!(a.client.call(1, &request).await.error_code, wrong_epoch);
    let request = a.request(0, 5, &[]).with_member_id(Some(text("")));
    assert_eq!(a.client.call(1, &request).await.error_code, invalid);

    // The end of a session takes its last acknowledgements, and releases the rest.
    let response = a.acknowledge(-1, &[(0, 0, ACCEPT)]).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    let mut b = Member::join(&server, "b", topic).await;
    // Others may come first, until the release is stored.
    loop {
        let id = b.send(60_000, 2, &[]).await;
        let got = ranges(&b.receive(id).await);
        if got[0] == (1, 1, 2) {
            break;
        }
        assert!(got[0].0 >= 2 && got[0].2 == 1, "{got:?}");
    }
    server.broker.shutdown().await.unwrap();
}

/// The state is read again by whoever comes after the last member: it must have what that one left.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_last_session_leaves_is_known_to_the_next() {
    let server = start().await;
    let (_client, topic) = ten_records(&server).await;
    let mut delivered = [0_i16; 10];
    while delivered.iter().any(|count| *count < 3) {
        let mut member = Member::join(&server, "a", topic).await;
        let id = member.send(60_000, 2, &[]).await;
        let got = ranges(&member.receive(id).await);
        let mut kinds = Vec::new();
        for (first, last, count) in got {
            for offset in first..=last {
                let before = &mut delivered[usize::try_from(offset).unwrap()];
                assert_eq!(count, *before + 1, "record {offset}");
                *before = count;
            }
            if count == 3 {
                kinds.push((first, last, ACCEPT));
            }
        }
        // Whatever is not accepted is released, and written down while the next one comes.
        member.acknowledge(-1, &kinds).await;
    }
    server.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_records_and_for_releases() {
    let server = start().await;
    let (mut client, topic) = ten_records(&server).await;
    let mut a = Member::join(&server, "a", topic).await;
    let mut b = Member::join(&server, "b", topic).await;
    assert_eq!(ranges(&a.fetch(10, &[]).await), [(0, 9, 1)]);

    let waits = b.send(600_000, 10, &[]).await;
    assert_eq!(a.says(&[(3, 4, RELEASE)]).await, 0);
    assert_eq!(ranges(&b.receive(waits).await), [(3, 4, 2)]);

    let waits = b.send(600_000, 10, &[]).await;
    client.produce("jobs", 0, batch(&["new"])).await;
    assert_eq!(ranges(&b.receive(waits).await), [(10, 10, 1)]);

    // A connection that is gone releases what its member held.
    let waits = b.send(600_000, 10, &[]).await;
    drop(a);
    let got = ranges(&b.receive(waits).await);
    assert_eq!(got[0], (0, 2, 2));
    server.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_run_out_and_deliveries_are_limited() {
    let server = start_with(|config| {
        let defaults = [
            ("group.share.record.lock.duration.ms", "1000"),
            ("group.share.min.record.lock.duration.ms", "1000"),
            ("group.share.delivery.count.limit", "2"),
        ];
        for (name, value) in defaults {
            config.defaults.insert(name.to_owned(), value.to_owned());
        }
    })
    .await;
    let (_client, topic) = ten_records(&server).await;
    let mut a = Member::join(&server, "a", topic).await;
    let mut b = Member::join(&server, "b", topic).await;
    assert_eq!(ranges(&a.fetch(10, &[]).await), [(0, 9, 1)]);
    let waits = b.send(600_000, 10, &[]).await;
    assert_eq!(
        ranges(&b.receive(waits).await),
        [(0, 9, 2)],
        "the locks have run out"
    );
    let late = ResponseError::InvalidRecordState.code();
    assert_eq!(a.says(&[(0, 0, ACCEPT)]).await, late);
    // Handed out twice: released, it is given up.
    assert_eq!(b.says(&[(0, 8, RELEASE), (9, 9, ACCEPT)]).await, 0);
    assert_eq!(ranges(&a.fetch(10, &[]).await), []);
    server.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_restart() {
    let server = start().await;
    let (_client, topic) = ten_records(&server).await;
    let mut a = Member::join(&server, "a", topic).await;
    assert_eq!(ranges(&a.fetch(6, &[]).await), [(0, 5, 1)]);
    assert_eq!(
        a.says(&[(0, 1, ACCEPT), (4, 4, ACCEPT), (5, 5, RELEASE)])
            .await,
        0
    );
    drop(a);

    let server = server.restart().await;
    let mut a = Member::join(&server, "a", topic).await;
    let got = ranges(&a.fetch(10, &[]).await);
    let offsets: Vec<i64> = got.iter().flat_map(|(a, b, _)| *a..=*b).collect();
    assert_eq!(offsets, [2, 3, 5, 6, 7, 8, 9], "{got:?}");
    assert!(got.contains(&(5, 5, 2)), "{got:?}");
    server.broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_fence_the_stored_state() {
    let server = start().await;
    let mut client = server.client().await;
    let topic = client.topic("jobs").await;
    let read_state = |leader_epoch| {
        let partition = read::PartitionData::default()
            .with_partition(0)
            .with_leader_epoch(leader_epoch);
        let topic = read::ReadStateData::default()
            .with_topic_id(topic)
            .with_partitions(vec![partition]);
        ReadShareGroupStateRequest::default()
            .with_group_id(text(GROUP))
            .with_topics(vec![topic])
    };
    let write_state = |state_epoch, leader_epoch| {
        let batch = write::StateBatch::default()
            .with_first_offset(5)
            .with_last_offset(7)
            .with_delivery_state(2)
            .with_delivery_count(1);
        let partition = write::PartitionData::default()
            .with_partition(0)
            .with_state_epoch(state_epoch)
            .with_leader_epoch(leader_epoch)
            .with_start_offset(4)
            .with_state_batches(vec![batch]);
        let topic = write::WriteStateData::default()
            .with_topic_id(topic)
            .with_partitions(vec![partition]);
        WriteShareGroupStateRequest::default()
            .with_group_id(text(GROUP))
            .with_topics(vec![topic])
    };
    let code_of_write = |r: kafka_protocol::messages::WriteShareGroupStateResponse| {
        r.results[0].partitions[0].error_code
    };
    let invalid = ResponseError::InvalidRequest.code();
    let answer = client.call(0, &read_state(0)).await;
    assert_eq!(
        answer.results[0].partitions[0].error_code, invalid,
        "not initialised"
    );
    assert_eq!(
        code_of_write(client.call(0, &write_state(0, 0)).await),
        invalid
    );

    assert_eq!(initialize(&mut client, topic, 3, 2).await, 0);
    let fenced = ResponseError::FencedStateEpoch.code();
    assert_eq!(initialize(&mut client, topic, 2, 2).await, fenced);
    assert_eq!(
        code_of_write(client.call(0, &write_state(2, 0)).await),
        fenced
    );
    assert_eq!(code_of_write(client.call(0, &write_state(3, 0)).await), 0);
    let answer = client.call(0, &read_state(7)).await;
    let state = &answer.results[0].partitions[0];
    assert_eq!(
        (state.error_code, state.state_epoch, state.start_offset),
        (0, 3, 4)
    );
    assert_eq!(state.state_batches.len(), 1);
    let fenced = ResponseError::FencedLeaderEpoch.code();
    let answer = client.call(0, &read_state(6)).await;
    assert_eq!(answer.results[0].partitions[0].error_code, fenced);
    assert_eq!(
        code_of_write(client.call(0, &write_state(3, 6)).await),
        fenced
    );
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(
        initialize(&mut client, Uuid::from_u128(1), 0, 0).await,
        unknown
    );
    server.broker.shutdown().await.unwrap();
}

/// Sets a setting of the group.
async fn set(client: &mut Client, name: &str, value: &str) {
    let config = alter::AlterableConfig::default()
        .with_name(text(name))
        .with_value(Some(text(value)));
    let resource = alter::AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(GROUP))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(1, &request).await;
    assert_eq!(response.responses[0].error_code, 0, "{name}={value}");
}

/// A transaction of one batch, written past the broker's request.
fn transaction(server: &Server, producer_id: i64, sequence: i32, value: &str, committed: bool) {
    let partition = server
        .broker
        .state()
        .partitions
        .partition("jobs", 0)
        .unwrap();
    let log = partition.log().unwrap();
    let bytes = builder(&[value])
        .producer(producer_id, 0, sequence)
        .transactional(true)
        .build()
        .unwrap();
    let mode = dlog_storage::AppendMode::Leader {
        leader_epoch: 0,
        log_append_time: None,
    };
    log.append_batches(bytes, mode).unwrap();
    let marker = dlog_storage::EndMarker {
        producer_id,
        producer_epoch: 0,
        committed,
        coordinator_epoch: 0,
        timestamp_ms: common::now_ms(),
        strict_epoch: false,
    };
    log.append_end_marker(marker, 0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_aborted_transactions_are_left_out_when_asked() {
    let server = start().await;
    let mut client = server.client().await;
    let topic = client.topic("jobs").await;
    assert_eq!(initialize(&mut client, topic, 0, 0).await, 0);
    set(&mut client, "share.isolation.level", "read_committed").await;
    client.produce("jobs", 0, batch(&["plain"])).await;
    transaction(&server, 7, 0, "aborted", false);
    transaction(&server, 7, 1, "committed", true);
    client.produce("jobs", 0, batch(&["last"])).await;
    let mut a = Member::join(&server, "a", topic).await;
    // Offset 1 is the aborted record, 2 and 4 are the markers, which the member finds to be gaps.
    let got = ranges(&a.fetch(10, &[]).await);
    assert_eq!(got, [(0, 0, 1), (2, 5, 1)]);
    assert_eq!(a.says(&[(0, 0, ACCEPT), (2, 5, ACCEPT)]).await, 0);
    assert_eq!(ranges(&a.fetch(10, &[]).await), []);
    server.broker.shutdown().await.unwrap();
}
