//! A server on a free port in a temporary folder, and a tiny client that speaks through encoded requests.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test program uses its part"
)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dlog_broker::{Broker, BrokerConfig};
use dlog_storage::record::{BatchBuilder, Compression};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// A generous bound on anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    pub broker: Broker,
    pub dir: tempfile::TempDir,
}

pub fn config(dir: &std::path::Path) -> BrokerConfig {
    let mut config = BrokerConfig {
        data_dir: dir.join("data"),
        ..BrokerConfig::default()
    };
    config.listeners[0].bind = SocketAddr::from(([127, 0, 0, 1], 0));
    config
}

pub async fn start() -> Server {
    start_with(|_| {}).await
}

pub async fn start_with(change: impl FnOnce(&mut BrokerConfig)) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    change(&mut config);
    Server {
        broker: Broker::start(config).await.unwrap(),
        dir,
    }
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.broker.kafka_addrs()[0].1
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// Waits until only so many connections are left.
    pub async fn until_connections_are(&self, count: u32) {
        let connections = &self.broker.state().connections;
        until("connections to end", || connections.total() <= count).await;
    }

    /// Stops and starts again on the same folder.
    pub async fn restart(self) -> Self {
        self.broker.shutdown().await.unwrap();
        let dir = self.dir;
        drop(self.broker);
        Self {
            broker: Broker::start(config(dir.path())).await.unwrap(),
            dir,
        }
    }
}

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            correlation_id: 0,
        }
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")))
            .encode(&mut frame, R::header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        let len = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();
        self.correlation_id
    }

    pub async fn receive_frame(&mut self) -> std::io::Result<Bytes> {
        let reading = async {
            let len = self.stream.read_i32().await?;
            let mut frame = vec![0; len as usize];
            self.stream.read_exact(&mut frame).await?;
            Ok(Bytes::from(frame))
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("an answer in time")
    }

    /// The next response, which must be to `correlation_id` and have no byte too many.
    pub async fn receive<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let mut frame = self.receive_frame().await.unwrap();
        let header =
            ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation_id);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert_eq!(frame.remaining(), 0, "bytes behind the response");
        response
    }

    /// Sends a flexible request whose body is given, and returns the body of the response. For versions
    /// that `kafka-protocol` does not know. `header` is the version of the response's header.
    pub async fn call_raw(&mut self, api: ApiKey, version: i16, header: i16, body: &[u8]) -> Bytes {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_u32(body.len() as u32 + 15);
        frame.put_i16(api as i16);
        frame.put_i16(version);
        frame.put_i32(self.correlation_id);
        frame.put_i16(4);
        frame.put_slice(b"test\0");
        frame.put_slice(body);
        self.stream.write_all(&frame).await.unwrap();
        let mut frame = self.receive_frame().await.unwrap();
        assert_eq!(frame.get_i32(), self.correlation_id);
        if header > 0 {
            assert_eq!(frame.get_u8(), 0, "tagged fields of the header");
        }
        frame
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        self.receive::<R>(version, id).await
    }

    /// Whether the server ends the connection.
    pub async fn is_closed_by_server(&mut self) -> bool {
        let mut byte = [0];
        match tokio::time::timeout(PATIENCE, self.stream.read(&mut byte)).await {
            Ok(Ok(read)) => read == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// Makes sure that a topic exists; returns its id.
    pub async fn topic(&mut self, name: &str) -> Uuid {
        let asked = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
            .with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(true);
        let response: MetadataResponse = self.call(12, &request).await;
        assert_eq!(response.topics[0].error_code, 0);
        response.topics[0].topic_id
    }

    pub async fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> Produced {
        let request = produce_request(topic, Uuid::nil(), partition, batch, -1);
        Produced::of(&self.call(9, &request).await)
    }

    /// Everything from `offset` on that can be read now.
    pub async fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Bytes {
        let request = fetch_request(topic, Uuid::nil(), partition, offset);
        let response: FetchResponse = self.call(12, &request).await;
        let answer = &response.responses[0].partitions[0];
        assert_eq!(answer.error_code, 0);
        answer.records.clone().unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: i16,
    pub offset: i64,
    pub message: Option<String>,
    pub record_errors: usize,
    pub log_append_time: i64,
}

impl Produced {
    pub fn of(response: &ProduceResponse) -> Self {
        let answer = &response.responses[0].partition_responses[0];
        Self {
            error: answer.error_code,
            offset: answer.base_offset,
            message: answer.error_message.as_ref().map(|m| m.to_string()),
            record_errors: answer.record_errors.len(),
            log_append_time: answer.log_append_time_ms,
        }
    }
}

/// Waits until the condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited for {what}");
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn produce_request(
    topic: &str,
    id: Uuid,
    partition: i32,
    batch: Bytes,
    acks: i16,
) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_topic_id(id)
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

pub fn fetch_request(topic: &str, id: Uuid, partition: i32, offset: i64) -> FetchRequest {
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_topic_id(id)
        .with_partitions(vec![wanted]);
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(10 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

pub fn builder(values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder
            .push(now_ms(), Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder
}

pub fn batch(values: &[&str]) -> Bytes {
    builder(values).build().unwrap()
}

pub fn compressed(values: &[&str], codec: Compression) -> Bytes {
    builder(values).compression(codec, None).build().unwrap()
}

/// Offset and value of every record in raw bytes; a batch cut at the end is left out.
pub fn records(mut bytes: Bytes) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    while let Some(batch) = dlog_storage::record::Batch::split_first(&mut bytes).unwrap() {
        batch.verify_crc().unwrap();
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            found.push((
                record.offset,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
            ));
        }
    }
    found
}

pub fn api_key<R: Request>() -> ApiKey {
    ApiKey::try_from(R::KEY).unwrap()
}
