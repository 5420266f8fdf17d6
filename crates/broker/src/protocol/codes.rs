//! The error codes in a response, wherever its API has them: what the metrics count.

use kafka_protocol::messages::*;

/// A response whose error codes can be listed.
pub trait ErrorCodes {
    /// Every error code in the response, 0 left out.
    fn error_codes(&self) -> Vec<i16>;
}

/// `Response => |response| codes`: an iterator over all codes.
macro_rules! error_codes {
    ($($response:ty => |$name:ident| $codes:expr;)*) => {$(
        impl ErrorCodes for $response {
            fn error_codes(&self) -> Vec<i16> {
                let $name = self;
                $codes.into_iter().filter(|&code| code != 0).collect()
            }
        }
    )*};
}

error_codes! {
    AlterClientQuotasResponse => |r| r.entries.iter().map(|e| e.error_code);
    AlterPartitionReassignmentsResponse => |r| {
        let partitions = r.responses.iter().flat_map(|t| &t.partitions);
        std::iter::once(r.error_code).chain(partitions.map(|p| p.error_code))
    };
    AlterReplicaLogDirsResponse => |r| r.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    AlterUserScramCredentialsResponse => |r| r.results.iter().map(|r| r.error_code);
    CreateAclsResponse => |r| r.results.iter().map(|r| r.error_code);
    DeleteAclsResponse => |r| r.filter_results.iter().map(|r| r.error_code);
    DescribeAclsResponse => |r| [r.error_code];
    DescribeClientQuotasResponse => |r| [r.error_code];
    DescribeQuorumResponse => |r| {
        let partitions = r.topics.iter().flat_map(|t| &t.partitions);
        std::iter::once(r.error_code).chain(partitions.map(|p| p.error_code))
    };
    DescribeUserScramCredentialsResponse => |r| {
        std::iter::once(r.error_code).chain(r.results.iter().map(|r| r.error_code))
    };
    ElectLeadersResponse => |r| {
        let partitions = r.replica_election_results.iter().flat_map(|t| &t.partition_result);
        std::iter::once(r.error_code).chain(partitions.map(|p| p.error_code))
    };
    UnregisterBrokerResponse => |r| [r.error_code];
    UpdateFeaturesResponse => |r| {
        std::iter::once(r.error_code).chain(r.results.iter().map(|r| r.error_code))
    };
    AddOffsetsToTxnResponse => |r| [r.error_code];
    AddPartitionsToTxnResponse => |r| {
        let before = r.results_by_topic_v3_and_below.iter();
        let topics = r.results_by_transaction.iter().flat_map(|t| &t.topic_results).chain(before);
        let partitions = topics.flat_map(|t| &t.results_by_partition);
        std::iter::once(r.error_code).chain(partitions.map(|p| p.partition_error_code))
    };
    AlterConfigsResponse => |r| r.responses.iter().map(|r| r.error_code);
    ApiVersionsResponse => |r| [r.error_code];
    ConsumerGroupDescribeResponse => |r| r.groups.iter().map(|g| g.error_code);
    ConsumerGroupHeartbeatResponse => |r| [r.error_code];
    CreatePartitionsResponse => |r| r.results.iter().map(|r| r.error_code);
    CreateTopicsResponse => |r| r.topics.iter().map(|t| t.error_code);
    DeleteGroupsResponse => |r| r.results.iter().map(|r| r.error_code);
    DeleteRecordsResponse => |r| r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    DeleteTopicsResponse => |r| r.responses.iter().map(|r| r.error_code);
    DescribeClusterResponse => |r| [r.error_code];
    DescribeConfigsResponse => |r| r.results.iter().map(|r| r.error_code);
    DescribeGroupsResponse => |r| r.groups.iter().map(|g| g.error_code);
    DescribeLogDirsResponse => |r| r.results.iter().map(|r| r.error_code);
    DescribeProducersResponse => |r| r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    DescribeTopicPartitionsResponse => |r| r.topics.iter().flat_map(|topic| {
        std::iter::once(topic.error_code).chain(topic.partitions.iter().map(|p| p.error_code))
    });
    DescribeTransactionsResponse => |r| r.transaction_states.iter().map(|t| t.error_code);
    EndTxnResponse => |r| [r.error_code];
    FindCoordinatorResponse => |r| {
        std::iter::once(r.error_code).chain(r.coordinators.iter().map(|c| c.error_code))
    };
    HeartbeatResponse => |r| [r.error_code];
    IncrementalAlterConfigsResponse => |r| r.responses.iter().map(|r| r.error_code);
    InitProducerIdResponse => |r| [r.error_code];
    JoinGroupResponse => |r| [r.error_code];
    LeaveGroupResponse => |r| {
        std::iter::once(r.error_code).chain(r.members.iter().map(|m| m.error_code))
    };
    ListConfigResourcesResponse => |r| [r.error_code];
    ListGroupsResponse => |r| [r.error_code];
    ListOffsetsResponse => |r| r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    ListPartitionReassignmentsResponse => |r| [r.error_code];
    ListTransactionsResponse => |r| [r.error_code];
    MetadataResponse => |r| r.topics.iter().flat_map(|topic| {
        std::iter::once(topic.error_code).chain(topic.partitions.iter().map(|p| p.error_code))
    });
    OffsetCommitResponse => |r| r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    OffsetDeleteResponse => |r| {
        let partitions = r.topics.iter().flat_map(|t| &t.partitions);
        std::iter::once(r.error_code).chain(partitions.map(|p| p.error_code))
    };
    OffsetFetchResponse => |r| {
        let before = r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
        let groups = r.groups.iter().flat_map(|group| {
            let partitions = group.topics.iter().flat_map(|t| &t.partitions);
            std::iter::once(group.error_code).chain(partitions.map(|p| p.error_code))
        });
        std::iter::once(r.error_code).chain(before).chain(groups)
    };
    OffsetForLeaderEpochResponse => |r| r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    AlterShareGroupOffsetsResponse => |r| {
        let partitions = r.responses.iter().flat_map(|t| &t.partitions);
        std::iter::once(r.error_code).chain(partitions.map(|p| p.error_code))
    };
    DeleteShareGroupOffsetsResponse => |r| {
        std::iter::once(r.error_code).chain(r.responses.iter().map(|t| t.error_code))
    };
    ShareGroupDescribeResponse => |r| r.groups.iter().map(|g| g.error_code);
    ShareGroupHeartbeatResponse => |r| [r.error_code];
    DeleteShareGroupStateResponse => |r| r.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    InitializeShareGroupStateResponse => |r| r.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    ReadShareGroupStateResponse => |r| r.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    SyncGroupResponse => |r| [r.error_code];
    TxnOffsetCommitResponse => |r| r.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    WriteShareGroupStateResponse => |r| r.results.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
    WriteTxnMarkersResponse => |r| {
        let topics = r.markers.iter().flat_map(|marker| &marker.topics);
        topics.flat_map(|topic| &topic.partitions).map(|p| p.error_code)
    };
}
