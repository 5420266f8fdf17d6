//! Which partition of a coordinator's topic a name belongs to.

/// The partition, of `partitions`, that holds the group or transactional id: the absolute value of Java's
/// `String.hashCode`, modulo the count, as every Kafka broker computes it. 0 when there are no
/// partitions.
///
/// ```
/// assert_eq!(dlog_coordination::partition_for_name("my-group", 50), 12);
/// ```
pub fn partition_for_name(name: &str, partitions: u32) -> u32 {
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The one hash without a positive counterpart counts as 0.
    let positive = hash.checked_abs().unwrap_or(0).unsigned_abs();
    positive.checked_rem(partitions).unwrap_or(0)
}
