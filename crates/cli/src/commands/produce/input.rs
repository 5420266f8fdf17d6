//! What one line of the input is, as a record.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use dlog_storage::record::Header;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What one line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Input {
    /// The value; key and value with --key-separator.
    Text,
    /// An object as `dlog consume --json` prints it: value or value_hex, and optionally key or key_hex,
    /// headers, timestamp_ms and partition. Its topic and offset are not looked at.
    Json,
    /// Bytes as hexadecimal digits: the value, or key and value with a space between; - is null.
    Hex,
    /// All of a file, or of standard input, is one value.
    Whole,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRecord {
    key: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_hex: Option<String>,
    #[serde(default)]
    headers: Vec<JsonHeader>,
    #[serde(alias = "timestamp")]
    timestamp_ms: Option<i64>,
    partition: Option<i32>,
    #[serde(default, rename = "topic")]
    _topic: Option<IgnoredAny>,
    #[serde(default, rename = "offset")]
    _offset: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHeader {
    key: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_hex: Option<String>,
}

/// A record read from the input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp_ms: Option<i64>,
    pub partition: Option<i32>,
}

/// How lines are read.
pub(super) struct Parser {
    pub input: Input,
    pub key_separator: Option<String>,
    pub null_marker: Option<String>,
}

impl Parser {
    /// Reads a line, which has no line end any more.
    pub(super) fn parse(&self, line: &[u8]) -> Result<Parsed> {
        match self.input {
            Input::Text => self.text(line),
            Input::Json => json(line),
            Input::Hex => hex(line),
            Input::Whole => Ok(Parsed {
                value: Some(line.to_vec()),
                ..Parsed::default()
            }),
        }
    }

    fn text(&self, line: &[u8]) -> Result<Parsed> {
        let marker = self.null_marker.as_ref().map(String::as_bytes);
        let unless_null = |bytes: &[u8]| (Some(bytes) != marker).then(|| bytes.to_vec());
        let Some(separator) = &self.key_separator else {
            return Ok(Parsed {
                value: unless_null(line),
                ..Parsed::default()
            });
        };
        let at = line
            .windows(separator.len().max(1))
            .position(|window| window == separator.as_bytes())
            .with_context(|| format!("no {separator:?} between key and value"))?;
        Ok(Parsed {
            key: unless_null(&line[..at]),
            value: unless_null(&line[at + separator.len()..]),
            ..Parsed::default()
        })
    }
}

fn json(line: &[u8]) -> Result<Parsed> {
    let record: JsonRecord = serde_json::from_slice(line)?;
    let headers = record.headers.into_iter().map(|header| {
        let key = either("key", header.key, header.key_hex)?.context("a header has no key")?;
        let value = either("value", header.value, header.value_hex)?;
        Ok(Header {
            key: key.into(),
            value: value.map(Bytes::from),
        })
    });
    Ok(Parsed {
        key: either("key", record.key, record.key_hex)?,
        value: either("value", record.value, record.value_hex)?,
        headers: headers.collect::<Result<_>>()?,
        timestamp_ms: record.timestamp_ms,
        partition: record.partition,
    })
}

/// Text, or hexadecimal digits.
fn either(name: &str, text: Option<String>, hex: Option<String>) -> Result<Option<Vec<u8>>> {
    match (text, hex) {
        (Some(_), Some(_)) => bail!("{name} and {name}_hex are both given"),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(hex)) => from_hex(hex.as_bytes()).map(Some),
        (None, None) => Ok(None),
    }
}

fn hex(line: &[u8]) -> Result<Parsed> {
    let field = |text: &[u8]| match text {
        b"-" => Ok(None),
        digits => from_hex(digits).map(Some),
    };
    let (key, value) = match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (field(&line[..at])?, &line[at + 1..]),
        None => (None, line),
    };
    Ok(Parsed {
        key,
        value: field(value)?,
        ..Parsed::default()
    })
}

fn from_hex(digits: &[u8]) -> Result<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        bail!("an odd number of hexadecimal digits");
    }
    pairs
        .iter()
        .map(|[high, low]| match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            _ => bail!(
                "{:?} are no hexadecimal digits",
                String::from_utf8_lossy(&[*high, *low])
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: Input, separator: Option<&str>, line: &str) -> Result<Parsed> {
        let parser = Parser {
            input,
            key_separator: separator.map(str::to_owned),
            null_marker: Some("NULL".to_owned()),
        };
        parser.parse(line.as_bytes())
    }

    fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Parsed {
        Parsed {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            ..Parsed::default()
        }
    }

    #[test]
    fn lines_of_each_kind() {
        let text = |separator, line| parse(Input::Text, separator, line).unwrap();
        assert_eq!(text(None, "a:b"), record(None, Some(b"a:b")));
        assert_eq!(text(Some(":"), "a:b:c"), record(Some(b"a"), Some(b"b:c")));
        assert_eq!(text(Some("=>"), "=>"), record(Some(b""), Some(b"")));
        assert_eq!(text(Some(":"), "NULL:NULL"), record(None, None));
        let hex = |line| parse(Input::Hex, None, line).unwrap();
        assert_eq!(hex("00fF"), record(None, Some(&[0, 255])));
        assert_eq!(hex("- "), record(None, Some(b"")));
        assert_eq!(hex("61 -"), record(Some(b"a"), None));
        let line = r#"{"topic":"t","offset":9,"partition":2,"timestamp_ms":5,"key_hex":"ff",
            "value":"v","headers":[{"key":"h","value":null}]}"#;
        let expected = Parsed {
            headers: vec![Header {
                key: "h".into(),
                value: None,
            }],
            timestamp_ms: Some(5),
            partition: Some(2),
            ..record(Some(&[255]), Some(b"v"))
        };
        assert_eq!(parse(Input::Json, None, line).unwrap(), expected);
    }

    #[test]
    fn lines_that_mean_nothing() {
        for (input, separator, line) in [
            (Input::Text, Some(":"), "no separator"),
            (Input::Hex, None, "123"),
            (Input::Hex, None, "zz"),
            (Input::Json, None, "[]"),
            (Input::Json, None, r#"{"value":"v","unknown":1}"#),
            (Input::Json, None, r#"{"value":"v","value_hex":"00"}"#),
            (Input::Json, None, r#"{"headers":[{"value":"v"}]}"#),
        ] {
            parse(input, separator, line).expect_err(line);
        }
    }
}
