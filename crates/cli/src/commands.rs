//! One module per command.

pub mod config;
pub mod log;
pub mod serve;
