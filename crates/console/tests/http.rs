//! The port over a real socket.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::sync::Arc;
use std::time::Duration;

use dlog_console::{Console, ConsoleState, Health, Limits};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bound of every wait; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(limits: Limits) -> (Console, Arc<ConsoleState>) {
    let state = ConsoleState::new();
    let any = ([127, 0, 0, 1], 0).into();
    let console = Console::start(any, state.clone(), limits).await.unwrap();
    assert_ne!(console.address().port(), 0);
    (console, state)
}

/// Everything the server sends until it closes.
async fn send(console: &Console, request: &str) -> String {
    let mut stream = TcpStream::connect(console.address()).await.unwrap();
    // The server may answer and close before it has read everything.
    drop(stream.write_all(request.as_bytes()).await);
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    drop(
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .unwrap(),
    );
    String::from_utf8(bytes).unwrap()
}

async fn get(console: &Console, path: &str) -> String {
    send(
        console,
        &format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"),
    )
    .await
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or(response)
}

#[tokio::test]
async fn health_follows_the_server() {
    let (console, state) = start(Limits::default()).await;
    assert_eq!(status(&get(&console, "/health/live").await), "200");
    let response = get(&console, "/health/ready").await;
    assert!(
        status(&response) == "503" && response.ends_with("starting\n"),
        "{response}"
    );
    state.set_health(Health::Ready);
    assert_eq!(status(&get(&console, "/health/ready").await), "200");
    state.set_health(Health::Stopping);
    assert_eq!(status(&get(&console, "/health/ready").await), "503");
    assert_eq!(status(&get(&console, "/health/live").await), "200");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let (console, state) = start(Limits::default()).await;
    assert_eq!(status(&get(&console, "/metrics").await), "503");
    let mut registry = Registry::with_prefix("dlog");
    let seen: Counter = Counter::default();
    seen.inc_by(3);
    registry.register("seen", "Things seen", seen);
    state.set_registry(Arc::new(Mutex::new(registry)));
    let response = get(&console, "/metrics").await;
    assert_eq!(status(&response), "200");
    assert!(response.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(response.contains("\ndlog_seen_total 3\n"), "{response}");
    assert!(
        response.contains("\nprocess_resident_memory_bytes "),
        "{response}"
    );
    assert!(
        response.contains("\nprocess_cpu_seconds_total "),
        "{response}"
    );
    assert_eq!(response.matches("# EOF").count(), 1);
    assert!(response.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_index_names_the_paths_and_nothing_else_exists() {
    let (console, _state) = start(Limits::default()).await;
    let index = get(&console, "/").await;
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert!(index.contains(path));
    }
    assert_eq!(status(&get(&console, "/nothing").await), "404");
    let posted =
        "POST /metrics HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&send(&console, posted).await), "405");
}

#[tokio::test]
async fn a_request_head_is_bounded() {
    let (console, _state) = start(Limits::default()).await;
    let long = "x".repeat(1 << 20);
    let response = send(
        &console,
        &format!("GET /{long} HTTP/1.1\r\nhost: here\r\n\r\n"),
    )
    .await;
    // The answer may be lost to the reset that ends such a connection.
    assert!(
        response.is_empty() || status(&response).starts_with('4'),
        "{response}"
    );
    let fields: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let response = send(
        &console,
        &format!("GET / HTTP/1.1\r\nhost: here\r\n{fields}\r\n"),
    )
    .await;
    assert_eq!(status(&response), "431");
    assert_eq!(status(&get(&console, "/health/live").await), "200");
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_frees_its_slot() {
    let head_timeout = Duration::from_millis(50);
    let limits = Limits {
        max_connections: 1,
        head_timeout,
        ..Limits::default()
    };
    let (console, _state) = start(limits).await;
    let mut silent = TcpStream::connect(console.address()).await.unwrap();
    assert_eq!(status(&get(&console, "/health/live").await), "200");
    drop(read_all(&mut silent).await);
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_the_port() {
    let (console, _state) = start(Limits::default()).await;
    let mut idle = TcpStream::connect(console.address()).await.unwrap();
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    tokio::time::timeout(PATIENCE, console.shutdown())
        .await
        .unwrap();
    read_all(&mut idle).await;
    assert!(TcpStream::connect(console.address()).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (console, _state) = start(Limits::default()).await;
    let second = Console::start(console.address(), ConsoleState::new(), Limits::default()).await;
    let message = second.unwrap_err().to_string();
    assert!(
        message.contains(&console.address().to_string()),
        "{message}"
    );
}
