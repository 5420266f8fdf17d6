//! Levels of loggers that can be changed while the server runs, as Kafka's tools do it (KIP-412).
//!
//! Whoever sets up logging for the process implements [`Loggers`] and gives it to
//! [`crate::state::BrokerState::loggers`]; without that there are no loggers to see. Changes end with the
//! process, as in Kafka.

use std::fmt::Debug;

/// Name of the logger that all others are below.
pub const ROOT: &str = "root";

/// Kafka's names of levels, which a change may use.
pub const LEVELS: [&str; 7] = ["DEBUG", "ERROR", "FATAL", "INFO", "OFF", "TRACE", "WARN"];

/// The loggers of the process.
pub trait Loggers: Debug + Send + Sync {
    /// Name and level of each; the level is one of [`LEVELS`].
    fn levels(&self) -> Vec<(String, String)>;
    /// Gives a logger a level of its own, one of [`LEVELS`], or takes it away.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn set(&self, logger: &str, level: Option<&str>) -> Result<(), String>;
}
