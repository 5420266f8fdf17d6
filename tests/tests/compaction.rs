//! Compaction in the running server: SIGKILL at random moments while records of few keys are written and
//! read; committed offsets that come back from a compacted `__consumer_offsets`.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use dlog_storage::record::{BatchBuilder, Compression};
use dlog_system_tests::produce::{
    KeyedRecord, create_topic, produce_request, produced_at, read_keyed, topic_name,
};
use dlog_system_tests::server::{Server, ServerOptions, binary};
use dlog_system_tests::wire::Connection;
use dlog_system_tests::{seed, wait_for};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const TOPIC: &str = "compacted";

/// Small segments, and no patience.
fn eager(dir: &std::path::Path) -> ServerOptions {
    ServerOptions::new(dir.join("data")).args([
        "--log-cleaner-backoff-ms",
        "20",
        "--log-segment-bytes",
        "1048576",
        "--log-cleaner-min-cleanable-ratio",
        "0.05",
        "--offsets-topic-num-partitions",
        "1",
        "--log-flush",
        "os",
    ])
}

type View = BTreeMap<Vec<u8>, Vec<u8>>;

fn view(records: &[KeyedRecord]) -> View {
    let mut view = View::new();
    for (_, key, value) in records {
        match value {
            Some(value) => view.insert(key.to_vec(), value.to_vec()),
            None => view.remove(&key[..]),
        };
    }
    view
}

struct Writer {
    random: StdRng,
    written: View,
    connection: Option<Connection>,
}

impl Writer {
    /// Writes a batch until it is acknowledged, wherever the server is. Sent twice it says the same.
    fn write(&mut self, mut address: impl FnMut() -> SocketAddr) {
        let codec = [Compression::None, Compression::Lz4, Compression::Zstd];
        let codec = codec[self.random.random_range(0..3)];
        let mut builder = BatchBuilder::new().compression(codec, None);
        for _ in 0..self.random.random_range(1..20) {
            let key = format!("key-{}", self.random.random_range(0..200)).into_bytes();
            let len = self.random.random_range(0..3_000);
            let value: Option<Vec<u8>> = (!self.random.random_bool(0.1))
                .then(|| (0..len).map(|_| self.random.random()).collect());
            builder
                .push(1_700_000_000_000, Some(&key), value.as_deref(), &[])
                .unwrap();
            match value {
                Some(value) => self.written.insert(key, value),
                None => self.written.remove(&key),
            };
        }
        let request = produce_request(TOPIC, 0, builder.build().unwrap(), -1);
        wait_for("an acknowledgement", || {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => Connection::open(address()).ok()?,
            };
            let response = connection.call(9, &request).ok()?;
            produced_at(&response).unwrap();
            self.connection = Some(connection);
            Some(())
        })
        .unwrap();
    }
}

fn verify(data_dir: &std::path::Path) {
    let output = Command::new(binary().unwrap())
        .args(["log", "verify"])
        .arg(data_dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
}

#[test]
fn kills_at_any_moment_keep_the_latest_value_of_each_key() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let options = eager(dir.path());
    let mut server = options.start().unwrap();
    let mut admin = Connection::open(server.kafka).unwrap();
    let settings = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "200"),
    ];
    create_topic(&mut admin, TOPIC, 1, &settings).unwrap();
    let mut writer = Writer {
        random: StdRng::seed_from_u64(seed),
        written: View::new(),
        connection: None,
    };
    let mut compactions = 0;
    for kill in 0..8 {
        for _ in 0..random.random_range(50..150) {
            writer.write(|| server.kafka);
        }
        let mut reader = Connection::open(server.kafka).unwrap();
        let found = read_keyed(&mut reader, TOPIC, 0).unwrap();
        assert_eq!(view(&found), writer.written, "before kill {kill}");
        // In the middle of whatever it does: a compaction, as a rule.
        std::thread::sleep(std::time::Duration::from_millis(random.random_range(0..60)));
        compactions += server.log().unwrap().matches("log compacted").count();
        server.kill().unwrap();
        writer.connection = None;
        verify(&dir.path().join("data").join(format!("{TOPIC}-0")));
        server = options.start().unwrap();
        let mut reader = Connection::open(server.kafka).unwrap();
        let found = read_keyed(&mut reader, TOPIC, 0).unwrap();
        assert_eq!(view(&found), writer.written, "after kill {kill}");
    }
    assert!(compactions > 0, "there was nothing to interrupt");
    server.terminate().unwrap();
    server.wait().unwrap();
    verify(&dir.path().join("data").join(format!("{TOPIC}-0")));
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("often"))
}

fn commit(connection: &mut Connection, partitions: i32, offset: i64) -> Result<()> {
    let partitions = (0..partitions).map(|index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset + i64::from(index))
            .with_committed_metadata(Some(StrBytes::from_string("m".repeat(200))))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("data"))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = connection.call(8, &request)?;
    let errors = response.topics.iter().flat_map(|topic| &topic.partitions);
    match errors
        .map(|partition| partition.error_code)
        .find(|code| *code != 0)
    {
        Some(code) => bail!("commit: error {code}"),
        None => Ok(()),
    }
}

fn committed(connection: &mut Connection, partitions: i32) -> Result<Vec<i64>> {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name("data"))
        .with_partition_indexes((0..partitions).collect());
    let wanted = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
    let response = connection.call(8, &request)?;
    let group = response.groups.first().context("the group")?;
    ensure!(group.error_code == 0, "offset fetch: {}", group.error_code);
    let topic = group.topics.first().context("the topic")?;
    Ok(topic
        .partitions
        .iter()
        .map(|p| p.committed_offset)
        .collect())
}

fn coordinator_is_there(connection: &mut Connection) -> Result<bool> {
    let request = FindCoordinatorRequest::default()
        .with_key_type(0)
        .with_coordinator_keys(vec![group().0]);
    let response = connection.call(4, &request)?;
    Ok(response
        .coordinators
        .first()
        .is_some_and(|c| c.error_code == 0))
}

fn small_segments(connection: &mut Connection, topic: &'static str) -> Result<()> {
    let configs = [
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.05"),
    ];
    let configs = configs.map(|(name, value)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_static_str(value)))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_static_str(topic))
        .with_configs(configs.to_vec());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = connection.call(1, &request)?;
    let code = response.responses.first().map(|r| r.error_code);
    ensure!(code == Some(0), "alter: {code:?}");
    Ok(())
}

/// The server's log says that a run of compaction of the offsets ended, after those before `seen`.
fn offsets_were_compacted(server: &Server, seen: usize) -> Option<usize> {
    let log = server.log().ok()?;
    let runs = log
        .lines()
        .filter(|line| line.contains("log compacted") && line.contains("__consumer_offsets"));
    Some(runs.count()).filter(|count| *count > seen)
}

#[test]
fn offsets_committed_very_often_come_back_from_a_compacted_log() {
    const PARTITIONS: i32 = 20;
    let dir = tempfile::tempdir().unwrap();
    let options = eager(dir.path());
    let mut server = options.start().unwrap();
    let mut next = 0;
    for life in 0..3 {
        let mut connection = Connection::open(server.kafka).unwrap();
        create_topic(&mut connection, "data", PARTITIONS, &[]).unwrap();
        wait_for("the coordinator", || {
            coordinator_is_there(&mut connection).unwrap().then_some(())
        })
        .unwrap();
        if life > 0 {
            let expected: Vec<_> = (0..i64::from(PARTITIONS)).map(|p| next + p).collect();
            assert_eq!(committed(&mut connection, PARTITIONS).unwrap(), expected);
        }
        // The first commit makes the topic.
        wait_for("a commit", || {
            commit(&mut connection, PARTITIONS, next).ok()
        })
        .unwrap();
        small_segments(&mut connection, "__consumer_offsets").unwrap();
        let size = || {
            let folder = dir.path().join("data/__consumer_offsets-0");
            let files = std::fs::read_dir(folder).unwrap();
            files
                .map(|file| file.unwrap().metadata().map_or(0, |m| m.len()))
                .sum::<u64>()
        };
        let mut compactions = 0;
        let mut commits = 0;
        while compactions < 2 {
            next += 1;
            commits += 1;
            commit(&mut connection, PARTITIONS, next).unwrap();
            if commits % 100 == 0 {
                compactions = offsets_were_compacted(&server, 0).unwrap_or(0);
            }
            assert!(
                commits < 50_000,
                "compaction does not come: {} bytes",
                size()
            );
        }
        // Each commit is 20 records of some 300 bytes; what is left fits two segments and some.
        wait_for("a small log", || (size() < 4 << 20).then_some(())).unwrap();
        server.kill().unwrap();
        verify(&dir.path().join("data/__consumer_offsets-0"));
        server = options.start().unwrap();
    }
    let mut connection = Connection::open(server.kafka).unwrap();
    wait_for("the coordinator", || {
        coordinator_is_there(&mut connection).unwrap().then_some(())
    })
    .unwrap();
    let expected: Vec<_> = (0..i64::from(PARTITIONS)).map(|p| next + p).collect();
    assert_eq!(committed(&mut connection, PARTITIONS).unwrap(), expected);
}
