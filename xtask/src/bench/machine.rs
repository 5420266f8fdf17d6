//! What the machine does and is: CPU time and memory of a process, the page cache, a description.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Ticks of `/proc/PID/stat` in a second; Linux has fixed it for user space.
const TICKS_PER_S: f64 = 100.0;

/// Free memory that is left when the page cache counts as full.
const LEAVE_FREE_BYTES: u64 = 1 << 30;

/// Disk space that the filling leaves for the run itself.
const LEAVE_DISK_BYTES: u64 = 24 << 30;

const CHUNK: usize = 4 << 20;

/// CPU time that a process has used so far, user and system, in seconds.
///
/// # Errors
/// When the process is gone.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks = ticks(&format!("/proc/{pid}/stat")).context("the broker has ended")?;
    Ok(ticks / TICKS_PER_S)
}

fn ticks(path: &str) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    // The name, in parentheses, may have spaces; user and system time are fields 14 and 15.
    let fields = stat.rsplit_once(')').context("a stat line")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    Ok(ticks.filter_map(|field| field.parse::<f64>().ok()).sum())
}

/// Processor time that the host of a virtual machine has taken away so far.
///
/// # Errors
/// When `/proc/stat` is not as expected.
pub fn stolen() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let whole = stat.lines().next().unwrap_or_default();
    // After the name: user, nice, system, idle, iowait, irq, softirq, steal.
    let ticks = whole
        .split_whitespace()
        .nth(8)
        .context("steal is missing")?;
    Ok(Duration::from_secs_f64(ticks.parse::<f64>()? / TICKS_PER_S))
}

/// Resident memory of a process in MiB.
///
/// # Errors
/// When the process is gone.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the broker has ended")?;
    Ok(kib(&status, "VmRSS:")? / 1024.0)
}

/// Anonymous memory of a process in MiB: without the files that it maps.
///
/// # Errors
/// When the process is gone.
pub fn anonymous_mib(pid: u32) -> Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the broker has ended")?;
    Ok(kib(&status, "RssAnon:")? / 1024.0)
}

fn kib(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let field = line.with_context(|| format!("{name} is missing"))?;
    Ok(field.trim().trim_end_matches("kB").trim().parse()?)
}

fn free_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok((kib(&text, "MemFree:")? * 1024.0) as u64)
}

/// A file as large as memory. Reading it fills the page cache, so that writes take recycled pages, as
/// they do on a machine that has been up for a while. On a virtual machine the first touch of a page
/// costs more than everything that a broker does with it, and would hide the difference.
pub struct Filler {
    path: PathBuf,
    /// Where the last reading ended: what comes next was read longest ago, and so evicted first.
    position: Cell<u64>,
}

impl Filler {
    /// Writes the file.
    ///
    /// # Errors
    /// An I/O error.
    pub fn create(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let total = (kib(&text, "MemTotal:")? * 1024.0) as u64;
        let size = total.min(free_disk_bytes(folder)?.saturating_sub(LEAVE_DISK_BYTES));
        let filler = Self {
            path: folder.join("filler"),
            position: Cell::new(0),
        };
        let mut file = File::create(&filler.path)?;
        let chunk = vec![0x5a; CHUNK];
        for _ in 0..size / CHUNK as u64 {
            file.write_all(&chunk)?;
        }
        file.sync_data()?;
        Ok(filler)
    }

    /// Reads on, round and round, until hardly any memory is free; at most the whole file.
    ///
    /// # Errors
    /// An I/O error.
    pub fn fill_page_cache(&self) -> Result<()> {
        let file = File::open(&self.path)?;
        let size = file.metadata()?.len();
        let mut chunk = vec![0; CHUNK];
        let mut read = 0;
        while read < size && free_bytes()? > LEAVE_FREE_BYTES {
            let position = self.position.get();
            read += file.read_at(&mut chunk, position)? as u64;
            let next = position + CHUNK as u64;
            self.position.set(if next < size { next } else { 0 });
        }
        Ok(())
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // It lies in the target folder; the next run replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

fn free_disk_bytes(folder: &Path) -> Result<u64> {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(folder)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.lines().nth(1).context("df printed no number")?;
    Ok(number.trim().parse()?)
}

/// Writes everything back and empties the page cache. Needs root.
///
/// # Errors
/// When the system does not allow it.
pub fn drop_page_cache() -> Result<()> {
    Command::new("sync").status()?;
    let mut file = OpenOptions::new()
        .write(true)
        .open("/proc/sys/vm/drop_caches")
        .context("emptying the page cache needs root")?;
    file.write_all(b"1\n")?;
    Ok(())
}

/// Writes back what is dirty, so that one run does not pay for the one before it.
///
/// # Errors
/// When `sync` cannot be started.
pub fn settle() -> Result<()> {
    Command::new("sync").status()?;
    Ok(())
}

/// CPU seconds that a bare blocking loop of `sendfile` takes for each GiB sent over the loopback address:
/// a baseline for fetches, which spend nearly all of their time in the kernel too. The file is in the page
/// cache.
///
/// # Errors
/// An I/O error.
pub fn sendfile_baseline(folder: &Path) -> Result<f64> {
    const SIZE: usize = 1 << 30;
    let path = folder.join("baseline");
    let mut file = File::create(&path)?;
    for _ in 0..SIZE / CHUNK {
        file.write_all(&vec![0x5a; CHUNK])?;
    }
    file.sync_data()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut to = TcpStream::connect(listener.local_addr()?)?;
    let (mut from, _) = listener.accept()?;
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while from.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let mut samples = Vec::new();
    for _ in 0..5 {
        let before = ticks("/proc/thread-self/stat")?;
        // The standard library uses sendfile from a file to a socket.
        io::copy(&mut File::open(&path)?, &mut to)?;
        samples.push((ticks("/proc/thread-self/stat")? - before) / TICKS_PER_S);
    }
    drop(to);
    // It has ended when the stream did.
    let _ = reading.join();
    fs::remove_file(&path)?;
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2])
}

/// The machine in a line.
pub fn describe(folder: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |line| {
            line.trim_start_matches([' ', '\t', ':'])
        });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").ok();
    let gib = memory
        .and_then(|text| kib(&text, "MemTotal:").ok())
        .unwrap_or_default()
        / 1024.0
        / 1024.0;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let file_system = Command::new("df")
        .args(["--output=fstype"])
        .arg(folder)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    format!(
        "{cores} cores of {model}, {gib:.0} GiB, Linux {}, {}",
        kernel.trim(),
        file_system.lines().nth(1).unwrap_or_default().trim()
    )
}
