//! SIGKILL at each step of a transaction, before its answer or after it, for both versions of the protocol:
//! the producer goes on where it was, and in the end the transaction is committed or aborted as it said, in
//! all its partitions and in the group's offsets, and none is left open.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::time::Duration;

use dlog_system_tests::produce::create_topic;
use dlog_system_tests::server::{Server, ServerOptions};
use dlog_system_tests::transactions::{
    Protocol, Step, Transaction, read_committed, stable_offset, state_of,
};
use dlog_system_tests::wire::Connection;
use dlog_system_tests::{seed, wait_for};
use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const TOPIC: &str = "moved";

/// One kill.
#[derive(Clone, Copy, Debug)]
struct Kill {
    protocol: Protocol,
    step: Step,
    /// After the step's answer, or only after it was sent.
    answered: bool,
    committed: bool,
}

fn kills() -> Vec<Kill> {
    let mut kills = Vec::new();
    for protocol in [Protocol::V1, Protocol::V2] {
        for step in Step::of(protocol) {
            for answered in [false, true] {
                for committed in [false, true] {
                    kills.push(Kill {
                        protocol,
                        step,
                        answered,
                        committed,
                    });
                }
            }
        }
    }
    kills
}

/// Begins the transaction, kills the server where it is said, and lets the producer go on. Gives the server
/// that runs then.
fn play(
    options: &ServerOptions,
    server: Server,
    kill: Kill,
    transaction: &mut Transaction,
    random: &mut StdRng,
) -> Server {
    let mut connection = Connection::open(server.kafka).unwrap();
    let steps = Step::of(kill.protocol);
    let at = steps.iter().position(|step| *step == kill.step).unwrap();
    for step in &steps[..at] {
        transaction.run(&mut connection, *step).unwrap();
    }
    if kill.answered {
        transaction.run(&mut connection, kill.step).unwrap();
    } else {
        transaction.send(&mut connection, kill.step).unwrap();
    }
    // What the server still does for it is cut off anywhere.
    std::thread::sleep(Duration::from_micros(random.random_range(0..4_000)));
    server.kill().unwrap();
    let server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    let next = if kill.answered { at + 1 } else { at };
    for step in &steps[next..] {
        transaction.run(&mut connection, *step).unwrap();
    }
    server
}

/// What the transaction said holds everywhere.
fn check(server: &Server, kill: Kill, transaction: &Transaction, expected: &[String]) {
    let mut connection = Connection::open(server.kafka).unwrap();
    let end = if kill.committed {
        "CompleteCommit"
    } else {
        "CompleteAbort"
    };
    let state = wait_for("the end of the transaction", || {
        let state = state_of(&mut connection, &transaction.id).unwrap();
        state.filter(|(state, _)| state.starts_with("Complete"))
    });
    assert_eq!(state.unwrap(), (end.to_owned(), 0), "{kill:?}");
    for partition in [0, 1] {
        let values = read_committed(server.kafka, TOPIC, partition).unwrap();
        assert_eq!(values, expected, "{kill:?}, partition {partition}");
    }
    let offset = wait_for("a stable offset", || {
        stable_offset(&mut connection, &transaction.id, TOPIC).unwrap()
    });
    let committed = if kill.committed {
        transaction.offset
    } else {
        -1
    };
    assert_eq!(offset.unwrap(), committed, "{kill:?}");
    let topic = TopicRequest::default()
        .with_name(dlog_system_tests::produce::topic_name(TOPIC))
        .with_partition_indexes(vec![0, 1]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let answer = connection.call(0, &request).unwrap();
    for partition in &answer.topics[0].partitions {
        let open = partition.active_producers.iter();
        let open = open.filter(|producer| producer.current_txn_start_offset != -1);
        assert_eq!(open.count(), 0, "{kill:?}: a transaction hangs");
    }
}

#[test]
fn a_transaction_survives_a_kill_at_each_of_its_steps() {
    let mut random = StdRng::seed_from_u64(seed());
    let folder = tempfile::tempdir().unwrap();
    // Few partitions of internal topics: each kill costs a recovery.
    let few = [
        "--offsets-topic-num-partitions=2",
        "--transaction-state-log-num-partitions=2",
    ];
    let options = ServerOptions::new(folder.path().join("data")).args(few);
    let mut server = options.start().unwrap();
    create_topic(&mut Connection::open(server.kafka).unwrap(), TOPIC, 2, &[]).unwrap();
    let mut expected = Vec::new();
    for (number, kill) in kills().into_iter().enumerate() {
        let (id, offset) = (format!("id-{number}"), number as i64 + 100);
        let mut transaction = Transaction::new(kill.protocol, &id, TOPIC, offset, kill.committed);
        server = play(&options, server, kill, &mut transaction, &mut random);
        if kill.committed {
            expected.push(id);
        }
        check(&server, kill, &transaction, &expected);
    }
    server.terminate().unwrap();
    server.wait().unwrap();
}
