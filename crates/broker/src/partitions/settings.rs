//! From setting names and texts to what the produce path and the log need.

use std::collections::BTreeMap;
use std::time::Duration;

use dlog_metadata::MetadataImage;
use dlog_metadata::configs::{self, StaticConfigs, split_list, topic};
use dlog_storage::record::{Compression, TimestampType};
use dlog_storage::{CleanupPolicy, FlushPolicy, LogConfig};

/// What a topic is set to, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    /// Largest batch accepted, in bytes.
    pub max_message_bytes: usize,
    /// Largest size that a batch may decompress to, in bytes.
    pub max_decompressed_bytes: usize,
    /// Codec that batches are stored in; `None` keeps the producer's.
    pub compression: Option<Compression>,
    /// Level for that codec; `None` is the codec's default.
    pub compression_level: Option<i32>,
    /// Whose timestamps records get.
    pub timestamp_type: TimestampType,
    /// How far a timestamp may lie before the clock, in ms.
    pub timestamp_before_max_ms: i64,
    /// How far a timestamp may lie after the clock, in ms.
    pub timestamp_after_max_ms: i64,
    /// Replicas that acks=all asks for.
    pub min_insync_replicas: i32,
    /// Settings of the logs.
    pub log: LogConfig,
}

/// Reads values by name, resolved for one topic.
struct Values<'a> {
    configs: Option<&'a BTreeMap<String, String>>,
    image: &'a MetadataImage,
    node_id: i32,
    statics: &'a StaticConfigs,
}

impl Values<'_> {
    fn text(&self, name: &str) -> Option<(String, bool)> {
        let def = topic::find(name)?;
        let resolved =
            configs::resolve_topic(def, self.configs, self.image, self.node_id, self.statics);
        let is_default = resolved.source() == configs::ConfigSource::Default;
        resolved
            .value()
            .map(|value| (value.trim().to_owned(), is_default))
    }

    /// The value, or the given default when it is missing or no number: values were judged when they
    /// were set, so that happens only to a value of the server's own configuration.
    fn number(&self, name: &str, default: i64) -> i64 {
        self.text(name)
            .and_then(|(text, _)| text.parse().ok())
            .unwrap_or(default)
    }

    /// As [`Self::number`].
    fn fraction(&self, name: &str, default: f64) -> f64 {
        self.text(name)
            .and_then(|(text, _)| text.parse().ok())
            .unwrap_or(default)
    }

    fn set_number(&self, name: &str) -> Option<i64> {
        self.text(name)
            .filter(|(_, is_default)| !is_default)
            .and_then(|(text, _)| text.parse().ok())
    }
}

impl TopicSettings {
    /// Resolves the settings of a topic.
    pub fn resolve(
        configs: Option<&BTreeMap<String, String>>,
        image: &MetadataImage,
        node_id: i32,
        statics: &StaticConfigs,
    ) -> Self {
        let values = Values {
            configs,
            image,
            node_id,
            statics,
        };
        let text = |name| values.text(name).map(|(text, _)| text).unwrap_or_default();
        let compression = match text("compression.type").as_str() {
            "uncompressed" => Some(Compression::None),
            other => other.parse().ok(),
        };
        let level = match compression {
            Some(Compression::Gzip) => Some(values.number("compression.gzip.level", -1)),
            Some(Compression::Lz4) => Some(values.number("compression.lz4.level", 9)),
            Some(Compression::Zstd) => Some(values.number("compression.zstd.level", 3)),
            _ => None,
        };
        let is_log_append_time = text("message.timestamp.type") == "LogAppendTime";
        Self {
            max_message_bytes: usize::try_from(values.number("max.message.bytes", 1_048_588))
                .unwrap_or(0),
            max_decompressed_bytes: usize::try_from(
                values.number("max.decompressed.message.bytes", 256 << 20),
            )
            .unwrap_or(0),
            compression,
            // gzip's -1, its default, is known to the codec; zstd's is a level.
            compression_level: level.and_then(|l| i32::try_from(l).ok()),
            timestamp_type: if is_log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            timestamp_before_max_ms: values.number("message.timestamp.before.max.ms", i64::MAX),
            timestamp_after_max_ms: values.number("message.timestamp.after.max.ms", 3_600_000),
            min_insync_replicas: i32::try_from(values.number("min.insync.replicas", 1))
                .unwrap_or(1),
            log: log_config(configs, image, node_id, statics),
        }
    }
}

/// The server's setting for [`LogConfig::max_producers`].
pub(crate) const MAX_PRODUCERS: &str = "producer.id.max.per.partition";

/// The settings of a topic's logs.
pub fn log_config(
    configs: Option<&BTreeMap<String, String>>,
    image: &MetadataImage,
    node_id: i32,
    statics: &StaticConfigs,
) -> LogConfig {
    let values = Values {
        configs,
        image,
        node_id,
        statics,
    };
    let policy = values
        .text("cleanup.policy")
        .map(|(text, _)| text)
        .unwrap_or_default();
    let cleanup = CleanupPolicy {
        delete: split_list(&policy).any(|word| word == "delete"),
        compact: split_list(&policy).any(|word| word == "compact"),
    };
    let at_least_zero = |name, default| u64::try_from(values.number(name, default)).ok();
    LogConfig {
        segment_bytes: at_least_zero("segment.bytes", 1 << 30).unwrap_or(1 << 30),
        segment_age_ms: values.number("segment.ms", 604_800_000),
        index_interval_bytes: u32::try_from(values.number("index.interval.bytes", 4096))
            .unwrap_or(4096),
        // Kafka allows 4 bytes; an entry has 8.
        max_index_bytes: u32::try_from(values.number("segment.index.bytes", 10 << 20))
            .unwrap_or(10 << 20)
            .max(8),
        flush: flush_policy(&values),
        retention_ms: Some(values.number("retention.ms", 604_800_000)).filter(|&ms| ms >= 0),
        retention_bytes: at_least_zero("retention.bytes", -1),
        cleanup,
        delete_retention_ms: values.number("delete.retention.ms", 86_400_000),
        min_compaction_lag_ms: values.number("min.compaction.lag.ms", 0),
        max_compaction_lag_ms: values.number("max.compaction.lag.ms", i64::MAX),
        min_cleanable_dirty_ratio: values.fraction("min.cleanable.dirty.ratio", 0.5),
        max_producers: statics
            .get(MAX_PRODUCERS)
            .and_then(|text| text.parse().ok())
            .unwrap_or(LogConfig::default().max_producers),
        ..LogConfig::default()
    }
}

/// `dlog.flush` of the topic wins; else `flush.messages` or `flush.ms` where somebody set them; else the
/// server's `log.flush`.
fn flush_policy(values: &Values<'_>) -> FlushPolicy {
    let (text, _) = values.text("dlog.flush").unwrap_or_default();
    let on_topic = values.configs.is_some_and(|configs| {
        configs
            .get("dlog.flush")
            .is_some_and(|value| value.trim() != "default")
    });
    let server = || match values.statics.get("log.flush") {
        Some(policy) => policy.parse().unwrap_or(FlushPolicy::Always),
        None => FlushPolicy::Always,
    };
    if on_topic {
        return text.parse().unwrap_or_else(|_| server());
    }
    if let Some(n) = values
        .set_number("flush.messages")
        .filter(|&n| n < i64::MAX)
    {
        return match u64::try_from(n) {
            Ok(0 | 1) | Err(_) => FlushPolicy::Always,
            Ok(n) => FlushPolicy::Messages(n),
        };
    }
    if let Some(ms) = values.set_number("flush.ms").filter(|&ms| ms < i64::MAX) {
        return match u64::try_from(ms) {
            Ok(0) | Err(_) => FlushPolicy::Always,
            Ok(ms) => FlushPolicy::Interval(Duration::from_millis(ms)),
        };
    }
    text.parse().unwrap_or_else(|_| server())
}
