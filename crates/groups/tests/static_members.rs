//! Static membership (KIP-345, KIP-814).
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use common::*;
use dlog_groups::{GroupConfig, GroupError, GroupState, JoinGroup, PersistError};

#[test]
fn a_returning_leader_keeps_the_generation_and_skips_the_assignment() {
    let mut shell = Shell::new(config());
    let old = shell.one_static("i");
    let again = JoinGroup {
        supports_skipping_assignment: true,
        ..static_join("", "i")
    };
    let joined = shell.join(again).unwrap();
    assert_ne!(joined.member_id, old);
    assert!(joined.member_id.starts_with("i-"), "{}", joined.member_id);
    assert_eq!((joined.generation_id, joined.skip_assignment), (1, true));
    assert_eq!(
        (&joined.leader, joined.members.len()),
        (&joined.member_id, 1)
    );
    assert_eq!(shell.state(), Some(GroupState::Stable));
    assert_eq!(shell.sync(sync(&joined, &[])).unwrap().assignment, "all");
    // The former self is fenced by the instance id, and unknown without it.
    let mut beat = heartbeat(&old, 1);
    assert_eq!(
        shell.coordinator.heartbeat(shell.now_ms, &beat),
        Err(GroupError::UnknownMemberId)
    );
    beat.group_instance_id = Some("i".to_owned());
    assert_eq!(
        shell.coordinator.heartbeat(shell.now_ms, &beat),
        Err(GroupError::FencedInstanceId)
    );
    // The new id is in the log.
    let again = Shell::on_log(config(), shell.log(), shell.now_ms);
    let group = again.coordinator.describe_group(GROUP).unwrap();
    assert_eq!(*group.members[0].member_id, *joined.member_id);
    assert_eq!(
        (group.state, &group.members[0].assignment[..]),
        (GroupState::Stable, &b"all"[..])
    );
}

#[test]
fn an_old_client_is_shown_the_leader_it_replaces() {
    let mut shell = Shell::new(config());
    let old = shell.one_static("i");
    let joined = shell.join(static_join("", "i")).unwrap();
    assert_eq!((joined.leader, joined.members.len()), (old, 0));
    assert!(!joined.skip_assignment);
}

#[test]
fn a_changed_protocol_rebalances() {
    let mut shell = Shell::new(config());
    shell.one_static("i");
    let changed = JoinGroup {
        protocols: vec![protocol("roundrobin")],
        ..static_join("", "i")
    };
    let joined = shell.join(changed).unwrap();
    assert_eq!(
        (joined.generation_id, joined.protocol_name.as_deref()),
        (2, Some("roundrobin"))
    );
}

#[test]
fn who_waits_is_fenced_when_replaced() {
    let mut shell = Shell::new(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let first = shell.send_join(static_join("", "i"));
    let second = shell.send_join(static_join("", "i"));
    assert_eq!(
        shell.join_reply(first).unwrap_err().error,
        GroupError::FencedInstanceId
    );
    shell.pass(10_000);
    let joined = shell.join_reply(second).unwrap();
    assert_eq!(joined.members.len(), 1);
    // Between join and assignment a replacement begins anew: the leader knows the old id only.
    let third = shell.send_join(static_join("", "i"));
    let again = shell.join_reply(third).unwrap();
    assert_eq!(again.generation_id, joined.generation_id + 1);
    assert_eq!(
        shell.sync(sync(&joined, &[])),
        Err(GroupError::UnknownMemberId)
    );
}

#[test]
fn a_static_member_outlives_a_rebalance_it_misses() {
    let mut shell = Shell::new(config());
    let long = JoinGroup {
        session_timeout_ms: 500_000,
        ..static_join("", "i")
    };
    let id = shell.join(long).unwrap().member_id;
    let waiting = shell.send_join(join(""));
    shell.pass(60_000);
    let joined = shell.join_reply(waiting).unwrap();
    assert_eq!(
        (&joined.leader, joined.members.len()),
        (&joined.member_id, 2)
    );
    assert!(joined.members.iter().any(|member| member.member_id == id));
}

#[test]
fn a_replacement_that_cannot_be_stored_is_undone() {
    let mut shell = Shell::new(config());
    let old = shell.one_static("i");
    shell.auto_persist = false;
    let waiting = shell.send_join(static_join("", "i"));
    assert!(!shell.has_reply(waiting));
    shell.persist(shell.only_write(), Err(PersistError::Unavailable));
    let refused = shell.join_reply(waiting).unwrap_err();
    assert_eq!(refused.error, GroupError::CoordinatorNotAvailable);
    assert_eq!(shell.beat(&old, 1), Ok(()));
}

#[test]
fn a_full_group_takes_its_static_members_back() {
    let mut shell = Shell::new(GroupConfig {
        max_group_size: 1,
        ..config()
    });
    shell.one_static("i");
    assert!(shell.join(static_join("", "i")).is_ok());
    let other = shell.join(static_join("", "j")).unwrap_err();
    assert_eq!(other.error, GroupError::GroupMaxSizeReached);
}
