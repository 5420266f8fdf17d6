//! Whether an answer's bytes have the shape of what was asked for, before memory is taken for them.
//!
//! The generated decoder takes memory for as many elements as a count on the wire says. A broker that is
//! broken, or no broker at all, must not be able to end the program that way, so every answer is walked
//! first: each length must fit the bytes that remain, and each count must fit them at the smallest size
//! of its elements.
//!
//! Invariants: the walk takes no memory and ends after at most one step per byte; what it passes is
//! decoded with memory in proportion to its length. An answer without a shape here is not decoded.

use std::sync::LazyLock;

/// Most elements of all arrays of one answer.
const MAX_ELEMENTS: usize = 16_000_000;

/// One line per API: its key, the first version with compact lengths and tagged fields, and the fields
/// of the answer. A number is so many bytes, `s` text, `b` bytes, `{ }` a struct, `? }` a struct or null,
/// `[ ]` an array of structs, `( )` an array of values; `@a-b` gives the versions that have the field,
/// `#n` its tag.
const TEXT: &str = "\
0 9 [ s [ 4 2 8 8@2- 8@5- [ 4 s ]@8- s@8- { 4 4 }@10-#0 ] ] 4@1- [ 4 s 4 s ]@10-#0
1 12 4@1- 2@7- 4@7- [ s [ 4 2 8 8@4- 8@5- [ 8 8 ]@4- 4@11- b { 4 8 }@12-#0 { 4 4 }@12-#1 { 8 4 }@12-#2 ] ]
2 6 4@2- [ s [ 4 2 8@1- 8@1- 4@4- ] ]
3 9 4@3- [ 4 s 4 s@1- ] s@2- 4@1- [ 2 s 16@10- 1@1- [ 2 4 4 4@7- ( 4 ) ( 4 ) ( 4 )@5- ] 4@8- ] 4@8-10
8 8 4@3- [ s [ 4 2 ] ]
9 6 4@3- [ s [ 4 8 4@5- s 2 ] ]@0-7 2@2-7 [ s [ s [ 4 8 4 s 2 ] ] 2 ]@8-
10 3 4@1- 2@0-3 s@1-3 4@0-3 s@0-3 4@0-3 [ s 4 s 4 2 s ]@4-
11 6 4@2- 2 4 s@7- s s 1@9- s [ s s@5- b ]
12 4 4@1- 2
13 4 4@1- 2 [ s s 2 ]@3-
14 4 4@1- 2 s@5- s@5- b
15 5 4@1- [ 2 s@6- s s s s [ s s@4- s s b b ] 4@3- ]
16 3 4@1- 2 [ s s s@4- s@5- ]
18 3 2 [ 2 2 2 ] 4@1- [ s 2 2 ]@3-#0 8@3-#1 [ s 2 2 ]@3-#2 1@3-#3
19 5 4@2- [ s 16@7- 2 s@1- 2@5-#0 4@5- 2@5- [ s s 1 1 1 ]@5- ]
20 4 4@1- [ s 16@6- 2 s@5- ]
22 2 4 2 8 2
24 3 4 2@4- [ s [ s [ 4 2 ] ] ]@4- [ s [ 4 2 ] ]@0-3
26 3 4 2 8@5- 2@5-
27 1 [ 8 [ s [ 4 2 ] ] ]
32 4 4 [ 2 s 1 s [ s s 1 1@0-0 1@1- 1 [ s s 1 ]@1- 1@3- s@3- ] ]
37 2 4 [ s 2 s ]
42 2 4 [ s 2 ]
44 1 4 [ 2 s 1 s ]
47 99 2 4 [ s [ 4 2 ] ]
61 0 4 [ s [ 4 2 s [ 8 4 4 8 4 8 ] ] ]
65 0 4 [ 2 s s 4 8 8 2 [ s ( 4 ) ] ]
66 0 4 2 ( s ) [ s 8 s ]
68 0 4 2 s s 4 4 ? [ 16 ( 4 ) ] }
69 0 4 [ 2 s s s 4 4 s [ s s s 4 s s ( s ) s { [ 16 s ( 4 ) ] } { [ 16 s ( 4 ) ] } 1@1- ] 4 ]";

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| TEXT.lines().map(Shape::parse).collect());

struct Shape {
    key: i16,
    flexible_from: i16,
    fields: Vec<Field>,
}

struct Field {
    kind: Kind,
    versions: (i16, i16),
    tag: Option<u32>,
}

enum Kind {
    Fixed(usize),
    String,
    Bytes,
    Struct(Vec<Field>),
    Optional(Vec<Field>),
    Structs(Vec<Field>),
    Values(Vec<Field>),
}

impl Shape {
    fn parse(line: &str) -> Self {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (key, flexible_from) = (number().unwrap_or(-1), number().unwrap_or(-1));
        Self {
            key,
            flexible_from,
            fields: fields(&mut words).0,
        }
    }
}

/// Fields up to the bracket that closes them, and what follows that bracket.
fn fields<'a>(words: &mut impl Iterator<Item = &'a str>) -> (Vec<Field>, &'a str) {
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let at = word.find(['@', '#']).unwrap_or(word.len());
        let (name, mut rest) = word.split_at(at);
        let kind = match name {
            "]" | ")" | "}" => return (found, rest),
            "s" => Kind::String,
            "b" => Kind::Bytes,
            "[" | "(" | "{" | "?" => {
                let inner;
                (inner, rest) = fields(words);
                match name {
                    "[" => Kind::Structs(inner),
                    "(" => Kind::Values(inner),
                    "?" => Kind::Optional(inner),
                    _ => Kind::Struct(inner),
                }
            }
            number => Kind::Fixed(number.parse().unwrap_or(0)),
        };
        let (versions, tag) = rest.split_once('#').unwrap_or((rest, ""));
        let (min, max) = versions
            .trim_start_matches('@')
            .split_once('-')
            .unwrap_or_default();
        found.push(Field {
            kind,
            versions: (min.parse().unwrap_or(0), max.parse().unwrap_or(i16::MAX)),
            tag: tag.parse().ok(),
        });
    }
    (found, "")
}

/// Checks the body of an answer to a request of this API and version.
///
/// # Errors
/// What does not fit.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<(), String> {
    let shape = SHAPES
        .iter()
        .find(|shape| shape.key == key)
        .ok_or_else(|| format!("this client does not know the shape of answers of API {key}"))?;
    let mut walk = Walk {
        rest: body,
        version,
        flexible: version >= shape.flexible_from,
        elements: 0,
    };
    walk.fields(&shape.fields)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn has(&self, field: &Field) -> bool {
        (field.versions.0..=field.versions.1).contains(&self.version)
    }

    /// Fewest bytes of these fields as an element of an array.
    fn min_bytes(&self, fields: &[Field], of_struct: bool) -> usize {
        let plain = fields
            .iter()
            .filter(|field| field.tag.is_none() && self.has(field));
        let sum: usize = plain
            .map(|field| match &field.kind {
                Kind::Fixed(bytes) => *bytes,
                _ if self.flexible => 1,
                Kind::String => 2,
                _ => 4,
            })
            .sum();
        sum + usize::from(self.flexible && of_struct)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), String> {
        self.rest = self
            .rest
            .get(bytes..)
            .ok_or_else(|| format!("{bytes} bytes are announced, {} are left", self.rest.len()))?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.rest.first_chunk::<N>().copied();
        self.skip(N)?;
        bytes.ok_or_else(|| "it ends too early".to_owned())
    }

    fn varint(&mut self) -> Result<usize, String> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|error| error.to_string());
            }
        }
        Err("a number has more than five bytes".to_owned())
    }

    /// A length or count; nothing for null.
    fn len(&mut self, short: bool) -> Result<usize, String> {
        let len = match (self.flexible, short) {
            // One more than the length; 0 for null.
            (true, _) => return Ok(self.varint()?.saturating_sub(1)),
            (false, true) => i32::from(i16::from_be_bytes(self.array()?)),
            (false, false) => i32::from_be_bytes(self.array()?),
        };
        match usize::try_from(len) {
            Ok(len) => Ok(len),
            Err(_) if len == -1 => Ok(0),
            Err(_) => Err(format!("a length is {len}")),
        }
    }

    fn fields(&mut self, fields: &[Field]) -> Result<(), String> {
        for field in fields.iter().filter(|field| field.tag.is_none()) {
            if self.has(field) {
                self.field(&field.kind)?;
            }
        }
        if self.flexible {
            self.tagged(fields)?;
        }
        Ok(())
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), String> {
        for _ in 0..self.varint()? {
            let tag = u32::try_from(self.varint()?).map_err(|error| error.to_string())?;
            let bytes = self.varint()?;
            self.count(1)?;
            let all = self.rest;
            self.skip(bytes)?;
            let known = fields
                .iter()
                .find(|field| field.tag == Some(tag) && self.has(field));
            if let Some(field) = known {
                let behind = std::mem::replace(&mut self.rest, &all[..bytes]);
                self.field(&field.kind)?;
                self.rest = behind;
            }
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.elements = self.elements.saturating_add(more);
        if self.elements > MAX_ELEMENTS {
            return Err(format!("it has more than {MAX_ELEMENTS} elements"));
        }
        Ok(())
    }

    fn field(&mut self, kind: &Kind) -> Result<(), String> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::String => {
                let len = self.len(true)?;
                self.skip(len)
            }
            Kind::Bytes => {
                let len = self.len(false)?;
                self.skip(len)
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Optional(fields) => match self.array()? {
                // A negative byte is null.
                [present] if present < 0x80 => self.fields(fields),
                _ => Ok(()),
            },
            Kind::Structs(fields) => {
                for _ in 0..self.elements(fields, true)? {
                    self.fields(fields)?;
                }
                Ok(())
            }
            Kind::Values(fields) => {
                for _ in 0..self.elements(fields, false)? {
                    for field in fields {
                        self.field(&field.kind)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn elements(&mut self, fields: &[Field], of_structs: bool) -> Result<usize, String> {
        let count = self.len(false)?;
        let room = self.rest.len() / self.min_bytes(fields, of_structs).max(1);
        if count > room {
            return Err(format!(
                "{count} elements are announced, {} bytes are left",
                self.rest.len()
            ));
        }
        self.count(count)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
