//! A rebalance with two members, step by step: read this first.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use bytes::Bytes;
use dlog_groups::{
    Effect, GroupConfig, GroupCoordinator, GroupError, GroupState, Heartbeat, JoinGroup, Protocol,
    Reply, SyncGroup,
};
use uuid::Uuid;

fn join(member_id: &str, member_uuid: Uuid) -> JoinGroup {
    JoinGroup {
        group_id: "orders".to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        client_id: "billing".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::new(),
        }],
        reason: None,
        require_known_member_id: true,
        supports_skipping_assignment: true,
        member_uuid,
    }
}

fn sync(member_id: &str, assignments: Vec<(String, Bytes)>) -> SyncGroup {
    SyncGroup {
        group_id: "orders".to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        generation_id: 1,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments,
    }
}

#[test]
fn two_members_share_a_group() {
    let mut effects = Vec::new();
    let mut coordinator = GroupCoordinator::new(GroupConfig::default());
    // An empty log: there is nothing to apply.
    coordinator.finish_loading(0, &mut effects);

    // Both ask to join. A new member is told its id first, and comes back with it.
    let (a, b) = (
        "billing-".to_owned() + UUID_A,
        "billing-".to_owned() + UUID_B,
    );
    for (token, uuid, id) in [(1, UUID_A, &a), (2, UUID_B, &b)] {
        let uuid = Uuid::parse_str(uuid).unwrap();
        coordinator.join_group(0, join("", uuid), token, &mut effects);
        let Some(Effect::Reply {
            token: answered,
            reply: Reply::Join(Err(refused)),
        }) = effects.pop()
        else {
            panic!("a join without a member id is refused");
        };
        assert_eq!(answered, token);
        assert_eq!(
            (refused.error, &refused.member_id),
            (GroupError::MemberIdRequired, id)
        );
    }
    coordinator.join_group(10, join(&a, Uuid::nil()), 3, &mut effects);
    coordinator.join_group(20, join(&b, Uuid::nil()), 4, &mut effects);

    // The group was empty, so it waits a while for more members (group.initial.rebalance.delay.ms),
    // and once more because one came. Nobody is answered yet.
    assert_eq!(effects, []);
    assert_eq!(coordinator.next_deadline_ms(), Some(3_010));
    coordinator.tick(3_010, &mut effects);
    assert_eq!(effects, []);
    assert_eq!(coordinator.next_deadline_ms(), Some(6_010));

    // Then generation 1 begins. The leader, who came first, sees everyone; the other only the
    // leader's name.
    coordinator.tick(6_010, &mut effects);
    let joined = std::mem::take(&mut effects)
        .into_iter()
        .map(|effect| match effect {
            Effect::Reply {
                token,
                reply: Reply::Join(Ok(joined)),
            } => (token, joined),
            other => panic!("only the joins are answered, not {other:?}"),
        });
    let joined: Vec<_> = joined.collect();
    assert_eq!(
        joined.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
        [3, 4]
    );
    for (_, joined) in &joined {
        assert_eq!(
            (joined.generation_id, joined.leader.as_str()),
            (1, a.as_str())
        );
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    }
    assert_eq!(joined[0].1.members.len(), 2);
    assert_eq!(joined[1].1.members.len(), 0);

    // The follower asks for its assignment and has to wait for the leader, who brings both. They
    // are written to the log before anyone sees them.
    coordinator.sync_group(6_020, sync(&b, Vec::new()), 5, &mut effects);
    assert_eq!(effects, []);
    let assignments = vec![(a.clone(), Bytes::from("0-2")), (b, Bytes::from("3-5"))];
    coordinator.sync_group(6_030, sync(&a, assignments), 6, &mut effects);
    let Some(Effect::Persist { write, records }) = effects.pop() else {
        panic!("the assignments are written");
    };
    assert_eq!((effects.len(), records.len()), (0, 1));
    let state = coordinator.describe_group("orders").unwrap().state;
    assert_eq!(state, GroupState::CompletingRebalance);

    coordinator.persisted(6_040, write, Ok(()), &mut effects);
    for (effect, (token, assignment)) in effects.iter().zip([(6, "0-2"), (5, "3-5")]) {
        match effect {
            Effect::Reply {
                token: answered,
                reply: Reply::Sync(Ok(synced)),
            } => {
                assert_eq!(
                    (*answered, &synced.assignment[..]),
                    (token, assignment.as_bytes())
                );
            }
            other => panic!("only the syncs are answered, not {other:?}"),
        }
    }
    assert_eq!(effects.len(), 2);
    assert_eq!(
        coordinator.describe_group("orders").unwrap().state,
        GroupState::Stable
    );

    // From here on they send heartbeats. Who stops is out after its session timeout, and the
    // others are told to join again.
    let beat = Heartbeat {
        group_id: "orders".to_owned(),
        member_id: a,
        group_instance_id: None,
        generation_id: 1,
    };
    assert_eq!(coordinator.heartbeat(40_000, &beat), Ok(()));
    coordinator.tick(6_040 + 45_000, &mut effects);
    assert_eq!(
        coordinator.heartbeat(52_000, &beat),
        Err(GroupError::RebalanceInProgress)
    );
    let group = coordinator.describe_group("orders").unwrap();
    assert_eq!(group.members.len(), 1);
    assert_eq!(group.rebalance_reason.as_deref(), Some("sessions expired"));
}

const UUID_A: &str = "0a0a0a0a-0000-4000-8000-000000000001";
const UUID_B: &str = "0b0b0b0b-0000-4000-8000-000000000002";
