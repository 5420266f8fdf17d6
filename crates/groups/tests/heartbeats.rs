//! Heartbeats whose answer waits for the next rebalance.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use common::consumer::{Topics, join_beat};
use common::*;
use dlog_groups::{GroupConfig, GroupError, JoinGroup, Reply, Token};

/// The limit here: a sixth of the session that [`join`] asks for.
const PATIENCE_MS: i32 = 1_666;

fn config() -> GroupConfig {
    GroupConfig {
        heartbeat_max_wait_ms: i32::MAX,
        ..common::config()
    }
}

fn answer(shell: &mut Shell, token: Token) -> Option<Result<(), GroupError>> {
    shell.take_reply(token).map(|reply| match reply {
        Reply::Heartbeat(answer) => answer,
        other => panic!("not an answer to a heartbeat: {other:?}"),
    })
}

/// A heartbeat that waits.
fn held(shell: &mut Shell, member: &str, generation: i32) -> Token {
    let (token, patience_ms) = shell.send_heartbeat(member, generation);
    assert_eq!(patience_ms, Some(PATIENCE_MS));
    assert_eq!(answer(shell, token), None);
    token
}

/// A heartbeat that is answered at once.
fn answered(shell: &mut Shell, member: &str, generation: i32) -> Result<(), GroupError> {
    let (token, patience_ms) = shell.send_heartbeat(member, generation);
    assert_eq!(patience_ms, None);
    answer(shell, token).unwrap()
}

#[test]
fn who_waits_hears_of_a_rebalance_when_it_begins() {
    let mut shell = Shell::new(config());
    let (a, b) = shell.two_members();
    let of_a = held(&mut shell, &a, 2);
    let of_b = held(&mut shell, &b, 2);
    shell.send_join(join(""));
    let rebalance = Some(Err(GroupError::RebalanceInProgress));
    assert_eq!(answer(&mut shell, of_a), rebalance);
    assert_eq!(answer(&mut shell, of_b), rebalance);
    // While it lasts nothing waits.
    let said = answered(&mut shell, &a, 2);
    assert_eq!(said, Err(GroupError::RebalanceInProgress));
}

#[test]
fn nothing_waits_before_the_assignment_is_there() {
    let mut shell = Shell::new(config());
    let joined = shell.join(join("")).unwrap();
    let a = joined.member_id.clone();
    assert_eq!(answered(&mut shell, &a, 1), Ok(()));
    shell.sync(sync(&joined, &[(&a, "all")])).unwrap();
    held(&mut shell, &a, 1);
}

#[test]
fn a_member_that_leaves_hears_of_it_and_the_others_of_the_rebalance() {
    let mut shell = Shell::new(config());
    let (a, b) = shell.two_members();
    let of_a = held(&mut shell, &a, 2);
    let of_b = held(&mut shell, &b, 2);
    assert_eq!(shell.leave_by_id(&b), None);
    assert_eq!(
        answer(&mut shell, of_b),
        Some(Err(GroupError::UnknownMemberId))
    );
    assert_eq!(
        answer(&mut shell, of_a),
        Some(Err(GroupError::RebalanceInProgress))
    );
}

#[test]
fn who_waited_long_enough_is_answered_once() {
    let mut shell = Shell::new(config());
    let a = shell.one_member();
    let first = held(&mut shell, &a, 1);
    // Another one over another connection: the first only must not stay open.
    let second = held(&mut shell, &a, 1);
    assert_eq!(answer(&mut shell, first), Some(Ok(())));
    shell.release_heartbeat(&a, first);
    assert_eq!(answer(&mut shell, second), None);
    shell.release_heartbeat(&a, second);
    assert_eq!(answer(&mut shell, second), Some(Ok(())));
    // The shell would find a second answer.
    shell.release_heartbeat(&a, second);
    shell.send_join(join(""));
}

#[test]
fn a_session_runs_from_the_arrival() {
    let mut shell = Shell::new(config());
    let a = shell.one_member();
    let of_a = held(&mut shell, &a, 1);
    shell.pass(1_666);
    shell.release_heartbeat(&a, of_a);
    shell.pass(8_333);
    assert_eq!(shell.beat(&a, 1), Ok(()));
    let of_a = held(&mut shell, &a, 1);
    shell.pass(10_000);
    assert_eq!(
        answer(&mut shell, of_a),
        Some(Err(GroupError::UnknownMemberId))
    );
}

#[test]
fn the_wait_is_bounded_by_the_setting_and_the_session() {
    for (most_ms, patience_ms) in [(0, None), (1_000, Some(1_000)), (5_000, Some(PATIENCE_MS))] {
        let mut shell = Shell::new(GroupConfig {
            heartbeat_max_wait_ms: most_ms,
            ..config()
        });
        let a = shell.one_member();
        let (token, given_ms) = shell.send_heartbeat(&a, 1);
        assert_eq!(given_ms, patience_ms);
        assert_eq!(shell.has_reply(token), patience_ms.is_none());
    }
}

#[test]
fn members_that_say_no_goodbye_are_answered_at_once() {
    let mut shell = Shell::new(config());
    let a = shell.one_static("i");
    assert_eq!(answered(&mut shell, &a, 1), Ok(()));

    let mut shell = Shell::new(config());
    let streams = JoinGroup {
        protocols: vec![protocol("stream")],
        ..join("")
    };
    let joined = shell.join(streams).unwrap();
    let a = joined.member_id.clone();
    shell.sync(sync(&joined, &[(&a, "all")])).unwrap();
    assert_eq!(answered(&mut shell, &a, 1), Ok(()));
}

#[test]
fn who_gave_up_while_it_waited_is_not_tried_again() {
    let mut shell = Shell::new(config());
    let (a, b) = shell.two_members();
    let of_a = held(&mut shell, &a, 2);
    shell.end_heartbeat(&a, of_a, false);
    assert_eq!(answer(&mut shell, of_a), Some(Ok(())));
    assert_eq!(answered(&mut shell, &a, 2), Ok(()));
    held(&mut shell, &b, 2);
}

#[test]
fn what_is_wrong_is_said_at_once() {
    let mut shell = Shell::new(config());
    let a = shell.one_member();
    assert_eq!(
        answered(&mut shell, &a, 2),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        answered(&mut shell, "nobody", 1),
        Err(GroupError::UnknownMemberId)
    );
    let mut empty = Shell::new(config());
    assert_eq!(
        answered(&mut empty, &a, 1),
        Err(GroupError::UnknownMemberId)
    );
}

#[test]
fn who_waits_is_sent_to_the_next_coordinator() {
    let mut shell = Shell::new(config());
    let a = shell.one_member();
    let of_a = held(&mut shell, &a, 1);
    shell.step(|coordinator, now_ms, out| coordinator.resign(now_ms, out));
    assert_eq!(
        answer(&mut shell, of_a),
        Some(Err(GroupError::NotCoordinator))
    );
    assert_eq!(answered(&mut shell, &a, 1), Err(GroupError::NotCoordinator));
}

#[test]
fn a_group_that_changes_its_protocol_keeps_nobody_waiting() {
    let mut shell = Shell::new(config());
    shell.set_topics(&Topics::of(&[("topic", 4)]));
    let joined = shell.join(join("")).unwrap();
    let a = joined.member_id.clone();
    shell.sync(sync(&joined, &[(&a, "")])).unwrap();
    let of_a = held(&mut shell, &a, 1);
    shell.consumer_beat(&join_beat("b", &["topic"])).unwrap();
    assert_eq!(answer(&mut shell, of_a), Some(Ok(())));
    // The coordinator assigns now: what is to be done is said at once.
    let said = answered(&mut shell, &a, 1);
    assert_eq!(said, Err(GroupError::RebalanceInProgress));
}
