//! Heartbeats of classic groups whose answer waits for a rebalance, as clients see them on the wire. They wait for
//! five minutes here: what is answered was answered by something else.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{Client, Server, start_with, text};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiVersionsRequest, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, MetadataRequest, SyncGroupRequest,
};

const REBALANCE_IN_PROGRESS: i16 = 27;
const JAVA: &str = "apache-kafka-java";

async fn server() -> Server {
    server_with("600000").await
}

async fn server_with(most_ms: &str) -> Server {
    start_with(|config| {
        for (name, value) in [
            ("group.initial.rebalance.delay.ms", "0"),
            ("dlog.group.heartbeat.max.wait.ms", most_ms),
        ] {
            config.defaults.insert(name.to_owned(), value.to_owned());
        }
    })
    .await
}

/// A client that says which software it is.
async fn client(server: &Server, software: &str) -> Client {
    let mut client = server.client().await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text(software))
        .with_client_software_version(text("1.0"));
    assert_eq!(client.call(3, &request).await.error_code, 0);
    client
}

fn join(group: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(1_800_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// A member, alone in the group that has its software's name.
async fn member(server: &Server, software: &str) -> (Client, JoinGroupResponse) {
    let mut client = client(server, software).await;
    let joined = enter(&mut client, software).await;
    (client, joined)
}

/// The client joins the group and gets its assignment.
async fn enter(client: &mut Client, group: &str) -> JoinGroupResponse {
    // Before version 4 nobody is sent away for an id.
    let joined = client.call(3, &join(group)).await;
    assert_eq!(joined.error_code, 0, "{joined:?}");
    let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    assert_eq!(client.call(3, &sync).await.error_code, 0);
    joined
}

fn heartbeat(group: &str, joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
}

/// Sends a heartbeat that waits, for sure.
async fn wait(client: &mut Client, group: &str, joined: &JoinGroupResponse) -> i32 {
    let first = client.send(4, &heartbeat(group, joined)).await;
    let second = client.send(4, &heartbeat(group, joined)).await;
    // That the first is answered shows that the second is there.
    assert_eq!(answer(client, first).await, 0);
    second
}

/// The answer to a heartbeat that was sent.
async fn answer(client: &mut Client, sent: i32) -> i16 {
    let answer: HeartbeatResponse = client.receive::<HeartbeatRequest>(4, sent).await;
    answer.error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_is_told_when_it_begins() {
    let server = server().await;
    for software in [
        JAVA,
        "librdkafka",
        "confluent-kafka-python",
        "rust-rdkafka",
        "dlog",
    ] {
        let (mut first, joined) = member(&server, software).await;
        let sent = wait(&mut first, software, &joined).await;
        let mut second = server.client().await;
        second.send(3, &join(software)).await;
        assert_eq!(answer(&mut first, sent).await, REBALANCE_IN_PROGRESS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_sends_next_does_not_wait() {
    let server = server().await;
    let (mut client, joined) = member(&server, JAVA).await;
    let first = client.send(4, &heartbeat(JAVA, &joined)).await;
    let other = client.send(12, &MetadataRequest::default()).await;
    assert_eq!(answer(&mut client, first).await, 0);
    client.receive::<MetadataRequest>(12, other).await;
    // Also a heartbeat, which waits in turn.
    wait(&mut client, JAVA, &joined).await;
}

/// The answer is about the moment of the heartbeat, not about what the member itself asked for later.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_was_well_before() {
    let server = server().await;
    let (mut client, joined) = member(&server, JAVA).await;
    let beat = client.send(4, &heartbeat(JAVA, &joined)).await;
    let leaving = MemberIdentity::default().with_member_id(joined.member_id.clone());
    let leave = LeaveGroupRequest::default()
        .with_group_id(GroupId(text(JAVA)))
        .with_members(vec![leaving]);
    let left = client.send(4, &leave).await;
    assert_eq!(answer(&mut client, beat).await, 0);
    let left = client.receive::<LeaveGroupRequest>(4, left).await;
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_ends() {
    let server = server_with("50").await;
    let (mut client, joined) = member(&server, JAVA).await;
    let answer = client.call(4, &heartbeat(JAVA, &joined)).await;
    assert_eq!(answer.error_code, 0);
}

/// As a Java client whose `request.timeout.ms` is over before.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_wait_has_to_do_so_once() {
    let server = server().await;
    let (mut client, joined) = member(&server, JAVA).await;
    wait(&mut client, JAVA, &joined).await;
    drop(client);
    server.until_connections_are(0).await;
    let mut again = self::client(&server, JAVA).await;
    for _ in 0..2 {
        let answer = again.call(4, &heartbeat(JAVA, &joined)).await;
        assert_eq!(answer.error_code, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_may_stand_still_are_answered_at_once() {
    let server = server().await;
    for software in ["kgo", "sarama", "someone"] {
        let (mut client, joined) = member(&server, software).await;
        let answer = client.call(4, &heartbeat(software, &joined)).await;
        assert_eq!(answer.error_code, 0, "{software}");
    }
    // Those that say nothing, too.
    let mut silent = server.client().await;
    let joined = enter(&mut silent, "silent").await;
    let answer = silent.call(4, &heartbeat("silent", &joined)).await;
    assert_eq!(answer.error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_takes_its_connection_along() {
    let server = server().await;
    let (mut client, joined) = member(&server, JAVA).await;
    wait(&mut client, JAVA, &joined).await;
    drop(client);
    server.until_connections_are(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_waits_for_no_heartbeat() {
    let server = server().await;
    let (mut client, joined) = member(&server, JAVA).await;
    let sent = wait(&mut client, JAVA, &joined).await;
    let stopping = tokio::time::timeout(common::PATIENCE, server.broker.shutdown());
    let (stopped, answered) = tokio::join!(stopping, answer(&mut client, sent));
    stopped.expect("the server to stop").unwrap();
    assert_eq!(answered, 0);
}
