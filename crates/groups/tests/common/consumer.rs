//! The new protocol in tests: topics, heartbeats, and what classic members send along.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dlog_groups::{
    Assignment, ConsumerBeat, ConsumerDescription, ConsumerHeartbeat, ConsumerSettings, Refused,
    Reply, Token, TopicCatalog, TopicInfo,
};
use uuid::Uuid;

use super::{GROUP, Shell};

/// Topics that tests create, grow and delete.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    version: u64,
    ids: u128,
    topics: BTreeMap<String, TopicInfo>,
}

impl Topics {
    pub fn of(topics: &[(&str, u32)]) -> Self {
        let mut made = Self::default();
        for (name, partitions) in topics {
            made.create(name, *partitions);
        }
        made
    }

    pub fn create(&mut self, name: &str, partitions: u32) {
        self.version += 1;
        self.ids += 1;
        let id = Uuid::from_u128(self.ids);
        self.topics
            .insert(name.to_owned(), TopicInfo { id, partitions });
    }

    pub fn grow(&mut self, name: &str, partitions: u32) {
        self.version += 1;
        self.topics.get_mut(name).unwrap().partitions = partitions;
    }

    pub fn delete(&mut self, name: &str) {
        self.version += 1;
        self.topics.remove(name);
    }

    pub fn id(&self, name: &str) -> Uuid {
        self.topics[name].id
    }

    pub fn names(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    pub fn info(&self, name: &str) -> Option<TopicInfo> {
        self.topics.get(name).copied()
    }

    /// All partitions of a topic.
    pub fn all(&self, name: &str) -> Assignment {
        let topic = self.topics[name];
        (0..topic.partitions as i32)
            .map(|partition| (topic.id, partition))
            .collect()
    }
}

impl TopicCatalog for Topics {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        let mut found = self.topics.iter().filter(|(_, topic)| topic.id == id);
        found.next().map(|(name, _)| name.as_str().into())
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.topics.keys().for_each(|name| visit(name));
    }
}

pub const SETTINGS: ConsumerSettings = ConsumerSettings {
    session_timeout_ms: 45_000,
    heartbeat_interval_ms: 5_000,
    assignment_interval_ms: 0,
};

/// The first heartbeat of a member that reads these topics.
pub fn join_beat(member: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        member_epoch: 0,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: 60_000,
        topic_names: Some(topics.iter().map(|&topic| topic.to_owned()).collect()),
        topic_regex: None,
        server_assignor: None,
        owned: Some(Assignment::new()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        requires_member_id: true,
        member_uuid: Uuid::nil(),
        settings: SETTINGS,
    }
}

/// A heartbeat that says nothing new.
pub fn plain_beat(member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        topic_names: None,
        owned: None,
        ..join_beat(member, &[])
    }
}

/// A heartbeat that says what the member has.
pub fn owning_beat(member: &str, epoch: i32, owned: &Assignment) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        owned: Some(owned.clone()),
        ..plain_beat(member, epoch)
    }
}

impl Shell {
    pub fn set_topics(&mut self, topics: &Topics) {
        let topics = Arc::new(topics.clone());
        self.step(|coordinator, _, _| coordinator.set_topics(topics));
    }

    pub fn send_beat(&mut self, request: &ConsumerHeartbeat) -> Token {
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.consumer_heartbeat(now_ms, request, token, out);
        });
        token
    }

    /// A heartbeat that is answered at once.
    pub fn consumer_beat(&mut self, request: &ConsumerHeartbeat) -> Result<ConsumerBeat, Refused> {
        let token = self.send_beat(request);
        match self.take_reply(token) {
            Some(Reply::ConsumerHeartbeat(reply)) => reply,
            other => panic!("no answer to the heartbeat: {other:?}"),
        }
    }

    pub fn consumer_group(&self) -> Option<ConsumerDescription> {
        self.coordinator.describe_consumer_group(GROUP).ok()
    }
}

/// `ConsumerProtocolSubscription`, version 1, with what the member has.
pub fn owning_subscription(topics: &[String], owned: &[(String, Vec<i32>)]) -> Bytes {
    let mut bytes = vec![0, 1];
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u16).to_be_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend((topics.len() as u32).to_be_bytes());
    topics.iter().for_each(|topic| text(&mut bytes, topic));
    bytes.extend([0xff; 4]);
    bytes.extend((owned.len() as u32).to_be_bytes());
    for (topic, partitions) in owned {
        text(&mut bytes, topic);
        bytes.extend((partitions.len() as u32).to_be_bytes());
        for partition in partitions {
            bytes.extend(partition.to_be_bytes());
        }
    }
    bytes.into()
}
