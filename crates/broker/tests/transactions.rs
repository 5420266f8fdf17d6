//! What clients see of transactions in a partition: WriteTxnMarkers, and the reads that depend on it.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dlog_storage::AppendMode;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_response::AbortedTransaction;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeProducersRequest, FetchRequest, FetchResponse, ListOffsetsRequest, ProducerId,
    WriteTxnMarkersRequest,
};

use common::{Client, Server, builder, fetch_request, records, start, topic_name};
use uuid::Uuid;

const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// A batch of a transaction, straight into the log.
fn append(server: &Server, producer: (i64, i16), sequence: i32, values: &[&str]) {
    let batch = builder(values)
        .producer(producer.0, producer.1, sequence)
        .transactional(true);
    let partition = server.broker.state().partitions.partition("t", 0).unwrap();
    let mode = AppendMode::Leader {
        leader_epoch: partition.leader_epoch(),
        log_append_time: None,
    };
    let log = partition.log().unwrap();
    log.append_batches(batch.build().unwrap(), mode).unwrap();
    log.flush().unwrap();
}

fn log_end(server: &Server) -> i64 {
    let partition = server.broker.state().partitions.partition("t", 0).unwrap();
    partition.log().unwrap().log_end_offset()
}

fn marker(producer: (i64, i16), committed: bool, coordinator_epoch: i32) -> WritableTxnMarker {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_transaction_result(committed)
        .with_coordinator_epoch(coordinator_epoch)
        .with_topics(vec![topic])
}

async fn end(client: &mut Client, marker: WritableTxnMarker) -> i16 {
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let answer = client.call(1, &request).await;
    answer.markers[0].topics[0].partitions[0].error_code
}

/// WriteTxnMarkers 2, which `kafka-protocol` does not know: one marker for t-0.
async fn end_strictly(client: &mut Client, producer: (i64, i16), transaction_version: i8) -> i16 {
    let mut body = BytesMut::new();
    body.put_u8(2);
    body.put_i64(producer.0);
    body.put_i16(producer.1);
    body.put_u8(1);
    body.put_slice(&[2, 2, b't', 2]);
    body.put_i32(0);
    body.put_u8(0);
    body.put_i32(0);
    body.put_i8(transaction_version);
    body.put_slice(&[0, 0]);
    let mut answer = client.call_raw(ApiKey::WriteTxnMarkers, 2, 1, &body).await;
    assert_eq!(answer.get_u8(), 2, "one marker");
    assert_eq!(answer.get_i64(), producer.0);
    assert_eq!(answer.split_to(4), Bytes::from_static(&[2, 2, b't', 2]));
    assert_eq!(answer.get_i32(), 0, "the partition");
    let code = answer.get_i16();
    assert_eq!(&answer[..], [0, 0, 0, 0], "tagged fields");
    code
}

fn committed(offset: i64) -> FetchRequest {
    fetch_request("t", Uuid::nil(), 0, offset).with_isolation_level(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_committed_records_see_transactions_once_they_ended() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    append(&server, (7, 0), 0, &["a", "b"]);
    append(&server, (8, 0), 0, &["c"]);
    for version in 4..=12 {
        let seen: FetchResponse = client.call(version, &committed(0)).await;
        let seen = &seen.responses[0].partitions[0];
        assert_eq!((seen.high_watermark, seen.last_stable_offset), (3, 0));
        assert_eq!(seen.aborted_transactions, Some(vec![]));
        assert!(seen.records.clone().unwrap().is_empty());
        let request = fetch_request("t", Uuid::nil(), 0, 0);
        let all: FetchResponse = client.call(version, &request).await;
        let all = &all.responses[0].partitions[0];
        assert_eq!((all.high_watermark, all.last_stable_offset), (3, 0));
        assert_eq!(all.aborted_transactions, None);
        assert_eq!(records(all.records.clone().unwrap()).len(), 3);
    }
    assert_eq!(end(&mut client, marker((8, 0), false, 0)).await, 0);
    assert_eq!(end(&mut client, marker((7, 0), true, 0)).await, 0);
    let aborted = AbortedTransaction::default()
        .with_producer_id(ProducerId(8))
        .with_first_offset(2);
    for version in 4..=12 {
        let seen: FetchResponse = client.call(version, &committed(0)).await;
        let seen = &seen.responses[0].partitions[0];
        assert_eq!((seen.high_watermark, seen.last_stable_offset), (5, 5));
        assert_eq!(seen.aborted_transactions, Some(vec![aborted.clone()]));
        let seen: FetchResponse = client.call(version, &committed(4)).await;
        let none = &seen.responses[0].partitions[0].aborted_transactions;
        assert_eq!(none, &Some(vec![]), "nothing aborted from there on");
    }
    let server = server.restart().await;
    let seen: FetchResponse = server.client().await.call(12, &committed(0)).await;
    let seen = &seen.responses[0].partitions[0];
    assert_eq!(seen.aborted_transactions, Some(vec![aborted]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_wakes_when_the_transaction_ends() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    append(&server, (7, 0), 0, &["a"]);
    let mut reader = server.client().await;
    let request = committed(0).with_max_wait_ms(300_000);
    let sent = reader.send(12, &request).await;
    // An append of another kind wakes it too, but there is nothing more to read.
    assert_eq!(client.produce("t", 0, common::batch(&["b"])).await.error, 0);
    assert_eq!(end(&mut client, marker((7, 0), true, 0)).await, 0);
    let seen = reader.receive::<FetchRequest>(12, sent).await;
    let seen = &seen.responses[0].partitions[0];
    assert_eq!(seen.last_stable_offset, 3);
    let mut bytes = seen.records.clone().unwrap();
    assert_eq!(
        dlog_storage::record::Batch::split_first(&mut bytes)
            .unwrap()
            .unwrap()
            .header()
            .producer_id,
        7
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_up_to_the_last_stable_one() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    assert_eq!(client.produce("t", 0, common::batch(&["x"])).await.error, 0);
    append(&server, (7, 0), 0, &["a"]);
    let mut found = Vec::new();
    for (isolation, timestamp) in [
        (0, -1),
        (1, -1),
        (0, -3),
        (1, -3),
        (1, -2),
        (1, 0),
        (1, 1 << 50),
    ] {
        let asked = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_isolation_level(isolation)
            .with_topics(vec![topic]);
        let answer = client.call(8, &request).await;
        let answer = &answer.topics[0].partitions[0];
        assert_eq!(answer.error_code, 0);
        found.push(answer.offset);
    }
    // The youngest record is the first one of the transaction, or of the same millisecond before it.
    let youngest = found[2];
    assert_eq!(found[3], if youngest == 0 { 0 } else { -1 });
    assert_eq!(
        (found[0], found[1], found[4], found[5], found[6]),
        (2, 1, 0, 0, -1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_are_refused_and_producers_described() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    append(&server, (7, 3), 0, &["a"]);
    let described = async |client: &mut Client| {
        let topic = TopicRequest::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        let answer = client.call(0, &request).await;
        let producer = &answer.topics[0].partitions[0].active_producers[0];
        (
            producer.producer_epoch,
            producer.last_sequence,
            producer.coordinator_epoch,
            producer.current_txn_start_offset,
        )
    };
    assert_eq!(described(&mut client).await, (3, 0, -1, 0));
    let code = end(&mut client, marker((7, 2), true, 5)).await;
    assert_eq!(code, INVALID_PRODUCER_EPOCH);
    assert_eq!(
        end_strictly(&mut client, (7, 3), 2).await,
        INVALID_PRODUCER_EPOCH
    );
    assert_eq!(end(&mut client, marker((7, 3), true, 5)).await, 0);
    assert_eq!(described(&mut client).await, (3, 0, 5, -1));
    let code = end(&mut client, marker((7, 3), true, 4)).await;
    assert_eq!(code, TRANSACTION_COORDINATOR_FENCED);
    let mut elsewhere = marker((7, 3), true, 5);
    elsewhere.topics[0].partition_indexes = vec![9];
    assert_eq!(
        end(&mut client, elsewhere).await,
        UNKNOWN_TOPIC_OR_PARTITION
    );

    let code = end(&mut client, marker((-1, 3), true, 5)).await;
    assert_eq!(code, INVALID_TXN_STATE);
    let mut twice = marker((7, 3), true, 5);
    twice.topics[0].partition_indexes = vec![0, 0, 9, 0];
    let end_before = log_end(&server);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![twice]);
    let answer = client.call(1, &request).await;
    let answered = answer.markers[0].topics[0].partitions.iter();
    let answered: Vec<_> = answered
        .map(|p| (p.partition_index, p.error_code))
        .collect();
    assert_eq!(answered, [(0, 0), (9, UNKNOWN_TOPIC_OR_PARTITION)]);
    assert_eq!(log_end(&server), end_before + 1);

    append(&server, (9, 0), 0, &["b"]);
    assert_eq!(
        end_strictly(&mut client, (9, 0), 1).await,
        0,
        "as version 1"
    );
    append(&server, (9, 0), 1, &["b"]);
    assert_eq!(end_strictly(&mut client, (9, 1), 2).await, 0);
    assert_eq!(end_strictly(&mut client, (9, 1), 2).await, 0, "repeated");
}
