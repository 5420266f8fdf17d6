//! One module per command.

pub mod bench;
pub mod config;
pub mod consume;
pub mod group;
pub mod log;
pub mod produce;
pub mod remote;
pub mod serve;
pub mod topic;
pub mod transaction;
