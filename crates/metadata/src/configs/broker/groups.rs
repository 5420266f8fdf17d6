//! The broker settings of groups that the server assigns (KIP-848, KIP-932, KIP-1071): what holds for a
//! group that has no setting of its own, and the bounds for those that have.

use super::{ConfigDef, def, fixed, number};
use crate::configs::Check;
use crate::configs::ConfigKind::{List, String};
use crate::configs::Update::ReadOnly;

const MOST: &str = "2147483647";

/// In the order of their names.
pub(super) static GROUPS: &[ConfigDef] = &[
    number(
        "dlog.group.heartbeat.max.wait.ms",
        "3000",
        0,
        "How long the answer to a heartbeat of a classic group may wait for the next rebalance, in ms, and at most for a sixth of the member's session: a member whose heartbeat waits hears of a rebalance when it begins. Whatever the member sends ends the wait; clients that stand still meanwhile are answered at once. 0 answers all at once, as Kafka does.",
    ),
    number(
        "group.consumer.assignment.interval.ms",
        "100",
        0,
        "Default of the group setting consumer.assignment.interval.ms; 1000 in Kafka.",
    ),
    fixed(
        "group.consumer.assignors",
        List,
        Some("uniform,range"),
        "Assignors for consumer groups; the first is the one for members that name none.",
    ),
    number(
        "group.consumer.heartbeat.interval.ms",
        "5000",
        1,
        "Default of the group setting consumer.heartbeat.interval.ms.",
    ),
    number(
        "group.consumer.max.assignment.interval.ms",
        "15000",
        0,
        "Largest consumer.assignment.interval.ms that a group may set.",
    ),
    number(
        "group.consumer.max.heartbeat.interval.ms",
        "15000",
        1,
        "Largest consumer.heartbeat.interval.ms that a group may set.",
    ),
    number(
        "group.consumer.max.session.timeout.ms",
        "60000",
        1,
        "Largest consumer.session.timeout.ms that a group may set.",
    ),
    number(
        "group.consumer.max.size",
        MOST,
        1,
        "Most members of one consumer group.",
    ),
    def(
        "group.consumer.migration.policy",
        String,
        Some("bidirectional"),
        Check::OneOf(&["disabled", "bidirectional", "upgrade", "downgrade"]),
        ReadOnly,
        "Which way a group may go between the classic and the consumer protocol while it has members.",
    ),
    number(
        "group.consumer.min.assignment.interval.ms",
        "0",
        0,
        "Smallest consumer.assignment.interval.ms that a group may set.",
    ),
    number(
        "group.consumer.min.heartbeat.interval.ms",
        "5000",
        1,
        "Smallest consumer.heartbeat.interval.ms that a group may set.",
    ),
    number(
        "group.consumer.min.session.timeout.ms",
        "45000",
        1,
        "Smallest consumer.session.timeout.ms that a group may set.",
    ),
    number(
        "group.consumer.session.timeout.ms",
        "45000",
        1,
        "Default of the group setting consumer.session.timeout.ms.",
    ),
    number(
        "group.share.assignment.interval.ms",
        "1000",
        0,
        "Default of the group setting share.assignment.interval.ms.",
    ),
    fixed(
        "group.share.assignors",
        List,
        Some("simple"),
        "Assignors for share groups.",
    ),
    number(
        "group.share.delivery.count.limit",
        "5",
        2,
        "Default of the group setting share.delivery.count.limit.",
    ),
    number(
        "group.share.heartbeat.interval.ms",
        "5000",
        1,
        "Default of the group setting share.heartbeat.interval.ms.",
    ),
    number(
        "group.share.max.assignment.interval.ms",
        "15000",
        0,
        "Largest share.assignment.interval.ms that a group may set.",
    ),
    number(
        "group.share.max.delivery.count.limit",
        "10",
        2,
        "Largest share.delivery.count.limit that a group may set.",
    ),
    number(
        "group.share.max.heartbeat.interval.ms",
        "15000",
        1,
        "Largest share.heartbeat.interval.ms that a group may set.",
    ),
    number(
        "group.share.max.partition.max.record.locks",
        "4000",
        100,
        "Largest share.partition.max.record.locks that a group may set.",
    ),
    number(
        "group.share.max.record.lock.duration.ms",
        "60000",
        1000,
        "Largest share.record.lock.duration.ms that a group may set.",
    ),
    number(
        "group.share.max.session.timeout.ms",
        "60000",
        1,
        "Largest share.session.timeout.ms that a group may set.",
    ),
    number(
        "group.share.max.share.sessions",
        "2000",
        1,
        "Most sessions of share consumers that the server keeps.",
    ),
    number(
        "group.share.max.size",
        "200",
        1,
        "Most members of one share group.",
    ),
    number(
        "group.share.min.assignment.interval.ms",
        "0",
        0,
        "Smallest share.assignment.interval.ms that a group may set.",
    ),
    number(
        "group.share.min.delivery.count.limit",
        "2",
        2,
        "Smallest share.delivery.count.limit that a group may set.",
    ),
    number(
        "group.share.min.heartbeat.interval.ms",
        "5000",
        1,
        "Smallest share.heartbeat.interval.ms that a group may set.",
    ),
    number(
        "group.share.min.partition.max.record.locks",
        "100",
        100,
        "Smallest share.partition.max.record.locks that a group may set.",
    ),
    number(
        "group.share.min.record.lock.duration.ms",
        "15000",
        1000,
        "Smallest share.record.lock.duration.ms that a group may set.",
    ),
    number(
        "group.share.min.session.timeout.ms",
        "45000",
        1,
        "Smallest share.session.timeout.ms that a group may set.",
    ),
    number(
        "group.share.partition.max.record.locks",
        "2000",
        100,
        "Default of the group setting share.partition.max.record.locks.",
    ),
    number(
        "group.share.record.lock.duration.ms",
        "30000",
        1000,
        "Default of the group setting share.record.lock.duration.ms.",
    ),
    number(
        "group.share.session.timeout.ms",
        "45000",
        1,
        "Default of the group setting share.session.timeout.ms.",
    ),
    number(
        "group.streams.assignment.interval.ms",
        "1000",
        0,
        "Default of the group setting streams.assignment.interval.ms.",
    ),
    fixed(
        "group.streams.assignors",
        List,
        Some("sticky"),
        "Assignors for streams groups.",
    ),
    number(
        "group.streams.heartbeat.interval.ms",
        "5000",
        1,
        "Default of the group setting streams.heartbeat.interval.ms.",
    ),
    number(
        "group.streams.initial.rebalance.delay.ms",
        "3000",
        0,
        "Default of the group setting streams.initial.rebalance.delay.ms.",
    ),
    number(
        "group.streams.max.assignment.interval.ms",
        "15000",
        0,
        "Largest streams.assignment.interval.ms that a group may set.",
    ),
    number(
        "group.streams.max.heartbeat.interval.ms",
        "15000",
        1,
        "Largest streams.heartbeat.interval.ms that a group may set.",
    ),
    number(
        "group.streams.max.session.timeout.ms",
        "60000",
        1,
        "Largest streams.session.timeout.ms that a group may set.",
    ),
    number(
        "group.streams.max.size",
        MOST,
        1,
        "Most members of one streams group.",
    ),
    number(
        "group.streams.max.standby.replicas",
        "2",
        0,
        "Largest streams.num.standby.replicas that a group may set.",
    ),
    number(
        "group.streams.min.assignment.interval.ms",
        "0",
        0,
        "Smallest streams.assignment.interval.ms that a group may set.",
    ),
    number(
        "group.streams.min.heartbeat.interval.ms",
        "5000",
        1,
        "Smallest streams.heartbeat.interval.ms that a group may set.",
    ),
    number(
        "group.streams.min.session.timeout.ms",
        "45000",
        1,
        "Smallest streams.session.timeout.ms that a group may set.",
    ),
    number(
        "group.streams.num.standby.replicas",
        "0",
        0,
        "Default of the group setting streams.num.standby.replicas.",
    ),
    fixed(
        "group.streams.rack.aware.assignment.tags",
        List,
        Some(""),
        "Default of the group setting streams.rack.aware.assignment.tags.",
    ),
    number(
        "group.streams.session.timeout.ms",
        "45000",
        1,
        "Default of the group setting streams.session.timeout.ms.",
    ),
];
