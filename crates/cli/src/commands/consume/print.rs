//! How a record is printed.

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;
use dlog_storage::record::Record;
use serde_json::{Map, Value};

use crate::commands::log::render;

/// How a record is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The text of --template.
    Text,
    /// One JSON object a line; bytes that are no text as key_hex and value_hex.
    Json,
    /// Key and value as hexadecimal digits, a space between; - is null.
    Hex,
    /// The value's bytes and nothing else.
    Raw,
}

/// A text with places for what a record has.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<u8>),
    Key,
    Value,
    KeyBytes,
    ValueBytes,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl std::str::FromStr for Template {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut characters = template.chars();
        while let Some(character) = characters.next() {
            if !matches!(character, '%' | '\\') {
                text.push(character);
                continue;
            }
            let part = match (character, characters.next()) {
                ('%', Some('k')) => Part::Key,
                ('%', Some('v' | 's')) => Part::Value,
                ('%', Some('K')) => Part::KeyBytes,
                ('%', Some('S')) => Part::ValueBytes,
                ('%', Some('t')) => Part::Topic,
                ('%', Some('p')) => Part::Partition,
                ('%', Some('o')) => Part::Offset,
                ('%', Some('T')) => Part::Timestamp,
                ('%', Some('h')) => Part::Headers,
                (first, second) => {
                    text.push(match (first, second) {
                        ('%', Some('%')) => '%',
                        ('\\', Some('n')) => '\n',
                        ('\\', Some('r')) => '\r',
                        ('\\', Some('t')) => '\t',
                        ('\\', Some('0')) => '\0',
                        ('\\', Some('\\')) => '\\',
                        (first, Some(second)) => {
                            return Err(format!("{first}{second} means nothing"));
                        }
                        (first, None) => return Err(format!("{first} at the end means nothing")),
                    });
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text).into_bytes()));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into_bytes()));
        }
        Ok(Self(parts))
    }
}

/// Prints records of one topic.
pub(super) struct Printer<'a> {
    pub topic: &'a str,
    pub format: Format,
    pub template: &'a Template,
    pub null_marker: &'a str,
}

impl Printer<'_> {
    pub(super) fn print(
        &self,
        partition: i32,
        record: &Record,
        out: &mut impl Write,
    ) -> Result<()> {
        match self.format {
            Format::Raw => out.write_all(record.value.as_deref().unwrap_or_default())?,
            Format::Hex => {
                let hex = |bytes: Option<&[u8]>| bytes.map_or_else(|| "-".to_owned(), render::hex);
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                writeln!(out, "{} {}", hex(key), hex(value))?;
            }
            Format::Text => self.text(partition, record, out)?,
            Format::Json => writeln!(out, "{}", self.json(partition, record))?,
        }
        Ok(())
    }

    fn json(&self, partition: i32, record: &Record) -> Value {
        let mut object = Map::new();
        object.insert("topic".to_owned(), self.topic.into());
        object.insert("partition".to_owned(), partition.into());
        object.insert("offset".to_owned(), record.offset.into());
        object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
        render::put_bytes(&mut object, "key", record.key.as_deref());
        render::put_bytes(&mut object, "value", record.value.as_deref());
        object.insert("headers".to_owned(), render::headers_json(&record.headers));
        Value::Object(object)
    }

    fn text(&self, partition: i32, record: &Record, out: &mut impl Write) -> Result<()> {
        let null = self.null_marker.as_bytes();
        // As kcat has it: -1 for null.
        let bytes = |of: &Option<bytes::Bytes>| of.as_ref().map_or(-1, |bytes| bytes.len() as i64);
        for part in &self.template.0 {
            match part {
                Part::Text(text) => out.write_all(text)?,
                Part::Key => out.write_all(record.key.as_deref().unwrap_or(null))?,
                Part::Value => out.write_all(record.value.as_deref().unwrap_or(null))?,
                Part::KeyBytes => write!(out, "{}", bytes(&record.key))?,
                Part::ValueBytes => write!(out, "{}", bytes(&record.value))?,
                Part::Topic => out.write_all(self.topic.as_bytes())?,
                Part::Partition => write!(out, "{partition}")?,
                Part::Offset => write!(out, "{}", record.offset)?,
                Part::Timestamp => write!(out, "{}", record.timestamp_ms)?,
                Part::Headers => {
                    for (i, header) in record.headers.iter().enumerate() {
                        out.write_all(if i > 0 { b"," } else { b"" })?;
                        out.write_all(&header.key)?;
                        out.write_all(b"=")?;
                        out.write_all(header.value.as_deref().unwrap_or(null))?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dlog_storage::record::Header;

    use super::*;

    fn printed(format: Format, template: &str, record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        let template = template.parse().unwrap();
        let printer = Printer {
            topic: "t",
            format,
            template: &template,
            null_marker: "NULL",
        };
        printer.print(3, record, &mut out).unwrap();
        out
    }

    fn record() -> Record {
        let header = |key: &'static str, value: Option<&'static str>| Header {
            key: key.into(),
            value: value.map(Into::into),
        };
        Record {
            offset: 7,
            timestamp_ms: 9,
            key: None,
            value: Some(bytes::Bytes::from_static(b"v\xff")),
            headers: vec![header("a", Some("1")), header("b", None)],
        }
    }

    #[test]
    fn every_format() {
        let text = printed(
            Format::Text,
            r"%t/%p@%o %T %k(%K)=%v(%S) [%h] 100%%\t\\\n",
            &record(),
        );
        assert_eq!(text, b"t/3@7 9 NULL(-1)=v\xff(2) [a=1,b=NULL] 100%\t\\\n");
        assert_eq!(printed(Format::Hex, "", &record()), b"- 76ff\n");
        assert_eq!(printed(Format::Raw, "", &record()), b"v\xff");
        let json: Value = serde_json::from_slice(&printed(Format::Json, "", &record())).unwrap();
        let expected = serde_json::json!({
            "topic": "t", "partition": 3, "offset": 7, "timestamp_ms": 9, "key": null,
            "value_hex": "76ff", "headers": [{"key": "a", "value": "1"}, {"key": "b", "value": null}],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn templates_that_mean_nothing() {
        for template in ["%", "%q", "\\", "\\q"] {
            template.parse::<Template>().expect_err(template);
        }
    }
}
