//! A client and brokers that are broken, or none at all: an error, never a panic, a hang or a loss.

#![allow(clippy::unwrap_used, missing_docs)] // A step that fails is a test that fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use dlog_client::{
    Client, ClientConfig, ClientError, Consumer, ConsumerConfig, Outgoing, Position, Producer,
    ProducerConfig,
};
use dlog_storage::record::Batch;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOPIC: &str = "t";
const GROUP: &str = "g";

/// What a broker does with a request: the body of its answer, or the end of the connection.
type Behaviour = dyn Fn(ApiKey, i16, Bytes) -> Option<Bytes> + Send + Sync;

/// A broker that does as it is told.
async fn broker(behaviour: Arc<Behaviour>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, behaviour.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, behaviour: Arc<Behaviour>) {
    while let Ok(len) = stream.read_u32().await {
        let mut frame = vec![0; len as usize];
        stream.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        let api = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header =
            RequestHeader::decode(&mut frame, api.request_header_version(version)).unwrap();
        let Some(body) = behaviour(api, version, frame) else {
            return;
        };
        let mut answer = BytesMut::zeroed(4);
        answer.put_i32(header.correlation_id);
        if api.response_header_version(version) > 0 {
            answer.put_u8(0);
        }
        answer.extend_from_slice(&body);
        let len = (answer.len() - 4) as u32;
        answer[..4].copy_from_slice(&len.to_be_bytes());
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn encoded<T: Encodable + HeaderVersion>(answer: &T, version: i16) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    Some(bytes.freeze())
}

/// Answers of a sound broker with one topic of one partition.
fn sound(api: ApiKey, version: i16, address: &str) -> Option<Bytes> {
    let (host, port) = address.split_once(':').unwrap_or(("127.0.0.1", "1"));
    let name = TopicName(StrBytes::from_static_str(TOPIC));
    match api {
        ApiKey::ApiVersions => {
            let apis = [
                (0, 3, 9),
                (1, 4, 12),
                (2, 1, 7),
                (3, 1, 12),
                (9, 8, 9),
                (10, 4, 4),
                (22, 0, 4),
                (18, 0, 3),
            ];
            let apis = apis.map(|(key, min, max)| {
                ApiVersion::default()
                    .with_api_key(key)
                    .with_min_version(min)
                    .with_max_version(max)
            });
            encoded(
                &ApiVersionsResponse::default().with_api_keys(apis.to_vec()),
                version,
            )
        }
        ApiKey::Metadata => {
            let broker = MetadataResponseBroker::default()
                .with_node_id(BrokerId(1))
                .with_host(StrBytes::from_string(host.to_owned()))
                .with_port(port.parse().unwrap());
            let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
            let topic = MetadataResponseTopic::default()
                .with_name(Some(name))
                .with_partitions(vec![partition]);
            let answer = MetadataResponse::default()
                .with_brokers(vec![broker])
                .with_topics(vec![topic]);
            encoded(&answer, version)
        }
        ApiKey::FindCoordinator => {
            let coordinator = Coordinator::default()
                .with_key(StrBytes::from_static_str(GROUP))
                .with_host(StrBytes::from_string(host.to_owned()))
                .with_port(port.parse().unwrap());
            let answer = FindCoordinatorResponse::default().with_coordinators(vec![coordinator]);
            encoded(&answer, version)
        }
        ApiKey::InitProducerId => {
            let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(7));
            encoded(&answer, version)
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartitionResponse::default().with_offset(10);
            let topic = ListOffsetsTopicResponse::default()
                .with_name(name)
                .with_partitions(vec![partition]);
            encoded(
                &ListOffsetsResponse::default().with_topics(vec![topic]),
                version,
            )
        }
        _ => None,
    }
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new(address);
    config.timeout = Duration::from_secs(20);
    config
}

/// A broker that is sound but for what `odd` answers.
async fn mostly_sound(
    odd: impl Fn(ApiKey, i16, Bytes) -> Option<Option<Bytes>> + Send + Sync + 'static,
) -> String {
    let address = Arc::new(Mutex::new(String::new()));
    let own = address.clone();
    let listening = broker(Arc::new(move |api, version, body| {
        odd(api, version, body).unwrap_or_else(|| sound(api, version, &own.lock().unwrap()))
    }))
    .await;
    address.lock().unwrap().clone_from(&listening);
    listening
}

#[tokio::test]
async fn no_bytes_make_it_panic_or_take_memory() {
    // Frames that begin as an answer and go on as anything.
    let mut state = 42_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    for round in 0..200 {
        let noise: Vec<u8> = (0..round).map(|_| random()).collect();
        let address = mostly_sound(move |api, _, _| {
            (api == ApiKey::Metadata).then(|| Some(Bytes::from(noise.clone())))
        })
        .await;
        let client = Client::connect(config(&address)).await.unwrap();
        // Noise may even be an answer, of an empty list for example.
        let _ = client.topics().await;
    }
    // Counts of two thousand million.
    for body in [
        &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07][..],
        &[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        let address = mostly_sound(move |api, _, _| {
            (api == ApiKey::Metadata).then_some(Some(Bytes::from_static(body)))
        })
        .await;
        let client = Client::connect(config(&address)).await.unwrap();
        let error = client.topics().await.unwrap_err();
        assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_frame_of_any_announced_length() {
    for length in [-1_i32, 0, 3, i32::MAX, i32::MIN] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            stream.write_all(&[0; 3]).await.unwrap();
            // Open until the client has seen enough.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let error = Client::connect(config(&address)).await.err().unwrap();
        assert!(
            matches!(error, ClientError::Disconnected { .. }),
            "{length}: {error}"
        );
    }
}

#[tokio::test]
async fn a_broker_that_says_nothing_is_left() {
    let address = mostly_sound(|_, _, _| None).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&silent.local_addr().unwrap().to_string());
    config.timeout = Duration::from_millis(50);
    let error = Client::connect(config).await.err().unwrap();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    // The next of the list is asked.
    let mut config = ClientConfig::new(format!("127.0.0.1:1, {address}"));
    config.timeout = Duration::from_secs(20);
    Client::connect(config).await.unwrap();
}

#[tokio::test]
async fn an_old_broker_that_answers_in_version_0() {
    let address = mostly_sound(|api, version, _| {
        let refused = api == ApiKey::ApiVersions && version > 0;
        // Error 35 and an empty list, as version 0 has them.
        refused.then_some(Some(Bytes::from_static(&[0, 35, 0, 0, 0, 0])))
    })
    .await;
    let client = Client::connect(config(&address)).await.unwrap();
    assert_eq!(client.topics().await.unwrap().len(), 1);
}

/// What a broker does with one attempt to produce.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    /// Refuses without writing.
    Refuse(i16),
    /// Writes, and closes without an answer.
    WriteAndClose,
    Write,
}

/// A partition that checks sequence numbers, and does to each attempt as it is told.
#[derive(Default)]
struct Partition {
    attempts: Vec<Attempt>,
    next_sequence: HashMap<i64, i32>,
    values: Vec<String>,
    ids: i64,
}

impl Partition {
    fn produce(&mut self, version: i16, mut body: Bytes) -> Option<Bytes> {
        let request = ProduceRequest::decode(&mut body, version).unwrap();
        let records = request.topic_data[0].partition_data[0]
            .records
            .clone()
            .unwrap();
        let batch = Batch::from_bytes(records).unwrap();
        batch.verify_crc().unwrap();
        let attempt = if self.attempts.is_empty() {
            Attempt::Write
        } else {
            self.attempts.remove(0)
        };
        if let Attempt::Refuse(code) = attempt {
            return answer(code, version);
        }
        let header = batch.header();
        let next = self.next_sequence.entry(header.producer_id).or_insert(0);
        // 45: out of order.
        let code = match header.base_sequence.cmp(next) {
            std::cmp::Ordering::Greater => 45,
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => {
                *next += header.record_count;
                let values = batch
                    .records()
                    .unwrap()
                    .map(|record| record.unwrap().value.unwrap());
                let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
                self.values.extend(values.map(text));
                0
            }
        };
        match attempt {
            Attempt::WriteAndClose => None,
            _ => answer(code, version),
        }
    }
}

fn answer(code: i16, version: i16) -> Option<Bytes> {
    let slot = PartitionProduceResponse::default().with_error_code(code);
    let topic = TopicProduceResponse::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partition_responses(vec![slot]);
    encoded(
        &ProduceResponse::default().with_responses(vec![topic]),
        version,
    )
}

/// Sends ten records in batches of one to a partition with these attempts; gives what was written, and
/// how it ended.
async fn produced(attempts: &[Attempt]) -> (Vec<String>, Result<(), ClientError>) {
    let partition = Arc::new(Mutex::new(Partition {
        attempts: attempts.to_vec(),
        ..Partition::default()
    }));
    let own = partition.clone();
    let address = mostly_sound(move |api, version, body| match api {
        ApiKey::Produce => Some(own.lock().unwrap().produce(version, body)),
        ApiKey::InitProducerId => {
            let mut partition = own.lock().unwrap();
            partition.ids += 1;
            let id = ProducerId(partition.ids);
            Some(encoded(
                &InitProducerIdResponse::default().with_producer_id(id),
                version,
            ))
        }
        _ => None,
    })
    .await;
    let client = Client::connect(config(&address)).await.unwrap();
    let config = ProducerConfig {
        batch_bytes: 1,
        max_batch_bytes: 1,
        ..ProducerConfig::default()
    };
    let mut producer = Producer::new(client, TOPIC, config).await.unwrap();
    let mut ended = Ok(());
    for n in 0..10 {
        let value = n.to_string();
        let record = Outgoing {
            value: Some(value.as_bytes()),
            ..Outgoing::default()
        };
        ended = producer.send(record).await;
        if ended.is_err() {
            break;
        }
    }
    let flushed = producer.flush().await;
    let values = partition.lock().unwrap().values.clone();
    (values, ended.and(flushed))
}

fn all() -> Vec<String> {
    (0..10).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn every_record_once_and_in_order_whatever_happens_to_an_attempt() {
    use Attempt::{Refuse, Write, WriteAndClose};
    // 6: not the leader. 3: unknown partition. 7: timed out. 56: storage error. 59: unknown producer.
    for attempts in [
        &[][..],
        &[WriteAndClose],
        &[Write, WriteAndClose, WriteAndClose, Write],
        &[Refuse(6), Write, Refuse(3), WriteAndClose, Refuse(7)],
        &[Write, Write, Refuse(59)],
        &[Write, Refuse(45), Refuse(59), Write, Refuse(47)],
        &[WriteAndClose, Refuse(56)],
    ] {
        let (values, ended) = produced(attempts).await;
        ended.unwrap_or_else(|error| panic!("{attempts:?}: {error}"));
        assert_eq!(values, all(), "{attempts:?}");
    }
}

#[tokio::test]
async fn what_may_be_written_is_not_sent_under_another_name() {
    use Attempt::{Refuse, WriteAndClose};
    // The broker forgets the producer after an attempt that nobody heard of.
    let (values, ended) = produced(&[WriteAndClose, Refuse(59)]).await;
    let error = ended.unwrap_err();
    assert!(matches!(error, ClientError::Uncertain { .. }), "{error}");
    assert_eq!(values.iter().filter(|value| *value == "0").count(), 1);
    // A refusal for good is certain.
    let (values, ended) = produced(&[Refuse(10)]).await;
    let error = ended.unwrap_err();
    assert!(
        matches!(error, ClientError::Refused { code: 10, .. }),
        "{error}"
    );
    assert!(!values.contains(&"0".to_owned()));
    // One that is never known does not ask for ever.
    let (_, ended) = produced(&[Refuse(59); 20]).await;
    ended.unwrap_err();
}

#[tokio::test]
async fn partitions_that_were_not_asked_for_and_records_that_go_back() {
    let mut builder = dlog_storage::record::BatchBuilder::new().base_offset(10);
    builder.push(0, None, Some(b"ten"), &[]).unwrap();
    let ten = builder.build().unwrap();
    let mut builder = dlog_storage::record::BatchBuilder::new().base_offset(3);
    builder.push(0, None, Some(b"three"), &[]).unwrap();
    let records = [&ten[..], &builder.build().unwrap(), &ten[..20]].concat();
    let address = mostly_sound(move |api, version, _| {
        if api != ApiKey::Fetch {
            return None;
        }
        let records = Bytes::from(records.clone());
        let asked = PartitionData::default().with_records(Some(records));
        let foreign = asked.clone().with_partition_index(5);
        let topic = FetchableTopicResponse::default()
            .with_topic(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partitions(vec![foreign, asked]);
        Some(encoded(
            &FetchResponse::default().with_responses(vec![topic]),
            version,
        ))
    })
    .await;
    let client = Client::connect(config(&address)).await.unwrap();
    let config = ConsumerConfig::default();
    let mut consumer = Consumer::new(client, TOPIC, &[], Position::End, config)
        .await
        .unwrap();
    let fetched = consumer.poll().await.unwrap();
    assert_eq!(fetched.len(), 1);
    let records: Vec<_> = fetched[0].records(TOPIC).map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].offset, 10);
    assert_eq!(consumer.positions().collect::<Vec<_>>(), [(0, 11)]);
    // The same again is nothing new.
    assert!(consumer.poll().await.unwrap()[0].batches.is_empty());
    assert_eq!(consumer.positions().collect::<Vec<_>>(), [(0, 11)]);
}

#[tokio::test]
async fn a_coordinator_that_is_another_by_now_or_still_loads_is_asked_again() {
    let codes = [
        ResponseError::NotCoordinator,
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::CoordinatorNotAvailable,
    ];
    let refusals = Mutex::new(codes.to_vec());
    let address = mostly_sound(move |api, version, _| {
        if api != ApiKey::OffsetFetch {
            return None;
        }
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)));
        let group = match refusals.lock().unwrap().pop() {
            Some(error) => group.with_error_code(error.code()),
            None => {
                let partition = OffsetFetchResponsePartitions::default().with_committed_offset(42);
                let topic = OffsetFetchResponseTopics::default()
                    .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
                    .with_partitions(vec![partition]);
                group.with_topics(vec![topic])
            }
        };
        let answer = OffsetFetchResponse::default().with_groups(vec![group]);
        Some(encoded(&answer, version))
    })
    .await;
    let client = Client::connect(config(&address)).await.unwrap();
    let committed = client.committed(GROUP).await.unwrap();
    assert_eq!(committed[&(TOPIC.to_owned(), 0)].offset, 42);
}

#[tokio::test]
async fn a_broker_that_does_not_know_yet_that_it_leads_is_asked_again() {
    let refusals = Mutex::new(2);
    let address = mostly_sound(move |api, version, _| {
        if api != ApiKey::ListOffsets {
            return None;
        }
        let mut left = refusals.lock().unwrap();
        *left -= 1;
        let error = ResponseError::NotLeaderOrFollower.code();
        let partition = ListOffsetsPartitionResponse::default().with_error_code(error);
        let topic = ListOffsetsTopicResponse::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partitions(vec![partition]);
        let answer = ListOffsetsResponse::default().with_topics(vec![topic]);
        (*left >= 0).then(|| encoded(&answer, version))
    })
    .await;
    let client = Client::connect(config(&address)).await.unwrap();
    let offsets = client.offsets(TOPIC, &[0], Position::End, false).await;
    assert_eq!(offsets.unwrap()[&0], 10);
}
