//! `dlog bench transactions`: producers that commit at a fixed interval, each on connections of its own.
//!
//! A partition has one batch of a producer under way at a time, so that sequence numbers arrive in order
//! whatever the connection does. A transaction ends when its time is up and all its batches are
//! acknowledged; what was due meanwhile is late, and counts as late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use dlog_client::{Client, ClientError, Connection, CoordinatorKind};
use dlog_storage::record::{BATCH_HEADER_BYTES, BatchBuilder};
use hdrhistogram::Histogram;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProduceRequest, ProducerId,
    TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use super::load::{self, Lane, LoadArgs, PRODUCE_VERSION};
use super::pace::Pace;
use super::report::{Report, histogram, record, watched};
use crate::commands::remote::{RemoteArgs, now_ms};

/// From this version of EndTxn on, a producer gets a new epoch with each transaction, and partitions
/// become part of it by being written to (KIP-890).
const END_TXN_V2: i16 = 5;
/// The first version of Produce that adds partitions to transactions.
const PRODUCE_V2: i16 = 12;
/// Before a request is sent again that came while the last transaction was being ended.
const AGAIN_AFTER: Duration = Duration::from_millis(1);

#[derive(Args, Clone, Debug)]
pub(super) struct TransactionsArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Length of a transaction in ms.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    commit_ms: u64,
}

/// Who a producer is at the moment.
#[derive(Clone, Copy)]
struct Identity {
    id: i64,
    epoch: i16,
}

/// One partition of a producer: at most one batch of it is under way.
struct Slot {
    connection: Arc<Connection>,
    partition: i32,
    sequence: i32,
}

/// What all slots of a producer share.
#[derive(Clone)]
struct Sending {
    load: Arc<LoadArgs>,
    transactional_id: StrBytes,
    /// A batch whose producer, epoch and sequence are filled in for each sending.
    template: Bytes,
    pace: Pace,
    counts_from: Instant,
    records: Arc<AtomicU64>,
}

/// A transactional producer that is ready to begin.
struct Producer {
    transactional_id: StrBytes,
    coordinator: Arc<Connection>,
    identity: Identity,
    /// Whether both sides speak version 2 of the protocol.
    v2: bool,
    slots: Vec<Slot>,
}

/// What one producer measured.
struct Measured {
    batches: Histogram<u64>,
    commits: Histogram<u64>,
    ended: Instant,
}

/// Fills in who sends the batch and its sequence number.
fn stamped(template: &[u8], identity: Identity, sequence: i32) -> Bytes {
    // Bytes of the batch header: checksum, what it covers, producer id, epoch, sequence.
    const CRC: usize = 17;
    const COVERED: usize = 21;
    const PRODUCER: usize = 43;
    let mut batch = BytesMut::from(template);
    let mut fields = &mut batch[PRODUCER..BATCH_HEADER_BYTES];
    fields.put_i64(identity.id);
    fields.put_i16(identity.epoch);
    fields.put_i32(sequence);
    let crc = crc32c::crc32c(&batch[COVERED..]);
    (&mut batch[CRC..COVERED]).put_u32(crc);
    batch.freeze()
}

fn is_busy(error: &ClientError) -> bool {
    error.response_error() == Some(ResponseError::ConcurrentTransactions)
}

impl Slot {
    /// Sends until the transaction's time is up, or the load's.
    async fn fill(
        &mut self,
        sending: &Sending,
        identity: Identity,
        until: Instant,
        batches: &mut Histogram<u64>,
    ) -> Result<()> {
        let count = sending.load.batch_records;
        while Instant::now() < until {
            let due = tokio::time::timeout_at(until.into(), sending.pace.next()).await;
            let Ok(Some((_, from))) = due else {
                break;
            };
            self.send(sending, identity).await?;
            self.sequence = self.sequence.wrapping_add_unsigned(count) & i32::MAX;
            if from >= sending.counts_from {
                record(batches, from.elapsed());
                sending
                    .records
                    .fetch_add(u64::from(count), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn send(&self, sending: &Sending, identity: Identity) -> Result<()> {
        let batch = stamped(&sending.template, identity, self.sequence);
        let id = TransactionalId(sending.transactional_id.clone());
        let request = sending
            .load
            .request(self.partition, batch)
            .with_transactional_id(Some(id));
        let request = self
            .connection
            .prepare::<ProduceRequest>(&request, PRODUCE_VERSION)?;
        loop {
            match load::send(&self.connection, -1, &request).await {
                Err(error) if error.downcast_ref().is_some_and(is_busy) => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                sent => return sent,
            }
        }
    }
}

impl Producer {
    async fn open(
        client: &Client,
        id: StrBytes,
        lanes: &[Lane],
        number: usize,
        in_flight: usize,
    ) -> Result<Self> {
        let coordinator = client
            .coordinator(CoordinatorKind::Transaction, &id)
            .await?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(id.clone())))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let identity = loop {
            let answer = coordinator.call(&request, 4).await?;
            match ClientError::check(answer.error_code, || format!("producer {id}"), None) {
                Ok(()) => {
                    break Identity {
                        id: answer.producer_id.0,
                        epoch: answer.producer_epoch,
                    };
                }
                Err(error) if error.is_retriable() || is_busy(&error) => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let v2 = coordinator.newest::<EndTxnRequest>() >= Some(END_TXN_V2)
            && coordinator.newest::<ProduceRequest>() >= Some(PRODUCE_V2);
        // Each producer begins with another partition, so that all are used.
        let places: Vec<_> = lanes
            .iter()
            .flat_map(|lane| lane.partitions.iter().map(move |p| (&lane.connection, *p)))
            .collect();
        let count = places.len().min(in_flight);
        let mut slots = Vec::with_capacity(count);
        for place in 0..count {
            let (connection, partition) = places[(place + number * count) % places.len()];
            slots.push(Slot {
                connection: connection.clone(),
                partition,
                sequence: 0,
            });
        }
        Ok(Self {
            transactional_id: id,
            coordinator,
            identity,
            v2,
            slots,
        })
    }

    async fn run(mut self, sending: Sending, length: Duration) -> Result<Measured> {
        let mut measured = Measured {
            batches: histogram()?,
            commits: histogram()?,
            ended: Instant::now(),
        };
        while !sending.pace.is_over() {
            self.begin(&sending.load.topic).await?;
            let until = Instant::now() + length;
            self.fill(&sending, until, &mut measured.batches).await?;
            // At a low rate nothing may have been due: under v2 no transaction has begun then.
            if self.v2 && self.slots.iter().all(|slot| slot.sequence == 0) {
                continue;
            }
            let asked = Instant::now();
            self.commit().await?;
            if asked >= sending.counts_from {
                record(&mut measured.commits, asked.elapsed());
            }
        }
        measured.ended = Instant::now();
        Ok(measured)
    }

    /// Fills all slots side by side.
    async fn fill(
        &mut self,
        sending: &Sending,
        until: Instant,
        batches: &mut Histogram<u64>,
    ) -> Result<()> {
        let mut filling = JoinSet::new();
        for mut slot in self.slots.drain(..) {
            let (sending, identity) = (sending.clone(), self.identity);
            filling.spawn(async move {
                let mut own = histogram()?;
                slot.fill(&sending, identity, until, &mut own).await?;
                anyhow::Ok((slot, own))
            });
        }
        while let Some(done) = filling.join_next().await {
            let (slot, own) = done??;
            self.slots.push(slot);
            batches.add(own)?;
        }
        Ok(())
    }

    async fn begin(&self, topic: &str) -> Result<()> {
        if self.v2 {
            return Ok(());
        }
        let name = StrBytes::from_string(topic.to_owned());
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(name))
            .with_partitions(self.slots.iter().map(|slot| slot.partition).collect());
        let id = TransactionalId(self.transactional_id.clone());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id)
            .with_v3_and_below_producer_id(ProducerId(self.identity.id))
            .with_v3_and_below_producer_epoch(self.identity.epoch)
            .with_v3_and_below_topics(vec![topic]);
        loop {
            let answer = self.coordinator.call(&request, 3).await?;
            let codes = answer
                .results_by_topic_v3_and_below
                .iter()
                .flat_map(|topic| &topic.results_by_partition)
                .map(|partition| partition.partition_error_code);
            let refused = codes.into_iter().find(|code| *code != 0).unwrap_or(0);
            match ClientError::check(refused, || "adding partitions".to_owned(), None) {
                Err(error) if is_busy(&error) => tokio::time::sleep(AGAIN_AFTER).await,
                checked => return Ok(checked?),
            }
        }
    }

    async fn commit(&mut self) -> Result<()> {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(self.transactional_id.clone()))
            .with_producer_id(ProducerId(self.identity.id))
            .with_producer_epoch(self.identity.epoch)
            .with_committed(true);
        let newest = if self.v2 { END_TXN_V2 } else { END_TXN_V2 - 1 };
        loop {
            let answer = self.coordinator.call(&request, newest).await?;
            match ClientError::check(answer.error_code, || "commit".to_owned(), None) {
                Ok(()) => {
                    if self.v2 {
                        self.renamed(answer.producer_id.0, answer.producer_epoch);
                    }
                    return Ok(());
                }
                Err(error) if is_busy(&error) => tokio::time::sleep(AGAIN_AFTER).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A new epoch begins with sequence 0.
    fn renamed(&mut self, id: i64, epoch: i16) {
        self.identity = Identity { id, epoch };
        for slot in &mut self.slots {
            slot.sequence = 0;
        }
    }
}

/// Measures.
pub(super) async fn run(remote: &RemoteArgs, arguments: TransactionsArgs) -> Result<Report> {
    let TransactionsArgs { load, commit_ms } = arguments;
    if load.acks != -1 {
        bail!("transactions need --acks all");
    }
    let client = remote.connect().await?;
    let run = now_ms();
    let mut builder = BatchBuilder::new()
        .compression(load.compression, None)
        .producer(0, 0, 0)
        .transactional(true);
    for value in load.values() {
        builder.push(run, None, Some(&value), &[])?;
    }
    let template = builder.build()?;
    let records = Arc::new(AtomicU64::new(0));
    let one = LoadArgs {
        connections: 1,
        ..load.clone()
    };
    let mut ready = Vec::new();
    for number in 0..load.connections as usize {
        let lanes = load::lanes(&client, &one).await?;
        let id = StrBytes::from_string(format!("dlog-bench-{run}-{number}"));
        let in_flight = load.in_flight as usize;
        ready.push(Producer::open(&client, id, &lanes, number, in_flight).await?);
    }
    let shared = Arc::new(load.clone());
    let pace = Pace::start(load.rate.map(|rate| load.batch_rate(rate)), load.length());
    let counts_from = pace.due(0) + Duration::from_secs(load.warmup);
    let mut producers = JoinSet::new();
    for producer in ready {
        let sending = Sending {
            load: shared.clone(),
            transactional_id: producer.transactional_id.clone(),
            template: template.clone(),
            pace: pace.clone(),
            counts_from,
            records: records.clone(),
        };
        producers.spawn(producer.run(sending, Duration::from_millis(commit_ms)));
    }
    let (mut batches, mut commits) = (histogram()?, histogram()?);
    let mut ended = counts_from;
    let gathering = async {
        while let Some(done) = producers.join_next().await {
            let measured = done?.context("a producer failed")?;
            batches.add(measured.batches)?;
            commits.add(measured.commits)?;
            ended = ended.max(measured.ended);
        }
        anyhow::Ok(())
    };
    let total_ms = u64::try_from(load.length().as_millis()).unwrap_or(u64::MAX);
    watched(total_ms, || pace.elapsed_ms(), &records, gathering).await?;
    let records = records.load(Ordering::Relaxed);
    let bytes = records * u64::from(load.record_bytes);
    let report = Report::new(
        "transactions",
        load.topic,
        (records, bytes),
        ended - counts_from,
    )
    .latencies(&batches)
    .commits(&commits);
    Ok(report.missed(&pace, load.batch_records))
}

#[cfg(test)]
mod tests {
    use dlog_storage::record::BatchHeader;

    use super::*;

    #[test]
    fn a_stamped_batch_says_who_sent_it_and_has_a_checksum_that_fits() {
        let mut builder = BatchBuilder::new().producer(0, 0, 0).transactional(true);
        builder.push(1, None, Some(b"value"), &[]).unwrap();
        let template = builder.build().unwrap();
        let identity = Identity { id: 77, epoch: 3 };
        let batch = stamped(&template, identity, 41);
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!((header.producer_id, header.producer_epoch), (77, 3));
        assert_eq!(header.base_sequence, 41);
        assert!(header.is_transactional());
        assert_eq!(header.crc, crc32c::crc32c(&batch[21..]));
    }
}
