//! One connection that sends a request and reads its response, or sends whatever bytes a test likes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, RequestKind, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::PATIENCE;

/// Largest response that is believed.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// A blocking connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

/// The request that a client introduces itself with.
pub fn api_versions_request() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("system-test"))
        .with_client_software_version(StrBytes::from_static_str("1.0"))
}

/// A whole request frame: size, header, body.
///
/// # Errors
/// When the request cannot be said in this version.
pub fn encode<R: Encodable>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    request: &R,
) -> Result<BytesMut> {
    let mut frame = BytesMut::from(&[0; 4][..]);
    header(api, version, correlation_id).encode(&mut frame, api.request_header_version(version))?;
    request.encode(&mut frame, version)?;
    Ok(sized(frame))
}

/// As [`encode`], for a request of any API.
///
/// # Errors
/// As [`encode`].
pub fn encode_kind(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    request: &RequestKind,
) -> Result<BytesMut> {
    let mut frame = BytesMut::from(&[0; 4][..]);
    header(api, version, correlation_id).encode(&mut frame, api.request_header_version(version))?;
    request.encode(&mut frame, version)?;
    Ok(sized(frame))
}

fn header(api: ApiKey, version: i16, correlation_id: i32) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("system-test")))
}

fn sized(mut frame: BytesMut) -> BytesMut {
    let len = (frame.len() - 4) as u32;
    (&mut frame[..4]).put_u32(len);
    frame
}

impl Connection {
    /// Connects and introduces itself with ApiVersions, as clients do.
    ///
    /// # Errors
    /// The connection cannot be made, or the server does not answer.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self {
            stream,
            correlation_id: 0,
        };
        connection.api_versions()?;
        Ok(connection)
    }

    /// The APIs and versions that the server says it serves.
    ///
    /// # Errors
    /// The connection ended, or the server refused.
    pub fn api_versions(&mut self) -> Result<Vec<ApiVersion>> {
        let response = self.call(3, &api_versions_request())?;
        ensure!(
            response.error_code == 0,
            "ApiVersions: error {}",
            response.error_code
        );
        Ok(response.api_keys)
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request and returns its response.
    ///
    /// # Errors
    /// The connection ended, or what came is not the response.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let id = self.send(version, request)?;
        self.receive::<R>(version, id)
    }

    /// Sends a request; returns its correlation id.
    ///
    /// # Errors
    /// The connection ended.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        self.correlation_id += 1;
        let api = ApiKey::try_from(R::KEY).map_err(|()| anyhow::anyhow!("api key {}", R::KEY))?;
        let frame = encode(api, version, self.correlation_id, request)?;
        self.stream.write_all(&frame)?;
        Ok(self.correlation_id)
    }

    /// Reads the response to the oldest request that was sent and not yet answered.
    ///
    /// # Errors
    /// The connection ended, or what came is not the response.
    pub fn receive<R: Request>(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> Result<R::Response> {
        let mut frame = self
            .read_frame()?
            .context("the server closed the connection")?;
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version)?;
        ensure!(
            header.correlation_id == correlation_id,
            "{} answers {correlation_id}",
            header.correlation_id
        );
        let response = R::Response::decode(&mut frame, version)?;
        ensure!(
            frame.is_empty(),
            "{} bytes behind the response",
            frame.len()
        );
        Ok(response)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection ended.
    pub fn write_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads a response frame without its size; `None` when the server closed the connection in order.
    ///
    /// # Errors
    /// The connection ended inside a frame, or the frame is absurd.
    pub fn read_frame(&mut self) -> Result<Option<Bytes>> {
        let mut size = [0; 4];
        let mut have = 0;
        while have < 4 {
            match self.stream.read(&mut size[have..])? {
                0 if have == 0 => return Ok(None),
                0 => bail!("the connection ended inside a response's size"),
                n => have += n,
            }
        }
        let len = i32::from_be_bytes(size);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_RESPONSE_BYTES);
        let mut frame = vec![0; len.with_context(|| format!("a response of {size:?} bytes"))?];
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame.into()))
    }
}
