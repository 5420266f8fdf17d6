//! Consumer groups of the new protocol (KIP-848) as a client on the wire sees them, over restarts of the
//! server.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{Client, start, text, topic_name};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    CreatePartitionsRequest, DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest,
    GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, create_partitions_request,
};
use kafka_protocol::{ResponseError, messages::TopicName};
use uuid::Uuid;

const GROUP: &str = "readers";

fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|name| topic_name(name)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

/// A heartbeat that says what the member has.
fn beat(member: &str, epoch: i32, owned: &[(Uuid, Vec<i32>)]) -> ConsumerGroupHeartbeatRequest {
    let owned = owned.iter().map(|(id, partitions)| {
        TopicPartitions::default()
            .with_topic_id(*id)
            .with_partitions(partitions.clone())
    });
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(Some(owned.collect()))
}

fn given(response: &ConsumerGroupHeartbeatResponse) -> Vec<(Uuid, Vec<i32>)> {
    assert_eq!(response.error_code, 0, "{response:?}");
    let topics = &response.assignment.as_ref().unwrap().topic_partitions;
    topics
        .iter()
        .map(|topic| (topic.topic_id, topic.partitions.clone()))
        .collect()
}

async fn grow(client: &mut Client, topic: &str, count: i32) {
    let topic = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic_name(topic))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
    let grown = client.call(3, &request).await;
    assert_eq!(grown.results[0].error_code, 0);
}

async fn commit(client: &mut Client, version: i16, member: &str, epoch: i32, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![topic]);
    let answer = client.call(version, &request).await;
    answer.topics[0].partitions[0].error_code
}

/// The error, and the offset of partition 0.
async fn fetch(client: &mut Client, member: Option<&str>, epoch: i32) -> (i16, i64) {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_member_id(member.map(text))
        .with_member_epoch(epoch)
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    let answer = client.call(9, &request).await.groups.remove(0);
    let offset = answer
        .topics
        .first()
        .map_or(-1, |topic| topic.partitions[0].committed_offset);
    (answer.error_code, offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_topic_and_the_group_survives_a_restart() {
    let server = start().await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    grow(&mut client, "t", 4).await;

    let first = client.call(1, &join("a", &["t"])).await;
    assert_eq!(
        (first.member_epoch, first.heartbeat_interval_ms),
        (1, 5_000)
    );
    assert_eq!(given(&first), [(id, vec![0, 1, 2, 3])]);

    // The second waits for what the first has to give back. Targets are a second apart.
    let second = client.call(1, &join("b", &["t"])).await;
    assert_eq!(given(&second), []);
    let mut kept = given(&first);
    let mut got = Vec::new();
    let (mut a, mut b) = (first.member_epoch, second.member_epoch);
    let begun = std::time::Instant::now();
    while got != [(id, vec![2, 3])] && got != [(id, vec![0, 1])] {
        assert!(begun.elapsed() < common::PATIENCE, "{kept:?} {got:?}");
        let answer = client.call(1, &beat("a", a, &kept)).await;
        a = answer.member_epoch;
        if answer.assignment.is_some() {
            kept = given(&answer);
        }
        let answer = client.call(1, &beat("b", b, &got)).await;
        b = answer.member_epoch;
        if answer.assignment.is_some() {
            let more = given(&answer);
            let both = more
                .iter()
                .flat_map(|t| &t.1)
                .any(|p| kept[0].1.contains(p));
            assert!(!both, "{kept:?} {more:?}");
            got = more;
        }
    }
    assert_eq!((a, b), (2, 2));

    assert_eq!(commit(&mut client, 9, "a", 2, 7).await, 0);
    let stale = ResponseError::StaleMemberEpoch.code();
    assert_eq!(commit(&mut client, 9, "a", 3, 8).await, stale);
    let old = ResponseError::UnsupportedVersion.code();
    assert_eq!(commit(&mut client, 8, "a", 2, 8).await, old);
    let unknown = ResponseError::UnknownMemberId.code();
    assert_eq!(commit(&mut client, 9, "c", 2, 8).await, unknown);
    assert_eq!(fetch(&mut client, Some("a"), 2).await, (0, 7));
    assert_eq!(fetch(&mut client, None, -1).await, (0, 7));
    assert_eq!(fetch(&mut client, Some("a"), 1).await.0, stale);

    drop(client);
    let server = server.restart().await;
    let mut client = server.client().await;
    let answer = client.call(1, &beat("a", 2, &kept)).await;
    assert_eq!((answer.error_code, answer.member_epoch), (0, 2));
    assert_eq!(fetch(&mut client, Some("b"), 2).await, (0, 7));

    let described = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
    let group = client.call(1, &described).await.groups.remove(0);
    assert_eq!(&*group.group_state, "Stable");
    assert_eq!((group.group_epoch, group.assignment_epoch), (2, 2));
    assert_eq!(&*group.assignor_name, "uniform");
    let members: Vec<(&str, i8)> = group
        .members
        .iter()
        .map(|member| (&*member.member_id, member.member_type))
        .collect();
    assert_eq!(members, [("a", 1), ("b", 1)]);
    assert_eq!(
        group.members[0].assignment,
        group.members[0].target_assignment
    );

    leave_and_delete(&mut client).await;
}

async fn leave_and_delete(client: &mut Client) {
    let not_empty = ResponseError::NonEmptyGroup.code();
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    let deleted = client.call(2, &delete).await;
    assert_eq!(deleted.results[0].error_code, not_empty);
    for member in ["a", "b"] {
        let left = client.call(1, &beat(member, -1, &[])).await;
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
    }
    let list = ListGroupsRequest::default().with_types_filter(vec![text("consumer")]);
    let listed = client.call(5, &list).await.groups;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&*listed[0].group_state, &*listed[0].group_type),
        ("Empty", "consumer")
    );
    let classic = ListGroupsRequest::default().with_types_filter(vec![text("classic")]);
    assert_eq!(client.call(5, &classic).await.groups, []);
    let deleted = client.call(2, &delete).await;
    assert_eq!(deleted.results[0].error_code, 0);
    let described = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
    let gone = client.call(1, &described).await.groups.remove(0);
    assert_eq!(gone.error_code, ResponseError::GroupIdNotFound.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_refused_are_refused_in_kafkas_words() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let good = join("a", &["t"]);
    let cases = [
        (
            good.clone().with_group_id(GroupId::default()),
            "GroupId can't be empty.",
        ),
        (
            good.clone().with_member_id(text("")),
            "MemberId can't be empty.",
        ),
        (
            good.clone().with_instance_id(Some(text(""))),
            "InstanceId can't be empty.",
        ),
        (
            good.clone().with_rack_id(Some(text(""))),
            "RackId can't be empty.",
        ),
        (
            good.clone().with_rebalance_timeout_ms(-1),
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            good.clone().with_topic_partitions(None),
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            good.clone().with_subscribed_topic_names(None),
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (
            good.clone().with_member_epoch(-3),
            "MemberEpoch is invalid.",
        ),
        (
            good.clone().with_member_epoch(-2),
            "InstanceId can't be null.",
        ),
    ];
    for (request, message) in cases {
        let answer = client.call(1, &request).await;
        assert_eq!(
            answer.error_code,
            ResponseError::InvalidRequest.code(),
            "{message}"
        );
        assert_eq!(answer.error_message.as_deref(), Some(message));
    }
    let code = |error: ResponseError| error.code();
    let answers = [
        (
            good.clone().with_server_assignor(Some(text("sticky"))),
            code(ResponseError::UnsupportedAssignor),
        ),
        (
            good.clone().with_subscribed_topic_regex(Some(text("("))),
            code(ResponseError::InvalidRegularExpression),
        ),
        (beat("a", 1, &[]), code(ResponseError::GroupIdNotFound)),
        (beat("a", -1, &[]), code(ResponseError::GroupIdNotFound)),
    ];
    for (request, expected) in answers {
        let answer = client.call(1, &request).await;
        assert_eq!(answer.error_code, expected, "{answer:?}");
    }
    assert_eq!(client.call(1, &good).await.error_code, 0);
    let fenced = client.call(1, &beat("a", 9, &[])).await;
    assert_eq!(fenced.error_code, code(ResponseError::FencedMemberEpoch));
    let unknown = client.call(1, &beat("z", 1, &[])).await;
    assert_eq!(unknown.error_code, code(ResponseError::UnknownMemberId));

    // A client of the classic protocol's API is told that this is no classic group.
    let describe = DescribeGroupsRequest::default().with_groups(vec![group()]);
    let shown = client.call(6, &describe).await.groups.remove(0);
    assert_eq!(shown.error_code, code(ResponseError::GroupIdNotFound));
    assert_eq!(&*shown.group_state, "Dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_find_topics_as_they_come() {
    let server = start().await;
    let mut client = server.client().await;
    let one = client.topic("red-1").await;
    let regex = |request: ConsumerGroupHeartbeatRequest| {
        request
            .with_subscribed_topic_names(Some(Vec::<TopicName>::new()))
            .with_subscribed_topic_regex(Some(text("red-.*")))
    };
    let first = client.call(1, &regex(join("a", &[]))).await;
    assert_eq!(given(&first), [(one, vec![0])]);
    let two = client.topic("red-2").await;
    client.topic("blue-1").await;
    let begun = std::time::Instant::now();
    let mut epoch = first.member_epoch;
    let mut has = given(&first);
    while has.len() < 2 {
        assert!(begun.elapsed() < common::PATIENCE, "{has:?}");
        let answer = client.call(1, &beat("a", epoch, &has)).await;
        epoch = answer.member_epoch;
        if answer.assignment.is_some() {
            has = given(&answer);
        }
    }
    let mut expected = vec![(one, vec![0]), (two, vec![0])];
    expected.sort();
    assert_eq!(has, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_leaves_no_offsets_behind() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    assert_eq!(commit(&mut client, 9, "", -1, 5).await, 0);
    assert_eq!(fetch(&mut client, None, -1).await, (0, 5));
    let topic = DeleteTopicState::default().with_name(Some(topic_name("t")));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]);
    let deleted = client.call(6, &request).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    client.topic("t").await;
    let begun = std::time::Instant::now();
    while fetch(&mut client, None, -1).await != (0, -1) {
        assert!(
            begun.elapsed() < common::PATIENCE,
            "the old offset is still there"
        );
    }
}
