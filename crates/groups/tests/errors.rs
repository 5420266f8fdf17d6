//! Every way in which a request is refused.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

mod common;

use common::*;
use dlog_groups::GroupError::{self, *};
use dlog_groups::{
    Effect, GroupConfig, GroupCoordinator, GroupState, JoinGroup, LeaveGroup, LeavingMember,
    OffsetCommit, PersistError, Reply, SyncGroup,
};

fn refused(shell: &mut Shell, request: JoinGroup) -> GroupError {
    shell.join(request).unwrap_err().error
}

#[test]
fn joins_that_no_group_takes() {
    let long = "x".repeat(40_000);
    let cases: Vec<(&str, JoinGroup, GroupError)> = vec![
        (
            "no group id",
            JoinGroup {
                group_id: String::new(),
                ..join("")
            },
            InvalidGroupId,
        ),
        (
            "a group id too long",
            JoinGroup {
                group_id: long.clone(),
                ..join("")
            },
            InvalidGroupId,
        ),
        (
            "a short session",
            JoinGroup {
                session_timeout_ms: 5_999,
                ..join("")
            },
            InvalidSessionTimeout,
        ),
        (
            "a long session",
            JoinGroup {
                session_timeout_ms: 1_800_001,
                ..join("")
            },
            InvalidSessionTimeout,
        ),
        ("an unknown id, no group", join("nobody"), UnknownMemberId),
        (
            "no protocols",
            JoinGroup {
                protocols: vec![],
                ..join("")
            },
            InconsistentGroupProtocol,
        ),
        (
            "no type",
            JoinGroup {
                protocol_type: String::new(),
                ..join("")
            },
            InconsistentGroupProtocol,
        ),
        (
            "a long client id",
            JoinGroup {
                client_id: long,
                ..join("")
            },
            InvalidRequest,
        ),
        ("an empty instance id", static_join("", ""), InvalidRequest),
        (
            "a long instance id",
            static_join("", &"x".repeat(250)),
            InvalidRequest,
        ),
        (
            "many protocols",
            JoinGroup {
                protocols: (0..101).map(|i| protocol(&i.to_string())).collect(),
                ..join("")
            },
            InvalidRequest,
        ),
    ];
    for (name, request, error) in cases {
        let mut shell = Shell::new(config());
        assert_eq!(refused(&mut shell, request), error, "{name}");
        assert_eq!(
            shell.coordinator.group_count(),
            0,
            "{name}: no group is left behind"
        );
        assert_eq!(shell.log(), [], "{name}");
    }
}

#[test]
fn joins_that_a_stable_group_does_not_take() {
    let cases: Vec<(&str, JoinGroup, GroupError)> = vec![
        ("an unknown id", join("nobody"), UnknownMemberId),
        (
            "an unknown id with an instance",
            static_join("nobody", "new"),
            UnknownMemberId,
        ),
        (
            "another id for the instance",
            static_join("nobody", "i"),
            FencedInstanceId,
        ),
        (
            "another type",
            JoinGroup {
                protocol_type: "connect".to_owned(),
                ..join("")
            },
            InconsistentGroupProtocol,
        ),
        (
            "no protocol in common",
            JoinGroup {
                protocols: vec![protocol("sticky")],
                ..join("")
            },
            InconsistentGroupProtocol,
        ),
    ];
    for (name, request, error) in cases {
        let mut shell = Shell::new(config());
        shell.one_static("i");
        assert_eq!(refused(&mut shell, request), error, "{name}");
        assert_eq!(shell.state(), Some(GroupState::Stable), "{name}");
    }
}

#[test]
fn a_new_member_is_told_its_id_first() {
    let mut shell = Shell::new(config());
    let refusal = shell.join(modern_join("")).unwrap_err();
    assert_eq!(refusal.error, MemberIdRequired);
    assert!(
        refusal.member_id.starts_with("client-"),
        "{}",
        refusal.member_id
    );
    // It cannot do anything else with the id yet.
    assert_eq!(shell.beat(&refusal.member_id, 0), Err(UnknownMemberId));
    assert_eq!(
        refused(&mut shell, static_join(&refusal.member_id, "i")),
        UnknownMemberId,
        "ids that wait are those of dynamic members"
    );
    let joined = shell.join(modern_join(&refusal.member_id)).unwrap();
    assert_eq!(
        (joined.member_id, joined.generation_id),
        (refusal.member_id, 1)
    );
}

#[test]
fn an_id_that_is_not_used_lapses_with_the_session_and_the_group_with_it() {
    let mut shell = Shell::new(config());
    let id = shell.join(modern_join("")).unwrap_err().member_id;
    shell.pass(9_999);
    assert_eq!(shell.coordinator.group_count(), 1);
    shell.pass(1);
    assert_eq!(shell.coordinator.group_count(), 0);
    assert_eq!(refused(&mut shell, modern_join(&id)), UnknownMemberId);

    let id = shell.join(modern_join("")).unwrap_err().member_id;
    assert_eq!(shell.leave_by_id(&id), None, "it may also be given back");
    assert_eq!(shell.coordinator.group_count(), 0);
}

#[test]
fn pending_members_and_groups_are_bounded() {
    let mut shell = Shell::new(GroupConfig {
        max_pending_members: 2,
        max_groups: 1,
        ..config()
    });
    assert_eq!(refused(&mut shell, modern_join("")), MemberIdRequired);
    assert_eq!(refused(&mut shell, modern_join("")), MemberIdRequired);
    assert_eq!(refused(&mut shell, modern_join("")), GroupMaxSizeReached);
    let elsewhere = JoinGroup {
        group_id: "h".to_owned(),
        ..join("")
    };
    assert_eq!(refused(&mut shell, elsewhere), PolicyViolation);
}

#[test]
fn a_full_group_takes_only_who_is_in_it() {
    let mut shell = Shell::new(GroupConfig {
        max_group_size: 2,
        ..config()
    });
    let (leader, follower) = shell.two_members();
    assert_eq!(refused(&mut shell, join("")), GroupMaxSizeReached);
    assert_eq!(shell.state(), Some(GroupState::Stable));
    assert_eq!(shell.join(join(&follower)).unwrap().generation_id, 2);
    let waiting = shell.send_join(join(&leader));
    assert_eq!(shell.state(), Some(GroupState::PreparingRebalance));
    // In a rebalance those who come first are in.
    let other = shell.send_join(join(""));
    assert!(!shell.has_reply(other));
    assert_eq!(refused(&mut shell, join(&follower)), GroupMaxSizeReached);
    assert_eq!(shell.join_reply(waiting).unwrap().members.len(), 2);
    assert!(shell.join_reply(other).is_ok());
}

#[test]
fn syncs_that_are_refused() {
    let stable = |change: fn(&mut SyncGroup)| {
        let mut shell = Shell::new(config());
        let member = shell.one_member();
        let joined = shell.join(JoinGroup {
            protocols: vec![protocol("range")],
            ..join(&member)
        });
        let mut request = sync(&joined.unwrap(), &[]);
        change(&mut request);
        shell.sync(request).unwrap_err()
    };
    assert_eq!(stable(|s| s.group_id.clear()), InvalidGroupId);
    assert_eq!(stable(|s| s.group_id.push('x')), UnknownMemberId);
    assert_eq!(stable(|s| s.member_id.push('x')), UnknownMemberId);
    assert_eq!(
        stable(|s| s.group_instance_id = Some("i".to_owned())),
        UnknownMemberId
    );
    assert_eq!(stable(|s| s.generation_id -= 1), IllegalGeneration);
    assert_eq!(stable(|s| s.generation_id += 1), IllegalGeneration);
    assert_eq!(
        stable(|s| s.protocol_type = Some("connect".to_owned())),
        InconsistentGroupProtocol
    );
    assert_eq!(
        stable(|s| s.protocol_name = Some("roundrobin".to_owned())),
        InconsistentGroupProtocol
    );
    let huge = vec![0; (1 << 20) + 1];
    let mut shell = Shell::new(config());
    let joined = shell.join(join("")).unwrap();
    let mut request = sync(&joined, &[]);
    request.assignments.push((joined.member_id, huge.into()));
    assert_eq!(shell.sync(request), Err(InvalidRequest));
}

#[test]
fn a_rebalance_is_announced_to_everyone() {
    let mut shell = Shell::new(config());
    let (leader, follower) = shell.two_members();
    let joining = shell.send_join(join(""));
    assert_eq!(shell.state(), Some(GroupState::PreparingRebalance));
    assert_eq!(shell.beat(&leader, 2), Err(RebalanceInProgress));
    assert_eq!(shell.beat(&follower, 1), Err(IllegalGeneration));
    assert_eq!(shell.beat("nobody", 2), Err(UnknownMemberId));
    let group = shell.coordinator.describe_group(GROUP).unwrap();
    assert_eq!((group.protocol.as_str(), group.members.len()), ("", 3));
    // Commits of the generation that ends are still taken.
    assert_eq!(shell.commit(&commit(&follower, 2, 5)), None);
    // Who does not come back and falls silent is out, and one who is there leads.
    shell.pass(9_000);
    let _ = (shell.beat(&leader, 2), shell.beat(&follower, 2));
    let back = shell.send_join(join(&follower));
    shell.pass(10_000);
    let joined = shell.join_reply(back).unwrap();
    let third = shell.join_reply(joining).unwrap();
    assert_eq!((joined.generation_id, &joined.leader), (3, &third.leader));
    assert_eq!(shell.beat(&leader, 2), Err(UnknownMemberId));
    // Between join and assignment nobody may commit, but heartbeats are fine.
    assert_eq!(
        shell.commit(&commit(&follower, 3, 6)),
        Some(RebalanceInProgress)
    );
    assert_eq!(shell.beat(&follower, 3), Ok(()));
    // A repeated join in that phase gets the same answer again.
    assert_eq!(shell.join(join(&follower)).unwrap().generation_id, 3);
}

#[test]
fn members_that_do_not_sync_are_out() {
    let mut shell = Shell::new(config());
    let (leader, follower) = shell.two_members();
    let waiting = shell.send_join(join(&leader));
    let second = shell.join(join(&follower)).unwrap();
    let first = shell.join_reply(waiting).unwrap();
    let synced = shell.send_sync(sync(&second, &[]));
    // The leader lives, but brings no assignment within the rebalance timeout.
    for _ in 0..8 {
        shell.pass(7_400);
        let _ = shell.beat(&leader, first.generation_id);
    }
    shell.pass(1_000);
    assert_eq!(shell.sync_reply(synced), Err(RebalanceInProgress));
    assert_eq!(
        shell.beat(&leader, first.generation_id),
        Err(UnknownMemberId)
    );
    assert_eq!(shell.state(), Some(GroupState::PreparingRebalance));
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut shell = Shell::new(config());
    let (leader, follower) = shell.two_members();
    shell.pass(6_000);
    assert_eq!(shell.beat(&leader, 2), Ok(()));
    shell.pass(4_000);
    assert_eq!(shell.beat(&follower, 2), Err(UnknownMemberId));
    assert_eq!(shell.beat(&leader, 2), Err(RebalanceInProgress));
    shell.pass(100_000);
    assert_eq!(shell.state(), Some(GroupState::Empty));
}

#[test]
fn a_new_member_that_is_never_answered_is_given_up() {
    let mut shell = Shell::new(config());
    shell.one_static("i");
    // The static member lives on its heartbeats and does not join again: the rebalance goes on
    // without it only for those who came; a second new member of a long rebalance waits.
    let long = JoinGroup {
        rebalance_timeout_ms: 1_000_000,
        ..join("")
    };
    let waiting = shell.send_join(JoinGroup {
        session_timeout_ms: 1_000_000,
        ..long
    });
    let group = shell.coordinator.describe_group(GROUP).unwrap();
    let instance = group
        .members
        .iter()
        .find(|m| m.group_instance_id.is_some())
        .unwrap();
    let id = instance.member_id.to_string();
    for _ in 0..100 {
        shell.pass(3_000);
        let _ = shell.beat(&id, 1);
    }
    assert_eq!(
        shell.join_reply(waiting).unwrap_err().error,
        UnknownMemberId
    );
}

#[test]
fn members_that_leave() {
    let mut shell = Shell::new(config());
    assert_eq!(shell.leave_by_id("nobody"), Some(UnknownMemberId));
    let request = LeaveGroup {
        group_id: String::new(),
        members: vec![],
    };
    let refused = shell.step(|c, now_ms, out| c.leave_group(now_ms, request, out));
    assert_eq!(refused, Err(InvalidGroupId));

    let id = shell.one_static("i");
    let left = shell.leave(vec![
        leaving("nobody", None),
        leaving("nobody", Some("i")),
        leaving("", Some("j")),
        leaving("", None),
        leaving("", Some("i")),
        leaving(&id, Some("i")),
    ]);
    let errors: Vec<_> = left
        .unwrap()
        .into_iter()
        .map(|member| member.error)
        .collect();
    let unknown = Some(UnknownMemberId);
    let fenced = Some(FencedInstanceId);
    assert_eq!(errors, [unknown, fenced, unknown, unknown, None, unknown]);
    shell.one_member();
    let waiting = shell.send_join(join(""));
    let group = shell.coordinator.describe_group(GROUP).unwrap();
    assert_eq!(
        group.rebalance_reason.as_deref(),
        Some("a new member joined")
    );
    let first = group.leader.unwrap();
    let gone = LeavingMember {
        reason: Some("x".repeat(300)),
        ..leaving(&first, None)
    };
    assert_eq!(shell.leave(vec![gone]).unwrap()[0].error, None);
    let alone = shell.join_reply(waiting).unwrap();
    shell.sync(sync(&alone, &[])).unwrap();
    let gone = LeavingMember {
        reason: Some("bye".to_owned()),
        ..leaving(&alone.member_id, None)
    };
    assert_eq!(shell.leave(vec![gone]).unwrap()[0].error, None);
    let group = shell.coordinator.describe_group(GROUP).unwrap();
    assert_eq!((group.state, group.generation_id), (GroupState::Empty, 5));
    assert_eq!(group.rebalance_reason.as_deref(), Some("members left: bye"));
}

#[test]
fn commits_that_are_refused() {
    let knows = |known| OffsetCommit {
        knows_member_epochs: known,
        ..commit("m", 3, 1)
    };
    let mut shell = Shell::new(config());
    assert_eq!(shell.commit(&knows(true)), Some(GroupIdNotFound));
    assert_eq!(shell.commit(&knows(false)), Some(IllegalGeneration));
    assert_eq!(shell.coordinator.group_count(), 0);

    let member = shell.one_member();
    let fenced = OffsetCommit {
        group_instance_id: Some("i".to_owned()),
        ..commit(&member, 1, 1)
    };
    let cases = [
        (commit("", -1, 1), UnknownMemberId),
        (commit("nobody", 1, 1), UnknownMemberId),
        (commit(&member, 2, 1), IllegalGeneration),
        (commit(&member, -1, 1), IllegalGeneration),
        (fenced, UnknownMemberId),
        (
            commit_to(&"t".repeat(40_000), &member, 1, 1),
            InvalidRequest,
        ),
    ];
    for (request, error) in cases {
        assert_eq!(shell.commit(&request), Some(error));
    }
    let mut large = commit(&member, 1, 1);
    large.topics[0].partitions[0].metadata = "m".repeat(4_097);
    assert_eq!(shell.commit(&large), Some(OffsetMetadataTooLarge));
    assert_eq!(shell.offset("topic", 0), -1);
}

#[test]
fn failed_writes_are_told_to_those_who_wait_for_them() {
    use PersistError::*;
    let table = [
        (
            Unavailable,
            CoordinatorNotAvailable,
            CoordinatorNotAvailable,
        ),
        (NotLeader, NotCoordinator, NotCoordinator),
        (TimedOut, RebalanceInProgress, CoordinatorNotAvailable),
        (TooLarge, UnknownServerError, InvalidCommitOffsetSize),
        (Failed, UnknownServerError, UnknownServerError),
    ];
    for (failure, sync_error, commit_error) in table {
        let mut shell = Shell::new(config());
        shell.auto_persist = false;
        let joined = shell.join(join("")).unwrap();
        let waiting = shell.send_sync(sync(&joined, &[(&joined.member_id, "x")]));
        assert!(!shell.has_reply(waiting));
        shell.persist(shell.only_write(), Err(failure));
        assert_eq!(shell.sync_reply(waiting), Err(sync_error));
        assert_eq!(shell.state(), Some(GroupState::PreparingRebalance));

        let mut shell = Shell::new(config());
        shell.auto_persist = false;
        let waiting = shell.send_commit(&commit("", -1, 1));
        shell.persist(shell.only_write(), Err(failure));
        assert_eq!(shell.commit_reply(waiting), Some(commit_error));
        assert_eq!(
            shell.coordinator.group_count(),
            0,
            "a group without anything is forgotten"
        );
    }
}

#[test]
fn deletions_that_are_refused() {
    let mut shell = Shell::new(config());
    assert_eq!(shell.delete_group(), Err(GroupIdNotFound));
    assert_eq!(shell.delete_offset("topic", 0), Err(GroupIdNotFound));
    let member = shell.one_member();
    assert_eq!(shell.delete_group(), Err(NonEmptyGroup));
    assert_eq!(shell.commit(&commit(&member, 1, 1)), None);
    assert_eq!(shell.commit(&commit_to("other", &member, 1, 1)), None);
    assert_eq!(
        shell.delete_offset("topic", 0),
        Ok(Some(GroupSubscribedToTopic))
    );
    assert_eq!(shell.delete_offset("other", 0), Ok(None));
    assert_eq!(shell.delete_offset("never", 0), Ok(None));
    assert_eq!(
        (shell.offset("topic", 0), shell.offset("other", 0)),
        (1, -1)
    );

    let mut shell = Shell::new(config());
    let connect = JoinGroup {
        protocol_type: "connect".to_owned(),
        ..join("")
    };
    shell.join(connect).unwrap();
    assert_eq!(shell.delete_offset("topic", 0), Err(NonEmptyGroup));
}

#[test]
fn before_loading_and_after_resigning() {
    for loading in [true, false] {
        let mut coordinator = GroupCoordinator::new(config());
        let mut out = Vec::new();
        if !loading {
            coordinator.resign(0, &mut out);
        }
        let error = if loading {
            CoordinatorLoadInProgress
        } else {
            NotCoordinator
        };
        let sync_error = if loading {
            RebalanceInProgress
        } else {
            NotCoordinator
        };
        let beat = coordinator.heartbeat(0, &heartbeat("m", 1));
        assert_eq!(beat, if loading { Ok(()) } else { Err(error) });
        assert_eq!(coordinator.list_groups(&[], &[]), Err(error));
        assert_eq!(coordinator.describe_group(GROUP), Err(error));
        assert_eq!(coordinator.fetch_offsets(GROUP, None), Err(error));
        assert_eq!(coordinator.next_deadline_ms(), None);
        coordinator.join_group(0, join(""), 1, &mut out);
        let joined = dlog_groups::Joined {
            member_id: "m".to_owned(),
            generation_id: 1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            members: vec![],
            skip_assignment: false,
        };
        coordinator.sync_group(0, sync(&joined, &[]), 2, &mut out);
        coordinator.commit_offsets(0, &commit("", -1, 1), 3, &mut out);
        coordinator.delete_group(0, GROUP, 4, &mut out);
        let errors: Vec<GroupError> = out
            .into_iter()
            .map(|effect| match effect {
                Effect::Reply {
                    reply: Reply::Join(Err(refused)),
                    ..
                } => refused.error,
                Effect::Reply {
                    reply: Reply::Sync(Err(error)),
                    ..
                }
                | Effect::Reply {
                    reply: Reply::DeleteGroup(Err(error)),
                    ..
                } => error,
                Effect::Reply {
                    reply: Reply::OffsetCommit(results),
                    ..
                } => results[0].partitions[0].1.unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(errors, [error, sync_error, error, error]);
    }
}
