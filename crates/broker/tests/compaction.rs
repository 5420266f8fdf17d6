//! The threads that compact, in the server: settings take effect while it runs, what cannot be compacted
//! is counted and the rest goes on, a topic can be deleted under a run.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

use common::{Client, PATIENCE, Server, now_ms, start_with, text, topic_name, until};
use dlog_storage::record::BatchBuilder;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, IncrementalAlterConfigsRequest,
};

const IN_PROGRESS: &str = "dlog_compaction_in_progress";
const MOST: &str = "log.cleaner.io.max.bytes.per.second";

async fn server(backoff_ms: &str) -> Server {
    start_with(|config| {
        for (name, value) in [
            ("log.cleaner.backoff.ms", backoff_ms),
            ("log.cleaner.threads", "2"),
            ("log.flush", "os"),
        ] {
            config.defaults.insert(name.to_owned(), value.to_owned());
        }
    })
    .await
}

async fn create(client: &mut Client, name: &str, settings: &[(&str, &str)]) {
    let configs = settings.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = client.call(5, &request).await;
    assert_eq!(response.topics[0].error_code, 0, "{name}");
}

async fn alter(client: &mut Client, kind: i8, resource: &str, name: &str, value: &str) {
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(1, &request).await;
    assert_eq!(response.responses[0].error_code, 0, "{name}={value}");
}

/// `count` records of 10 kB, of ten keys.
async fn fill(client: &mut Client, topic: &str, count: usize) {
    for first in (0..count).step_by(20) {
        let mut builder = BatchBuilder::new();
        for number in first..first + 20 {
            let key = format!("key-{}", number % 10);
            builder
                .push(now_ms(), Some(key.as_bytes()), Some(&[7; 10_000]), &[])
                .unwrap();
        }
        let produced = client.produce(topic, 0, builder.build().unwrap()).await;
        assert_eq!(produced.error, 0);
    }
}

fn metric(server: &Server, line_begin: &str) -> Option<f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.broker.registry().lock()).unwrap();
    let line = text.lines().find(|line| line.starts_with(line_begin))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn log_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut logs: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort();
    logs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_set_while_the_server_runs_takes_effect() {
    let server = server("10").await;
    let mut client = server.client().await;
    create(&mut client, "t", &[("segment.bytes", "1048576")]).await;
    fill(&mut client, "t", 800).await;
    let folder = server.dir.path().join("data/t-0");
    let before = log_files(&folder).len();
    assert!(before > 5);
    let runs = "dlog_compaction_runs_total{end=\"complete\"}";
    assert_eq!(metric(&server, runs), None);
    alter(&mut client, 2, "t", "cleanup.policy", "compact").await;
    until("a compaction", || log_files(&folder).len() <= 2).await;
    until("its metrics", || metric(&server, runs) >= Some(1.0)).await;
    assert!(metric(&server, "dlog_compaction_bytes_removed_total") > Some(5e6));
    assert!(metric(&server, "dlog_compaction_records_removed_total") > Some(500.0));
    let ratio = "dlog_partition_dirty_ratio{topic=\"t\",partition=\"0\"}";
    assert_eq!(metric(&server, ratio), Some(0.0));
    // The records that are left are read back after a restart, under another policy.
    alter(&mut client, 2, "t", "cleanup.policy", "delete").await;
    let server = server.restart().await;
    let mut client = server.client().await;
    let bytes = client.fetch("t", 0, 0).await;
    assert!(!bytes.is_empty());
    fill(&mut client, "t", 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_way_to_clients_and_hurries_when_they_are_gone() {
    let server = server("10").await;
    let mut client = server.client().await;
    // Beside clients a run would take hours.
    let busy = "dlog.cleaner.busy.bytes.per.second";
    alter(&mut client, 4, "", busy, "1000").await;
    create(&mut client, "t", &[("segment.bytes", "1048576")]).await;
    fill(&mut client, "t", 800).await;
    let folder = server.dir.path().join("data/t-0");
    let before = log_files(&folder);
    let mut producer = server.client().await;
    create(&mut producer, "other", &[]).await;
    let (told, fills) = tokio::sync::watch::channel(0);
    let producing = tokio::spawn(async move {
        loop {
            fill(&mut producer, "other", 20).await;
            told.send_modify(|fills| *fills += 1);
        }
    });
    until("a producer", || *fills.borrow() > 0).await;
    alter(&mut client, 2, "t", "cleanup.policy", "compact").await;
    until("a run", || metric(&server, IN_PROGRESS) == Some(1.0)).await;
    // Without giving way it is over before this is.
    let begun = *fills.borrow();
    until("the producer", || *fills.borrow() > begun + 200).await;
    assert_eq!(metric(&server, "dlog_compaction_runs_total"), None);
    assert_eq!(log_files(&folder), before);
    producing.abort();
    until("a compaction", || log_files(&folder).len() <= 2).await;
}

/// Has `t` compacted at so many bytes a second.
async fn begin_run(server: &Server, client: &mut Client, bytes_per_second: &str) {
    alter(client, 4, "", MOST, bytes_per_second).await;
    create(client, "t", &[("segment.bytes", "1048576")]).await;
    fill(client, "t", 400).await;
    alter(client, 2, "t", "cleanup.policy", "compact").await;
    until("a run", || metric(server, IN_PROGRESS) == Some(1.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pace_holds_for_a_run_under_way() {
    let server = server("10").await;
    let mut client = server.client().await;
    // Days.
    begin_run(&server, &mut client, "1").await;
    alter(&mut client, 4, "", MOST, "100000000").await;
    let folder = server.dir.path().join("data/t-0");
    until("a compaction", || log_files(&folder).len() <= 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_when_the_policy_is_to_compact_no_more() {
    let server = server("10").await;
    let mut client = server.client().await;
    // Hours.
    begin_run(&server, &mut client, "1000").await;
    alter(&mut client, 2, "t", "cleanup.policy", "delete").await;
    until("its end", || metric(&server, IN_PROGRESS) == Some(0.0)).await;
    fill(&mut client, "t", 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compacted_is_counted_and_others_go_on() {
    let server = server("10").await;
    let mut client = server.client().await;
    for topic in ["sound", "broken"] {
        create(&mut client, topic, &[("segment.bytes", "1048576")]).await;
        fill(&mut client, topic, 400).await;
    }
    let uncleanable = "dlog_compaction_uncleanable_partitions";
    assert_eq!(metric(&server, uncleanable), Some(0.0));
    let folder = server.dir.path().join("data/broken-0");
    let files = log_files(&folder);
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    for topic in ["broken", "sound"] {
        alter(&mut client, 2, topic, "cleanup.policy", "compact").await;
    }
    until("the broken one to be noticed", || {
        metric(&server, uncleanable) == Some(1.0)
    })
    .await;
    let sound = server.dir.path().join("data/sound-0");
    until("the other one", || log_files(&sound).len() <= 2).await;
    assert_eq!(log_files(&folder), files, "nothing was dropped");
    assert!(metric(&server, "dlog_compaction_runs_total{end=\"failed\"}") >= Some(1.0));
    assert_eq!(metric(&server, "dlog_offline_partitions"), Some(0.0));
    fill(&mut client, "broken", 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_deleted_and_a_server_stopped_under_a_slow_run() {
    let server = server("10").await;
    let mut client = server.client().await;
    // So slow that a run takes a minute.
    alter(&mut client, 4, "", MOST, "100000").await;
    for topic in ["first", "second"] {
        let settings = [("segment.bytes", "1048576"), ("cleanup.policy", "compact")];
        create(&mut client, topic, &settings).await;
        fill(&mut client, topic, 400).await;
    }
    // Both threads are at it by now, or will be.
    let deleted = DeleteTopicState::default().with_name(Some(topic_name("first")));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![deleted])
        .with_timeout_ms(30_000);
    let response = client.call(6, &request).await;
    assert_eq!(response.responses[0].error_code, 0);
    let folder = server.dir.path().join("data/first-0");
    until("the folder to go", || !folder.exists()).await;
    let stopped = tokio::time::timeout(PATIENCE, server.broker.shutdown()).await;
    stopped.expect("a stop does not wait for a run").unwrap();
}
