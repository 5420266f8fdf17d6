//! Finding the broker that coordinates a group or a transactional id.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Client;
use crate::connection::Connection;
use crate::error::{ClientError, Result};

/// Between two questions while a coordinator is starting.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What a coordinator is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinatorKind {
    /// A consumer group.
    Group,
    /// A transactional id.
    Transaction,
}

impl Client {
    /// The address of the broker that coordinates `key`. Waits, at most the client's patience, while
    /// the coordinator is being made.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn coordinator_address(&self, kind: CoordinatorKind, key: &str) -> Result<String> {
        let key = StrBytes::from_string(key.to_owned());
        let request = FindCoordinatorRequest::default()
            .with_key_type(match kind {
                CoordinatorKind::Group => 0,
                CoordinatorKind::Transaction => 1,
            })
            .with_coordinator_keys(vec![key.clone()]);
        let began = Instant::now();
        loop {
            let answer = self.call(&request, 4).await?;
            let found = answer.coordinators.into_iter().find(|c| c.key == key);
            let found = found.ok_or_else(|| ClientError::Incomplete {
                what: format!("the coordinator of {key}"),
            })?;
            let what = || format!("the coordinator of {key}");
            match ClientError::check(found.error_code, what, found.error_message.as_deref()) {
                Ok(()) => return Ok(crate::cluster::address(&found.host, found.port)),
                Err(error) if error.is_retriable() && began.elapsed() < self.timeout() => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A new connection, of its own, to the broker that coordinates `key`.
    ///
    /// # Errors
    /// As [`Client::coordinator_address`], or when the connection cannot be made.
    pub async fn coordinator(&self, kind: CoordinatorKind, key: &str) -> Result<Arc<Connection>> {
        let address = self.coordinator_address(kind, key).await?;
        let connection = Connection::open(&address, self.client_id(), self.timeout()).await?;
        Ok(Arc::new(connection))
    }
}
