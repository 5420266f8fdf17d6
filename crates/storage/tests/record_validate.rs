//! What a broker refuses of a producer, and what it learns about what it takes.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions use it, too

use dlog_storage::record::{
    Batch, BatchBuilder, Compression, DeepFacts, DeepRules, Fault, NO_TIMESTAMP, RecordError,
    TimestampType, patch_max_timestamp,
};

fn filled(builder: BatchBuilder) -> Batch {
    let mut builder = builder;
    for (timestamp_ms, key) in [(1_000, Some(&b"a"[..])), (3_000, None), (2_000, Some(b"c"))] {
        builder
            .push(timestamp_ms, key, Some(b"value"), &[])
            .unwrap();
    }
    Batch::from_bytes(builder.build().unwrap()).unwrap()
}

fn check(builder: BatchBuilder) -> Result<DeepFacts, RecordError> {
    filled(builder).validate_deep(&DeepRules::default())
}

#[test]
fn facts() {
    for codec in Compression::ALL {
        let facts = check(BatchBuilder::new().compression(codec, None)).unwrap();
        assert_eq!(facts.max_timestamp_ms, 3_000);
        assert_eq!(facts.offset_of_max_timestamp, 1);
        let plain = filled(BatchBuilder::new()).bytes().len() - 61;
        assert_eq!(facts.uncompressed_bytes, plain);
        assert!(facts.largest_record_bytes < plain);
    }
}

#[test]
fn what_producers_may_send() {
    let new = BatchBuilder::new;
    assert!(check(new()).is_ok());
    assert!(check(new().producer(7, 0, 0)).is_ok());
    assert!(check(new().producer(7, 0, 3).transactional(true)).is_ok());
    // Whatever offset and epoch it names: the log assigns its own.
    assert!(check(new().base_offset(99).leader_epoch(4)).is_ok());
}

#[test]
fn what_producers_may_not_send() {
    let refused = [
        BatchBuilder::new().control(true),
        BatchBuilder::new().transactional(true),
        BatchBuilder::new().producer(7, 0, -1),
        BatchBuilder::new().producer(7, -1, 0),
        BatchBuilder::new().delete_horizon(Some(5)),
    ];
    for builder in refused {
        let error = check(builder).unwrap_err();
        assert!(matches!(error, RecordError::NotAllowed(_)), "{error}");
        assert_eq!(error.fault(), Fault::Invalid);
    }
    let error = check(BatchBuilder::new().log_append_time(9)).unwrap_err();
    assert_eq!(error.fault(), Fault::Timestamp);
    let error = check(BatchBuilder::new().last_offset_delta(5)).unwrap_err();
    assert!(matches!(error, RecordError::Inconsistent(_)), "{error}");
    let empty = BatchBuilder::new().last_offset_delta(0).build().unwrap();
    let empty = Batch::from_bytes(empty).unwrap();
    assert!(empty.validate_from_producer().is_err());
}

#[test]
fn offsets_must_be_contiguous() {
    let mut builder = BatchBuilder::new();
    for delta in [0, 2] {
        builder.push_at(delta, 1, None, Some(b"v"), &[]).unwrap();
    }
    let bytes = builder.build().unwrap();
    let batch = Batch::from_bytes(bytes.clone()).unwrap();
    assert!(batch.validate_deep(&DeepRules::default()).is_err());
    // A compacted batch looks like this, so reading it is fine.
    assert_eq!(batch.records().unwrap().filter(Result::is_ok).count(), 2);

    // The header says contiguous, the records (0, 2) do not.
    let mut bytes = bytes.to_vec();
    bytes[26] = 1;
    patch_max_timestamp(&mut bytes, TimestampType::CreateTime, 1).unwrap();
    let batch = Batch::from_bytes(bytes.into()).unwrap();
    let error = batch.validate_deep(&DeepRules::default()).unwrap_err();
    assert!(matches!(error, RecordError::BadRecord { index: 1, .. }));
}

#[test]
fn compacted_topics_need_keys() {
    let rules = DeepRules {
        require_keys: true,
        ..DeepRules::default()
    };
    let error = filled(BatchBuilder::new())
        .validate_deep(&rules)
        .unwrap_err();
    assert!(matches!(error, RecordError::BadRecord { index: 1, .. }));
    assert_eq!(error.fault(), Fault::Invalid);
}

#[test]
fn timestamps_must_be_in_range() {
    let rules = |timestamps_ms| DeepRules {
        timestamps_ms: Some(timestamps_ms),
        ..DeepRules::default()
    };
    let batch = filled(BatchBuilder::new());
    assert!(batch.validate_deep(&rules(1_000..=3_000)).is_ok());
    let error = batch.validate_deep(&rules(1_000..=2_999)).unwrap_err();
    assert!(matches!(error, RecordError::BadTimestamp { index: 1, .. }));
    assert_eq!(error.fault(), Fault::Timestamp);
    assert!(batch.validate_deep(&rules(1_001..=9_000)).is_err());

    let mut none = BatchBuilder::new();
    none.push(NO_TIMESTAMP, None, None, &[]).unwrap();
    let none = Batch::from_bytes(none.build().unwrap()).unwrap();
    assert!(none.validate_deep(&rules(1_000..=2_000)).is_ok());

    let mut negative = BatchBuilder::new();
    negative.push(-2, None, None, &[]).unwrap();
    let negative = Batch::from_bytes(negative.build().unwrap()).unwrap();
    let error = negative.validate_deep(&DeepRules::default()).unwrap_err();
    assert_eq!(error.fault(), Fault::Timestamp);
}

#[test]
fn damage_and_limits() {
    let batch = filled(BatchBuilder::new().compression(Compression::Gzip, None));
    let mut bytes = batch.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = Batch::from_bytes(bytes.into()).unwrap();
    let error = damaged.validate_deep(&DeepRules::default()).unwrap_err();
    assert!(matches!(error, RecordError::CrcMismatch { .. }));
    assert_eq!(error.fault(), Fault::Corrupt);

    let rules = DeepRules {
        max_uncompressed_bytes: 10,
        ..DeepRules::default()
    };
    let error = batch.validate_deep(&rules).unwrap_err();
    assert_eq!(error.fault(), Fault::TooLarge);
}

#[test]
fn the_builder_refuses_what_cannot_be_read() {
    assert!(BatchBuilder::new().build().is_err());
    let mut builder = BatchBuilder::new();
    builder.push_at(4, 1, None, None, &[]).unwrap();
    assert!(builder.push_at(4, 1, None, None, &[]).is_err());
    assert!(builder.push_at(3, 1, None, None, &[]).is_err());
    assert_eq!(builder.len(), 1);
    assert!(builder.clone().last_offset_delta(3).build().is_err());
    assert!(builder.clone().delete_horizon(Some(7)).build().is_err());
    assert!(builder.clone().base_offset(i64::MAX).build().is_err());
    assert!(builder.clone().base_offset(-1).build().is_err());
    assert!(builder.build().is_ok());

    let mut builder = BatchBuilder::new();
    builder.push_at(i32::MAX, 1, None, None, &[]).unwrap();
    assert!(builder.push(1, None, None, &[]).is_err());
    let mut builder = BatchBuilder::new();
    builder.push(i64::MAX, None, None, &[]).unwrap();
    assert!(builder.push(-2, None, None, &[]).is_err());
    let level = BatchBuilder::new().compression(Compression::Zstd, Some(99));
    let mut level = level;
    level.push(1, None, None, &[]).unwrap();
    assert!(matches!(level.build(), Err(RecordError::BadLevel { .. })));
}
