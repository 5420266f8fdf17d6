//! `dlog serve` and `dlog config` as a user meets them.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn dlog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlog"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DLOG_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// `dlog serve` on free ports.
fn serve(data_dir: &Path) -> Command {
    let mut command = dlog();
    command.arg("serve").arg("--data-dir").arg(data_dir);
    command.args(["--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command
}

/// A server that said it is ready; killed when the test ends before it.
struct Server {
    child: Child,
    ready: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert!(
            ready.starts_with("ready ") && ready.ends_with('\n'),
            "{ready:?}"
        );
        Self { child, ready }
    }

    fn field(&self, name: &str) -> &str {
        let mut fields = self.ready.split_whitespace();
        fields
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            .unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn stop(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The one line on standard error of a command that fails with this code.
fn refusal(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let Output { stdout, stderr, .. } = output;
    assert!(stdout.is_empty());
    let stderr = String::from_utf8(stderr).unwrap();
    // JSON lines of the log may come before it.
    let mut lines = stderr.lines().filter(|line| !line.starts_with('{'));
    lines.next_back().unwrap_or_default().to_owned()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn it_says_where_it_listens_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, pid_file) = (dir.path().join("data"), dir.path().join("pid"));
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = serve(&data_dir);
        command.arg("--pid-file").arg(&pid_file);
        let server = Server::start(command);
        assert_eq!(
            server.field("data"),
            data_dir.canonicalize().unwrap().to_str().unwrap()
        );
        TcpStream::connect(server.field("kafka")).unwrap();
        assert!(get(server.field("http"), "/health/ready").starts_with("HTTP/1.1 200"));
        assert!(get(server.field("http"), "/metrics").contains("\ndlog_connections "));
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        assert_eq!(pid, format!("{}\n", server.child.id()));
        assert_eq!(server.stop(signal).code(), Some(0));
        assert!(!pid_file.exists());
    }
}

#[test]
fn what_keeps_it_from_starting_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let server = Server::start(serve(&data_dir));

    let locked = refusal(serve(&data_dir), 1);
    assert!(
        locked.starts_with("dlog: ") && locked.contains("in use by another process"),
        "{locked}"
    );

    for (flag, field) in [("--kafka", "kafka"), ("--http", "http")] {
        let address = server.field(field);
        let mut command = dlog();
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(dir.path().join("other"));
        let other = if flag == "--kafka" {
            "--http"
        } else {
            "--kafka"
        };
        command.args([flag, address, other, "127.0.0.1:0"]);
        let taken = refusal(command, 1);
        assert!(
            taken.contains(address) && taken.contains(&format!("another address with {flag}")),
            "{taken}"
        );
    }

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let no_folder = refusal(serve(&file), 1);
    assert!(no_folder.contains(file.to_str().unwrap()), "{no_folder}");
    assert!(no_folder.contains("--data-dir"), "{no_folder}");

    server.stop(Signal::TERM);
    let mut command = serve(&data_dir);
    command.args(["--node-id", "7"]);
    let other_node = refusal(command, 1);
    assert!(other_node.contains("set node.id to 1"), "{other_node}");
}

#[test]
fn what_is_meant_for_serve_is_told_so() {
    let said = |args: &[&str]| {
        let output = dlog().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for flag in ["--data-dir", "--config"] {
        let tip = format!("dlog serve {flag} …");
        let text = said(&[flag, "x"]);
        assert!(text.contains(&tip), "{text}");
        let text = said(&[&format!("{flag}=x")]);
        assert!(text.contains(&tip), "{text}");
    }
    let text = said(&["--no-such", "x"]);
    assert!(!text.contains("dlog serve"), "{text}");
}

#[test]
fn a_data_folder_is_no_log_to_dump() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = dlog();
    command.args(["log", "dump"]).arg(dir.path());
    let message = refusal(command, 1);
    assert!(message.contains("give a log's folder"), "{message}");
}

#[test]
fn a_wrong_setting_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("dlog.toml");
    std::fs::write(&config, "kafka = \"127.0.0.1:0\"\nnum.partition = 3\n").unwrap();
    let mut command = dlog();
    command.arg("serve").arg("--config").arg(&config);
    let expected = format!(
        "dlog: {}:2: unknown setting num.partition; did you mean num.partitions?",
        config.display()
    );
    assert_eq!(refusal(command, 1), expected);

    let mut command = dlog();
    command
        .args(["config", "print"])
        .env("DLOG_NUM_PARTITIONS", "none");
    assert!(refusal(command, 1).starts_with("dlog: DLOG_NUM_PARTITIONS: num.partitions = none: "));

    let mut command = serve(dir.path());
    command.args(["--num-partitions", "0"]);
    assert_eq!(
        refusal(command, 1),
        "dlog: invalid setting num.partitions: 0 does not lie between 1 and max.partitions.per.topic, 10000"
    );

    let mut command = dlog();
    command.args(["serve", "--num-partition", "3"]);
    refusal(command, 2);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("dlog.toml");
    let text = "node.id = 1\nnum.partitions = 1\n[log]\nretention.ms = 1\n";
    std::fs::write(&config, text).unwrap();
    let mut command = dlog();
    command.env("DLOG_CONFIG", &config);
    command
        .env("DLOG_NUM_PARTITIONS", "2")
        .env("DLOG_LOG_RETENTION_MS", "2");
    command.args(["config", "print", "--json", "--log-retention-ms", "3"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = |name: &str| {
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["name"] == name).unwrap()
    };
    assert_eq!(
        (&row("node.id")["value"], &row("node.id")["source"]),
        (&"1".into(), &format!("{}:1", config.display()).into(),)
    );
    assert_eq!(row("num.partitions")["source"], "DLOG_NUM_PARTITIONS");
    assert_eq!(row("num.partitions")["value"], "2");
    assert_eq!(row("log.retention.ms")["source"], "--log-retention-ms");
    assert_eq!(row("log.retention.ms")["value"], "3");
    assert_eq!(row("http")["source"], "default");
}
