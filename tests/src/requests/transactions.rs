//! The part of [`crate::requests`] that is about transactions. None of them begins one: the transactional
//! id has no producer.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::produce::topic_name;

fn id() -> TransactionalId {
    TransactionalId(StrBytes::from_static_str("hostile-id"))
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("hostile-group"))
}

/// Samples of the APIs of transactions.
pub(crate) fn samples(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let mut samples = of_producers(topic);
    samples.push((
        ApiKey::DescribeTransactions,
        RequestKind::DescribeTransactions(
            DescribeTransactionsRequest::default().with_transactional_ids(vec![id(), id()]),
        ),
    ));
    let marked = write_txn_markers_request::WritableTxnMarkerTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let marker = write_txn_markers_request::WritableTxnMarker::default()
        .with_producer_id(ProducerId(987_654))
        .with_topics(vec![marked]);
    samples.push((
        ApiKey::WriteTxnMarkers,
        RequestKind::WriteTxnMarkers(WriteTxnMarkersRequest::default().with_markers(vec![marker])),
    ));
    let listing = ListTransactionsRequest::default()
        .with_state_filters(vec![StrBytes::from_static_str("Ongoing")])
        .with_producer_id_filters(vec![ProducerId(1)]);
    samples.push((
        ApiKey::ListTransactions,
        RequestKind::ListTransactions(listing.clone()),
    ));
    samples.push((
        ApiKey::ListTransactions,
        RequestKind::ListTransactions(
            listing
                .with_duration_filter(1)
                .with_transactional_id_pattern(Some(StrBytes::from_static_str("host(ile)?.*"))),
        ),
    ));
    samples
}

fn of_producers(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    use add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
    use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    let added = AddPartitionsToTxnTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![0]);
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(id())
        .with_topics(vec![added.clone()]);
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_committed_metadata(Some(StrBytes::from_static_str("metadata")));
    let committed = TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let commit = TxnOffsetCommitRequest::default()
        .with_transactional_id(id())
        .with_group_id(group())
        .with_topics(vec![committed]);
    vec![
        (
            ApiKey::AddPartitionsToTxn,
            RequestKind::AddPartitionsToTxn(
                AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(id())
                    .with_v3_and_below_topics(vec![added]),
            ),
        ),
        (
            ApiKey::AddPartitionsToTxn,
            RequestKind::AddPartitionsToTxn(
                AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]),
            ),
        ),
        (
            ApiKey::AddOffsetsToTxn,
            RequestKind::AddOffsetsToTxn(
                AddOffsetsToTxnRequest::default()
                    .with_transactional_id(id())
                    .with_group_id(group()),
            ),
        ),
        (
            ApiKey::EndTxn,
            RequestKind::EndTxn(EndTxnRequest::default().with_transactional_id(id())),
        ),
        (
            ApiKey::TxnOffsetCommit,
            RequestKind::TxnOffsetCommit(commit.clone()),
        ),
        (
            ApiKey::TxnOffsetCommit,
            RequestKind::TxnOffsetCommit(
                commit
                    .with_member_id(StrBytes::from_static_str("member"))
                    .with_group_instance_id(Some(StrBytes::from_static_str("instance"))),
            ),
        ),
    ]
}

/// The body of WriteTxnMarkers 2, with the version of the transaction.
pub(crate) fn write_txn_markers_2(topic: &str) -> Vec<u8> {
    [
        &[2][..],
        &987_654_i64.to_be_bytes(),
        &[0, 0, 0, 2, topic.len() as u8 + 1],
        topic.as_bytes(),
        &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
    ]
    .concat()
}

/// The body of TxnOffsetCommit 6, which names topics by ids; this one does not exist.
pub(crate) fn txn_offset_commit_6() -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8 + 1][..], text.as_bytes()].concat();
    [
        &text("hostile-id")[..],
        &text("hostile-group"),
        &7_i64.to_be_bytes(),
        &[0, 0, 0xff, 0xff, 0xff, 0xff],
        &text("member"),
        &text("instance"),
        &[2],
        &[7; 16],
        &[2, 0, 0, 0, 0],
        &5_i64.to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff],
        &text("metadata"),
        &[0, 0, 0],
    ]
    .concat()
}
