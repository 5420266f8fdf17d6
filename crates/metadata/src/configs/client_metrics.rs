//! The settings of a client metrics subscription (KIP-714).
//!
//! They are kept and shown for the tools. This server asks no client for metrics.

use super::ConfigKind::{Int, List};
use super::{Check, ConfigDef, ConfigError, ConfigKind, Update, split_list};
use crate::image::Configs;

const fn def(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default: Some(default),
        check: Check::Any,
        synonym: None,
        update: Update::ClientMetrics,
        doc,
    }
}

/// Most ms between two pushes.
const MAX_INTERVAL_MS: i32 = 3_600_000;
/// Fewest ms between two pushes.
const MIN_INTERVAL_MS: i32 = 100;

/// What a client can be chosen by.
const MATCHED: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// All settings of a subscription, by name.
pub static CLIENT_METRICS_CONFIGS: &[ConfigDef] = &[
    def(
        "interval.ms",
        Int,
        "300000",
        "Time between two pushes of a client, in ms; 100 to 3600000.",
    ),
    def(
        "match",
        List,
        "",
        "The clients that are meant: name=pattern, each of which must match.",
    ),
    def(
        "metrics",
        List,
        "",
        "Prefixes of the names of the metrics that are pushed; * for all.",
    ),
];

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static ConfigDef> {
    CLIENT_METRICS_CONFIGS.iter().find(|def| def.name == name)
}

/// Judges the settings of a subscription, as they would be after a change.
///
/// # Errors
/// [`ConfigError::ClientMetrics`] or [`ConfigError::ClientMatch`] with Kafka's sentence.
pub fn check(after: &Configs) -> Result<(), ConfigError> {
    if let Some(value) = after.get("interval.ms") {
        let interval = value.trim().parse::<i32>();
        if !interval.is_ok_and(|ms| (MIN_INTERVAL_MS..=MAX_INTERVAL_MS).contains(&ms)) {
            return Err(ConfigError::ClientMetrics(format!(
                "Invalid value {value} for interval.ms, interval must be between {MIN_INTERVAL_MS} and {MAX_INTERVAL_MS} (1 hour)"
            )));
        }
    }
    for pattern in after
        .get("match")
        .map(|list| split_list(list))
        .into_iter()
        .flatten()
    {
        let name = pattern.split_once('=').map(|(name, _)| name.trim());
        if !name.is_some_and(|name| MATCHED.contains(&name)) {
            return Err(ConfigError::ClientMatch(pattern.to_owned()));
        }
    }
    Ok(())
}
