//! Shows the settings: as TOML that can be used as a file, or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::resolve::Resolved;
use super::table::{Kind, SETTINGS, Setting};

/// One setting, as JSON has it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name in a file.
    pub name: &'static str,
    /// Name as a flag.
    pub flag: String,
    /// Name as an environment variable.
    pub variable: String,
    /// What a value looks like.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Default.
    pub default: Option<String>,
    /// What holds.
    pub value: Option<String>,
    /// Where that comes from.
    pub source: String,
    /// What it does.
    pub doc: &'static str,
}

/// All settings, with the values that hold; without any when only defaults are asked for.
pub fn rows(resolved: Option<&Resolved>) -> Vec<Row> {
    let row = |setting: &Setting| {
        let given = resolved.and_then(|resolved| resolved.given.get(setting.name));
        Row {
            name: setting.name,
            flag: format!("--{}", setting.flag),
            variable: setting.variable(),
            kind: setting.kind.word(),
            default: setting.default.clone(),
            value: given
                .map(|given| given.value.clone())
                .or_else(|| setting.default.clone()),
            source: given.map_or_else(|| "default".to_owned(), |given| given.origin.to_string()),
            doc: setting.doc,
        }
    };
    SETTINGS.iter().map(row).collect()
}

/// All settings as a TOML file: those with their default are commented out, so that the file keeps
/// following the defaults of later releases.
pub fn toml(resolved: Option<&Resolved>) -> String {
    let mut text = String::new();
    let mut section = "";
    for (setting, row) in SETTINGS.iter().zip(rows(resolved)) {
        if setting.section != section {
            section = setting.section;
            line(&mut text, &format!("\n## {section}\n"));
        }
        line(
            &mut text,
            &format!("# {} ({}; {})", row.doc, row.kind, row.variable),
        );
        let value = row
            .value
            .as_deref()
            .map(|value| literal(setting.kind, value));
        // Quoted: log.flush and log.flush.interval.ms could not both be dotted keys.
        match (value, row.source.as_str()) {
            (None, _) => line(&mut text, &format!("# {:?} =", row.name)),
            (Some(value), "default") => line(&mut text, &format!("# {:?} = {value}", row.name)),
            (Some(value), source) => {
                line(&mut text, &format!("{:?} = {value} # {source}", row.name));
            }
        }
    }
    text.trim_start().to_owned()
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

fn literal(kind: Kind, value: &str) -> String {
    let is_plain = match kind {
        Kind::Boolean => value == "true" || value == "false",
        Kind::Integer => value.parse::<i64>().is_ok(),
        Kind::Number => value.parse::<f64>().is_ok() && value.contains('.'),
        Kind::Text | Kind::Path | Kind::Address | Kind::List => false,
    };
    if is_plain {
        value.to_owned()
    } else {
        toml::Value::String(value.to_owned()).to_string()
    }
}
