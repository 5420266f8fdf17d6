use super::*;
use proptest::prelude::*;

const GB: u64 = 1 << 30;

fn disk(total: u64, free: u64) -> Space {
    Space {
        total_bytes: total,
        used_bytes: total - free,
        free_bytes: free,
    }
}

fn after(before: Level, free_percent: u64) -> Level {
    level(
        before,
        disk(100 * GB, free_percent * GB),
        &Limits::default(),
    )
}

#[test]
fn levels_begin_and_end_apart() {
    use Level::{Alert, Normal, Refuse, Throttle};
    for (before, free_percent, expected) in [
        (Normal, 21, Normal),
        (Normal, 20, Alert),
        (Alert, 21, Alert),
        (Alert, 22, Alert),
        (Alert, 23, Normal),
        (Normal, 5, Throttle),
        (Throttle, 7, Throttle),
        (Throttle, 8, Alert),
        (Throttle, 40, Normal),
        (Normal, 0, Refuse),
        (Refuse, 1, Throttle),
        (Refuse, 50, Normal),
    ] {
        assert_eq!(
            after(before, free_percent),
            expected,
            "{before:?} {free_percent}"
        );
    }
}

#[test]
fn refusing_begins_at_the_reserve_and_ends_clearly_above_it() {
    let limits = Limits::default();
    let free = |before, free| level(before, disk(100 * GB, free), &limits);
    let reserve = limits.reserve(100 * GB);
    assert_eq!(reserve, 256 << 20);
    assert_eq!(
        free(Level::Throttle, reserve + reserve / 15),
        Level::Throttle
    );
    assert_eq!(free(Level::Throttle, reserve + reserve / 16), Level::Refuse);
    assert_eq!(free(Level::Refuse, reserve + reserve / 4), Level::Refuse);
    assert_eq!(
        free(Level::Refuse, reserve + reserve / 4 + 1),
        Level::Throttle
    );
}

#[test]
fn a_small_disk_keeps_a_small_reserve() {
    let limits = Limits::default();
    assert_eq!(limits.reserve(10 << 20), (10 << 20) / 50);
    assert_eq!(limits.file_bytes(10 << 20), 64 << 10);
    assert_eq!(limits.file_bytes(100 * GB), 16 << 20);
    let none = Limits {
        reserve_bytes: 0,
        ..limits
    };
    assert_eq!((none.reserve(GB), none.file_bytes(GB)), (0, 0));
    assert_eq!(level(Level::Normal, disk(GB, 1), &none), Level::Throttle);
    assert_eq!(level(Level::Normal, disk(GB, 0), &none), Level::Refuse);
    assert_eq!(level(Level::Normal, Space::default(), &none), Level::Refuse);
}

#[test]
fn the_reserve_file_goes_when_its_room_is_needed_and_comes_back_later() {
    let limits = Limits::default();
    let at = |free| reserve_file(disk(100 * GB, free), &limits);
    assert_eq!(at(0), ReserveFile::Release);
    // What it held is free now: no reason to take it again.
    assert_eq!(at(16 << 20), ReserveFile::Keep);
    assert_eq!(at(256 << 20), ReserveFile::Keep);
    assert_eq!(at(272 << 20), ReserveFile::Hold);
}

#[test]
fn producers_wait_the_longer_the_less_room_there_is() {
    let waits = |free| {
        let mut admission = Admission::default();
        assert!(admission.look(disk(100 * GB, free)));
        admission.admit(0, 1 << 20).unwrap()
    };
    assert_eq!(waits(20 * GB), 0, "only an alert");
    let (much, some, little) = (waits(4 * GB), waits(GB), waits(300 << 20));
    assert!(
        0 < much && much < some && some < little,
        "{much} {some} {little}"
    );
    assert!(little <= MAX_THROTTLE_MS);
}

#[test]
fn what_all_producers_write_is_what_the_room_allows() {
    // 1 GB above the reserve: an e-th of it is left after a minute.
    let mut admission = Admission::default();
    let mut free = GB + (256 << 20);
    let mut now_ms = 0;
    while now_ms < 60_000 {
        admission.look(disk(100 * GB, free));
        free -= 1 << 20;
        now_ms += admission.admit(now_ms, 1 << 20).unwrap();
    }
    let left = (free - (256 << 20)) as f64 / GB as f64;
    assert!((0.33..0.40).contains(&left), "{left}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A producer sends.
    Produce(u64),
    /// The file system is asked.
    Look,
    /// Something is deleted.
    Free(u64),
    /// Time passes.
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1_u64..2_000_000).prop_map(Step::Produce),
        2 => Just(Step::Look),
        1 => (1_u64..20_000_000).prop_map(Step::Free),
        1 => (0_i64..10_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// The model is the disk itself: whatever comes in whatever order, what is admitted leaves the reserve.
    #[test]
    fn the_reserve_is_never_taken(
        total in 1_000_000_u64..1_000_000_000,
        fill in 0_u64..100,
        limits in (1_u64..=100, 1_u64..=100, 0_u64..20_000_000, 1_u64..100_000),
        steps in steps(),
    ) {
        let limits = Limits {
            alert_percent: limits.0,
            throttle_percent: limits.1,
            reserve_bytes: limits.2,
            drain_ms: limits.3,
        };
        let reserve = limits.reserve(total);
        let (mut free, mut now_ms) = (total - total * fill / 100, 0);
        let mut admission = Admission::default();
        admission.set_limits(limits);
        admission.look(disk(total, free));
        let mut floor = free.min(reserve);
        for step in steps {
            match step {
                Step::Produce(bytes) => {
                    let (known, before) = (admission.space().free_bytes, admission.level());
                    match admission.admit(now_ms, bytes) {
                        Ok(wait_ms) => {
                            prop_assert!(before != Level::Refuse);
                            prop_assert!((0..=MAX_THROTTLE_MS).contains(&wait_ms));
                            prop_assert!(wait_ms == 0 || before == Level::Throttle);
                            free -= bytes;
                        }
                        Err(refused) => prop_assert!(refused.free_bytes == known),
                    }
                }
                Step::Look => {
                    let before = admission.level();
                    let changed = admission.look(disk(total, free));
                    prop_assert_eq!(changed, before != admission.level());
                    // Looking again without a change of the disk changes nothing.
                    prop_assert!(!admission.look(disk(total, free)));
                    if free > reserve + reserve / 4 && free > 0 {
                        prop_assert!(admission.level() != Level::Refuse, "it resumes by itself");
                    }
                }
                Step::Free(bytes) => free = (free + bytes).min(total),
                Step::Wait(ms) => now_ms += ms,
            }
            prop_assert!(free >= floor, "{} of {} left", free, reserve);
            floor = floor.max(free.min(reserve));
        }
    }
}
