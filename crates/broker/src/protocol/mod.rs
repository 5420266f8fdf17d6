//! The protocol between the frame and the typed request: which versions are served, whether the bytes
//! have the shape of the request they claim to be, and encoding.

pub mod codes;
pub mod newer;
pub mod served;
pub mod shape;
pub(crate) mod shape_table;
pub mod share;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request};

use crate::net::reply::Reply;
use codes::ErrorCodes;

/// Why a connection is closed without an answer: the peer does not speak Kafka as it claims to.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// No API has this key, or the server does not serve it.
    #[error("api key {0} is not served")]
    UnknownApi(i16),
    /// The version of the API is not served.
    #[error("version {version} of {api:?} is not served")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version.
        version: i16,
    },
    /// A length or count does not fit the bytes.
    #[error("malformed {api:?} v{version}: {reason}")]
    Malformed {
        /// The API.
        api: ApiKey,
        /// The version.
        version: i16,
        /// What does not fit.
        reason: String,
    },
    /// The header of a request cannot be read.
    #[error("malformed request header: {0}")]
    Header(String),
    /// A response could not be encoded: a fault in the server.
    #[error("the response to {api:?} v{version} cannot be encoded: {reason}")]
    Encoding {
        /// The API.
        api: ApiKey,
        /// The version.
        version: i16,
        /// What the encoder said.
        reason: String,
    },
}

/// One request whose shape was checked, not yet decoded.
#[derive(Debug)]
pub struct RawRequest {
    /// The API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// Repeated in the response.
    pub correlation_id: i32,
    /// Who the client says it is.
    pub client_id: Option<kafka_protocol::protocol::StrBytes>,
    /// The request without its header.
    pub body: Bytes,
}

/// Takes the header off a frame and checks that the whole frame has the shape it claims.
///
/// # Errors
/// [`ProtocolError`]; [`ProtocolError::UnsupportedVersion`] for ApiVersions is answered by the caller.
pub fn parse_request(mut frame: Bytes) -> Result<RawRequest, ProtocolError> {
    let head = shape::check_header(&frame)?;
    shape::check_body(head.api, head.version, &frame[head.header_len..])?;
    let header_version = head.api.request_header_version(head.version);
    let header = RequestHeader::decode(&mut frame, header_version)
        .map_err(|e| ProtocolError::Header(e.to_string()))?;
    Ok(RawRequest {
        api: head.api,
        version: head.version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        body: frame,
    })
}

impl RawRequest {
    /// Decodes the body. A version that the decoder does not know is read as the newest one it knows:
    /// [`newer`] has those whose layout differs.
    ///
    /// # Errors
    /// [`ProtocolError::Malformed`].
    pub fn decode<R: Request>(&self) -> Result<R, ProtocolError> {
        let mut body = self.body.clone();
        let version = self.version.min(R::VERSIONS.max);
        R::decode(&mut body, version).map_err(|e| self.malformed(e.to_string()))
    }

    /// Encodes the response with its header and length prefix; a version that the encoder does not know
    /// as with [`Self::decode`].
    ///
    /// # Errors
    /// [`ProtocolError::Encoding`].
    pub fn reply<T: Encodable + HeaderVersion + Message + ErrorCodes>(
        &self,
        response: &T,
    ) -> Result<Reply, ProtocolError> {
        let version = self.version.min(T::VERSIONS.max);
        let mut reply = encode_reply(self.api, version, self.correlation_id, response)?;
        reply.errors = response.error_codes();
        Ok(reply)
    }

    /// What [`Self::reply`] needs: an answer that waits keeps nothing of the receive buffer.
    pub fn without_body(&self) -> Self {
        Self {
            client_id: None,
            body: Bytes::new(),
            ..*self
        }
    }

    /// The error for a body that does not fit its shape.
    pub fn malformed(&self, reason: String) -> ProtocolError {
        ProtocolError::Malformed {
            api: self.api,
            version: self.version,
            reason,
        }
    }
}

/// Encodes a response with its header and length prefix.
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn encode_reply<T: Encodable + HeaderVersion>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &T,
) -> Result<Reply, ProtocolError> {
    let failed = |e: &dyn std::fmt::Display| ProtocolError::Encoding {
        api,
        version,
        reason: e.to_string(),
    };
    let body_len = response.compute_size(version).map_err(|e| failed(&e))?;
    let mut buffer = BytesMut::with_capacity(body_len + 9);
    let flexible_header = T::header_version(version) >= 1;
    let len = 4 + usize::from(flexible_header) + body_len;
    let len = u32::try_from(len).map_err(|e| failed(&e))?;
    buffer.extend_from_slice(&len.to_be_bytes());
    buffer.extend_from_slice(&correlation_id.to_be_bytes());
    if flexible_header {
        buffer.extend_from_slice(&[0]);
    }
    response
        .encode(&mut buffer, version)
        .map_err(|e| failed(&e))?;
    debug_assert_eq!(
        buffer.len(),
        len as usize + 4,
        "computed size of {api:?} v{version}"
    );
    Ok(Reply::bytes(buffer.freeze()))
}
