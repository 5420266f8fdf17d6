//! From what was given to a [`ServerConfig`]: names are checked, values parsed, the strongest wins.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use dlog_broker::ListenerConfig;
use dlog_metadata::configs::split_list;

use super::sources::{Given, Origin};
use super::table::{self, Apply, SETTINGS, Setting};
use super::{ConfigError, LogFormat, ServerConfig};

/// A [`ServerConfig`] in the making: what belongs together is joined at the end.
#[derive(Debug, Default)]
pub struct Draft {
    /// What is already final.
    pub server: ServerConfig,
    /// The data folder, when one was given.
    pub data_dir: Option<PathBuf>,
    /// Listeners, when some were given.
    pub listeners: Vec<ListenerConfig>,
    /// Name, host and port that clients are told.
    pub advertised: Vec<(String, String, u16)>,
}

/// The settings with the place each value comes from.
#[derive(Debug)]
pub struct Resolved {
    /// What the server runs with.
    pub server: ServerConfig,
    /// What was given, by name of the setting; everything else has its default.
    pub given: BTreeMap<&'static str, Given>,
}

/// Kafka's names for what has another name or no meaning here.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("log.dir", "the name here is data.dir"),
    ("log.dirs", "the name here is data.dir"),
    ("listeners", "the name here is kafka"),
    ("broker.id", "the name here is node.id"),
    ("log.retention.hours", "the name here is log.retention.ms"),
    ("log.retention.minutes", "the name here is log.retention.ms"),
    ("log.roll.hours", "the name here is log.roll.ms"),
    (
        "offsets.topic.replication.factor",
        "there is one node here, so one replica",
    ),
    ("num.io.threads", "the number of cores decides here"),
    ("num.network.threads", "the number of cores decides here"),
    ("background.threads", "the number of cores decides here"),
    ("process.roles", "this process always has both roles"),
    ("zookeeper.connect", "there is no ZooKeeper here"),
];

/// Checks and joins what was given; a later one wins over an earlier one of the same name.
///
/// # Errors
/// The first name that does not exist or value that is not allowed.
pub fn resolve(all: Vec<Given>) -> Result<Resolved, ConfigError> {
    let mut given = BTreeMap::new();
    for one in all {
        let Some(setting) = table::find(&one.name) else {
            let hint = hint_for(&one.name);
            return Err(ConfigError::Unknown {
                origin: one.origin,
                name: one.name,
                hint,
            });
        };
        given.insert(setting.name, one);
    }
    let mut draft = Draft::default();
    for setting in SETTINGS.iter() {
        let Some(one) = given.get(setting.name) else {
            continue;
        };
        apply(&mut draft, setting, one.value.trim()).map_err(|reason| ConfigError::Invalid {
            origin: one.origin.clone(),
            name: setting.name,
            value: one.value.clone(),
            reason,
        })?;
    }
    let server = finish(draft, &given)?;
    Ok(Resolved { server, given })
}

fn apply(draft: &mut Draft, setting: &Setting, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("must not be empty".to_owned());
    }
    match setting.apply {
        Apply::ByName(def) => {
            def.validate(value).map_err(|error| match error {
                dlog_metadata::configs::ConfigError::Invalid { reason, .. } => reason,
                other => other.to_string(),
            })?;
            draft
                .server
                .broker
                .defaults
                .insert(def.name.to_owned(), value.to_owned());
            Ok(())
        }
        Apply::Own(apply) => {
            apply(draft, value)?;
            // Kafka's tools show it as set; a value that Kafka would not allow they cannot show.
            if let Some(def) = dlog_metadata::configs::broker::find(setting.name)
                && def.validate(value).is_ok()
            {
                draft
                    .server
                    .broker
                    .defaults
                    .insert(def.name.to_owned(), value.to_owned());
            }
            Ok(())
        }
    }
}

fn finish(
    draft: Draft,
    given: &BTreeMap<&'static str, Given>,
) -> Result<ServerConfig, ConfigError> {
    let Draft {
        mut server,
        data_dir,
        listeners,
        advertised,
    } = draft;
    server.broker.data_dir = data_dir
        .or_else(default_data_dir)
        .ok_or(ConfigError::NoDataFolder)?;
    if !listeners.is_empty() {
        server.broker.listeners = listeners;
    }
    for (name, host, port) in advertised {
        let listener = server
            .broker
            .listeners
            .iter_mut()
            .find(|listener| listener.name == name);
        let Some(listener) = listener else {
            let one = given.get("advertised.listeners");
            return Err(ConfigError::Invalid {
                origin: one.map_or(Origin::Default, |one| one.origin.clone()),
                name: "advertised.listeners",
                value: one.map(|one| one.value.clone()).unwrap_or_default(),
                reason: format!("kafka has no listener named {name}"),
            });
        };
        (listener.advertised_host, listener.advertised_port) = (Some(host), Some(port));
    }
    Ok(server)
}

/// The data folder when none is given: under the user's data directory.
pub fn default_data_dir() -> Option<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "dlog")?;
    Some(folders.data_dir().to_owned())
}

/// What may have been meant by a name, as the end of a sentence; empty when nothing is close.
pub fn hint_for(name: &str) -> String {
    let wanted = name.replace(['-', '_'], ".").to_ascii_lowercase();
    if let Some((_, hint)) = OTHER_NAMES.iter().find(|(other, _)| *other == wanted) {
        return format!("; {hint}");
    }
    let names = SETTINGS.iter().map(|setting| setting.name);
    closest(&wanted, names).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// The same for an environment variable.
pub fn hint_for_variable(variable: &str) -> String {
    let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    let found = closest(variable, names.iter().map(String::as_str));
    found.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|name| (strsim::jaro_winkler(wanted, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.85).then_some(best.1)
}

/// A type of a setting, which says what a value must look like.
pub trait Expected: FromStr {
    /// The end of a sentence that begins with "must be".
    fn expected() -> String;
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Expected for $number {
            fn expected() -> String {
                format!("a whole number from {} to {}", Self::MIN, Self::MAX)
            }
        }
    )*};
}

whole_numbers!(i32, i64, u16, u32, u64);

impl Expected for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }
}

/// Parses a value into a field.
///
/// # Errors
/// What is wrong with the value, as the end of a sentence.
pub fn parse_into<T: Expected>(field: &mut T, value: &str) -> Result<(), String> {
    *field = value
        .parse()
        .map_err(|_| format!("must be {}", T::expected()))?;
    Ok(())
}

/// Addresses to listen on: `[NAME://]host:port`, separated by commas.
///
/// # Errors
/// What is wrong with the value.
pub fn listeners(value: &str) -> Result<Vec<ListenerConfig>, String> {
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for (at, one) in split_list(value).enumerate() {
        let (name, address) = match one.split_once("://") {
            Some((name, address)) => (name.to_owned(), address),
            None if at == 0 => ("PLAINTEXT".to_owned(), one),
            None => (format!("PLAINTEXT_{}", at + 1), one),
        };
        check_listener_name(&name)?;
        if listeners.iter().any(|other| other.name == name) {
            return Err(format!("the listener {name} is given twice"));
        }
        let bind = address_of(address)?;
        listeners.push(ListenerConfig {
            name,
            bind,
            advertised_host: None,
            advertised_port: None,
        });
    }
    if listeners.is_empty() {
        Err("at least one address is needed".to_owned())
    } else {
        Ok(listeners)
    }
}

/// Addresses that clients are told: `NAME://host:port`, separated by commas.
///
/// # Errors
/// What is wrong with the value.
pub fn advertised(value: &str) -> Result<Vec<(String, String, u16)>, String> {
    let one = |text: &str| {
        let expected = || format!("{text} is not NAME://host:port");
        let (name, address) = text.split_once("://").unwrap_or(("PLAINTEXT", text));
        let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port
            .parse()
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(expected)?;
        check_listener_name(name)?;
        if host.is_empty() {
            Err(expected())
        } else {
            Ok((name.to_owned(), host.to_owned(), port))
        }
    };
    split_list(value).map(one).collect()
}

fn check_listener_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_allowed) {
        return Err(format!(
            "{name:?} is no listener name: use letters, digits, _ and -"
        ));
    }
    Ok(())
}

fn address_of(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let expected = |why: &str| format!("{text} is not host:port{why}");
    if !text.contains(':') {
        return Err(expected(""));
    }
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| expected(&format!(" ({error})")))?;
    found.next().ok_or_else(|| expected(" (no such host)"))
}

/// An address, or `off`.
///
/// # Errors
/// What is wrong with the value.
pub fn address_or_off(value: &str) -> Result<Option<SocketAddr>, String> {
    if value == "off" {
        Ok(None)
    } else {
        address_of(value).map(Some)
    }
}

/// A level or directives of `tracing`.
///
/// # Errors
/// What is wrong with the value.
pub fn log_level(value: &str) -> Result<String, String> {
    let parsed = tracing_subscriber::EnvFilter::builder().parse(value);
    parsed
        .map(|_| value.to_owned())
        .map_err(|error| error.to_string())
}

/// How logs look.
///
/// # Errors
/// What is wrong with the value.
pub fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be auto, text or json".to_owned()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
