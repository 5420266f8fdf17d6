//! Reads `shapes.txt`: the shapes of all requests, for each version.
//!
//! The file is written by `shapes/generate.py` from the schemas in a kafka-clients jar.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::shape::{Field, Kind, Shape};

static TEXT: &str = include_str!("shapes.txt");

/// Highest version that shapes are kept for.
const MAX_VERSION: i16 = 31;

/// All shapes.
pub(crate) struct Table {
    /// By API key, then by version.
    requests: Vec<Vec<Shape>>,
    /// By name, then by version.
    data: HashMap<&'static str, Vec<Shape>>,
}

pub(crate) static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(TEXT).expect("shapes.txt is part of the program and tested"));

/// The shape of a request.
pub(crate) fn request(key: i16, version: i16) -> Option<&'static Shape> {
    let versions = TABLE.requests.get(usize::try_from(key).ok()?)?;
    versions.get(usize::try_from(version).ok()?)
}

/// The shape of a message that is carried inside a request.
pub(crate) fn data(name: &str, version: i16) -> Option<&'static Shape> {
    TABLE.data.get(name)?.get(usize::try_from(version).ok()?)
}

/// A field as the file has it, for all versions.
struct Definition {
    name: &'static str,
    kind: &'static str,
    versions: Versions,
    nullable: Versions,
    tag: Option<(u32, Versions)>,
    children: Vec<Definition>,
}

#[derive(Clone, Copy)]
struct Versions {
    min: i16,
    max: i16,
}

impl Versions {
    const NONE: Self = Self { min: 1, max: 0 };

    fn parse(text: &str) -> Option<Self> {
        let (min, max) = text.split_once('-')?;
        let max = if max.is_empty() {
            i16::MAX
        } else {
            max.parse().ok()?
        };
        Some(Self {
            min: min.parse().ok()?,
            max,
        })
    }

    fn has(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl Table {
    fn parse(text: &'static str) -> Option<Self> {
        let mut table = Self {
            requests: Vec::new(),
            data: HashMap::new(),
        };
        for line in text.lines() {
            let mut words = line.split(' ');
            let (key, name, flexible) = (words.next()?, words.next()?, words.next()?);
            let flexible_from = flexible.parse().unwrap_or(i16::MAX);
            let definitions = parse_fields(&mut words)?;
            let shapes = (0..=MAX_VERSION).map(|version| Shape {
                flexible: version >= flexible_from,
                fields: fields_of(&definitions, version),
            });
            match key.parse::<usize>() {
                Ok(key) => {
                    if table.requests.len() <= key {
                        table.requests.resize_with(key + 1, Vec::new);
                    }
                    table.requests[key] = shapes.collect();
                }
                Err(_) => drop(table.data.insert(name, shapes.collect())),
            }
        }
        Some(table)
    }
}

/// Reads fields up to a closing brace or the end.
fn parse_fields(words: &mut dyn Iterator<Item = &'static str>) -> Option<Vec<Definition>> {
    let mut fields: Vec<Definition> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "}" => return Some(fields),
            "{" => fields.last_mut()?.children = parse_fields(words)?,
            _ => fields.push(parse_field(word)?),
        }
    }
    Some(fields)
}

/// `Name:type@versions[?versions][#tag@versions]`
fn parse_field(word: &'static str) -> Option<Definition> {
    let (name, rest) = word.split_once(':')?;
    let (rest, tag) = match rest.split_once('#') {
        Some((rest, tag)) => {
            let (number, versions) = tag.split_once('@')?;
            (
                rest,
                Some((number.parse().ok()?, Versions::parse(versions)?)),
            )
        }
        None => (rest, None),
    };
    let (rest, nullable) = match rest.split_once('?') {
        Some((rest, versions)) => (rest, Versions::parse(versions)?),
        None => (rest, Versions::NONE),
    };
    let (kind, versions) = rest.split_once('@')?;
    Some(Definition {
        name,
        kind,
        versions: Versions::parse(versions)?,
        nullable,
        tag,
        children: Vec::new(),
    })
}

fn fields_of(definitions: &[Definition], version: i16) -> Vec<Field> {
    let present = definitions
        .iter()
        .filter(|definition| definition.versions.has(version));
    let fields = present.map(|definition| Field {
        name: definition.name,
        kind: kind_of(definition.kind, &definition.children, version),
        nullable: definition.nullable.has(version),
        tag: definition
            .tag
            .filter(|(_, versions)| versions.has(version))
            .map(|(tag, _)| tag),
    });
    fields.collect()
}

fn kind_of(kind: &str, children: &[Definition], version: i16) -> Kind {
    match kind {
        "string" => Kind::String,
        "bytes" | "records" => Kind::Bytes,
        "struct" => Kind::Struct(fields_of(children, version)),
        _ => match kind.strip_prefix("[]") {
            Some(element) => Kind::Array(Box::new(kind_of(element, children, version))),
            None => {
                let len = kind.strip_prefix('f').and_then(|len| len.parse().ok());
                Kind::Fixed(len.expect("the generator writes f and a number; every line is tested"))
            }
        },
    }
}

#[cfg(test)]
mod tests;
