//! The bit fields that tell a client what it may do (KIP-430). Without access control: everything.
//!
//! Bit numbers are those of Kafka's `AclOperation`.

/// The field when the client did not ask.
pub const NOT_ASKED: i32 = i32::MIN;

const fn bits<const N: usize>(operations: [u32; N]) -> i32 {
    let mut all = 0;
    let mut at = 0;
    while at < N {
        all |= 1 << operations[at];
        at += 1;
    }
    all
}

const READ: u32 = 3;
const WRITE: u32 = 4;
const CREATE: u32 = 5;
const DELETE: u32 = 6;
const ALTER: u32 = 7;
const DESCRIBE: u32 = 8;
const CLUSTER_ACTION: u32 = 9;
const DESCRIBE_CONFIGS: u32 = 10;
const ALTER_CONFIGS: u32 = 11;
const IDEMPOTENT_WRITE: u32 = 12;

/// Every operation on a topic.
pub const ALL_TOPIC_OPERATIONS: i32 = bits([
    READ,
    WRITE,
    CREATE,
    DELETE,
    ALTER,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
]);

/// Every operation on the cluster.
pub const ALL_CLUSTER_OPERATIONS: i32 = bits([
    CREATE,
    ALTER,
    DESCRIBE,
    CLUSTER_ACTION,
    DESCRIBE_CONFIGS,
    ALTER_CONFIGS,
    IDEMPOTENT_WRITE,
]);

/// Every operation on a consumer group.
pub const ALL_GROUP_OPERATIONS: i32 =
    bits([READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);
