//! The settings of the disk guard and of what else uses the disk; Kafka has none of them.

use super::{ConfigDef, def};
use crate::configs::Check;
use crate::configs::ConfigKind::{Double, Int, Long};
use crate::configs::Update::ClusterWide;

/// In the order of their names.
pub(super) static DISK: &[ConfigDef] = &[
    def(
        "dlog.cleaner.busy.bytes.per.second",
        Double,
        Some("8388608"),
        Check::Any,
        ClusterWide,
        "Bytes that compaction may read and write in a second while clients produce or fetch, all threads together: more if compacted topics grow too fast for it, and no bound by this while nobody does or the disk is nearly full.",
    ),
    def(
        "dlog.disk.alert.percent",
        Int,
        Some("80"),
        Check::Between(1, 100),
        ClusterWide,
        "Used part of the disk from which on a metric and the log say so; 100 turns it off.",
    ),
    def(
        "dlog.disk.check.interval.ms",
        Long,
        Some("1000"),
        Check::AtLeast(10),
        ClusterWide,
        "How often the room on the disk is looked at when nobody writes, in ms.",
    ),
    def(
        "dlog.disk.drain.ms",
        Long,
        Some("60000"),
        Check::AtLeast(1),
        ClusterWide,
        "Speed of producers that are slowed down: all of them together may write the room that is left above the reserve in this time, in ms.",
    ),
    def(
        "dlog.disk.reserve.bytes",
        Long,
        Some("268435456"),
        Check::AtLeast(0),
        ClusterWide,
        "Free bytes that producers do not get, at most a fiftieth of the disk: they are for offsets, metadata, checkpoints and recovery.",
    ),
    def(
        "dlog.disk.throttle.percent",
        Int,
        Some("95"),
        Check::Between(1, 100),
        ClusterWide,
        "Used part of the disk from which on producers are slowed down; 100 turns it off.",
    ),
];
