//! Time passes for all coordinators of a kind.

use std::sync::Arc;
use std::time::Duration;

use dlog_coordination::StateMachine;

use super::Kind;
use crate::state::BrokerState;

/// A coordinator is looked at this often even when it asks for nothing, in ms.
const LONGEST_SLEEP_MS: i64 = 600_000;

/// Ticks every coordinator at its deadlines until the server stops.
pub(super) async fn keep<K: Kind>(state: Arc<BrokerState>) {
    let coordinators = K::all_of(&state);
    loop {
        let Some(shards) = coordinators.shards.get() else {
            // The cell is filled right after this task was started.
            tokio::task::yield_now().await;
            continue;
        };
        let now_ms = state.now_ms();
        let mut next_ms = now_ms + LONGEST_SLEEP_MS;
        for shard in shards {
            // The first step carries out what loading asked for.
            if shard.is_due(now_ms) {
                shard.step(&state, |machine, now_ms, effects| {
                    machine.tick(now_ms, effects);
                });
            }
            let due_ms = shard.read(StateMachine::next_deadline_ms);
            next_ms = next_ms.min(due_ms.unwrap_or(i64::MAX));
        }
        let wait_ms = u64::try_from(next_ms - state.now_ms()).unwrap_or(0).max(1);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = coordinators.sooner.notified() => {}
            () = state.stopping.cancelled() => return,
        }
    }
}
