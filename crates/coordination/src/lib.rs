//! What the coordinators of groups and of transactions have in common: how their records are
//! encoded, which partition a name belongs to, and how a state machine and the shell around it
//! speak of requests and writes.
//!
//! Nothing here decides anything. *Every length is checked before it is used; nothing reads a
//! clock or does I/O.*

mod error;
mod placement;
mod shell;
mod wire;

pub use error::{CodecError, PersistError};
pub use placement::partition_for_name;
pub use shell::{Record, Token, WriteId};
pub use wire::{Reader, Writer};
