//! What this process takes of the machine, under the names that Prometheus clients agree on.
//!
//! Read from `/proc/self` at each scrape; a number that cannot be read is left out.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// A registry with the process's metrics only: their names have no prefix.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    registry
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Usage {
            cpu_seconds,
            threads,
            resident_bytes,
        } = usage(&stat);
        let open_files = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        if let Some(seconds) = cpu_seconds {
            let help = "CPU time of the process, user and system";
            one(
                &mut encoder,
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                &ConstCounter::new(seconds),
            )?;
        }
        let gauges = [
            (
                "process_resident_memory",
                "Resident memory",
                Some(Unit::Bytes),
                resident_bytes,
            ),
            ("process_threads", "Threads", None, threads),
            (
                "process_open_fds",
                "Open files and sockets",
                None,
                open_files.map(|n| n as i64),
            ),
        ];
        for (name, help, unit, value) in gauges {
            if let Some(value) = value {
                one(
                    &mut encoder,
                    name,
                    help,
                    unit.as_ref(),
                    &ConstGauge::new(value),
                )?;
            }
        }
        Ok(())
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    let metric_encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
    metric.encode(metric_encoder)
}

#[derive(Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    threads: Option<i64>,
    resident_bytes: Option<i64>,
}

/// Takes `/proc/self/stat` apart (`proc_pid_stat(5)`; its fields are counted from 1).
fn usage(stat: &str) -> Usage {
    // The second field, the program's name, is in parentheses and may hold anything.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return Usage::default();
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
    let page_bytes = i64::try_from(rustix::param::page_size()).ok();
    let ticks = number(14)
        .zip(number(15))
        .map(|(user, system)| user + system);
    Usage {
        cpu_seconds: ticks
            .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
        threads: number(20),
        resident_bytes: number(24)
            .zip(page_bytes)
            .map(|(pages, bytes)| pages * bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_confuse_the_fields() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 7 0 100 4096 3 0";
        let usage = usage(stat);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(usage.cpu_seconds, Some(300.0 / ticks));
        assert_eq!(usage.threads, Some(7));
        let page_bytes = i64::try_from(rustix::param::page_size()).unwrap();
        assert_eq!(usage.resident_bytes, Some(3 * page_bytes));
    }

    #[test]
    fn what_is_no_stat_gives_nothing() {
        for stat in ["", "1 (x", "1 (x) S", ") "] {
            assert_eq!(usage(stat), Usage::default(), "{stat}");
        }
    }
}
