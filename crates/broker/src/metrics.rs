//! What is counted, cheaply: every label combination of the hot path is looked up once and kept.

use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::sync::{Arc, Weak};

use crate::compaction::CompactionMetrics;
use crate::guard::{Figures, Level};
use crate::histogram::LatencyHistogram;
use crate::state::BrokerState;

/// Number of API keys that have their own slot.
const API_SLOTS: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiErrorLabel {
    api: &'static str,
    error: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

/// The metrics of one API.
#[derive(Debug)]
struct ApiMetrics {
    name: &'static str,
    requests: Counter,
    seconds: LatencyHistogram,
}

/// The metrics of one topic, kept with the topic.
#[derive(Clone, Debug, Default)]
pub struct TopicMetrics {
    /// Bytes of record batches received.
    pub bytes_in: Counter,
    /// Bytes of record batches sent.
    pub bytes_out: Counter,
    /// Records received.
    pub messages_in: Counter,
}

/// All metrics of the server.
pub struct Metrics {
    /// What `/metrics` encodes.
    registry: Arc<Mutex<Registry>>,
    apis: Vec<ApiMetrics>,
    errors: Family<ApiErrorLabel, Counter>,
    request_bytes: Counter,
    response_bytes: Counter,
    connections: Gauge,
    connections_opened: Counter,
    connections_refused: Counter,
    accept_failures: Counter,
    topic_bytes_in: Family<TopicLabel, Counter>,
    topic_bytes_out: Family<TopicLabel, Counter>,
    topic_messages_in: Family<TopicLabel, Counter>,
    flush_seconds: LatencyHistogram,
    flush_failures: Counter,
    /// Of compaction.
    pub(crate) compaction: CompactionMetrics,
    marker_retries: Counter,
}

/// Measures one request from its whole arrival to the last byte of its reply. It holds no counter: what
/// all connections share is touched once a request, when the request ends.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimer {
    started: Instant,
    slot: usize,
}

impl Metrics {
    /// Registers everything under the prefix `dlog_`.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("dlog");
        let requests = Family::<ApiLabel, Counter>::default();
        let seconds = Family::<ApiLabel, LatencyHistogram>::default();
        let apis = (0..API_SLOTS).map(|key| {
            let known = i16::try_from(key)
                .ok()
                .and_then(|key| ApiKey::try_from(key).ok());
            let name: &'static str = known.map_or("unknown", api_name);
            // Series of APIs that are not served never show up.
            if known.is_some_and(|api| crate::protocol::served::find(api).is_some()) {
                let label = ApiLabel { api: name };
                ApiMetrics {
                    name,
                    requests: requests.get_or_create_owned(&label),
                    seconds: seconds.get_or_create_owned(&label),
                }
            } else {
                ApiMetrics {
                    name,
                    requests: Counter::default(),
                    seconds: LatencyHistogram::default(),
                }
            }
        });
        let apis = apis.collect();
        let metrics = Self {
            registry: Arc::default(),
            apis,
            errors: Family::default(),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
            connections: Gauge::default(),
            connections_opened: Counter::default(),
            connections_refused: Counter::default(),
            accept_failures: Counter::default(),
            topic_bytes_in: Family::default(),
            topic_bytes_out: Family::default(),
            topic_messages_in: Family::default(),
            flush_seconds: LatencyHistogram::default(),
            flush_failures: Counter::default(),
            compaction: CompactionMetrics::default(),
            marker_retries: Counter::default(),
        };
        registry.register("requests", "Requests answered, by API", requests);
        registry.register(
            "request_seconds",
            "Time from a whole request to its sent reply",
            seconds,
        );
        metrics.register(&mut registry);
        *metrics.registry.lock() = registry;
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "request_errors",
            "Error codes in replies",
            self.errors.clone(),
        );
        registry.register(
            "request_bytes",
            "Bytes of requests",
            self.request_bytes.clone(),
        );
        registry.register(
            "response_bytes",
            "Bytes of replies",
            self.response_bytes.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register(
            "connections_opened",
            "Connections accepted",
            self.connections_opened.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections refused because of a limit",
            self.connections_refused.clone(),
        );
        registry.register(
            "accept_failures",
            "Times that no connection could be accepted",
            self.accept_failures.clone(),
        );
        registry.register(
            "topic_bytes_in",
            "Record bytes received",
            self.topic_bytes_in.clone(),
        );
        registry.register(
            "topic_bytes_out",
            "Record bytes sent",
            self.topic_bytes_out.clone(),
        );
        registry.register(
            "topic_messages_in",
            "Records received",
            self.topic_messages_in.clone(),
        );
        registry.register(
            "flush_seconds",
            "Time of one flush to the disk",
            self.flush_seconds.clone(),
        );
        registry.register(
            "flush_failures",
            "Flushes that failed",
            self.flush_failures.clone(),
        );
        self.compaction.register(registry);
        registry.register(
            "transaction_marker_retries",
            "Ends of transactions that have to be written once more, by partition",
            self.marker_retries.clone(),
        );
        let started: Gauge = Gauge::default();
        started.set(crate::state::system_time_ms() / 1000);
        registry.register(
            "start_time_seconds",
            "When the server started, Unix time",
            started,
        );
    }

    /// Adds the values that are read from the state.
    pub fn observe(&self, state: &Arc<BrokerState>) {
        self.registry
            .lock()
            .register_collector(Box::new(StateCollector(Arc::downgrade(state))));
    }

    /// The registry, for whoever encodes it (prometheus text on the HTTP port).
    pub fn registry(&self) -> Arc<Mutex<Registry>> {
        self.registry.clone()
    }

    /// A request arrived.
    pub fn request(&self, api: ApiKey, bytes_in: usize) -> RequestTimer {
        self.request_bytes.inc_by(bytes_in as u64);
        RequestTimer {
            started: Instant::now(),
            slot: (api as usize).min(API_SLOTS - 1),
        }
    }

    /// The reply to a request was handed to the kernel. `errors` are the error codes in it.
    pub fn finished(&self, timer: RequestTimer, errors: &[i16]) {
        let of_api = &self.apis[timer.slot];
        of_api.requests.inc();
        of_api.seconds.observe(timer.started.elapsed());
        for &code in errors {
            let error = match kafka_protocol::ResponseError::try_from_code(code) {
                Some(error) => format!("{error:?}"),
                None => continue,
            };
            let label = ApiErrorLabel {
                api: of_api.name,
                error,
            };
            self.errors.get_or_create(&label).inc();
        }
    }

    /// Bytes of replies were sent.
    pub fn bytes_out(&self, bytes: usize) {
        self.response_bytes.inc_by(bytes as u64);
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        self.connections.inc();
        self.connections_opened.inc();
    }

    /// A connection ended.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// A connection was refused because of a limit.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// No connection could be accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// The counters of a topic, to be kept with it.
    pub fn topic(&self, name: &str) -> TopicMetrics {
        let label = TopicLabel {
            topic: name.to_owned(),
        };
        TopicMetrics {
            bytes_in: self.topic_bytes_in.get_or_create_owned(&label),
            bytes_out: self.topic_bytes_out.get_or_create_owned(&label),
            messages_in: self.topic_messages_in.get_or_create_owned(&label),
        }
    }

    /// The series of a deleted topic go away.
    pub fn forget_topic(&self, name: &str) {
        let label = TopicLabel {
            topic: name.to_owned(),
        };
        self.topic_bytes_in.remove(&label);
        self.topic_bytes_out.remove(&label);
        self.topic_messages_in.remove(&label);
    }

    /// Markers of so many partitions could not be written.
    pub fn markers_to_retry(&self, partitions: usize) {
        self.marker_retries.inc_by(partitions as u64);
    }

    /// A flush ended.
    pub fn flushed(&self, duration: Duration, ok: bool) {
        self.flush_seconds.observe(duration);
        if !ok {
            self.flush_failures.inc();
        }
    }
}

/// Values that are read from the state when somebody asks for the metrics.
#[derive(Debug)]
struct StateCollector(Weak<BrokerState>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: i32,
}

fn encode_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &[(PartitionLabel, i64)],
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (label, value) in values {
        ConstGauge::new(*value).encode(family.encode_family(label)?)?;
    }
    Ok(())
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), std::fmt::Error> {
    let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(gauge)
}

fn encode_guard(
    encoder: &mut DescriptorEncoder<'_>,
    figures: Figures,
) -> Result<(), std::fmt::Error> {
    encode_gauge(
        encoder,
        "disk_alert",
        "1 when the disk is used to dlog.disk.alert.percent",
        i64::from(figures.level >= Level::Alert),
    )?;
    encode_gauge(
        encoder,
        "disk_level",
        "0 room, 1 alert, 2 producers are slowed down, 3 producers are refused",
        i64::from(figures.level as u8),
    )?;
    encode_counter(
        encoder,
        "disk_refused_batches",
        "Batches refused because the disk was full",
        figures.refused_batches,
    )?;
    encode_counter(
        encoder,
        "disk_throttled_ms",
        "Time that producers were told to wait because the disk was nearly full, in ms",
        figures.throttled_ms,
    )
}

fn encode_counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), std::fmt::Error> {
    let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(counter)
}

fn encode_transactions(
    encoder: &mut DescriptorEncoder<'_>,
    state: &BrokerState,
) -> Result<(), std::fmt::Error> {
    let counts = crate::transactions::counts(state);
    let open = i64::try_from(counts.open).unwrap_or(i64::MAX);
    encode_gauge(encoder, "open_transactions", "Transactions under way", open)?;
    let ended = [
        (
            "transactions_committed",
            "Transactions that were committed",
            counts.committed,
        ),
        (
            "transactions_aborted",
            "Transactions that were aborted",
            counts.aborted,
        ),
    ];
    for (name, help, count) in ended {
        encode_counter(encoder, name, help, count)?;
    }
    Ok(())
}

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(state) = self.0.upgrade() else {
            return Ok(());
        };
        let (mut sizes, mut ends, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut stable, mut ages) = (Vec::new(), Vec::new());
        let (mut offline, mut used, mut topics, mut producers) = (0, 0, 0, 0);
        let now_ms = state.now_ms();
        for topic in state.partitions.topics() {
            topics += 1;
            for partition in &topic.partitions {
                offline += i64::from(partition.offline_reason().is_some());
                let Ok(log) = partition.log() else { continue };
                let label = PartitionLabel {
                    topic: topic.name.to_string(),
                    partition: partition.index,
                };
                let size = i64::try_from(log.size_bytes()).unwrap_or(i64::MAX);
                used += size;
                sizes.push((label.clone(), size));
                ends.push((label.clone(), log.log_end_offset()));
                starts.push((label.clone(), log.log_start_offset()));
                stable.push((label.clone(), log.last_stable_offset()));
                producers += i64::try_from(log.producer_count()).unwrap_or(i64::MAX);
                if let Some(started_ms) = log.oldest_open_transaction_ms() {
                    ages.push((label, now_ms.saturating_sub(started_ms).max(0) / 1000));
                }
            }
        }
        let encoder = &mut encoder;
        encode_gauges(
            encoder,
            "partition_log_size_bytes",
            "Size of the log",
            &sizes,
        )?;
        encode_gauges(
            encoder,
            "partition_log_end_offset",
            "Offset of the next record",
            &ends,
        )?;
        encode_gauges(
            encoder,
            "partition_log_start_offset",
            "First offset that can be read",
            &starts,
        )?;
        encode_gauges(
            encoder,
            "partition_last_stable_offset",
            "First offset that readers of committed records may not see",
            &stable,
        )?;
        encode_gauges(
            encoder,
            "partition_open_transaction_age_seconds",
            "Age of the oldest open transaction, where there is one",
            &ages,
        )?;
        encode_gauge(
            encoder,
            "producers",
            "Producer ids remembered, in all partitions",
            producers,
        )?;
        encode_gauge(
            encoder,
            "offline_partitions",
            "Partitions that cannot be served",
            offline,
        )?;
        encode_gauge(encoder, "topics", "Topics", topics)?;
        encode_gauge(encoder, "log_bytes", "Bytes of all logs", used)?;
        crate::compaction::encode_metrics(&state, encoder)?;
        let sessions = i64::try_from(state.fetch_sessions.count()).unwrap_or(i64::MAX);
        encode_gauge(
            encoder,
            "fetch_sessions",
            "Incremental fetch sessions",
            sessions,
        )?;
        encode_transactions(encoder, &state)?;
        encode_guard(encoder, state.guard.figures())?;
        if let Ok(disk) = state.env.disk.space(&state.config.data_dir) {
            let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            encode_gauge(
                encoder,
                "disk_bytes",
                "Size of the disk",
                bytes(disk.total_bytes),
            )?;
            encode_gauge(
                encoder,
                "disk_free_bytes",
                "Free bytes of the disk",
                bytes(disk.free_bytes),
            )?;
        }
        Ok(())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of an API as Kafka writes it.
fn api_name(api: ApiKey) -> &'static str {
    // Few and fixed: every name is made once, at start.
    Box::leak(format!("{api:?}").into_boxed_str())
}
