//! Where settings are given: the TOML file, the environment, flags. All values are text from here on.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, table};

/// Largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Variables that begin like settings but are none: the file's name, the address that client commands
/// use, and the program that the system tests start.
const OTHER_VARIABLES: &[&str] = &["DLOG_CONFIG", "DLOG_BOOTSTRAP", "DLOG_BIN"];

/// Variables for the tests of this repository, never settings.
const TEST_PREFIX: &str = "DLOG_TEST_";

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// By an environment variable.
    Variable(String),
    /// By a flag.
    Flag(String),
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its name; not yet known to exist.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// Reads the settings of a file.
///
/// # Errors
/// When it cannot be read, is no TOML, or holds what cannot be a setting.
pub fn read_file(path: &Path) -> Result<Vec<Given>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE_BYTES {
        return Err(failed(std::io::Error::other("it is larger than 1 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse_file(path, &text)
}

/// Reads the settings of a file's text. Tables and dotted keys mean the same: `[log] retention.ms = 1`,
/// `log.retention.ms = 1` and `"log.retention.ms" = 1`.
///
/// # Errors
/// When it is no TOML, or holds what cannot be a setting.
pub fn parse_file(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let syntax = |at: usize, message: &str| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, at),
        message: message.to_owned(),
    };
    let parsed = DeTable::parse(text).map_err(|error| {
        let mut message = error.message().to_owned();
        // Kafka has settings whose names begin with that of another one; TOML takes them for a table.
        if message.contains("dotted key") {
            message += ": put the names in quotes, \"log.flush\" = …";
        }
        syntax(error.span().map_or(0, |span| span.start), &message)
    })?;
    let mut found = Vec::new();
    flatten("", parsed.get_ref(), &mut found).map_err(|(at, message)| syntax(at, &message))?;
    found.sort_by_key(|(at, ..)| *at);
    let given = found.into_iter().map(|(at, name, value)| {
        let origin = Origin::File {
            path: path.to_owned(),
            line: line_of(text, at),
        };
        Given {
            name,
            value,
            origin,
        }
    });
    Ok(given.collect())
}

type Found = (usize, String, String);

fn flatten(
    prefix: &str,
    table: &DeTable<'_>,
    found: &mut Vec<Found>,
) -> Result<(), (usize, String)> {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            _ => format!("{prefix}.{}", key.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(table) => flatten(&name, table, found)?,
            _ => match as_text(value) {
                Some(text) => found.push((key.span().start, name, text)),
                None => {
                    let message = format!("{name}: expected text, a number, true, false or a list");
                    return Err((key.span().start, message));
                }
            },
        }
    }
    Ok(())
}

fn as_text(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix())
                .ok()
                .map(|n| n.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(as_text).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Table(_) | DeValue::Datetime(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Picks the settings out of environment variables.
///
/// # Errors
/// When a variable begins with `DLOG_` and is no setting, or is not Unicode.
pub fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<Given>, ConfigError> {
    let mut given = Vec::new();
    for (variable, value) in variables {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with("DLOG_")) else {
            continue;
        };
        if OTHER_VARIABLES.contains(&variable) || variable.starts_with(TEST_PREFIX) {
            continue;
        }
        let origin = Origin::Variable(variable.to_owned());
        let setting = table::SETTINGS
            .iter()
            .find(|setting| setting.variable() == variable);
        let Some(setting) = setting else {
            let hint = super::resolve::hint_for_variable(variable);
            return Err(ConfigError::Unknown {
                origin,
                name: variable.to_owned(),
                hint,
            });
        };
        let value = value.into_string().map_err(|value| ConfigError::Invalid {
            origin: origin.clone(),
            name: setting.name,
            value: value.to_string_lossy().into_owned(),
            reason: "not Unicode text".to_owned(),
        })?;
        given.push(Given {
            name: setting.name.to_owned(),
            value,
            origin,
        });
    }
    given.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(given)
}
