//! A frame to a typed request: what passes the shape check decodes without a panic and without an
//! allocation out of proportion to its bytes (run with `-malloc_limit_mb`, see the README).
#![no_main]

use bytes::Bytes;
use dlog_broker::protocol::parse_request;
use kafka_protocol::messages::RequestKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    let Ok(raw) = parse_request(frame) else {
        return;
    };
    let mut body = raw.body.clone();
    let Ok(request) = RequestKind::decode(raw.api, &mut body, raw.version) else {
        return;
    };
    // No value that came in makes the size calculation or the writing panic.
    let mut again = bytes::BytesMut::new();
    let _ = request.encode(&mut again, raw.version);
});
