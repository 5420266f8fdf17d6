//! A shell around the coordinator: a log that may fail or lose its tail, and the answers.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use std::collections::{BTreeMap, BTreeSet};

use dlog_transactions::{
    AddPartitions, Effect, EndTxn, InitProducerId, MarkerOutcome, Markers, MarkersId, PersistError,
    Producer, Record, Reply, Token, TopicPartition, TransactionConfig, TransactionCoordinator,
    TransactionError, TransactionVersion, WriteId,
};

pub const ID: &str = "my-txn";
pub const V0: TransactionVersion = TransactionVersion::V0;
pub const V2: TransactionVersion = TransactionVersion::V2;

pub struct Shell {
    pub coordinator: TransactionCoordinator,
    pub now_ms: i64,
    /// Durable records.
    pub log: Vec<Record>,
    pub open_writes: BTreeMap<WriteId, Vec<Record>>,
    pub open_markers: BTreeMap<MarkersId, Markers>,
    pub replies: BTreeMap<Token, Reply>,
    answered: BTreeSet<Token>,
    pub last_token: Token,
    pub next_producer_id: i64,
    /// Writes and markers succeed at once.
    pub auto: bool,
}

pub fn config(version: TransactionVersion) -> TransactionConfig {
    TransactionConfig {
        transaction_version: version,
        ..TransactionConfig::default()
    }
}

pub fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

pub fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

impl Shell {
    pub fn new(config: TransactionConfig) -> Self {
        Self::on_log(config, Vec::new(), 1_000_000, 1_000)
    }

    pub fn on_log(
        config: TransactionConfig,
        log: Vec<Record>,
        now_ms: i64,
        next_producer_id: i64,
    ) -> Self {
        let mut coordinator = TransactionCoordinator::new(config, 7);
        for record in &log {
            let value = record.value.as_deref();
            coordinator.apply_record(&record.key, value).unwrap();
        }
        let mut shell = Self {
            coordinator,
            now_ms,
            log,
            open_writes: BTreeMap::new(),
            open_markers: BTreeMap::new(),
            replies: BTreeMap::new(),
            answered: BTreeSet::new(),
            last_token: 0,
            next_producer_id,
            auto: true,
        };
        shell.give_ids();
        shell
    }

    pub fn loaded(mut self) -> Self {
        self.step(|coordinator, now_ms, out| coordinator.finish_loading(now_ms, out));
        self
    }

    fn give_ids(&mut self) {
        let first = self.next_producer_id;
        self.next_producer_id += 20;
        self.coordinator.add_producer_ids(first..first + 20);
    }

    pub fn step(&mut self, take: impl FnOnce(&mut TransactionCoordinator, i64, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        take(&mut self.coordinator, self.now_ms, &mut out);
        for effect in out {
            match effect {
                Effect::Reply { token, reply } => {
                    assert!(
                        self.answered.insert(token),
                        "token {token} is answered twice"
                    );
                    self.replies.insert(token, reply);
                }
                Effect::Persist { write, records } => {
                    self.open_writes.insert(write, records);
                }
                Effect::WriteMarkers(markers) => {
                    self.open_markers.insert(markers.id, markers);
                }
                Effect::NeedProducerIds => self.give_ids(),
                Effect::Ended { transactional_id } => {
                    let state = self.coordinator.describe_transaction(&transactional_id);
                    assert!(
                        state.unwrap().partitions.is_empty(),
                        "nothing is left of it"
                    );
                }
            }
        }
        while self.auto && self.settle_one() {}
    }

    fn settle_one(&mut self) -> bool {
        if let Some((&write, _)) = self.open_writes.first_key_value() {
            self.persist(write, Ok(()), true);
        } else if let Some((&id, _)) = self.open_markers.first_key_value() {
            self.mark(id, MarkerOutcome::Done);
        } else {
            return false;
        }
        true
    }

    /// Ends a write; `stored` is whether it is in the log, whatever is reported.
    pub fn persist(&mut self, write: WriteId, result: Result<(), PersistError>, stored: bool) {
        let records = self.open_writes.remove(&write).unwrap();
        if stored {
            self.log.extend(records);
        }
        self.step(|coordinator, now_ms, out| coordinator.persisted(now_ms, write, result, out));
    }

    /// Ends the oldest write well.
    pub fn persist_next(&mut self) {
        let write = *self.open_writes.first_key_value().unwrap().0;
        self.persist(write, Ok(()), true);
    }

    pub fn mark(&mut self, id: MarkersId, outcome: MarkerOutcome) {
        let markers = self.open_markers.remove(&id).unwrap();
        let outcomes: Vec<_> = markers
            .partitions
            .into_iter()
            .map(|p| (p, outcome))
            .collect();
        self.step(|coordinator, now_ms, out| {
            coordinator.markers_written(now_ms, id, &outcomes, out);
        });
    }

    pub fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        while self
            .coordinator
            .next_deadline_ms()
            .is_some_and(|at_ms| at_ms <= self.now_ms)
        {
            self.step(|coordinator, now_ms, out| coordinator.tick(now_ms, out));
        }
    }

    pub fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    pub fn send_init(&mut self, timeout_ms: i32, expected: Option<Producer>) -> Token {
        let request = InitProducerId {
            transactional_id: ID.to_owned(),
            timeout_ms,
            expected,
        };
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.init_producer_id(now_ms, &request, token, out);
        });
        token
    }

    pub fn send_add(
        &mut self,
        producer: Producer,
        client_version: TransactionVersion,
        partitions: &[i32],
    ) -> Token {
        let request = add_request(producer, client_version, partitions);
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.add_partitions(now_ms, request, token, out);
        });
        token
    }

    pub fn send_end(
        &mut self,
        producer: Producer,
        client_version: TransactionVersion,
        committed: bool,
    ) -> Token {
        let request = EndTxn {
            transactional_id: ID.to_owned(),
            producer,
            committed,
            client_version,
        };
        let token = self.token();
        self.step(|coordinator, now_ms, out| coordinator.end_txn(now_ms, &request, token, out));
        token
    }

    pub fn init(&mut self, expected: Option<Producer>) -> Result<Producer, TransactionError> {
        let token = self.send_init(60_000, expected);
        match self.replies.remove(&token) {
            Some(Reply::InitProducerId(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn add(
        &mut self,
        producer: Producer,
        client_version: TransactionVersion,
        partitions: &[i32],
    ) -> Result<(), TransactionError> {
        let token = self.send_add(producer, client_version, partitions);
        match self.replies.remove(&token) {
            Some(Reply::AddPartitions(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn end(
        &mut self,
        producer: Producer,
        client_version: TransactionVersion,
        committed: bool,
    ) -> Result<Producer, TransactionError> {
        let token = self.send_end(producer, client_version, committed);
        match self.replies.remove(&token) {
            Some(Reply::EndTxn(result)) => result,
            other => panic!("{other:?}"),
        }
    }
}

pub fn add_request(
    producer: Producer,
    client_version: TransactionVersion,
    partitions: &[i32],
) -> AddPartitions {
    AddPartitions {
        transactional_id: ID.to_owned(),
        producer,
        client_version,
        partitions: partitions.iter().copied().map(partition).collect(),
    }
}
