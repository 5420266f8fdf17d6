//! The server's settings: one table ([`table`]) from which parsing, `serve --help` and
//! `config print` all come.
//!
//! A setting is given as a flag, else as a `DLOG_*` variable, else in the TOML file, else it has its
//! default ([`sources`]). [`resolve`] turns what was given into a [`ServerConfig`]; a name that does
//! not exist is an error that says where it stands and what may have been meant.

pub mod print;
pub mod resolve;
pub mod sources;
pub mod table;

use std::net::SocketAddr;
use std::path::PathBuf;

use dlog_broker::BrokerConfig;

/// Everything that `dlog serve` needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Settings of the Kafka server.
    pub broker: BrokerConfig,
    /// Address of the HTTP port; `None` when it is off.
    pub http: Option<SocketAddr>,
    /// File that gets the process id.
    pub pid_file: Option<PathBuf>,
    /// What is logged: a level, or `tracing` directives.
    pub log_level: String,
    /// How logs look.
    pub log_format: LogFormat,
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            broker: BrokerConfig::default(),
            http: Some(SocketAddr::from(([127, 0, 0, 1], 9644))),
            pid_file: None,
            log_level: "info".to_owned(),
            log_format: LogFormat::Auto,
        }
    }
}

/// What is wrong with the settings, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There is no such setting.
    #[error("{origin}: unknown setting {name}{hint}")]
    Unknown {
        /// Where it was given.
        origin: sources::Origin,
        /// As it was given.
        name: String,
        /// What may have been meant; empty when nothing is close.
        hint: String,
    },
    /// The value is not allowed.
    #[error("{origin}: {name} = {value}: {reason}")]
    Invalid {
        /// Where it was given.
        origin: sources::Origin,
        /// The setting.
        name: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no place for the data by default.
    #[error("this user has no data folder: set data.dir (--data-dir, DLOG_DATA_DIR)")]
    NoDataFolder,
}
