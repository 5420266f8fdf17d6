//! Whether bytes have the shape of the request they claim to be, before anything is allocated for them.
//!
//! The generated decoder allocates as many elements as a count on the wire says. So every request is
//! walked first, by a table made from Kafka's own message schemas (`shapes.txt`): every length must fit
//! the bytes that remain, every count must fit them at the smallest size of its elements, and all
//! elements together are bounded. What passes can be decoded with memory in proportion to its size.
//!
//! Invariant: the walk allocates nothing and ends after at most one step per byte.

use std::sync::LazyLock;

use kafka_protocol::messages::ApiKey;

use super::ProtocolError;
use super::served;

/// Most array elements and tagged fields in one request.
pub const MAX_ELEMENTS: usize = 500_000;

/// What the fixed part of a request header says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// Bytes of the whole header.
    pub header_len: usize,
}

/// A field that every request of a version has, in order, or a tagged one that it may have.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) tag: Option<u32>,
}

/// What a field is made of.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// Text: a length of 2 bytes, or a variable one.
    String,
    /// Bytes or records: a length of 4 bytes, or a variable one.
    Bytes,
    /// A count and so many elements.
    Array(Box<Kind>),
    /// Fields.
    Struct(Vec<Field>),
}

/// The shape of one version of a message.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) flexible: bool,
    pub(crate) fields: Vec<Field>,
}

/// Where the walk is.
struct Walk<'a> {
    rest: &'a [u8],
    elements: usize,
    flexible: bool,
}

type Fault = String;

impl Kind {
    /// Fewest bytes that an element of this kind can have.
    fn min_len(&self, flexible: bool) -> usize {
        match self {
            Self::Fixed(len) => *len,
            Self::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Self::Bytes | Self::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Self::Struct(fields) => {
                let plain = fields.iter().filter(|field| field.tag.is_none());
                let len: usize = plain.map(|field| field.min_len(flexible)).sum();
                len + usize::from(flexible)
            }
        }
    }
}

impl Field {
    fn min_len(&self, flexible: bool) -> usize {
        // A struct that is null is one byte.
        if self.nullable && matches!(self.kind, Kind::Struct(_)) {
            1
        } else {
            self.kind.min_len(flexible)
        }
    }
}

impl<'a> Walk<'a> {
    fn take(&mut self, len: usize, name: &str) -> Result<&'a [u8], Fault> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(format!(
                "{name} needs {len} bytes, {} are there",
                self.rest.len()
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self, name: &str) -> Result<u32, Fault> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1, name)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // The fifth byte has room for four bits.
                let fits = shift < 28 || byte < 0x10;
                return if fits {
                    Ok(value)
                } else {
                    Err(format!("{name} is no variable-length integer"))
                };
            }
        }
        Err(format!("{name} is no variable-length integer"))
    }

    /// A length or count; `None` is null. `wide` lengths have 4 bytes where they are not variable.
    fn len(&mut self, name: &str, wide: bool) -> Result<Option<usize>, Fault> {
        if self.flexible {
            return Ok((self.varint(name)? as usize).checked_sub(1));
        }
        let len = if wide {
            self.take(4, name)?
                .first_chunk()
                .map_or(-1, |bytes| i32::from_be_bytes(*bytes))
        } else {
            self.take(2, name)?
                .first_chunk()
                .map_or(-1, |bytes| i32::from(i16::from_be_bytes(*bytes)))
        };
        match len {
            -1 => Ok(None),
            _ => usize::try_from(len)
                .map(Some)
                .map_err(|_| format!("{name} has the length {len}")),
        }
    }

    fn count(&mut self, count: usize, min_len: usize, name: &str) -> Result<(), Fault> {
        if count
            .checked_mul(min_len.max(1))
            .is_none_or(|bytes| bytes > self.rest.len())
        {
            return Err(format!(
                "{name} has {count} elements, {} bytes are there",
                self.rest.len()
            ));
        }
        self.elements += count;
        if self.elements > MAX_ELEMENTS {
            return Err(format!("more than {MAX_ELEMENTS} elements in one request"));
        }
        Ok(())
    }

    fn kind(&mut self, kind: &Kind, nullable: bool, name: &str) -> Result<(), Fault> {
        let null = || {
            if nullable {
                Ok(())
            } else {
                Err(format!("{name} must not be null"))
            }
        };
        match kind {
            Kind::Fixed(len) => self.take(*len, name).map(drop),
            Kind::String | Kind::Bytes => match self.len(name, matches!(kind, Kind::Bytes))? {
                Some(len) => self.take(len, name).map(drop),
                None => null(),
            },
            Kind::Array(element) => {
                let Some(count) = self.len(name, true)? else {
                    return null();
                };
                self.count(count, element.min_len(self.flexible), name)?;
                for _ in 0..count {
                    self.kind(element, false, name)?;
                }
                Ok(())
            }
            Kind::Struct(_) if nullable && self.take(1, name)?[0] as i8 == -1 => Ok(()),
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn fields(&mut self, fields: &[Field]) -> Result<(), Fault> {
        for field in fields.iter().filter(|field| field.tag.is_none()) {
            self.kind(&field.kind, field.nullable, field.name)?;
        }
        if self.flexible {
            self.tagged(fields)
        } else {
            Ok(())
        }
    }

    fn tagged(&mut self, fields: &[Field]) -> Result<(), Fault> {
        let count = self.varint("tagged fields")? as usize;
        self.count(count, 2, "tagged fields")?;
        for _ in 0..count {
            let tag = self.varint("tag")?;
            let len = self.varint("tagged field")? as usize;
            let bytes = self.take(len, "tagged field")?;
            if let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) {
                let rest = std::mem::replace(&mut self.rest, bytes);
                self.kind(&field.kind, field.nullable, field.name)?;
                if !self.rest.is_empty() {
                    return Err(format!("{} is shorter than its tagged field", field.name));
                }
                self.rest = rest;
            }
        }
        Ok(())
    }
}

impl Shape {
    /// Walks a message; returns the bytes behind it.
    pub(crate) fn walk<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let mut walk = Walk {
            rest: bytes,
            elements: 0,
            flexible: self.flexible,
        };
        walk.fields(&self.fields)?;
        Ok(walk.rest)
    }
}

/// Checks the header.
///
/// # Errors
/// [`ProtocolError`].
pub fn check_header(frame: &[u8]) -> Result<Head, ProtocolError> {
    let fault = ProtocolError::Header;
    let Some(&[k0, k1, v0, v1, _, _, _, _]) = frame.first_chunk::<8>() else {
        return Err(fault("the request is shorter than a header".to_owned()));
    };
    let key = i16::from_be_bytes([k0, k1]);
    let version = i16::from_be_bytes([v0, v1]);
    let api = ApiKey::try_from(key).map_err(|_| ProtocolError::UnknownApi(key))?;
    let served = served::find(api).ok_or(ProtocolError::UnknownApi(key))?;
    if !(served.min..=served.max).contains(&version) {
        return Err(ProtocolError::UnsupportedVersion { api, version });
    }
    let header_version = api.request_header_version(version);
    // The client id has a plain length even in flexible headers.
    let mut walk = Walk {
        rest: &frame[8..],
        elements: 0,
        flexible: false,
    };
    if header_version >= 1 {
        walk.kind(&Kind::String, true, "client id").map_err(fault)?;
    }
    if header_version >= 2 {
        walk.flexible = true;
        walk.tagged(&[]).map_err(fault)?;
    }
    Ok(Head {
        api,
        version,
        header_len: frame.len() - walk.rest.len(),
    })
}

/// Checks the body of a request.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub fn check_body(api: ApiKey, version: i16, body: &[u8]) -> Result<(), ProtocolError> {
    let malformed = |reason| ProtocolError::Malformed {
        api,
        version,
        reason,
    };
    let shape = super::shape_table::request(api as i16, version)
        .ok_or_else(|| malformed("its shape is not known".to_owned()))?;
    shape.walk(body).map(drop).map_err(malformed)
}

/// Checks bytes that are carried inside a request and decoded by the server, such as
/// `ConsumerProtocolSubscription` (without the version in front).
///
/// # Errors
/// What does not fit.
pub fn check_data(message: &str, version: i16, bytes: &[u8]) -> Result<(), String> {
    let shape = super::shape_table::data(message, version)
        .ok_or_else(|| format!("the shape of {message} v{version} is not known"))?;
    shape.walk(bytes).map(drop)
}

/// Makes sure at start that the table is sound, and that no request pays for reading it.
pub fn prepare() {
    LazyLock::force(&super::shape_table::TABLE);
}
