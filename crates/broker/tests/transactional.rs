//! Transactional requests in all their versions, and the errors for those that do not fit, as Apache Kafka
//! 4.4.0 answers them. `DLOG_TEST_KAFKA=host:port` puts the same questions to a running Kafka.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::net::SocketAddr;

use common::{Client, PATIENCE, Server, builder, produce_request, start, text, topic_name};
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest,
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListTransactionsRequest,
    OffsetFetchRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

const CONCURRENT_TRANSACTIONS: i16 = 51;
const OTHER: (i64, i16) = (987_654, 0);

fn id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// A server that is asked: ours, or a Kafka that runs already.
struct Asked {
    client: Client,
    server: Option<Server>,
}

impl Asked {
    async fn new() -> Self {
        let elsewhere = std::env::var("DLOG_TEST_KAFKA").ok();
        let address: Option<SocketAddr> = elsewhere.map(|address| address.parse().unwrap());
        if let Some(address) = address {
            let client = Client::connect(address).await;
            return Self {
                client,
                server: None,
            };
        }
        let server = start().await;
        Self {
            client: server.client().await,
            server: Some(server),
        }
    }

    fn is_ours(&self) -> bool {
        self.server.is_some()
    }

    /// A topic of one partition.
    async fn topic(&mut self, name: &str) {
        use kafka_protocol::messages::create_topics_request::{
            CreatableTopic, CreateTopicsRequest,
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![topic]);
        let created = self.client.call(7, &request).await;
        assert!([0, 36].contains(&created.topics[0].error_code));
        if self.server.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }

    async fn init_once(
        &mut self,
        version: i16,
        id: &str,
        timeout_ms: i32,
        known: (i64, i16),
    ) -> (i16, (i64, i16)) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self::id(id)))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(known.0))
            .with_producer_epoch(known.1);
        let answer = self.client.call(version, &request).await;
        (
            answer.error_code,
            (answer.producer_id.0, answer.producer_epoch),
        )
    }

    /// Until the coordinator is there and nothing is under way.
    async fn init(&mut self, version: i16, id: &str) -> (i64, i16) {
        let asking = async {
            loop {
                match self.init_once(version, id, 60_000, (-1, -1)).await {
                    (0, producer) => return producer,
                    (14..=16 | CONCURRENT_TRANSACTIONS, _) => {
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                    (code, _) => panic!("InitProducerId: {code}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    async fn add_once(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        topics: &[&str],
        verify_only: bool,
    ) -> Vec<i16> {
        let topics: Vec<_> = topics
            .iter()
            .map(|topic| {
                AddPartitionsToTxnTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![0])
            })
            .collect();
        let (id, producer_id) = (self::id(id), ProducerId(producer.0));
        let request = if version < 4 {
            AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(id)
                .with_v3_and_below_producer_id(producer_id)
                .with_v3_and_below_producer_epoch(producer.1)
                .with_v3_and_below_topics(topics)
        } else {
            let transaction = AddPartitionsToTxnTransaction::default()
                .with_transactional_id(id)
                .with_producer_id(producer_id)
                .with_producer_epoch(producer.1)
                .with_verify_only(verify_only)
                .with_topics(topics);
            AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
        };
        let answer = self.client.call(version, &request).await;
        let results = if version < 4 {
            answer.results_by_topic_v3_and_below
        } else {
            answer.results_by_transaction[0].topic_results.clone()
        };
        let partitions = results.iter().flat_map(|t| &t.results_by_partition);
        partitions.map(|p| p.partition_error_code).collect()
    }

    /// Until the transaction before has ended.
    async fn add(&mut self, version: i16, id: &str, producer: (i64, i16), topic: &str) -> i16 {
        loop {
            let added = self.add_once(version, id, producer, &[topic], false).await;
            if added != [CONCURRENT_TRANSACTIONS] {
                return added[0];
            }
        }
    }

    async fn add_offsets(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        group: &str,
    ) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self::id(id))
            .with_producer_id(ProducerId(producer.0))
            .with_producer_epoch(producer.1)
            .with_group_id(GroupId(text(group)));
        loop {
            let code = self.client.call(version, &request).await.error_code;
            if ![14, 15, 16, CONCURRENT_TRANSACTIONS].contains(&code) {
                return code;
            }
        }
    }

    async fn end_once(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        committed: bool,
    ) -> (i16, (i64, i16)) {
        let request = EndTxnRequest::default()
            .with_transactional_id(self::id(id))
            .with_producer_id(ProducerId(producer.0))
            .with_producer_epoch(producer.1)
            .with_committed(committed);
        let answer = self.client.call(version, &request).await;
        (
            answer.error_code,
            (answer.producer_id.0, answer.producer_epoch),
        )
    }

    /// Until what went before has ended.
    async fn end(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        committed: bool,
    ) -> (i16, (i64, i16)) {
        loop {
            let answer = self.end_once(version, id, producer, committed).await;
            if answer.0 != CONCURRENT_TRANSACTIONS {
                return answer;
            }
        }
    }

    async fn commit_offset(
        &mut self,
        version: i16,
        id: &str,
        producer: (i64, i16),
        commit: &Commit<'_>,
    ) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(commit.offset)
            .with_committed_metadata(Some(StrBytes::new()));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(commit.topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self::id(id))
            .with_group_id(GroupId(text(commit.group)))
            .with_producer_id(ProducerId(producer.0))
            .with_producer_epoch(producer.1)
            .with_generation_id(commit.generation)
            .with_member_id(text(commit.member))
            .with_topics(vec![topic]);
        loop {
            let answer = self.client.call(version, &request).await;
            let code = answer.topics[0].partitions[0].error_code;
            if ![14, 15, 16, CONCURRENT_TRANSACTIONS].contains(&code) {
                return code;
            }
        }
    }

    /// Offset and error.
    async fn fetch_offset(&mut self, group: &str, topic: &str, stable: bool) -> (i64, i16) {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default()
            .with_groups(vec![group])
            .with_require_stable(stable);
        let answer = self.client.call(8, &request).await;
        assert_eq!(answer.groups[0].error_code, 0);
        let partition = &answer.groups[0].topics[0].partitions[0];
        (partition.committed_offset, partition.error_code)
    }

    async fn produce(
        &mut self,
        version: i16,
        id: Option<&str>,
        producer: (i64, i16),
        sequence: i32,
        topic: &str,
    ) -> i16 {
        let batch = builder(&["v"])
            .producer(producer.0, producer.1, sequence)
            .transactional(true)
            .build()
            .unwrap();
        let request = produce_request(topic, Uuid::nil(), 0, batch, -1)
            .with_transactional_id(id.map(self::id));
        loop {
            let answer = self.client.call(version, &request).await;
            let code = answer.responses[0].partition_responses[0].error_code;
            if code != CONCURRENT_TRANSACTIONS {
                return code;
            }
        }
    }

    /// State, producer and number of partitions.
    async fn describe(&mut self, id: &str) -> (i16, String, (i64, i16), usize) {
        let request =
            DescribeTransactionsRequest::default().with_transactional_ids(vec![self::id(id)]);
        let answer = self.client.call(0, &request).await;
        let found = &answer.transaction_states[0];
        let state = found.transaction_state.to_string();
        let producer = (found.producer_id.0, found.producer_epoch);
        (found.error_code, state, producer, found.topics.len())
    }

    async fn until_state(&mut self, id: &str, state: &str) {
        let asking = async {
            while self.describe(id).await.1 != state {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap();
    }

    /// Error, ids, unknown states.
    async fn list(
        &mut self,
        states: &[&str],
        pattern: Option<&str>,
        duration_ms: i64,
    ) -> (i16, Vec<String>, Vec<String>) {
        let states = states.iter().map(|state| text(state));
        let pattern = pattern.map(text);
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.collect())
            .with_transactional_id_pattern(pattern)
            .with_duration_filter(duration_ms);
        let answer = self.client.call(2, &request).await;
        let ids = answer.transaction_states.iter();
        let mut ids: Vec<_> = ids
            .map(|found| found.transactional_id.0.to_string())
            .collect();
        ids.sort();
        let unknown = answer.unknown_state_filters.iter().map(ToString::to_string);
        (answer.error_code, ids, unknown.collect())
    }
}

struct Commit<'a> {
    group: &'a str,
    topic: &'a str,
    offset: i64,
    generation: i32,
    member: &'a str,
}

fn simple<'a>(group: &'a str, topic: &'a str, offset: i64) -> Commit<'a> {
    Commit {
        group,
        topic,
        offset,
        generation: -1,
        member: "",
    }
}

/// Names that another run on the same Kafka did not use.
fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::new_v4().simple())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_version_1_adds_verifies_and_ends() {
    let mut asked = Asked::new().await;
    let (topic, id, group) = (unique("t"), unique("id"), unique("g"));
    let (topic, id, group) = (topic.as_str(), id.as_str(), group.as_str());
    asked.topic(topic).await;
    let me = asked.init(4, id).await;
    for (round, committed) in [true, false, true].into_iter().enumerate() {
        let round = round as i32;
        assert_eq!(asked.add(3, id, me, topic).await, 0);
        assert_eq!(asked.produce(9, Some(id), me, round, topic).await, 0);
        assert_eq!(asked.add_offsets(3, id, me, group).await, 0);
        let offset = i64::from(round) + 5;
        let commit = simple(group, topic, offset);
        assert_eq!(asked.commit_offset(3, id, me, &commit).await, 0);
        assert_eq!(asked.fetch_offset(group, topic, true).await.1, 88);
        assert_eq!(asked.end(4, id, me, committed).await, (0, (-1, -1)));
        let state = if committed {
            "CompleteCommit"
        } else {
            "CompleteAbort"
        };
        asked.until_state(id, state).await;
        let expected = if committed { offset } else { 5 };
        assert_eq!(asked.fetch_offset(group, topic, true).await, (expected, 0));
        assert_eq!(asked.end(4, id, me, committed).await.0, 0, "repeated");
        assert_eq!(asked.end(4, id, me, !committed).await.0, 48, "otherwise");
    }
    assert_eq!(asked.describe(id).await.2, me, "the epoch stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_version_2_only_writes_and_ends() {
    let mut asked = Asked::new().await;
    let (topic, id, group) = (unique("t"), unique("id"), unique("g"));
    let (topic, id, group) = (topic.as_str(), id.as_str(), group.as_str());
    asked.topic(topic).await;
    let mut me = asked.init(5, id).await;
    for (round, committed) in [true, false, true].into_iter().enumerate() {
        assert_eq!(asked.produce(12, Some(id), me, 0, topic).await, 0);
        assert_eq!(asked.produce(12, Some(id), me, 1, topic).await, 0);
        let offset = round as i64 + 5;
        let commit = simple(group, topic, offset);
        assert_eq!(asked.commit_offset(5, id, me, &commit).await, 0);
        assert_eq!(asked.describe(id).await.3, 2, "both partitions are in it");
        let (code, next) = asked.end(5, id, me, committed).await;
        assert_eq!((code, next), (0, (me.0, me.1 + 1)));
        let state = if committed {
            "CompleteCommit"
        } else {
            "CompleteAbort"
        };
        asked.until_state(id, state).await;
        let late = asked.produce(12, Some(id), me, 2, topic).await;
        assert_eq!(late, 47, "of the transaction that has ended");
        assert_eq!(asked.end(5, id, me, committed).await, (0, next), "repeated");
        let expected = if committed { offset } else { 5 };
        assert_eq!(asked.fetch_offset(group, topic, true).await, (expected, 0));
        me = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_fit_get_the_errors_of_kafka() {
    let mut asked = Asked::new().await;
    let (topic, id, group) = (unique("t"), unique("id"), unique("g"));
    let (topic, id, group) = (topic.as_str(), id.as_str(), group.as_str());
    let nobody = unique("nobody");
    let nobody = nobody.as_str();
    asked.topic(topic).await;
    let old = asked.init(5, id).await;
    let me = asked.init(5, id).await;
    assert_eq!(me, (old.0, old.1 + 1));

    // InitProducerId.
    let fresh = unique("fresh");
    for (what, id, timeout_ms, known, codes) in [
        ("no id", "", 1_000, (-1, -1), [42; 3]),
        ("no timeout", fresh.as_str(), 0, (-1, -1), [50; 3]),
        ("a long timeout", fresh.as_str(), 900_001, (-1, -1), [50; 3]),
        ("half a producer", id, 1_000, (me.0, -1), [42; 3]),
        ("the other half", id, 1_000, (-1, 0), [42; 3]),
        ("another producer", id, 1_000, OTHER, [47, 90, 90]),
        ("an old epoch", id, 1_000, (me.0, me.1 - 5), [47, 90, 90]),
    ] {
        for (version, code) in [3, 4, 5].into_iter().zip(codes) {
            let answer = asked.init_once(version, id, timeout_ms, known).await;
            assert_eq!(answer, (code, (-1, -1)), "{what}, InitProducerId {version}");
        }
    }

    // AddPartitionsToTxn.
    let missing = unique("missing");
    let both = [topic, missing.as_str()];
    for version in [0, 1, 2, 3] {
        let fenced = if version < 2 { 47 } else { 90 };
        let mut add = async |id: &str, me, topics: &[&str]| {
            asked.add_once(version, id, me, topics, false).await
        };
        assert_eq!(add("", me, &[topic]).await, [42], "version {version}");
        assert_eq!(add(nobody, me, &[topic]).await, [49], "version {version}");
        assert_eq!(add(id, OTHER, &[topic]).await, [49], "version {version}");
        assert_eq!(add(id, old, &[topic]).await, [fenced], "version {version}");
        assert_eq!(add(id, me, &both).await, [55, 3], "version {version}");
    }
    for version in [4, 5] {
        for (verify, unknown) in [(false, 0), (true, 120)] {
            let mut add = async |id: &str, me, topics: &[&str]| {
                asked.add_once(version, id, me, topics, verify).await
            };
            assert_eq!(add("", me, &[topic]).await, [42], "{version} {verify}");
            assert_eq!(add(nobody, me, &[topic]).await, [49], "{version} {verify}");
            assert_eq!(add(id, OTHER, &[topic]).await, [49], "{version} {verify}");
            assert_eq!(add(id, old, &[topic]).await, [90], "{version} {verify}");
            assert_eq!(add(id, me, &both).await, [55, 3], "{version} {verify}");
            if verify {
                assert_eq!(add(id, me, &[topic]).await, [unknown], "{version}");
            }
        }
    }

    // AddOffsetsToTxn.
    for version in [0, 1, 2, 3, 4] {
        let fenced = if version < 2 { 47 } else { 90 };
        assert_eq!(asked.add_offsets(version, "", me, group).await, 42);
        assert_eq!(asked.add_offsets(version, nobody, me, group).await, 49);
        assert_eq!(asked.add_offsets(version, id, OTHER, group).await, 49);
        assert_eq!(asked.add_offsets(version, id, old, group).await, fenced);
    }

    // TxnOffsetCommit without the group in the transaction.
    let commit = simple(group, topic, 3);
    for (version, code) in [(0, 48), (3, 48), (4, 120)] {
        let answer = asked.commit_offset(version, id, me, &commit).await;
        assert_eq!(answer, code, "version {version}");
    }
    for version in [0, 3, 4, 5] {
        let answer = asked.commit_offset(version, id, old, &commit).await;
        assert_eq!(answer, 47, "an old epoch, version {version}");
        let answer = asked.commit_offset(version, nobody, me, &commit).await;
        assert_eq!(answer, 49, "nobody, version {version}");
        let unknown = simple(group, &missing, 3);
        let answer = asked.commit_offset(version, id, me, &unknown).await;
        assert_eq!(answer, 3, "no topic, version {version}");
        let nameless = simple("", topic, 3);
        let answer = asked.commit_offset(version, id, me, &nameless).await;
        assert_eq!(answer, 24, "no group, version {version}");
    }

    // Produce without the partition in the transaction.
    for (version, code) in [(3, 48), (9, 48), (10, 48), (11, 120)] {
        let answer = asked.produce(version, Some(id), me, 0, topic).await;
        assert_eq!(answer, code, "version {version}");
    }
    for version in [9, 11, 12] {
        let answer = asked.produce(version, None, me, 0, topic).await;
        assert_eq!(answer, 53, "no id, version {version}");
        let answer = asked.produce(version, Some(id), old, 0, topic).await;
        assert_eq!(answer, 47, "an old epoch, version {version}");
        let answer = asked.produce(version, Some(nobody), me, 0, topic).await;
        assert_eq!(answer, 49, "nobody, version {version}");
        let answer = asked.produce(version, Some(id), me, 0, &missing).await;
        assert_eq!(answer, 3, "no topic, version {version}");
    }

    // EndTxn without a transaction.
    for version in [0, 1, 2, 4] {
        let fenced = if version < 2 { 47 } else { 90 };
        assert_eq!(asked.end(version, "", me, true).await.0, 42);
        assert_eq!(asked.end(version, nobody, me, true).await.0, 49);
        assert_eq!(asked.end(version, id, OTHER, true).await.0, 49);
        assert_eq!(asked.end(version, id, old, true).await.0, fenced);
        assert_eq!(asked.end(version, id, me, true).await.0, 48);
        assert_eq!(asked.end(version, id, me, false).await.0, 48);
    }
    assert_eq!(asked.end(5, nobody, me, true).await, (49, (-1, -1)));
    assert_eq!(asked.end(5, id, OTHER, true).await, (49, (-1, -1)));
    assert_eq!(asked.end(5, id, old, true).await, (90, (-1, -1)));
    assert_eq!(asked.end(5, id, me, true).await, (48, (-1, -1)));
    let next = (me.0, me.1 + 1);
    assert_eq!(
        asked.end(5, id, me, false).await,
        (0, next),
        "nothing is aborted"
    );
    asked.until_state(id, "CompleteAbort").await;

    // A group's members, in a transaction.
    for version in [3, 5] {
        let member = Commit {
            generation: 4,
            member: "m",
            ..simple(group, topic, 3)
        };
        assert_eq!(asked.add_offsets(4, id, next, group).await, 0);
        let answer = asked.commit_offset(version, id, next, &member).await;
        assert_eq!(answer, 22, "no such group, version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_transactions_as_in_kafka() {
    let mut asked = Asked::new().await;
    let (topic, prefix) = (unique("t"), unique("op"));
    asked.topic(&topic).await;
    let (one, two) = (format!("{prefix}-one"), format!("{prefix}-two"));
    let producer = asked.init(5, &one).await;
    asked.init(5, &two).await;
    let unknown = (105, String::new(), (-1, -1), 0);
    let described = asked.describe(&unique("nobody")).await;
    assert_eq!(
        (described.0, described.1, described.3),
        (unknown.0, unknown.1.clone(), 0)
    );
    let described = asked.describe("").await;
    assert_eq!((described.0, described.1), (42, String::new()), "no id");
    let found = asked.describe(&one).await;
    assert_eq!(found, (0, "Empty".to_owned(), producer, 0));
    assert_eq!(asked.produce(12, Some(&one), producer, 0, &topic).await, 0);
    let found = asked.describe(&one).await;
    assert_eq!(found, (0, "Ongoing".to_owned(), producer, 1));

    let ours = format!("{prefix}.*");
    let all = vec![one.clone(), two.clone()];
    assert_eq!(
        asked.list(&[], Some(&ours), -1).await,
        (0, all.clone(), vec![])
    );
    let ongoing = asked.list(&["Ongoing"], Some(&ours), -1).await;
    assert_eq!(ongoing, (0, vec![one.clone()], vec![]));
    let nothing = asked.list(&["ongoing", "Odd"], Some(&ours), -1).await;
    assert_eq!(nothing.1, Vec::<String>::new());
    let mut states = nothing.2;
    states.sort();
    assert_eq!(states, ["Odd", "ongoing"]);
    let part = asked.list(&[], Some(&prefix), -1).await;
    assert_eq!(part.1, Vec::<String>::new(), "the whole id has to fit");
    let long = asked.list(&["Ongoing"], Some(&ours), 3_600_000).await;
    assert_eq!(long.1, Vec::<String>::new());
    assert_eq!(asked.list(&[], Some("(("), -1).await.0, 128);
    let everything = asked.list(&[], Some(""), -1).await.1;
    assert!(everything.contains(&one) && everything.contains(&two));

    let find = FindCoordinatorRequest::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![text(&one)]);
    let found = asked.client.call(6, &find).await;
    assert_eq!(found.coordinators[0].error_code, 0);
    asked.end(5, &one, producer, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut asked = Asked::new().await;
    if !asked.is_ours() {
        return;
    }
    let (topic, id) = ("t", "id");
    asked.topic(topic).await;
    asked.init(5, id).await;
    let (code, me) = asked.init_once(5, id, 50, (-1, -1)).await;
    assert_eq!(code, 0);
    assert_eq!(asked.produce(12, Some(id), me, 0, topic).await, 0);
    asked.until_state(id, "CompleteAbort").await;
    assert_eq!(asked.produce(12, Some(id), me, 1, topic).await, 47);
    assert_eq!(asked.end(5, id, me, true).await.0, 48);
    // It was aborted: so is what is asked for, and the next epoch is handed out.
    assert_eq!(asked.end(5, id, me, false).await, (0, (me.0, me.1 + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_does_not_hold_up_the_end() {
    use kafka_protocol::messages::DeleteTopicsRequest;
    let mut asked = Asked::new().await;
    let (kept, gone, id) = (unique("kept"), unique("gone"), unique("id"));
    asked.topic(&kept).await;
    asked.topic(&gone).await;
    let me = asked.init(5, &id).await;
    for topic in [&kept, &gone] {
        assert_eq!(asked.produce(12, Some(&id), me, 0, topic).await, 0);
    }
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(&gone)])
        .with_timeout_ms(10_000);
    let deleted = asked.client.call(5, &delete).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    assert_eq!(asked.end(5, &id, me, true).await.0, 0);
    asked.until_state(&id, "CompleteCommit").await;
    assert_eq!(asked.describe(&id).await.3, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_transactions_as_they_were() {
    let server = start().await;
    let client = server.client().await;
    let mut asked = Asked {
        client,
        server: Some(server),
    };
    asked.topic("t").await;
    let me = asked.init(5, "id").await;
    assert_eq!(asked.produce(12, Some("id"), me, 0, "t").await, 0);
    let commit = simple("g", "t", 7);
    assert_eq!(asked.commit_offset(5, "id", me, &commit).await, 0);
    let server = asked.server.unwrap().restart().await;
    let client = server.client().await;
    let mut asked = Asked {
        client,
        server: Some(server),
    };
    let found = asked.describe("id").await;
    assert_eq!(found, (0, "Ongoing".to_owned(), me, 2));
    assert_eq!(asked.fetch_offset("g", "t", true).await, (-1, 88));
    assert_eq!(asked.fetch_offset("g", "t", false).await, (-1, 0));
    assert_eq!(asked.produce(12, Some("id"), me, 1, "t").await, 0);
    assert_eq!(asked.end(5, "id", me, true).await, (0, (me.0, me.1 + 1)));
    asked.until_state("id", "CompleteCommit").await;
    assert_eq!(asked.fetch_offset("g", "t", true).await, (7, 0));
}
