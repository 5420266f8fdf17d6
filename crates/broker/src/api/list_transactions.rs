//! ListTransactions (key 66): transactional ids, for operators (KIP-664), with filters by state, producer
//! id, duration (KIP-994) and a pattern of the id (KIP-1152).

use std::collections::BTreeSet;

use dlog_transactions::{ListFilter, ListedTransaction, TransactionError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use regex::Regex;

use super::{Context, text};

/// Answers ListTransactions.
pub async fn handle(ctx: &Context, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let refuse = |code| ListTransactionsResponse::default().with_error_code(code);
    let pattern = match pattern(&request) {
        Ok(pattern) => pattern,
        Err(error) => {
            tracing::debug!(connection = ctx.connection.id, %error, "not a pattern");
            return refuse(ResponseError::InvalidRegularExpression.code());
        }
    };
    let states = request.state_filters.iter().map(ToString::to_string);
    let filter = ListFilter {
        states: states.collect(),
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        longer_than_ms: (ctx.version >= 1).then_some(request.duration_filter),
    };
    match list(ctx, &filter, pattern.as_ref()).await {
        Ok((unknown_states, mut found)) => {
            found.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
            ListTransactionsResponse::default()
                .with_unknown_state_filters(unknown_states.into_iter().map(text).collect())
                .with_transaction_states(found.iter().map(shown).collect())
        }
        Err(error) => refuse(error.code()),
    }
}

/// The pattern has to fit the whole id.
fn pattern(request: &ListTransactionsRequest) -> Result<Option<Regex>, regex::Error> {
    let given = request.transactional_id_pattern.as_deref();
    let given = given.filter(|pattern| !pattern.is_empty());
    let Some(given) = given else {
        return Ok(None);
    };
    // On its own first: brackets of ours must not make it whole.
    Regex::new(given)?;
    Regex::new(&format!("^(?:{given})$")).map(Some)
}

async fn list(
    ctx: &Context,
    filter: &ListFilter,
    pattern: Option<&Regex>,
) -> Result<(BTreeSet<String>, Vec<ListedTransaction>), TransactionError> {
    let (mut unknown_states, mut found) = (BTreeSet::new(), Vec::new());
    let now_ms = ctx.state.now_ms();
    for shard in ctx.state.transactions.all(&ctx.state).await? {
        let listing = shard.read(|machine| machine.list_transactions(now_ms, filter))?;
        unknown_states.extend(listing.unknown_states);
        let fits = |listed: &ListedTransaction| {
            pattern.is_none_or(|pattern| pattern.is_match(&listed.transactional_id))
        };
        found.extend(listing.transactions.into_iter().filter(fits));
    }
    Ok((unknown_states, found))
}

fn shown(listed: &ListedTransaction) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(TransactionalId(text(&*listed.transactional_id)))
        .with_producer_id(ProducerId(listed.producer_id))
        .with_transaction_state(StrBytes::from_static_str(listed.state.as_str()))
}
