//! Values as people read them.

use std::fmt::Write;

use dlog_storage::record::Header;
use serde_json::{Map, Value};

/// Longest key or value that a table shows, in bytes.
const SHOWN_BYTES: usize = 120;

/// Bytes as escaped text, cut when long; `-` for none.
pub(super) fn text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "-".to_owned();
    };
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    // Text stays readable in any script; control characters and invalid bytes are escaped.
    let mut out = String::from("\"");
    for chunk in shown.utf8_chunks() {
        out.extend(chunk.valid().chars().flat_map(|c| {
            let escape = c.is_control() || c == '"' || c == '\\';
            let (escaped, plain) = if escape {
                (Some(c.escape_default()), None)
            } else {
                (None, Some(c))
            };
            escaped.into_iter().flatten().chain(plain)
        }));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    if bytes.len() > shown.len() {
        let _ = write!(out, "… ({} bytes)", bytes.len());
    }
    out
}

/// Puts bytes into a JSON object: as `name` when they are text or absent, else as `name_hex`.
pub(in crate::commands) fn put_bytes(
    object: &mut Map<String, Value>,
    name: &str,
    bytes: Option<&[u8]>,
) {
    match bytes.map(str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => object.insert(format!("{name}_hex"), hex(bytes.unwrap_or_default()).into()),
    };
}

/// Headers as a JSON list of objects.
pub(in crate::commands) fn headers_json(headers: &[Header]) -> Value {
    let list = headers.iter().map(|header| {
        let mut object = Map::new();
        put_bytes(&mut object, "key", Some(&header.key));
        put_bytes(&mut object, "value", header.value.as_deref());
        Value::Object(object)
    });
    list.collect()
}

/// Bytes as hexadecimal digits.
pub(in crate::commands) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// A time in Unix ms as `2026-11-24T15:30:00.123Z`; `-` for none.
pub(super) fn time(ms: i64) -> String {
    if ms == -1 {
        return "-".to_owned();
    }
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar. Years are
/// counted from 1 March, so that the leap day is the last of a year; 400 years have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    // 719,468 days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March on have 153 days.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// A number with its noun: `1 segment`, `2 segments`.
pub(in crate::commands) fn count(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// A number of bytes with a unit.
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-2, "1969-12-31T23:59:59.998Z"),
            (-1, "-"),
        ] {
            assert_eq!(time(ms), text);
        }
        // No record's timestamp makes it panic.
        for ms in [i64::MIN, i64::MAX] {
            time(ms);
        }
    }

    #[test]
    fn texts() {
        assert_eq!(text(None), "-");
        assert_eq!(text(Some(b"")), "\"\"");
        assert_eq!(
            text(Some("gr\u{fc}n\n\"\u{1b}".as_bytes())),
            "\"gr\u{fc}n\\n\\\"\\u{1b}\""
        );
        assert_eq!(text(Some(b"a\xff")), "\"a\\xff\"");
        assert!(text(Some(&[b'x'; 500])).ends_with("… (500 bytes)"));
    }

    #[test]
    fn bytes_in_json() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", None);
        put_bytes(&mut object, "value", Some(&[0xff, 1]));
        assert_eq!(
            Value::Object(object).to_string(),
            r#"{"key":null,"value_hex":"ff01"}"#
        );
    }
}
