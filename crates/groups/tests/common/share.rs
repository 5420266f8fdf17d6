//! Share groups in the shell.

use dlog_groups::{
    GroupError, Refused, Reply, ShareBeat, ShareDescription, ShareHeartbeat, ShareSettings,
    ShareStateChange, Token,
};

use super::{GROUP, Shell};

pub const SETTINGS: ShareSettings = ShareSettings {
    session_timeout_ms: 45_000,
    heartbeat_interval_ms: 5_000,
    assignment_interval_ms: 1_000,
};

/// The first heartbeat of a member that reads these topics.
pub fn share_join(member: &str, topics: &[&str]) -> ShareHeartbeat {
    ShareHeartbeat {
        group_id: GROUP.to_owned(),
        member_id: member.to_owned(),
        member_epoch: 0,
        rack_id: None,
        topic_names: Some(topics.iter().map(|&topic| topic.to_owned()).collect()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        settings: SETTINGS,
    }
}

/// A heartbeat that says nothing new.
pub fn share_plain(member: &str, epoch: i32) -> ShareHeartbeat {
    ShareHeartbeat {
        member_epoch: epoch,
        topic_names: None,
        ..share_join(member, &[])
    }
}

impl Shell {
    pub fn send_share_beat(&mut self, request: ShareHeartbeat) -> Token {
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.share_heartbeat(now_ms, request, token, out);
        });
        token
    }

    /// A heartbeat that is answered at once.
    pub fn share_beat(&mut self, request: ShareHeartbeat) -> Result<ShareBeat, Refused> {
        let token = self.send_share_beat(request);
        match self.take_reply(token) {
            Some(Reply::ShareHeartbeat(reply)) => reply,
            other => panic!("no answer to the heartbeat: {other:?}"),
        }
    }

    pub fn share_state(&mut self, change: &ShareStateChange) -> Result<i32, GroupError> {
        let token = self.token();
        self.step(|coordinator, now_ms, out| {
            coordinator.share_state(now_ms, GROUP, change, token, out);
        });
        match self.take_reply(token) {
            Some(Reply::ShareState(reply)) => reply,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// Sets up what a heartbeat asked for.
    pub fn set_up(&mut self, beat: &ShareBeat) {
        let parts = beat
            .to_initialize
            .parts
            .iter()
            .map(|(part, _)| *part)
            .collect();
        self.share_state(&ShareStateChange::Initialized(parts))
            .unwrap();
    }

    pub fn share_group(&self) -> Option<ShareDescription> {
        self.coordinator.describe_share_group(GROUP).ok()
    }
}
