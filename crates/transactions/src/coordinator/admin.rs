//! ListTransactions, DescribeTransactions.

use crate::api::{ListFilter, ListedTransaction, Listing, TransactionDescription};
use crate::error::TransactionError;
use crate::metadata::TransactionState;
use crate::step::Entry;

use super::TransactionCoordinator;

impl TransactionCoordinator {
    /// ListTransactions. As with Kafka, names of states are compared as they are, and a filter of
    /// nothing but unknown states lets nothing through.
    pub fn list_transactions(
        &self,
        now_ms: i64,
        filter: &ListFilter,
    ) -> Result<Listing, TransactionError> {
        self.check_active()?;
        let named = |name: &str| {
            TransactionState::ALL
                .into_iter()
                .find(|s| s.as_str() == name)
        };
        let unknown_states = filter.states.iter().filter(|name| named(name).is_none());
        let passes = |entry: &Entry| {
            let now = &entry.now;
            let state = now.state.as_str();
            let long_enough = |least_ms| now_ms.saturating_sub(now.start_ms) > least_ms;
            (filter.states.is_empty() || filter.states.iter().any(|name| name == state))
                && (filter.producer_ids.is_empty()
                    || filter.producer_ids.contains(&now.producer.id))
                && filter
                    .longer_than_ms
                    .filter(|&least_ms| least_ms >= 0)
                    .is_none_or(long_enough)
        };
        let found = self.entries.iter().filter(|(_, entry)| passes(entry));
        Ok(Listing {
            unknown_states: unknown_states.cloned().collect(),
            transactions: found
                .map(|(id, entry)| ListedTransaction {
                    transactional_id: id.clone(),
                    producer_id: entry.now.producer.id,
                    state: entry.now.state,
                })
                .collect(),
        })
    }

    /// DescribeTransactions for one transactional id.
    pub fn describe_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<TransactionDescription, TransactionError> {
        self.check_request(transactional_id)?;
        let entry = self.entries.get(transactional_id);
        let now = &entry.ok_or(TransactionError::TransactionalIdNotFound)?.now;
        Ok(TransactionDescription {
            state: now.state,
            producer: now.producer,
            timeout_ms: now.timeout_ms,
            start_ms: now.start_ms,
            partitions: now.partitions.iter().cloned().collect(),
        })
    }
}
