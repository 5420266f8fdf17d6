//! The broker settings of transactions (KIP-98, KIP-664, KIP-890).

use super::{ConfigDef, def, fixed, number};
use crate::configs::Check;
use crate::configs::ConfigKind::{Boolean, Short};
use crate::configs::Update::{ClusterWide, ReadOnly};

/// In the order of their names.
pub(super) static TRANSACTIONS: &[ConfigDef] = &[
    number(
        "add.partitions.to.txn.retry.backoff.max.ms",
        "100",
        0,
        "How long the first write of a transaction waits for the end of the one before, in ms.",
    ),
    number(
        "add.partitions.to.txn.retry.backoff.ms",
        "20",
        1,
        "How often it looks meanwhile, at least, in ms.",
    ),
    number(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "10000",
        1,
        "Not used: a transaction is aborted when its timeout is over, not at the next interval.",
    ),
    number(
        "transaction.max.timeout.ms",
        "900000",
        1,
        "Longest transaction timeout that a producer may ask for, in ms.",
    ),
    def(
        "transaction.partition.verification.enable",
        Boolean,
        Some("true"),
        Check::Any,
        ClusterWide,
        "Whether the first batch of a transaction in a partition is verified, for clients that add partitions themselves.",
    ),
    number(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "3600000",
        1,
        "How often unused transactional ids are looked for, in ms.",
    ),
    number(
        "transaction.state.log.load.buffer.size",
        "5242880",
        1,
        "Not used: the topic of transactions is read in pieces of a fixed size.",
    ),
    number(
        "transaction.state.log.min.isr",
        "2",
        1,
        "Not used: there is one replica.",
    ),
    number(
        "transaction.state.log.num.partitions",
        "50",
        1,
        "Partitions of the topic that holds transactions.",
    ),
    def(
        "transaction.state.log.replication.factor",
        Short,
        Some("3"),
        Check::AtLeast(1),
        ReadOnly,
        "Not used: there is one replica.",
    ),
    number(
        "transaction.state.log.segment.bytes",
        "104857600",
        1,
        "Segment size of the topic that holds transactions, in bytes.",
    ),
    fixed(
        "transaction.two.phase.commit.enable",
        Boolean,
        Some("false"),
        "Not used: two-phase commits (KIP-939) are not served.",
    ),
    number(
        "transactional.id.expiration.ms",
        "604800000",
        1,
        "Transactional ids unused for this long are forgotten, in ms.",
    ),
];
