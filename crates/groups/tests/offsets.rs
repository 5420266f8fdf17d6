//! Committed offsets: visibility, order, deletion, expiry, lists; and that they load fast.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use std::time::Instant;

use common::*;
use dlog_groups::codec::{GroupMetadataValue, OffsetCommitValue, RecordKey};
use dlog_groups::{
    Applied, CodecError, GroupConfig, GroupCoordinator, GroupError, GroupState, OffsetCommit,
    PersistError,
};
use uuid::Uuid;

const DAY_MS: i64 = 24 * 3_600_000;

#[test]
fn an_offset_is_readable_once_it_is_durable() {
    let mut shell = Shell::new(config());
    shell.auto_persist = false;
    let waiting = shell.send_commit(&commit("", -1, 5));
    assert_eq!(shell.offset("topic", 0), -1);
    assert!(!shell.has_reply(waiting));
    shell.persist(shell.only_write(), Ok(()));
    assert_eq!(
        (shell.commit_reply(waiting), shell.offset("topic", 0)),
        (None, 5)
    );
}

#[test]
fn the_later_commit_wins_whichever_ends_first() {
    let mut shell = Shell::new(config());
    shell.auto_persist = false;
    let first = shell.send_commit(&commit("", -1, 1));
    let early = shell.only_write();
    let second = shell.send_commit(&commit("", -1, 2));
    let late = *shell.open_writes.keys().next_back().unwrap();
    shell.persist(late, Ok(()));
    assert_eq!(shell.commit_reply(second), None);
    shell.persist(early, Ok(()));
    assert_eq!(shell.commit_reply(first), None);
    assert_eq!(shell.offset("topic", 0), 2);
}

#[test]
fn a_group_under_deletion_takes_nothing_and_may_come_back() {
    let mut shell = Shell::new(config());
    assert_eq!(shell.commit(&commit("", -1, 5)), None);
    shell.auto_persist = false;
    let token = shell.token();
    shell.step(|c, now_ms, out| c.delete_group(now_ms, GROUP, token, out));
    assert_eq!(shell.state(), Some(GroupState::Dead));
    let not_available = Some(GroupError::CoordinatorNotAvailable);
    assert_eq!(shell.commit(&commit("", -1, 6)), not_available);
    assert_eq!(
        shell.join(join("")).unwrap_err().error,
        GroupError::CoordinatorNotAvailable
    );
    assert_eq!(shell.delete_group(), Err(GroupError::GroupIdNotFound));
    shell.persist(shell.only_write(), Err(PersistError::Unavailable));
    assert_eq!(
        (shell.state(), shell.offset("topic", 0)),
        (Some(GroupState::Empty), 5)
    );
    shell.auto_persist = true;
    assert_eq!(shell.delete_group(), Ok(()));
    assert_eq!((shell.state(), shell.offset("topic", 0)), (None, -1));
    assert_eq!(
        Shell::on_log(config(), shell.log(), 0)
            .coordinator
            .group_count(),
        0
    );
}

#[test]
fn offsets_of_a_simple_consumer_expire_by_their_commit() {
    let mut shell = Shell::new(config());
    assert_eq!(shell.commit(&commit("", -1, 1)), None);
    shell.pass(4 * DAY_MS);
    assert_eq!(shell.commit(&commit_to("other", "", -1, 2)), None);
    shell.pass(3 * DAY_MS + 600_000);
    assert_eq!(
        (shell.offset("topic", 0), shell.offset("other", 0)),
        (-1, 2)
    );
    shell.pass(4 * DAY_MS);
    assert_eq!(shell.coordinator.group_count(), 0);
}

#[test]
fn offsets_of_a_group_expire_when_it_has_been_empty_or_no_longer_reads_the_topic() {
    let mut shell = Shell::new(config());
    let member = shell.one_member();
    assert_eq!(shell.commit(&commit(&member, 1, 1)), None);
    assert_eq!(shell.commit(&commit_to("other", &member, 1, 2)), None);
    for _ in 0..8 * DAY_MS / 9_000 {
        shell.pass(9_000);
        assert_eq!(shell.beat(&member, 1), Ok(()));
    }
    // The member reads "topic" only.
    assert_eq!(
        (shell.offset("topic", 0), shell.offset("other", 0)),
        (1, -1)
    );
    assert_eq!(shell.leave_by_id(&member), None);
    shell.pass(7 * DAY_MS - 1);
    assert_eq!(shell.offset("topic", 0), 1);
    shell.pass(600_001);
    assert_eq!((shell.state(), shell.offset("topic", 0)), (None, -1));
    assert_eq!(
        Shell::on_log(config(), shell.log(), 0)
            .coordinator
            .group_count(),
        0
    );
}

#[test]
fn a_commit_may_say_how_long_it_lasts() {
    let mut shell = Shell::new(config());
    let short = OffsetCommit {
        retention_ms: Some(1_000),
        ..commit("", -1, 1)
    };
    assert_eq!(shell.commit(&short), None);
    let value = shell.log()[0].value.clone().unwrap();
    let expires_ms = OffsetCommitValue::decode(&value)
        .unwrap()
        .expire_timestamp_ms;
    assert_eq!(expires_ms, shell.now_ms + 1_000);
    shell.pass(600_000);
    assert_eq!(shell.coordinator.group_count(), 0);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut shell = Shell::new(config());
    shell.one_member();
    let simple = OffsetCommit {
        group_id: "simple".to_owned(),
        ..commit("", -1, 1)
    };
    assert_eq!(shell.commit(&simple), None);
    let names = |states: &[&str], types: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let groups = shell
            .coordinator
            .list_groups(&owned(states), &owned(types))
            .unwrap();
        groups
            .iter()
            .map(|group| group.group_id.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(&[], &[]), "g simple");
    assert_eq!(names(&["stable"], &[]), "g");
    assert_eq!(names(&["Empty", "Dead"], &["Classic"]), "simple");
    assert_eq!(names(&[], &["consumer"]), "");
    assert_eq!(names(&["nonsense"], &[]), "");
}

#[test]
fn loaded_members_live_on_and_a_group_above_the_limit_rebalances() {
    let mut shell = Shell::new(config());
    let (leader, follower) = shell.two_members();
    let mut again = Shell::on_log(config(), shell.log(), shell.now_ms);
    assert_eq!(again.beat(&leader, 2), Ok(()));
    assert_eq!(again.beat(&follower, 2), Ok(()));
    assert_eq!(
        again.delete_offset("topic", 0),
        Ok(Some(GroupError::GroupSubscribedToTopic))
    );
    again.pass(10_000);
    assert_eq!(again.beat(&leader, 2), Err(GroupError::UnknownMemberId));

    let small = GroupConfig {
        max_group_size: 1,
        ..config()
    };
    let mut again = Shell::on_log(small, shell.log(), shell.now_ms);
    assert_eq!(again.beat(&leader, 2), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_deleted_topic_is_forgotten_with_what_is_on_its_way() {
    let mut shell = Shell::new(config());
    assert_eq!(shell.commit(&commit_to("gone", "", -1, 5)), None);
    assert_eq!(shell.commit(&commit_to("kept", "", -1, 6)), None);
    shell.auto_persist = false;
    let open = shell.send_commit(&commit_to("gone", "", -1, 7));
    shell.step(|coordinator, now_ms, out| coordinator.forget_topic(now_ms, "gone", out));
    while let Some((&write, _)) = shell.open_writes.first_key_value() {
        shell.persist(write, Ok(()));
    }
    assert_eq!(shell.commit_reply(open), None);
    assert_eq!((shell.offset("gone", 0), shell.offset("kept", 0)), (-1, 6));
    let again = Shell::on_log(config(), shell.log(), shell.now_ms);
    assert_eq!((again.offset("gone", 0), again.offset("kept", 0)), (-1, 6));
}

#[test]
fn records_of_other_kinds_and_damaged_ones_do_not_stop_loading() {
    let mut coordinator = GroupCoordinator::new(config());
    assert_eq!(
        coordinator.apply_record(&[0, 17, 1, 2], None),
        Ok(Applied::OtherKind(17))
    );
    assert!(coordinator.apply_record(&[0, 1, 0], None).is_err());
    let key = RecordKey::Group { group: GROUP }.encode().unwrap();
    assert!(coordinator.apply_record(&key, Some(&[0, 3, 0, 9])).is_err());
    let long = GroupMetadataValue {
        protocol_type: "x".repeat(40_000),
        generation: 1,
        protocol: None,
        leader: None,
        state_timestamp_ms: -1,
        members: vec![],
    };
    let long = long.encode(4).unwrap();
    let refused = coordinator.apply_record(&key, Some(&long));
    assert!(
        refused.is_err(),
        "it could not be written again: {refused:?}"
    );
    assert_eq!(coordinator.apply_record(&key, None), Ok(Applied::Yes));
    assert_eq!(coordinator.group_count(), 0);
    coordinator.finish_loading(0, &mut Vec::new());
    assert_eq!(
        coordinator.apply_record(&key, None),
        Err(CodecError::NotLoading)
    );
}

/// Run with `--release -- --ignored --nocapture`: prints time and memory of a million offsets.
#[test]
#[ignore = "a measurement"]
fn a_million_offsets_load() {
    let value = |topic_id| OffsetCommitValue {
        offset: 1 << 40,
        leader_epoch: 7,
        metadata: "",
        commit_timestamp_ms: 1_700_000_000_000,
        expire_timestamp_ms: -1,
        topic_id,
    };
    // Kept to the end, so that the second does not reuse the memory of the first.
    let mut kept = Vec::new();
    for topic_id in [Uuid::nil(), Uuid::from_u128(77)] {
        let value = value(topic_id).encode(4).unwrap();
        let mut keys = Vec::new();
        for at in 0..1_000_000 {
            let (group, topic) = (
                format!("group-{}", at % 1_000),
                format!("topic-{}", at / 1_000 % 50),
            );
            let key = RecordKey::Offset {
                group: &group,
                topic: &topic,
                partition: at / 50_000,
            };
            keys.push(key.encode().unwrap());
        }
        let before_kib = resident_kib();
        let start = Instant::now();
        let mut coordinator = GroupCoordinator::new(config());
        for key in &keys {
            coordinator.apply_record(key, Some(&value)).unwrap();
        }
        let mut out = Vec::new();
        coordinator.finish_loading(1_700_000_000_000, &mut out);
        let took = start.elapsed();
        let bytes = (resident_kib() - before_kib) * 1_024;
        println!(
            "1,000,000 offsets of {} groups in {took:?}, about {} bytes each (topic id: {})",
            coordinator.group_count(),
            bytes / 1_000_000,
            !topic_id.is_nil(),
        );
        let all = coordinator.fetch_offsets("group-7", None).unwrap();
        assert_eq!((coordinator.group_count(), all.len()), (1_000, 1_000));
        kept.push((coordinator, keys));
    }
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
