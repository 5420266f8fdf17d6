//! `dlog transaction` with the real binary: open transactions are seen, one that hangs is found and ended.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::path::Path;

use dlog_storage::record::BatchBuilder;
use dlog_system_tests::command::Cli;
use dlog_system_tests::produce::{create_topic, produce_request, produced_at, topic_name};
use dlog_system_tests::server::Server;
use dlog_system_tests::wire::Connection;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

/// A version in which clients add partitions to transactions by themselves.
const PRODUCE_V1: i16 = 11;
const VERIFICATION: &str = "transaction.partition.verification.enable";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn id_of(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// A producer id and epoch; the coordinator may still be starting.
fn init(connection: &mut Connection, id: Option<&str>) -> (i64, i16) {
    if let Some(id) = id {
        let request = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![text(id)]);
        dlog_system_tests::wait_for("a coordinator", || {
            let answer = connection.call(4, &request).ok()?;
            (answer.coordinators.first()?.error_code == 0).then_some(())
        })
        .unwrap();
    }
    let request = InitProducerIdRequest::default()
        .with_transactional_id(id.map(id_of))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    dlog_system_tests::wait_for("a producer id", || {
        let answer = connection.call(4, &request).ok()?;
        (answer.error_code == 0).then_some((answer.producer_id.0, answer.producer_epoch))
    })
    .unwrap()
}

/// Writes one record of a transaction and gives its offset.
fn write(connection: &mut Connection, id: &str, (producer, epoch): (i64, i16), value: &str) -> i64 {
    let mut batch = BatchBuilder::new()
        .producer(producer, epoch, 0)
        .transactional(true);
    batch.push(1, None, Some(value.as_bytes()), &[]).unwrap();
    let request = produce_request("orders", 0, batch.build().unwrap(), -1)
        .with_transactional_id(Some(id_of(id)));
    produced_at(&connection.call(PRODUCE_V1, &request).unwrap()).unwrap()
}

fn set_verification(connection: &mut Connection, value: &str) {
    let config = AlterableConfig::default()
        .with_name(text(VERIFICATION))
        .with_value(Some(text(value)));
    let broker = AlterConfigsResource::default()
        .with_resource_type(4)
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![broker]);
    let answer = connection.call(1, &request).unwrap();
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

/// A server with the topic `orders`.
fn started(folder: &Path) -> (Server, Cli, Connection) {
    let server = Server::start(&folder.join("data")).unwrap();
    let cli = Cli::new(server.kafka);
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, "orders", 1, &[]).unwrap();
    (server, cli, connection)
}

#[test]
fn an_open_transaction_is_listed_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli, mut connection) = started(folder.path());
    let producer = init(&mut connection, Some("payments"));
    let topic = AddPartitionsToTxnTopic::default()
        .with_name(topic_name("orders"))
        .with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id_of("payments"))
        .with_v3_and_below_producer_id(ProducerId(producer.0))
        .with_v3_and_below_producer_epoch(producer.1)
        .with_v3_and_below_topics(vec![topic]);
    let added = connection.call(3, &add).unwrap();
    let of_topic = &added.results_by_topic_v3_and_below[0];
    assert_eq!(of_topic.results_by_partition[0].partition_error_code, 0);
    let offset = write(&mut connection, "payments", producer, "pending");

    let list = ["transaction", "list", "--json", "--state", "Ongoing"];
    let listed = cli.json(&list).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["transactional_id"], "payments");
    let info = &cli
        .json(&["transaction", "describe", "payments", "--json"])
        .unwrap()[0];
    assert_eq!(info["state"], "Ongoing");
    assert_eq!(info["partitions"]["orders"][0], 0);
    let producers = ["transaction", "producers", "orders", "-p", "0", "--json"];
    assert_eq!(cli.json(&producers).unwrap()[0]["start_offset"], offset);
    let hanging = ["transaction", "hanging", "orders", "--longer-than", "0"];
    assert_eq!(cli.run(&hanging).unwrap(), "", "its coordinator knows it");

    let end = EndTxnRequest::default()
        .with_transactional_id(id_of("payments"))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(true);
    assert_eq!(connection.call(3, &end).unwrap().error_code, 0);
    dlog_system_tests::wait_for("the end of the transaction", || {
        cli.json(&list).unwrap().is_empty().then_some(())
    })
    .unwrap();
    let missing = cli.output(&["transaction", "describe", "nobody"]).unwrap();
    assert_eq!(missing.status.code(), Some(3));
    let unknown = cli
        .output(&["transaction", "list", "--state", "Gone"])
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn a_transaction_that_no_coordinator_knows_is_found_and_aborted() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, cli, mut connection) = started(folder.path());
    let producer = init(&mut connection, None);
    // As an old broker would have taken it.
    set_verification(&mut connection, "false");
    let offset = write(&mut connection, "nobody", producer, "stuck");
    set_verification(&mut connection, "true");
    cli.run_with(&["produce", "orders"], b"behind\n").unwrap();
    let committed = ["consume", "orders", "--from", "beginning", "--committed"];
    assert_eq!(cli.run(&committed).unwrap(), "", "it holds readers up");

    let hanging = ["transaction", "hanging", "--longer-than", "0", "--json"];
    let found = cli.json(&hanging).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["producer_id"], producer.0);
    let start = found[0]["start_offset"].as_i64().unwrap();
    assert_eq!(start, offset);
    let wrong = [
        "transaction",
        "abort",
        "orders",
        "-p",
        "0",
        "--start-offset",
        "4711",
    ];
    let refused = cli.output(&wrong).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let start = start.to_string();
    let abort = [
        "transaction",
        "abort",
        "orders",
        "-p",
        "0",
        "--start-offset",
        &start,
    ];
    cli.run(&abort).unwrap();
    assert!(cli.json(&hanging).unwrap().is_empty());
    assert_eq!(cli.run(&committed).unwrap(), "behind\n");
}
