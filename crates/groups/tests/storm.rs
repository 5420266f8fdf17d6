//! Five hundred members at once.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use common::*;
use dlog_groups::{GroupConfig, GroupError, GroupState, Joined};

const MEMBERS: usize = 500;

/// Everyone joins: a generation. Who is `known` comes back with its id.
fn storm(shell: &mut Shell, known: &[String]) -> Vec<Joined> {
    let ids: Vec<String> = match known {
        [] => (0..MEMBERS)
            .map(|_| shell.join(modern_join("")).unwrap_err().member_id)
            .collect(),
        known => known.to_vec(),
    };
    let waiting: Vec<_> = ids
        .iter()
        .map(|id| shell.send_join(modern_join(id)))
        .collect();
    if known.is_empty() {
        assert_eq!(shell.state(), Some(GroupState::PreparingRebalance));
        shell.pass(7_000);
    }
    waiting
        .into_iter()
        .map(|token| shell.join_reply(token).unwrap())
        .collect()
}

fn sync_all(shell: &mut Shell, joined: &[Joined]) {
    let leader = joined
        .iter()
        .find(|joined| joined.leader == joined.member_id)
        .unwrap();
    assert_eq!(leader.members.len(), joined.len());
    let followers = joined
        .iter()
        .filter(|joined| joined.member_id != leader.member_id);
    let waiting: Vec<_> = followers
        .map(|joined| shell.send_sync(sync(joined, &[])))
        .collect();
    let assignments: Vec<_> = leader
        .members
        .iter()
        .map(|member| (member.member_id.as_str(), "part"))
        .collect();
    assert_eq!(
        shell.sync(sync(leader, &assignments)).unwrap().assignment,
        "part"
    );
    for token in waiting {
        assert_eq!(shell.sync_reply(token).unwrap().assignment, "part");
    }
    assert_eq!(shell.state(), Some(GroupState::Stable));
}

#[test]
fn five_hundred_members_join_and_join_again() {
    let mut shell = Shell::new(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let joined = storm(&mut shell, &[]);
    assert!(joined.iter().all(|joined| joined.generation_id == 1));
    sync_all(&mut shell, &joined);

    // The leader joins again: everyone is told, everyone comes, one more generation.
    let mut ids: Vec<String> = joined
        .iter()
        .map(|joined| joined.member_id.clone())
        .collect();
    let leader = ids.iter().position(|id| *id == joined[0].leader).unwrap();
    ids.swap(0, leader);
    let first = shell.send_join(modern_join(&ids[0]));
    for id in &ids[1..] {
        assert_eq!(shell.beat(id, 1), Err(GroupError::RebalanceInProgress));
    }
    let mut again = storm(&mut shell, &ids[1..]);
    again.push(shell.join_reply(first).unwrap());
    assert!(again.iter().all(|joined| joined.generation_id == 2));
    sync_all(&mut shell, &again);

    // All fall silent: one sweep of the sessions, an empty group.
    shell.pass(10_000);
    let group = shell.coordinator.describe_group(GROUP).unwrap();
    assert_eq!((group.state, group.generation_id), (GroupState::Empty, 3));
}
