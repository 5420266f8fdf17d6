//! Clients that send anything but Kafka, or Kafka with lies in it: the server never dies, its memory
//! stays bounded, it forgets them when they are gone, and a well-behaved client notices nothing.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dlog_system_tests::produce::{
    IdempotentProducer, create_topic, fetch_request, plain_batch, produce_request, produced_at,
    read_all,
};
use dlog_system_tests::requests::{newer, samples};
use dlog_system_tests::server::Server;
use dlog_system_tests::wire::{Connection, api_versions_request, encode, encode_kind};
use dlog_system_tests::{seed, skip, wait_for};
use kafka_protocol::messages::{ApiKey, MetadataRequest};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// What the server may use at any moment of any of these tests.
const MEMORY_LIMIT_BYTES: u64 = 300 << 20;
const HOSTILE: &str = "hostile";
const GOOD: &str = "good";

/// A server under attack, and a good client that goes on.
fn under_attack(attack: impl FnOnce(&Server)) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data")).unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    for topic in [HOSTILE, GOOD] {
        create_topic(&mut connection, topic, 1, &[]).unwrap();
    }
    let stop = AtomicBool::new(false);
    let written = AtomicUsize::new(0);
    let mut producer = IdempotentProducer::new(server.kafka, GOOD, 0).unwrap();
    producer.write(1, || Some(server.kafka)).unwrap();
    let sockets = server.open_sockets().unwrap();
    std::thread::scope(|scope| {
        let (address, stop, written) = (server.kafka, &stop, &written);
        let good = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                producer.write(3, || Some(address)).unwrap();
                written.store(producer.acknowledged.len(), Ordering::Relaxed);
            }
            producer
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&server)));
        stop.store(true, Ordering::Relaxed);
        let producer = good.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(producer.acknowledged.len() > 3, "the good client got on");
        let found: Vec<_> = read_all(&mut connection, GOOD, 0)
            .unwrap()
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        assert!(
            found == producer.acknowledged,
            "the good client's records are as they were"
        );
    });
    assert!(server.is_alive());
    let log = server.log().unwrap();
    assert!(!log.contains("panicked"), "a thread panicked:\n{log}");
    let peak = server.peak_resident_bytes().unwrap();
    println!("peak memory {} MiB", peak >> 20);
    assert!(peak < MEMORY_LIMIT_BYTES, "{} MiB", peak >> 20);
    let gone = wait_for("the attackers' connections to be forgotten", || {
        (server.open_sockets().ok()? <= sockets).then_some(())
    });
    gone.unwrap_or_else(|error| {
        panic!(
            "{error}: {} sockets, {sockets} before",
            server.open_sockets().unwrap()
        )
    });
}

/// A plain socket that gives up soon: what the server answers is of no interest.
fn attacker(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stream
}

/// Sends bytes and reads until the server closes, or has said nothing for a while.
fn send_and_drain(stream: &mut TcpStream, bytes: &[u8]) {
    // The server may close at the first byte.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|n| n > 0) {}
}

/// Runs `work` on every item, on a few threads.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

#[test]
fn random_bytes() {
    let seed = seed();
    under_attack(|server| {
        let seeds: Vec<u64> = (0..3_000).map(|i| seed.wrapping_add(i)).collect();
        in_parallel(&seeds, |seed| {
            let mut random = StdRng::seed_from_u64(*seed);
            let mut bytes = vec![0; random.random_range(0..5_000)];
            random.fill_bytes(&mut bytes);
            if random.random_bool(0.7) && bytes.len() > 12 {
                // A true size, a served API: the noise gets as far as the body.
                let size = (bytes.len() - 4) as u32;
                bytes[..4].copy_from_slice(&size.to_be_bytes());
                bytes[4..8].copy_from_slice(&[
                    0,
                    random.random_range(0..70),
                    0,
                    random.random_range(0..12),
                ]);
            }
            send_and_drain(&mut attacker(server.kafka), &bytes);
        });
    });
}

/// Every request, in every version that the server says it serves.
fn valid_requests(address: SocketAddr) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(address).unwrap();
    let served = connection.api_versions().unwrap();
    assert!(served.len() >= 20, "{served:?}");
    let (samples, newer) = (samples(HOSTILE), newer(HOSTILE));
    let (mut frames, mut missing) = (Vec::new(), Vec::new());
    for api in &served {
        let key = ApiKey::try_from(api.api_key).unwrap();
        let of_api: Vec<_> = samples
            .iter()
            .filter(|(sample, _)| *sample == key)
            .collect();
        // Produce is announced from version 0 on, as by Kafka, and served from version 3 on.
        let min = if key == ApiKey::Produce {
            3
        } else {
            api.min_version
        };
        for version in min..=api.max_version {
            let mut encoded: Vec<Vec<u8>> = of_api
                .iter()
                .filter_map(|(_, request)| encode_kind(key, version, 7, request).ok())
                .map(|frame| frame.to_vec())
                .collect();
            let by_hand = newer.iter().filter(|(k, v, _)| (*k, *v) == (key, version));
            encoded.extend(by_hand.map(|(_, _, frame)| frame.clone()));
            if encoded.is_empty() {
                missing.push((key, version));
            }
            frames.extend(encoded);
        }
    }
    assert!(
        missing.is_empty(),
        "no sample can be said in these versions, add one to requests.rs: {missing:?}"
    );
    frames
}

/// Values that lengths, counts and offsets go wrong with: largest, smallest, -1, 0, and varints
/// without an end.
fn extremes(width: usize) -> Vec<Vec<u8>> {
    let with_first = |first: u8, rest: u8| {
        let mut bytes = vec![rest; width];
        bytes[0] = first;
        bytes
    };
    vec![
        with_first(0x7f, 0xff),
        with_first(0x80, 0),
        vec![0xff; width],
        vec![0; width],
        vec![0x7f; width],
    ]
}

#[test]
fn wrong_values_in_every_field_of_every_request() {
    under_attack(|server| {
        let requests = valid_requests(server.kafka);
        let sent = AtomicUsize::new(0);
        in_parallel(&requests, |request| {
            let mut stream = attacker(server.kafka);
            // The size prefix has a test of its own.
            for at in 4..request.len() {
                for width in [1, 2, 4, 8] {
                    if at + width > request.len() {
                        continue;
                    }
                    for value in extremes(width) {
                        let mut mutated = request.clone();
                        mutated[at..at + width].copy_from_slice(&value);
                        if stream.write_all(&mutated).is_err() {
                            stream = attacker(server.kafka);
                            let _ = stream.write_all(&mutated);
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                        if !swallow(&mut stream) {
                            stream = attacker(server.kafka);
                        }
                    }
                }
            }
        });
        let sent = sent.into_inner();
        println!("{} requests, {sent} mutations", requests.len());
        assert!(sent > 10_000);
    });
}

/// Waits for one response; `false` when the server closed the connection, or does not answer because
/// it was told to wait for long.
fn swallow(stream: &mut TcpStream) -> bool {
    let mut size = [0; 4];
    if stream.read_exact(&mut size).is_err() {
        return false;
    }
    let mut response = vec![0; i32::from_be_bytes(size).clamp(0, 64 << 20) as usize];
    stream.read_exact(&mut response).is_ok()
}

#[test]
fn truncated_requests() {
    under_attack(|server| {
        let requests = valid_requests(server.kafka);
        in_parallel(&requests, |request| {
            for cut in 0..request.len() {
                let mut frame = request[..cut].to_vec();
                // Cut on the wire: the size promises more than comes.
                if cut % 8 == 0 {
                    send_and_drain(&mut attacker(server.kafka), &frame);
                }
                // Cut inside: a whole frame whose body ends too early.
                if cut > 4 {
                    let size = (cut - 4) as u32;
                    frame[..4].copy_from_slice(&size.to_be_bytes());
                    send_and_drain(&mut attacker(server.kafka), &frame);
                }
            }
        });
    });
}

#[test]
fn oversized_frames() {
    under_attack(|server| {
        let valid = encode(ApiKey::ApiVersions, 3, 1, &api_versions_request()).unwrap();
        // Refused at once, as a first request and behind a valid one.
        for size in [-1, i32::MIN, i32::MAX, 101 << 20] {
            for trusted in [false, true] {
                let mut stream = attacker(server.kafka);
                stream
                    .set_read_timeout(Some(dlog_system_tests::PATIENCE))
                    .unwrap();
                if trusted {
                    stream.write_all(&valid).unwrap();
                    assert!(swallow(&mut stream));
                }
                stream.write_all(&size.to_be_bytes()).unwrap();
                let answer = stream.read(&mut [0; 16]);
                let closed = match &answer {
                    Ok(n) => *n == 0,
                    Err(error) => error.kind() == ErrorKind::ConnectionReset,
                };
                assert!(closed, "{size}, trusted: {trusted}: {answer:?}");
            }
        }
        // The largest allowed size is promised by many who then send little: memory is not given
        // for promises.
        let mut promising = Vec::new();
        for _ in 0..1_000 {
            let mut stream = attacker(server.kafka);
            stream.write_all(&valid).unwrap();
            assert!(swallow(&mut stream));
            stream.write_all(&(100_i32 << 20).to_be_bytes()).unwrap();
            stream.write_all(&[0; 10_000]).unwrap();
            promising.push(stream);
        }
        good_client_round_trip(server);
    });
}

/// Raises the limit of open files as far as it goes.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connects from another loopback address, so that ports and limits by address suffice.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

#[test]
fn ten_thousand_half_open_connections() {
    const CONNECTIONS: u64 = 10_000;
    let limit = raise_open_files();
    if limit < CONNECTIONS + 500 {
        skip(
            "ten_thousand_half_open_connections",
            &format!("only {limit} open files are allowed here"),
        );
        return;
    }
    under_attack(|server| {
        let request = encode(
            ApiKey::Metadata,
            9,
            1,
            &MetadataRequest::default().with_topics(None),
        )
        .unwrap();
        let mut open = Vec::new();
        for i in 0..CONNECTIONS as usize {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (i % 50) as u8);
            let mut stream =
                connect_from(source, server.kafka).unwrap_or_else(|error| panic!("{i}: {error}"));
            // Silent, or stopped at any byte of a request.
            stream.write_all(&request[..i % request.len()]).unwrap();
            open.push(stream);
            if i % 1_000 == 999 {
                good_client_round_trip(server);
            }
        }
        wait_for("all connections to be accepted", || {
            (server.open_sockets().ok()? as u64 >= CONNECTIONS).then_some(())
        })
        .unwrap();
        good_client_round_trip(server);
        println!(
            "{} MiB with {CONNECTIONS} connections",
            server.resident_bytes().unwrap() >> 20
        );
    });
}

/// A new client connects, writes and reads.
fn good_client_round_trip(server: &Server) {
    let mut connection = Connection::open(server.kafka).unwrap();
    let batch = plain_batch(&[b"round trip".to_vec()]).unwrap();
    let response = connection
        .call(9, &produce_request(HOSTILE, 0, batch, -1))
        .unwrap();
    let at = produced_at(&response).unwrap();
    let response = connection
        .call(11, &fetch_request(HOSTILE, 0, at, 1 << 20))
        .unwrap();
    assert!(
        response.responses[0].partitions[0]
            .records
            .as_ref()
            .is_some_and(|records| !records.is_empty())
    );
}

/// Fills a topic with a few MiB.
fn fill(server: &Server) {
    let mut connection = Connection::open(server.kafka).unwrap();
    for _ in 0..20 {
        let batch = plain_batch(&vec![vec![b'x'; 1_000]; 500]).unwrap();
        produced_at(
            &connection
                .call(9, &produce_request(HOSTILE, 0, batch, -1))
                .unwrap(),
        )
        .unwrap();
    }
}

#[test]
fn slow_readers() {
    under_attack(|server| {
        fill(server);
        let fetch = encode(
            ApiKey::Fetch,
            11,
            1,
            &fetch_request(HOSTILE, 0, 0, 10 << 20),
        )
        .unwrap();
        let metadata = encode(
            ApiKey::Metadata,
            9,
            1,
            &MetadataRequest::default().with_topics(None),
        )
        .unwrap();
        let mut readers = Vec::new();
        for i in 0..200 {
            let mut stream = attacker(server.kafka);
            stream.set_nonblocking(true).unwrap();
            let request = if i % 2 == 0 { &fetch } else { &metadata };
            // Asks for more and more, and reads nothing, until the server does not take more.
            let asked = (0..20_000)
                .take_while(|_| stream.write(request).is_ok_and(|n| n == request.len()))
                .count();
            assert!(asked > 0);
            readers.push(stream);
        }
        good_client_round_trip(server);
        // Some read a little at last: what they get is a response, from its beginning.
        for stream in readers.iter_mut().step_by(20) {
            stream.set_nonblocking(false).unwrap();
            stream
                .set_read_timeout(Some(dlog_system_tests::PATIENCE))
                .unwrap();
            let mut head = [0; 8];
            stream.read_exact(&mut head).unwrap();
            assert_eq!(head[4..], 1_i32.to_be_bytes(), "the correlation id");
        }
        good_client_round_trip(server);
    });
}

#[test]
fn connections_that_come_and_go() {
    under_attack(|server| {
        let request = encode(
            ApiKey::Fetch,
            11,
            1,
            &fetch_request(HOSTILE, 0, 0, 1 << 20).with_max_wait_ms(600_000),
        );
        let request = request.unwrap();
        let rounds: Vec<usize> = (0..3_000).collect();
        in_parallel(&rounds, |i| {
            let mut stream = attacker(server.kafka);
            // Long polls whose clients are gone at once, some with a reset.
            let _ = stream.write_all(&request);
            if i % 2 == 0 {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        });
    });
}
