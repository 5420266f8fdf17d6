//! The versions that Kafka serves and `kafka-protocol` cannot say: bodies are written and read here by
//! hand, from the schemas of Kafka 4.4.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DescribeLogDirsRequest, GroupId, ListOffsetsRequest,
    OffsetFetchRequest, list_offsets_request,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use common::{Client, batch, start, topic_name};

/// Flexible fields, one after the other.
#[derive(Default)]
struct Body(BytesMut);

impl Body {
    /// An unsigned variable-length integer below 2^14.
    fn varint(mut self, value: usize) -> Self {
        assert!(value < 1 << 14);
        if value >= 0x80 {
            self.0.put_u8((value & 0x7f) as u8 | 0x80);
            self.0.put_u8((value >> 7) as u8);
        } else {
            self.0.put_u8(value as u8);
        }
        self
    }

    fn array(self, len: usize) -> Self {
        self.varint(len + 1)
    }

    fn null(self) -> Self {
        self.varint(0)
    }

    fn text(self, text: &str) -> Self {
        let mut body = self.varint(text.len() + 1);
        body.0.put_slice(text.as_bytes());
        body
    }

    fn int(mut self, value: i32) -> Self {
        self.0.put_i32(value);
        self
    }

    fn long(mut self, value: i64) -> Self {
        self.0.put_i64(value);
        self
    }

    fn id(mut self, id: Uuid) -> Self {
        self.0.put_slice(id.as_bytes());
        self
    }

    fn byte(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }

    /// No tagged fields.
    fn end(self) -> Self {
        self.byte(0)
    }
}

fn text_of(bytes: &mut Bytes) -> Option<String> {
    let len = usize::from(bytes.get_u8()).checked_sub(1)?;
    Some(String::from_utf8(bytes.split_to(len).to_vec()).unwrap())
}

fn id_of(bytes: &mut Bytes) -> Uuid {
    Uuid::from_u128(bytes.get_u128())
}

/// OffsetCommit 10 of a simple consumer: offset 7 of partition 0, for each topic.
fn commit(ids: &[Uuid], partition: i32) -> Body {
    let head = Body::default()
        .text("g")
        .int(-1)
        .text("")
        .null()
        .array(ids.len());
    let body = ids.iter().fold(head, |body, id| {
        let body = body.id(*id).array(1).int(partition).long(7).int(-1);
        body.text("note").end().end()
    });
    body.end()
}

/// Topic ids with their partitions and error codes.
async fn committed(client: &mut Client, body: Body) -> Vec<(Uuid, i32, i16)> {
    let mut bytes = client.call_raw(ApiKey::OffsetCommit, 10, 1, &body.0).await;
    assert_eq!(bytes.get_i32(), 0, "throttle time");
    let mut found = Vec::new();
    for _ in 1..bytes.get_u8() {
        let id = id_of(&mut bytes);
        assert_eq!(bytes.get_u8(), 2, "one partition");
        found.push((id, bytes.get_i32(), bytes.get_i16()));
        assert_eq!((bytes.get_u8(), bytes.get_u8()), (0, 0));
    }
    assert_eq!(&bytes[..], [0]);
    found
}

/// Topic ids with partition, offset, metadata and error code.
async fn fetched(
    client: &mut Client,
    topics: Option<&[Uuid]>,
) -> Vec<(Uuid, i32, i64, Option<String>, i16)> {
    let head = Body::default().array(1).text("g").null().int(-1);
    let body = match topics {
        None => head.null(),
        Some(ids) => ids.iter().fold(head.array(ids.len()), |body, id| {
            body.id(*id).array(1).int(0).end()
        }),
    };
    let body = body.end().byte(0).end();
    let mut bytes = client.call_raw(ApiKey::OffsetFetch, 10, 1, &body.0).await;
    assert_eq!((bytes.get_i32(), bytes.get_u8()), (0, 2), "one group");
    assert_eq!(text_of(&mut bytes).as_deref(), Some("g"));
    let mut found = Vec::new();
    for _ in 1..bytes.get_u8() {
        let id = id_of(&mut bytes);
        assert_eq!(bytes.get_u8(), 2, "one partition");
        let (partition, offset, epoch) = (bytes.get_i32(), bytes.get_i64(), bytes.get_i32());
        assert_eq!(epoch, -1);
        let metadata = text_of(&mut bytes);
        found.push((id, partition, offset, metadata, bytes.get_i16()));
        assert_eq!((bytes.get_u8(), bytes.get_u8()), (0, 0));
    }
    assert_eq!(&bytes[..], [0, 0, 0, 0], "no error, no tagged fields");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_and_fetched_by_topic_id() {
    let server = start().await;
    let mut client = server.client().await;
    let (a, b, unknown) = (
        client.topic("a").await,
        client.topic("b").await,
        Uuid::from_u128(9),
    );
    assert_eq!(
        committed(&mut client, commit(&[a, unknown, b], 0)).await,
        [(a, 0, 0), (unknown, 0, 100), (b, 0, 0)]
    );
    assert_eq!(
        committed(&mut client, commit(&[a], 5)).await,
        [(a, 5, 3)],
        "a partition that does not exist"
    );
    let note = || Some("note".to_owned());
    assert_eq!(
        fetched(&mut client, Some(&[b, unknown, Uuid::nil(), a])).await,
        [
            (b, 0, 7, note(), 0),
            (unknown, 0, -1, Some(String::new()), 100),
            (Uuid::nil(), 0, -1, Some(String::new()), 100),
            (a, 0, 7, note(), 0)
        ]
    );
    let mut all = fetched(&mut client, None).await;
    all.sort();
    let mut wanted = [(a, 0, 7, note(), 0), (b, 0, 7, note(), 0)];
    wanted.sort();
    assert_eq!(all, wanted);
    // The same offset by name.
    let group = kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_topics(None);
    let by_name = OffsetFetchRequest::default().with_groups(vec![group]);
    let answer = client.call(9, &by_name).await;
    assert_eq!(answer.groups[0].topics.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_anew_has_not_the_old_offsets_id() {
    let server = start().await;
    let mut client = server.client().await;
    let old = client.topic("a").await;
    committed(&mut client, commit(&[old], 0)).await;
    server.broker.state().delete_topic(old).unwrap();
    assert_eq!(
        fetched(&mut client, Some(&[old])).await,
        [(old, 0, -1, Some(String::new()), 100)]
    );
    assert_eq!(
        committed(&mut client, commit(&[old], 0)).await,
        [(old, 0, 100)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_fit_close_the_connection() {
    let server = start().await;
    let whole = commit(&[Uuid::from_u128(1)], 0).0;
    for cut in 0..whole.len() {
        let mut client = server.client().await;
        let mut frame = BytesMut::new();
        frame.put_u32(cut as u32 + 15);
        frame.put_slice(&[0, 8, 0, 10, 0, 0, 0, 1, 0, 4]);
        frame.put_slice(b"test\0");
        frame.put_slice(&whole[..cut]);
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, &frame)
            .await
            .unwrap();
        assert!(client.is_closed_by_server().await, "cut at {cut}");
    }
}

/// Error code, and whether the table of versions was in the answer.
async fn introduced(client: &mut Client, cluster: Option<&str>, node: i32) -> (i16, bool) {
    let body = Body::default().text("test").text("1");
    let body = match cluster {
        Some(cluster) => body.text(cluster),
        None => body.null(),
    };
    let body = body.int(node).end();
    let mut bytes = client.call_raw(ApiKey::ApiVersions, 5, 0, &body.0).await;
    (bytes.get_i16(), bytes.get_u8() > 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_another_cluster_or_node_is_told_to_begin_again() {
    let server = start().await;
    let mut client = server.client().await;
    let here = server.broker.state().identity.cluster_id.clone();
    for (cluster, node, wanted) in [
        (None, -1, (0, true)),
        (Some(&*here), 1, (0, true)),
        (Some(&*here), 2, (129, false)),
        (Some("elsewhere"), 1, (129, false)),
        (Some(&*here), -1, (42, false)),
        (None, 1, (42, false)),
    ] {
        assert_eq!(
            introduced(&mut client, cluster, node).await,
            wanted,
            "{cluster:?} {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn list_offsets_11_knows_what_waits_for_upload() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for (timestamp, wanted) in [(-1, (0, 2)), (-6, (0, -1)), (-7, (35, -1))] {
        let partition = list_offsets_request::ListOffsetsPartition::default()
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        let mut body = BytesMut::new();
        // Version 11 has the layout of version 10.
        request.encode(&mut body, 10).unwrap();
        let mut bytes = client.call_raw(ApiKey::ListOffsets, 11, 1, &body).await;
        bytes.advance(4 + 1);
        assert_eq!(text_of(&mut bytes).as_deref(), Some("t"));
        bytes.advance(1 + 4);
        let error = bytes.get_i16();
        bytes.advance(8);
        assert_eq!((error, bytes.get_i64()), wanted, "timestamp {timestamp}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_dirs_5_say_that_nothing_is_cordoned() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let before = client.call(4, &request).await;
    let mut body = BytesMut::new();
    request.encode(&mut body, 4).unwrap();
    let bytes = client.call_raw(ApiKey::DescribeLogDirs, 5, 1, &body).await;
    // Version 4 with one more byte, false, behind the fields of the folder.
    let mut wanted = BytesMut::new();
    before.encode(&mut wanted, 4).unwrap();
    let free = |bytes: &[u8]| bytes[..bytes.len() - 8].to_vec();
    let (folder_end, tail) = (wanted.len() - 2, [0, 0, 0]);
    assert_eq!(bytes[bytes.len() - 3..], tail);
    assert_eq!(
        free(&bytes[..bytes.len() - 3]),
        free(&wanted[..folder_end]),
        "but for the free bytes, which change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_groups_3_has_a_place_for_a_message() {
    let server = start().await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    committed(&mut client, commit(&[id], 0)).await;
    let name = |name| GroupId(StrBytes::from_static_str(name));
    let request =
        DeleteGroupsRequest::default().with_groups_names(vec![name("none"), name("g"), name("g")]);
    let mut body = BytesMut::new();
    request.encode(&mut body, 2).unwrap();
    let mut bytes = client.call_raw(ApiKey::DeleteGroups, 3, 1, &body).await;
    assert_eq!(bytes.get_i32(), 0);
    let mut found = Vec::new();
    for _ in 1..bytes.get_u8() {
        found.push((text_of(&mut bytes).unwrap(), bytes.get_i16()));
        assert_eq!(text_of(&mut bytes), None);
        assert_eq!(bytes.get_u8(), 0);
    }
    assert_eq!(&bytes[..], [0]);
    assert_eq!(found, [("none".to_owned(), 69), ("g".to_owned(), 0)]);
}
