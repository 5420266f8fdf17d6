//! Answers that the generated code writes pass in every version; no prefix and no lie about a count does.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::consumer_group_heartbeat_response::{
    Assignment, TopicPartitions as OwnedPartitions,
};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{
    TopicData, TransactionState as DescribedTransaction,
};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::check;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn name() -> TopicName {
    TopicName(text("orders"))
}

/// Encodes in each version and judges: the whole passes, every prefix fails.
fn judge<T: Encodable>(key: i16, versions: std::ops::RangeInclusive<i16>, of: impl Fn(i16) -> T) {
    for version in versions {
        let mut bytes = BytesMut::new();
        of(version).encode(&mut bytes, version).unwrap();
        check(key, version, &bytes).unwrap_or_else(|error| panic!("{key} v{version}: {error}"));
        for len in 0..bytes.len() {
            check(key, version, &bytes[..len]).expect_err("a prefix");
        }
    }
}

#[test]
fn produce_and_fetch() {
    judge(0, 3..=12, |version| {
        let mut partition = PartitionProduceResponse::default().with_index(3);
        let mut answer = ProduceResponse::default();
        if version >= 8 {
            let error = BatchIndexAndErrorMessage::default()
                .with_batch_index_error_message(Some(text("no")));
            partition = partition
                .with_record_errors(vec![error.clone(), error])
                .with_error_message(Some(text("why")));
        }
        if version >= 10 {
            partition = partition
                .with_current_leader(LeaderIdAndEpoch::default().with_leader_id(BrokerId(4)));
            let end = NodeEndpoint::default()
                .with_host(text("h"))
                .with_rack(Some(text("r")));
            answer = answer.with_node_endpoints(vec![end]);
        }
        let topic = TopicProduceResponse::default()
            .with_name(name())
            .with_partition_responses(vec![partition.clone(), partition]);
        answer.with_responses(vec![topic])
    });
    judge(1, 4..=12, |version| {
        let mut partition = PartitionData::default()
            .with_aborted_transactions(Some(vec![AbortedTransaction::default(); 3]))
            .with_records(Some(Bytes::from_static(b"some records")));
        if version >= 12 {
            partition = partition.with_diverging_epoch(EpochEndOffset::default().with_epoch(1));
        }
        let topic = FetchableTopicResponse::default()
            .with_topic(name())
            .with_partitions(vec![
                partition.clone(),
                partition.with_aborted_transactions(None),
            ]);
        FetchResponse::default().with_responses(vec![topic])
    });
}

#[test]
fn metadata_offsets_and_versions() {
    judge(3, 1..=12, |_| {
        let partition = MetadataResponsePartition::default()
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(1)]);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(name()))
            .with_partitions(vec![partition; 3]);
        let broker = MetadataResponseBroker::default().with_host(text("localhost"));
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic; 2])
    });
    judge(2, 1..=7, |_| {
        let partitions = vec![ListOffsetsPartitionResponse::default(); 2];
        let topic = ListOffsetsTopicResponse::default()
            .with_name(name())
            .with_partitions(partitions);
        ListOffsetsResponse::default().with_topics(vec![topic])
    });
    judge(18, 0..=3, |version| {
        let answer = ApiVersionsResponse::default().with_api_keys(vec![ApiVersion::default(); 4]);
        if version < 3 {
            return answer;
        }
        answer
            .with_supported_features(vec![SupportedFeatureKey::default().with_name(text("a"))])
            .with_finalized_features(vec![FinalizedFeatureKey::default().with_name(text("b"))])
            .with_finalized_features_epoch(3)
            .with_zk_migration_ready(true)
    });
    judge(22, 0..=4, |_| InitProducerIdResponse::default());
}

#[test]
fn coordinators_and_members() {
    judge(10, 0..=5, |version| {
        let answer = FindCoordinatorResponse::default();
        if version < 4 {
            return answer.with_host(text("localhost")).with_port(9092);
        }
        let found = Coordinator::default()
            .with_key(text("g"))
            .with_host(text("localhost"));
        answer.with_coordinators(vec![found; 2])
    });
    judge(11, 0..=9, |_| {
        let member = JoinGroupResponseMember::default()
            .with_member_id(text("m"))
            .with_metadata(Bytes::from_static(b"subscription"));
        JoinGroupResponse::default()
            .with_protocol_name(Some(text("range")))
            .with_members(vec![member; 3])
    });
    judge(12, 0..=4, |_| HeartbeatResponse::default());
    judge(13, 0..=5, |version| {
        let member = MemberResponse::default().with_member_id(text("m"));
        let members = if version < 3 { vec![] } else { vec![member] };
        LeaveGroupResponse::default().with_members(members)
    });
    judge(14, 0..=5, |_| {
        SyncGroupResponse::default().with_assignment(Bytes::from_static(b"assignment"))
    });
    judge(68, 0..=1, |version| {
        let owned = OwnedPartitions::default().with_partitions(vec![1, 2, 3]);
        let assignment = Assignment::default().with_topic_partitions(vec![owned; 2]);
        ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text("m")))
            // One version with, one without: null is one byte too.
            .with_assignment((version > 0).then_some(assignment))
    });
}

#[test]
fn transactions() {
    judge(24, 0..=3, |_| {
        let partition = AddPartitionsToTxnPartitionResult::default().with_partition_index(1);
        let topic = AddPartitionsToTxnTopicResult::default()
            .with_name(name())
            .with_results_by_partition(vec![partition; 2]);
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic])
    });
    judge(26, 0..=5, |_| EndTxnResponse::default());
    judge(27, 1..=1, |_| {
        let partition = WritableTxnMarkerPartitionResult::default();
        let topic = WritableTxnMarkerTopicResult::default()
            .with_name(name())
            .with_partitions(vec![partition; 2]);
        let marker = WritableTxnMarkerResult::default().with_topics(vec![topic]);
        WriteTxnMarkersResponse::default().with_markers(vec![marker; 2])
    });
    judge(61, 0..=0, |_| {
        let partition = PartitionResponse::default()
            .with_error_message(Some(text("why")))
            .with_active_producers(vec![ProducerState::default(); 3]);
        let topic = TopicResponse::default()
            .with_name(name())
            .with_partitions(vec![partition]);
        DescribeProducersResponse::default().with_topics(vec![topic])
    });
    judge(65, 0..=0, |_| {
        let topic = TopicData::default()
            .with_topic(name())
            .with_partitions(vec![1, 2]);
        let state = DescribedTransaction::default()
            .with_transactional_id(TransactionalId(text("id")))
            .with_topics(vec![topic; 2]);
        DescribeTransactionsResponse::default().with_transaction_states(vec![state])
    });
    judge(66, 0..=2, |_| {
        let state = ListedTransaction::default().with_transaction_state(text("Ongoing"));
        ListTransactionsResponse::default()
            .with_unknown_state_filters(vec![text("Gone"); 2])
            .with_transaction_states(vec![state; 2])
    });
}

#[test]
fn administration() {
    judge(19, 2..=7, |version| {
        let mut topic = CreatableTopicResult::default().with_name(name());
        if version >= 5 {
            let config = CreatableTopicConfigs::default()
                .with_name(text("c"))
                .with_value(Some(text("v")));
            topic = topic
                .with_configs(Some(vec![config; 2]))
                .with_topic_config_error_code(3);
        }
        CreateTopicsResponse::default().with_topics(vec![topic])
    });
    judge(20, 1..=6, |_| {
        let topic = DeletableTopicResult::default().with_name(Some(name()));
        DeleteTopicsResponse::default().with_responses(vec![topic; 2])
    });
    judge(37, 0..=3, |_| {
        let topic = CreatePartitionsTopicResult::default().with_name(name());
        CreatePartitionsResponse::default().with_results(vec![topic])
    });
    judge(32, 1..=4, |_| {
        let synonym = DescribeConfigsSynonym::default()
            .with_name(text("s"))
            .with_value(None);
        let config = DescribeConfigsResourceResult::default()
            .with_name(text("n"))
            .with_synonyms(vec![synonym]);
        let result = DescribeConfigsResult::default()
            .with_resource_name(text("orders"))
            .with_configs(vec![config; 2]);
        DescribeConfigsResponse::default().with_results(vec![result])
    });
    judge(44, 0..=1, |_| {
        let result = AlterConfigsResourceResponse::default().with_resource_name(text("orders"));
        IncrementalAlterConfigsResponse::default().with_responses(vec![result])
    });
}

#[test]
fn counts_that_cannot_be() {
    // Metadata v12 with 2^28 brokers, v8 with 2^31-1.
    check(3, 12, &[0, 0, 0, 0, 0x81, 0x80, 0x80, 0x80, 0x01]).unwrap_err();
    check(3, 8, &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]).unwrap_err();
    // A negative length that is no null.
    check(3, 8, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xf0]).unwrap_err();
    // A count inside a tagged field.
    check(
        18,
        3,
        &[0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x01],
    )
    .unwrap_err();
    // An API without a shape.
    check(9, 1, &[]).unwrap_err();
}

#[test]
fn groups_with_their_offsets() {
    use kafka_protocol::messages::consumer_group_describe_response as described;
    use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
    use kafka_protocol::messages::describe_groups_response::{
        DescribedGroup, DescribedGroupMember,
    };
    use kafka_protocol::messages::list_groups_response::ListedGroup;
    use kafka_protocol::messages::offset_commit_response::{
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };
    use kafka_protocol::messages::offset_delete_response::{
        OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    };
    use kafka_protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
    };

    judge(8, 2..=9, |_| {
        let topic = OffsetCommitResponseTopic::default()
            .with_name(name())
            .with_partitions(vec![OffsetCommitResponsePartition::default()]);
        OffsetCommitResponse::default().with_topics(vec![topic])
    });
    judge(9, 8..=9, |_| {
        let partition = OffsetFetchResponsePartitions::default().with_metadata(Some(text("m")));
        let topic = OffsetFetchResponseTopics::default()
            .with_name(name())
            .with_partitions(vec![partition]);
        let group = OffsetFetchResponseGroup::default().with_topics(vec![topic]);
        OffsetFetchResponse::default().with_groups(vec![group])
    });
    judge(15, 0..=6, |version| {
        let mut member = DescribedGroupMember::default().with_member_assignment(Bytes::from("abc"));
        if version >= 4 {
            member.group_instance_id = Some(text("i"));
        }
        let mut group = DescribedGroup::default().with_members(vec![member]);
        if version >= 6 {
            group.error_message = Some(text("no"));
        }
        DescribeGroupsResponse::default().with_groups(vec![group])
    });
    judge(16, 0..=5, |version| {
        let mut group = ListedGroup::default();
        if version >= 4 {
            group.group_state = text("Stable");
        }
        if version >= 5 {
            group.group_type = text("consumer");
        }
        ListGroupsResponse::default().with_groups(vec![group])
    });
    judge(42, 0..=2, |_| {
        DeleteGroupsResponse::default().with_results(vec![DeletableGroupResult::default()])
    });
    judge(47, 0..=0, |_| {
        let topic = OffsetDeleteResponseTopic::default()
            .with_name(name())
            .with_partitions(vec![OffsetDeleteResponsePartition::default()]);
        OffsetDeleteResponse::default().with_topics(vec![topic])
    });
    judge(69, 0..=1, |version| {
        let topic = described::TopicPartitions::default()
            .with_topic_name(name())
            .with_partitions(vec![1, 2]);
        let has = described::Assignment::default().with_topic_partitions(vec![topic]);
        let mut member = described::Member::default()
            .with_instance_id(Some(text("i")))
            .with_subscribed_topic_names(vec![name()])
            .with_assignment(has.clone())
            .with_target_assignment(has);
        if version >= 1 {
            member.member_type = 1;
        }
        let group = described::DescribedGroup::default().with_members(vec![member]);
        ConsumerGroupDescribeResponse::default().with_groups(vec![group])
    });
}
