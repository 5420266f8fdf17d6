//! What the coordinators of groups and of transactions have in common: how their records are
//! encoded, which partition a name belongs to, how a state machine and the shell around it speak
//! of requests and writes ([`StateMachine`]), when which name is to be looked at ([`Deadlines`]), and
//! how far a sweep over all names is.
//!
//! Nothing here decides anything. *Every length is checked before it is used; nothing reads a
//! clock or does I/O.*

mod deadlines;
mod error;
mod placement;
mod shell;
mod sweep;
mod wire;

pub use deadlines::Deadlines;
pub use error::{CodecError, PersistError};
pub use placement::partition_for_name;
pub use shell::{
    Action, LogEntry, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Phase, Producer, Record, StateMachine,
    Token, TransactionMarker, WriteId,
};
pub use sweep::{Sweep, behind};
pub use wire::{Reader, Writer};
