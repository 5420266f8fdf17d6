//! Tables of (state, request) to (answer, state in the log), as Kafka 4.4 answers.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use common::{ID, Shell, V0, V2, add_request, config, partition, producer};
use dlog_transactions::codec::TransactionValue;
use dlog_transactions::{
    ListFilter, MarkerOutcome, PersistError, Producer, Record, Reply, TransactionApi,
    TransactionConfig, TransactionError as E, TransactionState as S, TransactionVersion, codec,
};

/// The last state in the log.
fn stored(shell: &Shell) -> (S, i64, i16) {
    let value = shell.log.last().unwrap().value.clone().unwrap();
    let value = TransactionValue::decode(&value).unwrap();
    let state = S::from_id(value.status).unwrap();
    (state, value.producer_id, value.epoch)
}

/// A log with one transactional id: producer 7, before it 6, partition 0 when there is a
/// transaction.
fn log_with(state: S, epoch: i16, client: TransactionVersion) -> Vec<Record> {
    let in_transaction = matches!(state, S::Ongoing | S::PrepareCommit | S::PrepareAbort);
    let topic = codec::TopicPartitions {
        topic: "orders".to_owned(),
        partitions: vec![0],
    };
    let value = TransactionValue {
        producer_id: 7,
        previous_producer_id: 6,
        next_producer_id: -1,
        epoch,
        next_epoch: -1,
        timeout_ms: 60_000,
        status: state.id(),
        partitions: (state != S::Empty).then(|| Vec::from_iter(in_transaction.then_some(topic))),
        last_update_ms: 1_000_000,
        start_ms: if state == S::Empty { -1 } else { 1_000_000 },
        client_version: client.level(),
    };
    vec![Record {
        key: codec::encode_key(ID).unwrap(),
        value: Some(value.encode(1).unwrap()),
    }]
}

fn in_state(state: S, epoch: i16, client: TransactionVersion) -> Shell {
    let mut shell = Shell::on_log(
        config(client),
        log_with(state, epoch, client),
        1_000_000,
        1_000,
    );
    // A prepared one stays so as long as its markers do not get through.
    shell.auto = !state.is_prepared();
    shell.loaded()
}

const ENDS: [(bool, i16); 4] = [(false, -1), (false, 0), (true, -1), (true, 0)];

#[test]
fn end_txn_of_version_2() {
    let (new, same) = (Ok(producer(7, 6)), Ok(producer(7, 5)));
    // Abort repeated, abort, commit repeated, commit.
    let busy = [Err(E::ConcurrentTransactions); 4];
    let table = [
        (
            S::Empty,
            [
                Err(E::ProducerFenced),
                new,
                Err(E::ProducerFenced),
                Err(E::InvalidTxnState),
            ],
        ),
        (
            S::Ongoing,
            [Err(E::ProducerFenced), new, Err(E::ProducerFenced), new],
        ),
        (S::PrepareCommit, busy),
        (S::PrepareAbort, busy),
        (
            S::CompleteAbort,
            [same, new, Err(E::InvalidTxnState), Err(E::InvalidTxnState)],
        ),
        (
            S::CompleteCommit,
            [Err(E::InvalidTxnState), new, same, Err(E::InvalidTxnState)],
        ),
    ];
    for (state, answers) in table {
        for ((committed, older), answer) in ENDS.into_iter().zip(answers) {
            let mut shell = in_state(state, 5, V2);
            let result = shell.end(producer(7, 5 + older), V2, committed);
            assert_eq!(result, answer, "{state:?} {committed} {older}");
            let end = if committed {
                S::CompleteCommit
            } else {
                S::CompleteAbort
            };
            let expected = if answer == new {
                (end, 7, 6)
            } else {
                (state, 7, 5)
            };
            assert_eq!(stored(&shell), expected, "{state:?} {committed} {older}");
        }
    }
}

#[test]
fn end_txn_before_version_2() {
    let (done, fenced) = (Ok(Producer::NONE), Err(E::ProducerFenced));
    let (state_error, busy) = (Err(E::InvalidTxnState), Err(E::ConcurrentTransactions));
    let table = [
        (S::Empty, [fenced, state_error, fenced, state_error]),
        (S::Ongoing, [fenced, done, fenced, done]),
        (S::PrepareCommit, [fenced, busy, fenced, busy]),
        (S::PrepareAbort, [fenced, busy, fenced, busy]),
        (S::CompleteAbort, [fenced, done, fenced, state_error]),
        (S::CompleteCommit, [fenced, state_error, fenced, done]),
    ];
    for (state, answers) in table {
        for ((committed, older), answer) in ENDS.into_iter().zip(answers) {
            let mut shell = in_state(state, 5, V0);
            let result = shell.end(producer(7, 5 + older), V0, committed);
            assert_eq!(result, answer, "{state:?} {committed} {older}");
            assert_eq!(stored(&shell).2, 5, "the epoch stays");
        }
    }
}

#[test]
fn adding_and_verifying() {
    let mapping = Err(E::InvalidProducerIdMapping);
    let (fenced, busy) = (Err(E::ProducerFenced), Err(E::ConcurrentTransactions));
    let table = [
        (
            S::Empty,
            [Ok(()), fenced, mapping],
            Err(E::TransactionAbortable),
        ),
        (S::Ongoing, [Ok(()), fenced, mapping], Ok(())),
        (S::PrepareCommit, [busy, busy, busy], busy),
        (S::PrepareAbort, [busy, busy, busy], busy),
        (
            S::CompleteCommit,
            [Ok(()), fenced, mapping],
            Err(E::TransactionAbortable),
        ),
    ];
    let who = [producer(7, 5), producer(7, 4), producer(8, 5)];
    for (state, answers, verified) in table {
        for (me, answer) in who.into_iter().zip(answers) {
            let mut shell = in_state(state, 5, V2);
            let known = shell
                .coordinator
                .verify_partitions(&add_request(me, V2, &[0]));
            let expected = match answer {
                Ok(()) => verified,
                _ if me == producer(7, 4) => fenced,
                _ if me == producer(8, 5) => mapping,
                other => other,
            };
            assert_eq!(known, vec![(partition(0), expected)], "{state:?} {me:?}");
            assert_eq!(shell.add(me, V2, &[0, 1]), answer, "{state:?} {me:?}");
            if answer.is_ok() {
                assert_eq!(stored(&shell), (S::Ongoing, 7, 5));
            }
        }
    }
    let mut shell = in_state(S::Ongoing, 5, V2);
    let records = shell.log.len();
    assert_eq!(shell.add(producer(7, 5), V2, &[0]), Ok(()));
    assert_eq!(shell.log.len(), records, "nothing new, nothing written");
}

#[test]
fn init_producer_id() {
    let (fenced, busy) = (Err(E::ProducerFenced), Err(E::ConcurrentTransactions));
    // Epoch, expected, answer from a state without a transaction.
    let last = i16::MAX - 1;
    let table = [
        (5, None, Ok(producer(7, 6))),
        (5, Some(producer(7, 5)), Ok(producer(7, 6))),
        (5, Some(producer(7, 4)), fenced),
        (5, Some(producer(8, 5)), fenced),
        (0, Some(producer(6, last)), fenced),
        (last, None, Ok(producer(1_000, 0))),
        (last, Some(producer(7, last)), Ok(producer(1_000, 0))),
    ];
    for (epoch, expected, answer) in table {
        for state in [S::Empty, S::CompleteCommit, S::CompleteAbort] {
            let mut shell = in_state(state, epoch, V2);
            assert_eq!(
                shell.init(expected),
                answer,
                "{state:?} {epoch} {expected:?}"
            );
        }
    }
    for state in [S::PrepareCommit, S::PrepareAbort, S::Ongoing] {
        let mut shell = in_state(state, 5, V2);
        assert_eq!(shell.init(None), busy, "{state:?}");
    }
    let mut shell = Shell::new(config(V2)).loaded();
    assert_eq!(shell.init(None), Ok(producer(1_000, 0)));
    assert_eq!(shell.init(Some(producer(1_000, 0))), Ok(producer(1_000, 1)));
    assert_eq!(
        shell.init(Some(producer(1_000, 0))),
        Ok(producer(1_000, 1)),
        "repeated"
    );
    for timeout_ms in [0, -1, 900_001] {
        let token = shell.send_init(timeout_ms, None);
        let refused = Reply::InitProducerId(Err(E::InvalidTransactionTimeout));
        assert_eq!(shell.replies[&token], refused);
    }
}

#[test]
fn a_new_producer_aborts_the_old_ones_transaction() {
    for (version, after) in [(V2, 7), (V0, 7)] {
        let mut shell = in_state(S::Ongoing, 5, version);
        assert_eq!(shell.init(None), Err(E::ConcurrentTransactions));
        assert_eq!(stored(&shell), (S::CompleteAbort, 7, 6));
        assert_eq!(shell.init(None), Ok(producer(7, after)));
        assert_eq!(
            shell.add(producer(7, 5), version, &[0]),
            Err(E::ProducerFenced)
        );
        assert_eq!(
            shell.end(producer(7, 5), version, true),
            Err(E::ProducerFenced)
        );
    }
}

#[test]
fn the_last_epoch_gives_way_to_a_new_producer_id() {
    let last = i16::MAX - 1;
    let mut shell = in_state(S::Ongoing, last, V2);
    assert_eq!(
        shell.end(producer(7, last), V2, true),
        Ok(producer(1_000, 0))
    );
    assert_eq!(stored(&shell), (S::CompleteCommit, 1_000, 0));
    let again = shell.end(producer(7, last), V2, true);
    assert_eq!(again, Ok(producer(1_000, 0)), "repeated");
    assert_eq!(shell.add(producer(1_000, 0), V2, &[0]), Ok(()));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_fenced() {
    for version in [V0, V2] {
        let mut shell = in_state(S::Ongoing, 5, version);
        shell.pass(60_000);
        assert_eq!(stored(&shell).0, S::Ongoing);
        shell.pass(1);
        assert_eq!(stored(&shell), (S::CompleteAbort, 7, 6));
        assert!(shell.end(producer(7, 5), version, true).is_err());
        assert_eq!(
            shell.add(producer(7, 5), version, &[0]),
            Err(E::ProducerFenced)
        );
    }
}

#[test]
fn failed_writes_change_nothing_and_are_told() {
    let errors = [
        (PersistError::Unavailable, E::CoordinatorNotAvailable),
        (PersistError::TimedOut, E::CoordinatorNotAvailable),
        (PersistError::NotLeader, E::NotCoordinator),
        (PersistError::TooLarge, E::UnknownServerError),
        (PersistError::Failed, E::UnknownServerError),
    ];
    for (failure, told) in errors {
        let mut shell = in_state(S::Ongoing, 5, V2);
        shell.auto = false;
        let token = shell.send_end(producer(7, 5), V2, true);
        assert_eq!(
            shell.add(producer(7, 5), V2, &[3]),
            Err(E::ConcurrentTransactions)
        );
        let write = *shell.open_writes.first_key_value().unwrap().0;
        shell.persist(write, Err(failure), false);
        assert_eq!(shell.replies[&token], Reply::EndTxn(Err(told)));
        assert!(
            shell.open_markers.is_empty(),
            "markers of what is not durable"
        );
        shell.auto = true;
        assert_eq!(shell.end(producer(7, 5), V2, false), Ok(producer(7, 6)));
    }
}

#[test]
fn a_fence_that_could_not_be_written_raises_the_epoch_once() {
    let mut shell = in_state(S::Ongoing, 5, V0);
    shell.auto = false;
    for _ in 0..3 {
        shell.send_init(60_000, None);
        let write = *shell.open_writes.first_key_value().unwrap().0;
        shell.persist(write, Err(PersistError::Unavailable), false);
    }
    assert_eq!(shell.end(producer(7, 5), V0, true), Err(E::ProducerFenced));
    shell.auto = true;
    assert_eq!(shell.init(None), Err(E::ConcurrentTransactions));
    assert_eq!(stored(&shell), (S::CompleteAbort, 7, 6));
}

#[test]
fn markers_are_tried_again_until_all_are_written() {
    let mut shell = in_state(S::PrepareCommit, 5, V2);
    let (&id, markers) = shell.open_markers.first_key_value().unwrap();
    assert!(markers.committed);
    assert_eq!(
        (markers.producer, markers.coordinator_epoch),
        (producer(7, 5), 7)
    );
    // Twice as long each time, and not beyond the bound.
    for wait_ms in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        shell.mark(id, MarkerOutcome::Retry);
        assert!(shell.open_markers.is_empty(), "not at once");
        shell.pass(wait_ms - 1);
        assert!(shell.open_markers.is_empty(), "not before {wait_ms} ms");
        shell.pass(1);
        assert_eq!(shell.open_markers.len(), 1, "after {wait_ms} ms");
    }
    shell.mark(id, MarkerOutcome::Done);
    let write = *shell.open_writes.first_key_value().unwrap().0;
    shell.persist(write, Err(PersistError::Unavailable), false);
    shell.pass(100);
    shell.persist_next();
    assert_eq!(stored(&shell), (S::CompleteCommit, 7, 5));

    let mut shell = in_state(S::PrepareCommit, 5, V2);
    let id = *shell.open_markers.first_key_value().unwrap().0;
    shell.mark(id, MarkerOutcome::CoordinatorFenced);
    shell.pass(10_000);
    assert!(shell.open_markers.is_empty() && shell.open_writes.is_empty());
}

#[test]
fn listing_and_describing() {
    let shell = in_state(S::Ongoing, 5, V2);
    let described = shell.coordinator.describe_transaction(ID).unwrap();
    assert_eq!(
        (described.state, described.producer),
        (S::Ongoing, producer(7, 5))
    );
    assert_eq!(described.partitions, vec![partition(0)]);
    assert_eq!(
        shell.coordinator.describe_transaction("other").unwrap_err(),
        E::TransactionalIdNotFound
    );
    assert_eq!(
        shell.coordinator.describe_transaction("").unwrap_err(),
        E::InvalidRequest
    );
    let list = |states: &[&str], producer_ids: &[i64], longer_than_ms| {
        let filter = ListFilter {
            states: states.iter().map(|&s| s.to_owned()).collect(),
            producer_ids: producer_ids.to_vec(),
            longer_than_ms,
        };
        let listing = shell
            .coordinator
            .list_transactions(1_000_500, &filter)
            .unwrap();
        (listing.transactions.len(), listing.unknown_states.len())
    };
    assert_eq!(list(&[], &[], None), (1, 0));
    assert_eq!(list(&["Ongoing", "Nothing"], &[7], Some(499)), (1, 1));
    assert_eq!(list(&[], &[], Some(500)), (0, 0));
    assert_eq!(list(&[], &[8], None), (0, 0));
    assert_eq!(list(&["ongoing"], &[], Some(-1)), (0, 1));
}

#[test]
fn idle_ids_expire_and_busy_ones_do_not() {
    let week_ms = TransactionConfig::default().id_expiration_ms;
    let mut shell = in_state(S::CompleteCommit, 5, V2);
    shell.pass(week_ms - 3_600_000);
    assert_eq!(shell.coordinator.id_count(), 1);
    shell.auto = false;
    shell.pass(3_600_000);
    assert_eq!(
        shell.init(None),
        Err(E::ConcurrentTransactions),
        "it is about to go"
    );
    shell.persist_next();
    assert_eq!(shell.log.last().unwrap().value, None);
    assert_eq!(shell.coordinator.id_count(), 0);
    let unknown = shell.end(producer(7, 5), V2, true);
    assert_eq!(unknown, Err(E::InvalidProducerIdMapping));

    let mut busy = in_state(S::PrepareAbort, 5, V2);
    busy.pass(2 * week_ms);
    assert_eq!(busy.coordinator.id_count(), 1);
}

#[test]
fn before_loading_and_after_resigning_nothing_is_served() {
    let mut shell = Shell::new(config(V2));
    assert_eq!(shell.init(None), Err(E::CoordinatorLoadInProgress));
    let mut shell = in_state(S::Ongoing, 5, V2);
    shell.auto = false;
    let token = shell.send_end(producer(7, 5), V2, true);
    shell.step(|coordinator, _, out| coordinator.resign(out));
    assert_eq!(shell.replies[&token], Reply::EndTxn(Err(E::NotCoordinator)));
    assert_eq!(shell.init(None), Err(E::NotCoordinator));
}

#[test]
fn old_clients_are_told_the_error_they_know() {
    let table = [
        (TransactionApi::InitProducerId, 3, 4),
        (TransactionApi::AddPartitionsToTxn, 1, 2),
        (TransactionApi::AddOffsetsToTxn, 1, 2),
        (TransactionApi::EndTxn, 1, 2),
    ];
    for (api, old, new) in table {
        assert_eq!(E::ProducerFenced.code_for(api, old), 47);
        assert_eq!(E::ProducerFenced.code_for(api, new), 90);
        assert_eq!(E::InvalidTxnState.code_for(api, old), 48);
    }
}
