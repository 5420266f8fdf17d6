//! Finding the broker that coordinates a group or a transactional id.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{AGAIN_AFTER, Client};
use crate::connection::Connection;
use crate::error::{ClientError, Result};

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

    /// Asks the coordinator of a group; again, at most for the client's patience, while it is another one by
    /// then or still loads.
    pub(crate) async fn ask_group<T>(
        &self,
        group: &str,
        ask: impl AsyncFn(Arc<Connection>) -> Result<T>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            let coordinator = self.coordinator(CoordinatorKind::Group, group).await?;
            match ask(coordinator).await {
                Err(error) if did_nothing(&error) && began.elapsed() < self.timeout() => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                answer => return answer,
            }
        }
    }
}

/// Whether a broker refused because it does not coordinate the group, or not yet.
fn did_nothing(error: &ClientError) -> bool {
    matches!(
        error.response_error(),
        Some(
            ResponseError::NotCoordinator
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::CoordinatorLoadInProgress
        )
    )
}
