//! Structured logs on standard error: text for people, JSON for machines. Levels can be changed while the
//! server runs.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use dlog_broker::loggers::{self, ROOT};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, ServerConfig};

/// The loggers that tools see: the parts of the program.
const PARTS: &[&str] = &[
    "dlog",
    "dlog_broker",
    "dlog_console",
    "dlog_groups",
    "dlog_metadata",
    "dlog_storage",
    "dlog_transactions",
];

/// Starts logging for the process; returns what changes its levels.
///
/// # Errors
/// When the level cannot be parsed, or something logs already.
pub fn start(config: &ServerConfig) -> anyhow::Result<Arc<Loggers>> {
    let filter = EnvFilter::builder().parse(&config.log_level)?;
    let is_terminal = std::io::stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let (started, reload): (_, Box<Reload>) = if json {
        let builder = builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter_reloading();
        let handle = builder.reload_handle();
        let reload = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        (builder.try_init(), Box::new(reload))
    } else {
        let builder = builder.with_ansi(is_terminal).with_filter_reloading();
        let handle = builder.reload_handle();
        let reload = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        (builder.try_init(), Box::new(reload))
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))?;
    Ok(Arc::new(Loggers {
        base: config.log_level.clone(),
        changed: Mutex::default(),
        reload,
    }))
}

type Reload = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// The levels of the process: those of its start, and what was changed since.
pub struct Loggers {
    base: String,
    changed: Mutex<BTreeMap<String, String>>,
    reload: Box<Reload>,
}

impl std::fmt::Debug for Loggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = &self.base;
        f.debug_struct("Loggers")
            .field("base", base)
            .finish_non_exhaustive()
    }
}

impl loggers::Loggers for Loggers {
    fn levels(&self) -> Vec<(String, String)> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let root = level_of(&self.base, &changed, ROOT).unwrap_or_else(|| "ERROR".to_owned());
        let parts = PARTS.iter().map(|part| {
            let own = level_of(&self.base, &changed, part);
            ((*part).to_owned(), own.unwrap_or_else(|| root.clone()))
        });
        let mut levels: Vec<_> = parts.collect();
        levels.push((ROOT.to_owned(), root.clone()));
        levels
    }

    fn set(&self, logger: &str, level: Option<&str>) -> Result<(), String> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = changed.clone();
        match level {
            Some(level) => next.insert(logger.to_owned(), level.to_owned()),
            None => next.remove(logger),
        };
        let filter = EnvFilter::builder()
            .parse(directives(&self.base, &next))
            .map_err(|error| error.to_string())?;
        (self.reload)(filter)?;
        *changed = next;
        Ok(())
    }
}

/// The directives that hold: later ones for the same target win.
fn directives(base: &str, changed: &BTreeMap<String, String>) -> String {
    let mut all = base.to_owned();
    for (logger, level) in changed {
        // Kafka's word for more than an error.
        let level = if level == "FATAL" { "ERROR" } else { level };
        if logger == ROOT {
            all = format!("{all},{level}");
        } else {
            all = format!("{all},{logger}={level}");
        }
    }
    all
}

/// The level that a logger was given itself.
fn level_of(base: &str, changed: &BTreeMap<String, String>, logger: &str) -> Option<String> {
    if let Some(level) = changed.get(logger) {
        return Some(level.clone());
    }
    let of = |directive: &str| match directive.trim().split_once('=') {
        Some((target, level)) if target == logger => Some(level.to_ascii_uppercase()),
        None if logger == ROOT => Some(directive.trim().to_ascii_uppercase()),
        _ => None,
    };
    base.split(',').filter_map(of).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_start_until_they_are_changed() {
        let base = "info,dlog_storage=debug";
        let mut changed = BTreeMap::new();
        let level = |changed: &_, logger| level_of(base, changed, logger);
        assert_eq!(level(&changed, ROOT).as_deref(), Some("INFO"));
        assert_eq!(level(&changed, "dlog_storage").as_deref(), Some("DEBUG"));
        assert_eq!(level(&changed, "dlog_broker"), None);
        changed.insert("dlog_storage".to_owned(), "FATAL".to_owned());
        changed.insert(ROOT.to_owned(), "WARN".to_owned());
        assert_eq!(level(&changed, "dlog_storage").as_deref(), Some("FATAL"));
        let all = directives(base, &changed);
        assert_eq!(all, "info,dlog_storage=debug,dlog_storage=ERROR,WARN");
        EnvFilter::builder().parse(all).expect("tracing reads it");
    }
}
