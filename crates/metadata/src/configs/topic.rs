//! The topic settings of Kafka 4, and `dlog.flush`.

use super::ConfigKind::{Boolean, Double, Int, List, Long, String};
use super::{Check, ConfigDef, ConfigKind, Update, split_list};

const fn def(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    check: Check,
    synonym: Option<&'static str>,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default: Some(default),
        check,
        synonym,
        update: Update::Topic,
        doc,
    }
}

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static ConfigDef> {
    TOPIC_CONFIGS.iter().find(|def| def.name == name)
}

/// All topic settings, by name.
pub static TOPIC_CONFIGS: &[ConfigDef] = &[
    def(
        "cleanup.policy",
        List,
        "delete",
        Check::ListOf(&["compact", "delete"]),
        Some("log.cleanup.policy"),
        "What becomes of old records: delete by age and size, compact to the latest value of each key, or both.",
    ),
    def(
        "compression.gzip.level",
        Int,
        "-1",
        Check::By(gzip_level),
        Some("compression.gzip.level"),
        "Level used when the broker compresses with gzip: 1 to 9, or -1 for the codec's default.",
    ),
    def(
        "compression.lz4.level",
        Int,
        "9",
        Check::Between(1, 17),
        Some("compression.lz4.level"),
        "Level used when the broker compresses with lz4.",
    ),
    def(
        "compression.type",
        String,
        "producer",
        Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        Some("compression.type"),
        "Codec in which batches are stored; producer keeps what the producer chose.",
    ),
    def(
        "compression.zstd.level",
        Int,
        "3",
        Check::Between(-131_072, 22),
        Some("compression.zstd.level"),
        "Level used when the broker compresses with zstd.",
    ),
    def(
        "delete.retention.ms",
        Long,
        "86400000",
        Check::AtLeast(0),
        Some("log.cleaner.delete.retention.ms"),
        "How long tombstones of compacted topics are kept, in ms.",
    ),
    def(
        "dlog.flush",
        String,
        "default",
        Check::By(flush_policy),
        Some("log.flush"),
        "What an acknowledgement promises: always (on the disk), messages:N, interval:Tms, os; default follows flush.messages and flush.ms where they are set and the server's log.flush otherwise.",
    ),
    def(
        "errors.deadletterqueue.group.enable",
        Boolean,
        "false",
        Check::By(no_share_groups),
        None,
        "Whether share groups may put records that they cannot handle into this topic.",
    ),
    def(
        "file.delete.delay.ms",
        Long,
        "60000",
        Check::AtLeast(0),
        Some("log.segment.delete.delay.ms"),
        "Time between taking a segment out of the log and deleting its file, in ms.",
    ),
    def(
        "flush.messages",
        Long,
        "9223372036854775807",
        Check::AtLeast(1),
        Some("log.flush.interval.messages"),
        "Flush to the disk after this many records; 1 flushes before every acknowledgement. When set, it takes the place of the server's flush policy.",
    ),
    def(
        "flush.ms",
        Long,
        "9223372036854775807",
        Check::AtLeast(0),
        Some("log.flush.interval.ms"),
        "Flush to the disk at least this often, in ms. When set, it takes the place of the server's flush policy.",
    ),
    def(
        "follower.replication.throttled.replicas",
        List,
        "",
        Check::By(throttled_replicas),
        None,
        "Replicas whose replication is throttled on the follower's side: partition:broker pairs, or *.",
    ),
    def(
        "index.interval.bytes",
        Int,
        "4096",
        Check::AtLeast(0),
        Some("log.index.interval.bytes"),
        "Bytes of log between two entries of the offset index.",
    ),
    def(
        "leader.replication.throttled.replicas",
        List,
        "",
        Check::By(throttled_replicas),
        None,
        "Replicas whose replication is throttled on the leader's side: partition:broker pairs, or *.",
    ),
    def(
        "local.retention.bytes",
        Long,
        "-2",
        Check::AtLeast(-2),
        Some("log.local.retention.bytes"),
        "Bytes of a tiered partition kept on local disks; -2 follows retention.bytes.",
    ),
    def(
        "local.retention.ms",
        Long,
        "-2",
        Check::AtLeast(-2),
        Some("log.local.retention.ms"),
        "Time that records of a tiered partition are kept on local disks, in ms; -2 follows retention.ms.",
    ),
    def(
        "max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        Check::AtLeast(1),
        Some("log.cleaner.max.compaction.lag.ms"),
        "Longest time a record may stay uncompacted, in ms.",
    ),
    def(
        "max.decompressed.message.bytes",
        Int,
        "268435456",
        Check::Between(1, 268_435_456),
        None,
        "Largest size that a record batch may decompress to where the server looks inside, in bytes.",
    ),
    def(
        "max.message.bytes",
        Int,
        "1048588",
        Check::AtLeast(0),
        Some("message.max.bytes"),
        "Largest record batch accepted, in bytes, after compression.",
    ),
    def(
        "message.timestamp.after.max.ms",
        Long,
        "3600000",
        Check::AtLeast(0),
        Some("log.message.timestamp.after.max.ms"),
        "How far a record's timestamp may lie after the broker's clock, in ms.",
    ),
    def(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        Check::AtLeast(0),
        Some("log.message.timestamp.before.max.ms"),
        "How far a record's timestamp may lie before the broker's clock, in ms.",
    ),
    def(
        "message.timestamp.type",
        String,
        "CreateTime",
        Check::OneOf(&["CreateTime", "LogAppendTime"]),
        Some("log.message.timestamp.type"),
        "Whether timestamps are the producer's (CreateTime) or the broker's (LogAppendTime).",
    ),
    def(
        "min.cleanable.dirty.ratio",
        Double,
        "0.5",
        Check::Fraction,
        Some("log.cleaner.min.cleanable.ratio"),
        "Share of a compacted log that must be uncompacted before it is compacted again.",
    ),
    def(
        "min.compaction.lag.ms",
        Long,
        "0",
        Check::AtLeast(0),
        Some("log.cleaner.min.compaction.lag.ms"),
        "Shortest time a record stays uncompacted, in ms.",
    ),
    def(
        "min.insync.replicas",
        Int,
        "1",
        Check::AtLeast(1),
        Some("min.insync.replicas"),
        "Replicas that must have a record before acks=all is answered.",
    ),
    def(
        "preallocate",
        Boolean,
        "false",
        Check::Any,
        Some("log.preallocate"),
        "Whether segments are preallocated when they are made.",
    ),
    def(
        "remote.copy.lag.bytes",
        Long,
        "-1",
        Check::AtLeast(-1),
        None,
        "Bytes of a tiered partition that may wait for being copied to remote storage; -1 is no limit.",
    ),
    def(
        "remote.copy.lag.ms",
        Long,
        "0",
        Check::AtLeast(-1),
        None,
        "Time that a sealed segment of a tiered topic may wait for being copied, in ms.",
    ),
    def(
        "remote.log.copy.disable",
        Boolean,
        "false",
        Check::Any,
        None,
        "Whether a tiered topic stops copying segments to remote storage.",
    ),
    def(
        "remote.log.delete.on.disable",
        Boolean,
        "false",
        Check::Any,
        None,
        "Whether switching tiered storage off deletes the remote segments.",
    ),
    def(
        "remote.storage.enable",
        Boolean,
        "false",
        Check::By(not_yet_tiered),
        None,
        "Whether sealed segments are copied to remote storage.",
    ),
    def(
        "retention.bytes",
        Long,
        "-1",
        Check::AtLeast(-1),
        Some("log.retention.bytes"),
        "Bytes kept per partition before the oldest segments are deleted; -1 is no limit.",
    ),
    def(
        "retention.ms",
        Long,
        "604800000",
        Check::AtLeast(-1),
        Some("log.retention.ms"),
        "Time that records are kept, in ms; -1 is no limit.",
    ),
    def(
        "segment.bytes",
        Int,
        "1073741824",
        Check::AtLeast(1024 * 1024),
        Some("log.segment.bytes"),
        "Size of a segment file, in bytes.",
    ),
    def(
        "segment.index.bytes",
        Int,
        "10485760",
        Check::AtLeast(4),
        Some("log.index.size.max.bytes"),
        "Largest size of an index file, in bytes.",
    ),
    def(
        "segment.jitter.ms",
        Long,
        "0",
        Check::AtLeast(0),
        Some("log.roll.jitter.ms"),
        "Random time taken off segment.ms, so that segments do not all roll at once, in ms.",
    ),
    def(
        "segment.ms",
        Long,
        "604800000",
        Check::AtLeast(1),
        Some("log.roll.ms"),
        "Age at which a segment is rolled although it is not full, in ms.",
    ),
    def(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        Check::Any,
        Some("unclean.leader.election.enable"),
        "Whether a replica that is not in sync may become leader, which can lose records.",
    ),
];

fn gzip_level(value: &str) -> Result<(), std::string::String> {
    match value.parse::<i32>() {
        Ok(-1 | 1..=9) => Ok(()),
        _ => Err("Value must be between 1 and 9 or equal to -1".to_owned()),
    }
}

fn flush_policy(value: &str) -> Result<(), std::string::String> {
    if value == "default" {
        return Ok(());
    }
    value.parse::<dlog_storage::FlushPolicy>().map(|_| ())
}

fn not_yet_tiered(value: &str) -> Result<(), std::string::String> {
    match value {
        "false" => Ok(()),
        _ => Err("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.".to_owned()),
    }
}

fn no_share_groups(value: &str) -> Result<(), std::string::String> {
    match value {
        "false" => Ok(()),
        _ => Err("This server does not offer share groups".to_owned()),
    }
}

fn throttled_replicas(value: &str) -> Result<(), std::string::String> {
    let pair = |word: &str| {
        word.split_once(':')
            .is_some_and(|(p, b)| p.parse::<u32>().is_ok() && b.parse::<u32>().is_ok())
    };
    if value == "*" || split_list(value).all(pair) {
        Ok(())
    } else {
        Err("must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...".to_owned())
    }
}
