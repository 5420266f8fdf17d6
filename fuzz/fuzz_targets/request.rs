//! A frame to a typed request: what passes the shape check decodes without a panic and without an
//! allocation out of proportion to its bytes (run with `-malloc_limit_mb`, see the README).
#![no_main]

use bytes::Bytes;
use dlog_broker::protocol::parse_request;
use kafka_protocol::messages::RequestKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    let Ok(raw) = parse_request(frame) else { return };
    let mut body = raw.body.clone();
    let Ok(request) = RequestKind::decode(raw.api, &mut body, raw.version) else { return };
    // What was decoded can be written again, and is then the same request to the server.
    let mut again = bytes::BytesMut::new();
    if request.encode(&mut again, raw.version).is_ok() {
        let mut again = again.freeze();
        let decoded = RequestKind::decode(raw.api, &mut again, raw.version).expect("what was encoded decodes");
        assert_eq!(decoded, request);
    }
});
