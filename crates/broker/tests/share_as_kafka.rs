//! Unusual requests about share groups, and what Apache Kafka 4.4.0 answers.
//! `DLOG_TEST_KAFKA=host:port` puts the same questions to a running Kafka.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::fmt::Write as _;

use common::{Client, PATIENCE, batch, start, text, topic_name};
use kafka_protocol::messages::alter_share_group_offsets_request as alter;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::delete_share_group_offsets_request as delete;
use kafka_protocol::messages::describe_share_group_offsets_request as offsets;
use kafka_protocol::messages::incremental_alter_configs_request as configs;
use kafka_protocol::messages::initialize_share_group_state_request as initialize;
use kafka_protocol::messages::read_share_group_state_request as read;
use kafka_protocol::messages::share_acknowledge_request as ack;
use kafka_protocol::messages::share_fetch_request as fetch;
use kafka_protocol::messages::write_share_group_state_request as write;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, ConsumerGroupHeartbeatRequest, DeleteShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequest, FindCoordinatorRequest, GroupId,
    IncrementalAlterConfigsRequest, InitializeShareGroupStateRequest, ReadShareGroupStateRequest,
    ShareAcknowledgeRequest, ShareFetchRequest, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest, WriteShareGroupStateRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

/// A Kafka uuid: base64 without padding.
const MEMBER: &str = "dPiXF9IjTiWfLcMR4vRbHQ";
const OTHER: &str = "gVQ3kTQkSFa8WmPsoSVYGA";

/// Who asks, about what, and what was said so far.
struct Asked {
    client: Client,
    topic: Uuid,
    group: String,
    topic_name: String,
    said: String,
}

type Batches<'a> = &'a [(i64, i64, &'a [i8])];

impl Asked {
    fn note(&mut self, question: &str, code: i16, message: Option<&StrBytes>) {
        let message = message.map(|m| m.to_string()).unwrap_or_default();
        let message = message
            .replace(&self.group, "GROUP")
            .replace(&self.topic_name, "TOPIC");
        let line = format!("{question}: {code} {message}");
        writeln!(self.said, "{}", line.trim_end()).unwrap();
    }

    async fn beat(&mut self, question: &str, request: ShareGroupHeartbeatRequest) {
        let answer = self.client.call(1, &request).await;
        self.note(question, answer.error_code, answer.error_message.as_ref());
    }

    fn member(&self, id: &str, epoch: i32, topics: Option<&[&str]>) -> ShareGroupHeartbeatRequest {
        let topics = topics.map(|names| names.iter().map(|name| topic_name(name)).collect());
        ShareGroupHeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_member_id(text(id))
            .with_member_epoch(epoch)
            .with_subscribed_topic_names(topics)
    }

    fn fetch_request(&self, member: &str, epoch: i32) -> ShareFetchRequest {
        ShareFetchRequest::default()
            .with_group_id(Some(group_id(&self.group)))
            .with_member_id(Some(text(member)))
            .with_share_session_epoch(epoch)
            .with_max_wait_ms(200)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(0)
            .with_batch_size(0)
    }

    fn about(id: Uuid, partition: i32, batches: Batches<'_>) -> Vec<fetch::FetchTopic> {
        let batches = batches.iter().map(|(first, last, kinds)| {
            fetch::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(kinds.to_vec())
        });
        let partition = fetch::FetchPartition::default()
            .with_partition_index(partition)
            .with_acknowledgement_batches(batches.collect());
        let topic = fetch::FetchTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]);
        vec![topic]
    }

    async fn fetch(&mut self, question: &str, request: ShareFetchRequest) {
        let answer = self.client.call(1, &request).await;
        self.note(question, answer.error_code, answer.error_message.as_ref());
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let mut lines: Vec<String> = partitions
            .map(|partition| {
                let ranges = partition.acquired_records.iter();
                let ranges: Vec<_> = ranges.map(|r| (r.first_offset, r.last_offset)).collect();
                let (code, message) = (
                    partition.acknowledge_error_code,
                    partition.acknowledge_error_message.as_deref(),
                );
                format!(
                    "  {}: {} {:?}, acknowledged {}, acquired {ranges:?}",
                    partition.partition_index,
                    partition.error_code,
                    partition.error_message.as_deref().unwrap_or_default(),
                    of_acknowledgement(code, message),
                )
            })
            .collect();
        lines.sort();
        for line in lines {
            writeln!(self.said, "{line}").unwrap();
        }
    }

    async fn acknowledge(
        &mut self,
        question: &str,
        (member, epoch): (&str, i32),
        (id, partition): (Uuid, i32),
        batches: Batches<'_>,
    ) {
        let batches = batches.iter().map(|(first, last, kinds)| {
            ack::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(kinds.to_vec())
        });
        let partition = ack::AcknowledgePartition::default()
            .with_partition_index(partition)
            .with_acknowledgement_batches(batches.collect());
        let topic = ack::AcknowledgeTopic::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(group_id(&self.group)))
            .with_member_id(Some(text(member)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic]);
        let answer = self.client.call(1, &request).await;
        self.note(question, answer.error_code, answer.error_message.as_ref());
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let message = partition.error_message.as_deref();
            let result = of_acknowledgement(partition.error_code, message);
            writeln!(self.said, "  {}: {result}", partition.partition_index).unwrap();
        }
    }

    async fn alter(&mut self, question: &str, group: &str, topic: &str, index: i32, start: i64) {
        let partition = alter::AlterShareGroupOffsetsRequestPartition::default()
            .with_partition_index(index)
            .with_start_offset(start);
        let topic = alter::AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = AlterShareGroupOffsetsRequest::default()
            .with_group_id(group_id(group))
            .with_topics(vec![topic]);
        let answer = self.client.call(0, &request).await;
        self.note(question, answer.error_code, answer.error_message.as_ref());
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let code = partition.error_code;
            self.note("  partition", code, partition.error_message.as_ref());
        }
    }

    async fn delete(&mut self, question: &str, group: &str, topic: &str) {
        let topic = delete::DeleteShareGroupOffsetsRequestTopic::default()
            .with_topic_name(topic_name(topic));
        let request = DeleteShareGroupOffsetsRequest::default()
            .with_group_id(group_id(group))
            .with_topics(vec![topic]);
        let answer = self.client.call(0, &request).await;
        self.note(question, answer.error_code, answer.error_message.as_ref());
        for topic in answer.responses {
            self.note("  topic", topic.error_code, topic.error_message.as_ref());
        }
    }

    async fn offsets(&mut self, question: &str, group: &str, topic: Option<(&str, i32)>) {
        let topics = topic.map(|(name, partition)| {
            let topic = offsets::DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name(name))
                .with_partitions(vec![partition]);
            vec![topic]
        });
        let asked = offsets::DescribeShareGroupOffsetsRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(topics);
        let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]);
        let answer = self.client.call(0, &request).await;
        for group in answer.groups {
            self.note(question, group.error_code, group.error_message.as_ref());
            for partition in group.topics.iter().flat_map(|topic| &topic.partitions) {
                let code = partition.error_code;
                self.note("  partition", code, partition.error_message.as_ref());
            }
        }
    }

    async fn find(&mut self, question: &str, key: &str) {
        let request = FindCoordinatorRequest::default()
            .with_key_type(2)
            .with_coordinator_keys(vec![text(key)]);
        let answer = self.client.call(6, &request).await;
        let found = &answer.coordinators[0];
        let (code, message) = (found.error_code, found.error_message.clone());
        self.note(question, code, message.as_ref());
    }

    async fn initialize(&mut self, question: &str, group: &str, id: Uuid, state_epoch: i32) {
        let partition = initialize::PartitionData::default()
            .with_partition(0)
            .with_state_epoch(state_epoch)
            .with_start_offset(0);
        let topic = initialize::InitializeStateData::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]);
        let request = InitializeShareGroupStateRequest::default()
            .with_group_id(text(group))
            .with_topics(vec![topic]);
        let answer = self.client.call(0, &request).await;
        for partition in answer.results.iter().flat_map(|topic| &topic.partitions) {
            self.note(
                question,
                partition.error_code,
                partition.error_message.as_ref(),
            );
        }
    }

    async fn read(&mut self, question: &str, group: &str, id: Uuid, leader_epoch: i32) {
        let partition = read::PartitionData::default()
            .with_partition(0)
            .with_leader_epoch(leader_epoch);
        let topic = read::ReadStateData::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]);
        let request = ReadShareGroupStateRequest::default()
            .with_group_id(text(group))
            .with_topics(vec![topic]);
        let answer = self.client.call(0, &request).await;
        for partition in answer.results.iter().flat_map(|topic| &topic.partitions) {
            let question = format!(
                "{question} (state epoch {}, start {})",
                partition.state_epoch, partition.start_offset
            );
            self.note(
                &question,
                partition.error_code,
                partition.error_message.as_ref(),
            );
        }
    }

    async fn write(&mut self, question: &str, group: &str, id: Uuid, epochs: (i32, i32)) {
        let partition = write::PartitionData::default()
            .with_partition(0)
            .with_state_epoch(epochs.0)
            .with_leader_epoch(epochs.1)
            .with_start_offset(1);
        let topic = write::WriteStateData::default()
            .with_topic_id(id)
            .with_partitions(vec![partition]);
        let request = WriteShareGroupStateRequest::default()
            .with_group_id(text(group))
            .with_topics(vec![topic]);
        let answer = self.client.call(0, &request).await;
        for partition in answer.results.iter().flat_map(|topic| &topic.partitions) {
            self.note(
                question,
                partition.error_code,
                partition.error_message.as_ref(),
            );
        }
    }
}

/// Whether a batch or an offset is named when records are not held depends on how Kafka keeps them.
fn of_acknowledgement(code: i16, message: Option<&str>) -> String {
    let message = message.unwrap_or_default();
    let message = message
        .replace("The batch", "It")
        .replace("The offset", "It");
    let message = message.replace("is not in the acquired state", "is not acquired");
    format!("{code} {message:?}")
}

async fn membership(asked: &mut Asked) {
    let name = asked.topic_name.clone();
    let topics: &[&str] = &[&name];
    let none: &[&str] = &[];
    let join = asked.member("", 0, Some(topics));
    asked.beat("no member id", join).await;
    let join = asked.member(MEMBER, 0, None);
    asked.beat("join without topics", join).await;
    let join = asked.member(MEMBER, 0, Some(none));
    asked.beat("join with no topic", join).await;
    let join = asked.member(MEMBER, -2, None);
    asked.beat("epoch -2", join).await;
    let join = asked.member(MEMBER, -1, None);
    asked.beat("leave an unknown group", join).await;
    let join = asked.member(MEMBER, 5, None);
    asked.beat("epoch 5 in an unknown group", join).await;
    let join = asked.member(MEMBER, 0, Some(topics));
    let unnamed = join.clone().with_group_id(group_id(""));
    asked.beat("no group id", unnamed).await;
    let nowhere = join.clone().with_rack_id(Some(text("")));
    asked.beat("empty rack", nowhere).await;
    asked.beat("join", join).await;
    let join = asked.member(MEMBER, 99, None);
    asked.beat("epoch ahead", join).await;
    let join = asked.member(OTHER, 3, None);
    asked.beat("unknown member", join).await;
    let join = asked.member(OTHER, -1, None);
    asked.beat("unknown member leaves", join).await;
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id(&asked.group))
        .with_member_id(text(OTHER))
        .with_rebalance_timeout_ms(5_000)
        .with_topic_partitions(Some(Vec::new()))
        .with_subscribed_topic_names(Some(vec![topic_name(&name)]));
    let answer = asked.client.call(1, &request).await;
    let message = answer.error_message.as_ref();
    asked.note("a consumer of the other kind", answer.error_code, message);
    for (question, group) in [
        (
            "describe an unknown group",
            format!("{}-nobody", asked.group),
        ),
        ("describe no group", String::new()),
    ] {
        let request = ShareGroupDescribeRequest::default().with_group_ids(vec![group_id(&group)]);
        let answer = asked.client.call(1, &request).await;
        for group in answer.groups {
            asked.note(question, group.error_code, group.error_message.as_ref());
        }
    }
}

/// Waits until the share-partition is there, and takes four records. Gives the session's next epoch.
async fn acquire(asked: &mut Asked) -> i32 {
    let mut epoch = 0;
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let topics = if epoch == 0 {
            Asked::about(asked.topic, 0, &[])
        } else {
            Vec::new()
        };
        let request = asked.fetch_request(MEMBER, epoch).with_topics(topics);
        let request = request.with_max_records(4).with_batch_size(4);
        let answer = asked.client.call(1, &request).await;
        assert_eq!(answer.error_code, 0);
        let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        epoch += 1;
        if partitions.any(|partition| !partition.acquired_records.is_empty()) {
            return epoch;
        }
        assert!(std::time::Instant::now() < end, "nothing comes");
        let beat = asked.member(MEMBER, 1, None);
        let _ = asked.client.call(1, &beat).await;
    }
}

async fn fetching(asked: &mut Asked, mut epoch: i32) {
    let (topic, unknown) = (asked.topic, Uuid::from_u128(0x77));
    let request = asked.fetch_request(OTHER, 5);
    asked.fetch("no session", request).await;
    let request = asked.fetch_request(OTHER, -1);
    asked.fetch("end of no session", request).await;
    let request = asked.fetch_request("not-a-uuid", 0);
    asked.fetch("a member id that is no uuid", request).await;
    let request = asked.fetch_request(OTHER, 0).with_group_id(None);
    asked.fetch("fetch without a group", request).await;
    let request = asked.fetch_request(OTHER, 0).with_member_id(None);
    asked.fetch("fetch without a member", request).await;
    let accept: Batches<'_> = &[(0, 0, &[1])];
    let request = asked.fetch_request(OTHER, 0);
    let request = request.with_topics(Asked::about(topic, 0, accept));
    asked
        .fetch("acknowledges in the first fetch", request)
        .await;
    let request = asked.fetch_request(MEMBER, epoch + 7);
    asked.fetch("another epoch than the next", request).await;
    let request = asked.fetch_request(MEMBER, epoch);
    let request = request.with_topics(Asked::about(unknown, 0, &[]));
    asked.fetch("unknown topic", request).await;
    let request = asked.fetch_request(MEMBER, epoch + 1);
    let request = request.with_topics(Asked::about(topic, 99, &[]));
    asked.fetch("unknown partition", request).await;
    epoch += 2;
    let wrong: &[(&str, Batches<'_>)] = &[
        ("unknown type", &[(0, 0, &[9])]),
        ("renewal before version 2", &[(0, 0, &[4])]),
        ("two types for three", &[(0, 2, &[1, 1])]),
        ("no type", &[(0, 0, &[])]),
        ("last before first", &[(2, 0, &[1])]),
        ("overlapping", &[(0, 2, &[1]), (2, 3, &[1])]),
        ("out of order", &[(2, 3, &[1]), (0, 1, &[1])]),
        ("not acquired", &[(8, 9, &[1])]),
        ("partly acquired", &[(3, 6, &[1])]),
        ("negative offset", &[(-5, -3, &[1])]),
    ];
    for (question, batches) in wrong {
        let topics = Asked::about(topic, 0, batches);
        let request = asked.fetch_request(MEMBER, epoch).with_topics(topics);
        asked.fetch(question, request).await;
        epoch += 1;
    }
    for (question, batches) in wrong {
        let by = (MEMBER, epoch);
        asked.acknowledge(question, by, (topic, 0), batches).await;
        epoch += 1;
    }
    let wrong = (MEMBER, 0);
    asked
        .acknowledge("acknowledge in epoch 0", wrong, (topic, 0), accept)
        .await;
    let stranger = (OTHER, 4);
    asked
        .acknowledge(
            "acknowledge without a session",
            stranger,
            (topic, 0),
            accept,
        )
        .await;
    let by = (MEMBER, epoch);
    asked
        .acknowledge("acknowledge an unknown topic", by, (unknown, 0), accept)
        .await;
    let by = (MEMBER, epoch + 1);
    asked
        .acknowledge("acknowledge an unknown partition", by, (topic, 99), accept)
        .await;
    let by = (MEMBER, -1);
    asked
        .acknowledge("the last acknowledgement", by, (topic, 0), &[(0, 1, &[1])])
        .await;
}

async fn operators(asked: &mut Asked) {
    let (group, topic) = (asked.group.clone(), asked.topic_name.clone());
    let nobody = format!("{group}-nobody");
    asked
        .offsets("offsets of an unknown group", &nobody, None)
        .await;
    let unknown = Some(("nothing", 0));
    asked
        .offsets("offsets of an unknown topic", &group, unknown)
        .await;
    let beyond = Some((&*topic, 7));
    asked
        .offsets("offsets of an unknown partition", &group, beyond)
        .await;
    asked
        .alter("alter an unknown group", &nobody, &topic, 0, 1)
        .await;
    asked
        .alter("alter a group with members", &group, &topic, 0, 1)
        .await;
    asked
        .delete("delete of an unknown group", &nobody, &topic)
        .await;
    asked
        .delete("delete of a group with members", &group, &topic)
        .await;
    let leave = asked.member(MEMBER, -1, None);
    asked.beat("leave", leave).await;
    asked
        .alter("alter an unknown topic", &group, "nothing", 0, 1)
        .await;
    asked
        .alter("alter an unknown partition", &group, &topic, 7, 1)
        .await;
    asked
        .alter("alter to a negative offset", &group, &topic, 0, -3)
        .await;
    asked
        .delete("delete of an unknown topic", &group, "nothing")
        .await;
    asked.delete("delete", &group, &topic).await;
    asked.delete("delete again", &group, &topic).await;
    asked.alter("no group id", "", &topic, 0, 1).await;
    asked.delete("no group id", "", &topic).await;
}

async fn state(asked: &mut Asked) {
    let (topic, unknown) = (asked.topic, Uuid::from_u128(0x77));
    let group = format!("{}s", asked.group);
    let key = |group: &str, id: Uuid, partition: &str| {
        use base64_of::base64;
        format!("{group}:{}:{partition}", base64(id))
    };
    asked.find("coordinator", &key(&group, topic, "0")).await;
    asked
        .find("coordinator of no partition", &key(&group, topic, "x"))
        .await;
    asked.find("coordinator of a group", &group).await;
    asked
        .find("coordinator of no group", &key("", topic, "0"))
        .await;
    asked
        .find("coordinator with a colon", &key("a:b", topic, "0"))
        .await;
    asked.read("read what is not there", &group, topic, 0).await;
    asked
        .write("write what is not there", &group, topic, (0, 0))
        .await;
    asked
        .initialize("initialise an unknown topic", &group, unknown, 1)
        .await;
    asked.initialize("initialise", &group, topic, 5).await;
    asked
        .initialize("initialise in an earlier epoch", &group, topic, 4)
        .await;
    asked.read("read", &group, topic, 3).await;
    asked
        .write("write in an earlier leader epoch", &group, topic, (5, 2))
        .await;
    asked
        .write("write in an earlier state epoch", &group, topic, (4, 3))
        .await;
    asked
        .write("write in a later state epoch", &group, topic, (6, 3))
        .await;
    asked.write("write", &group, topic, (5, 3)).await;
    asked
        .read("read in an earlier leader epoch", &group, topic, 2)
        .await;
    asked.read("read again", &group, topic, 3).await;
    asked.initialize("no group id", "", topic, 1).await;
}

mod base64_of {
    //! Kafka writes ids as base64 for URLs, without padding.

    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub fn base64(id: uuid::Uuid) -> String {
        let bits = id.as_u128();
        let digit = |at: u32| {
            let shift = 122_i64 - 6 * i64::from(at);
            let six = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            };
            char::from(DIGITS[usize::try_from(six & 63).unwrap()])
        };
        (0..22).map(digit).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_requests_are_answered_as_kafka_does() {
    let elsewhere = std::env::var("DLOG_TEST_KAFKA").ok();
    let server = match elsewhere {
        Some(_) => None,
        None => Some(start().await),
    };
    let mut client = match (&server, &elsewhere) {
        (Some(server), _) => server.client().await,
        (None, address) => Client::connect(address.as_deref().unwrap().parse().unwrap()).await,
    };
    let unique = Uuid::new_v4().simple().to_string();
    let (group, topic_name) = (format!("g{unique}"), format!("t{unique}"));
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![
            CreatableTopic::default()
                .with_name(common::topic_name(&topic_name))
                .with_num_partitions(1)
                .with_replication_factor(1),
        ]);
    let topic = client.call(7, &request).await.topics[0].topic_id;
    let end = std::time::Instant::now() + PATIENCE;
    while client
        .produce(&topic_name, 0, batch(&["0", "1"]))
        .await
        .error
        != 0
    {
        assert!(std::time::Instant::now() < end, "cannot produce");
    }
    for _ in 0..4 {
        let produced = client.produce(&topic_name, 0, batch(&["2", "3"])).await;
        assert_eq!(produced.error, 0);
    }
    let setting = configs::AlterableConfig::default()
        .with_name(text("share.auto.offset.reset"))
        .with_value(Some(text("earliest")));
    let resource = configs::AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(&group))
        .with_configs(vec![setting]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(1, &request).await.responses[0].error_code, 0);

    let mut asked = Asked {
        client,
        topic,
        group,
        topic_name,
        said: String::new(),
    };
    membership(&mut asked).await;
    let epoch = acquire(&mut asked).await;
    fetching(&mut asked, epoch).await;
    operators(&mut asked).await;
    state(&mut asked).await;
    if let Some(path) = std::env::var_os("SHARE_SAID") {
        std::fs::write(path, &asked.said).unwrap();
        return;
    }
    similar_asserts(&asked.said, include_str!("share_as_kafka.txt"));
}

/// Names the first line that differs.
fn similar_asserts(said: &str, expected: &str) {
    for (at, (said, expected)) in said.lines().zip(expected.lines()).enumerate() {
        assert_eq!(said, expected, "line {}", at + 1);
    }
    assert_eq!(said.lines().count(), expected.lines().count());
}
