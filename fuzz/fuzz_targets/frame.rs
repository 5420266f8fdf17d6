//! Any stream in any pieces: the frames that come out are those of a plain reading of the whole.
#![no_main]

use std::sync::OnceLock;

use bytes::Bytes;
use dlog_broker::net::frame::{FrameBuffer, FrameError};
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Small, so that the limit is often crossed.
const LIMIT: u32 = 1000;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime")
    })
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (client, server) = (client.expect("connected"), accepted.expect("accepted").0);
    client.set_nodelay(true).expect("a socket option");
    (client, server)
}

/// What a reading of the whole stream at once gives: frames, and whether it ends in a bad size.
fn expected(mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk::<4>() {
        let claimed = i32::from_be_bytes(*prefix);
        if claimed < 0 || claimed as u32 > LIMIT {
            return (frames, true);
        }
        let Some((frame, next)) = rest.split_at_checked(claimed as usize) else {
            break;
        };
        frames.push(frame.to_vec());
        stream = next;
    }
    (frames, false)
}

/// Reads everything until the client closes, or a frame is refused.
async fn read(server: TcpStream, trusted: bool) -> (Vec<Bytes>, bool) {
    let (mut buffer, mut frames) = (FrameBuffer::default(), Vec::new());
    loop {
        server.readable().await.expect("readable");
        match buffer.read_from(&server, trusted) {
            Ok(true) => {}
            Ok(false) => return (frames, false),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => panic!("{error}"),
        }
        loop {
            match buffer.take(LIMIT) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(FrameError::Size { .. }) => return (frames, true),
                Err(error) => panic!("{error}"),
            }
        }
        buffer.shrink();
    }
}

async fn read_in_pieces(stream: &[u8], piece: usize, trusted: bool) -> (Vec<Bytes>, bool) {
    let (mut client, server) = pair().await;
    let write = async {
        for piece in stream.chunks(piece) {
            // The reader may have refused the stream and gone.
            if client.write_all(piece).await.is_err() {
                return client;
            }
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        client
    };
    let (result, client) = tokio::join!(read(server, trusted), write);
    // No FIN handshake per input: thousands of sockets a second would linger.
    let _ = client.set_zero_linger();
    result
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, stream)) = data.split_first() else {
        return;
    };
    let piece = [1, 3, 7, 64, 4096, 1 << 20][usize::from(choice >> 1) % 6];
    // One byte at a time is slow; long streams come in larger pieces.
    let piece = piece.max(stream.len() / 64);
    let (frames, refused) = runtime().block_on(read_in_pieces(stream, piece, choice & 1 == 1));
    let (wanted, bad) = expected(stream);
    assert_eq!(refused, bad);
    assert_eq!(
        frames
            .iter()
            .map(|frame| frame.to_vec())
            .collect::<Vec<_>>(),
        wanted
    );
});
