//! When batches are due.
//!
//! The clock of the asynchronous runtime ticks in milliseconds, which is longer than a broker needs. So
//! a thread sleeps from one due time to the next and gives out a permit for each. A permit that nobody
//! took in time stays: what is late is sent late, and its latency counts from when it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Batches at a fixed rate, or one after the other as fast as they go.
#[derive(Clone)]
pub(super) struct Pace {
    began: Instant,
    until: Instant,
    /// Time between two batches.
    interval: Option<Duration>,
    permits: Arc<Semaphore>,
    taken: Arc<AtomicU64>,
}

impl Pace {
    /// From now on for `length`, `rate` batches a second.
    pub(super) fn start(rate: Option<f64>, length: Duration) -> Self {
        let began = Instant::now();
        let pace = Self {
            began,
            until: began + length,
            // A rate that is no time apart, or ages apart, is as good as its bound.
            interval: rate.map(|rate| Duration::from_secs_f64(1.0 / rate.clamp(1e-6, 1e9))),
            permits: Arc::new(Semaphore::new(0)),
            taken: Arc::default(),
        };
        if pace.interval.is_some() {
            let ticking = pace.clone();
            std::thread::spawn(move || ticking.tick());
        }
        pace
    }

    /// When batch `number` is due.
    pub(super) fn due(&self, number: u64) -> Instant {
        let after = self.interval.unwrap_or_default().as_secs_f64() * number as f64;
        self.began + Duration::from_secs_f64(after)
    }

    fn tick(&self) {
        let mut given = 0;
        loop {
            let due = self.due(given);
            if due >= self.until {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.permits.add_permits(1);
            given += 1;
        }
        std::thread::sleep(self.until.saturating_duration_since(Instant::now()));
        self.permits.close();
    }

    /// The next batch: its number, and the time that its latency counts from. Nothing when time is up.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        if self.interval.is_some() {
            self.permits.acquire().await.ok()?.forget();
        } else if Instant::now() >= self.until {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let from = match self.interval {
            Some(_) => self.due(number),
            None => Instant::now(),
        };
        Some((number, from))
    }

    /// Whether time is up.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// With a rate: batches that were due and never sent.
    pub(super) fn missed(&self) -> Option<u64> {
        let interval = self.interval?;
        let length = (self.until - self.began).as_secs_f64();
        let due = (length / interval.as_secs_f64()).ceil() as u64;
        Some(due.saturating_sub(self.taken.load(Ordering::Relaxed)))
    }

    /// Time since the start, in ms.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_batch_is_due_at_its_time_and_none_is_early() {
        let pace = Pace::start(Some(200.0), Duration::from_millis(100));
        let mut numbers = Vec::new();
        while let Some((number, due)) = pace.next().await {
            assert!(Instant::now() >= due);
            assert_eq!(due, pace.due(number));
            numbers.push(number);
        }
        let sent = numbers.len() as u64;
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
        assert_eq!(sent + pace.missed().unwrap(), 20);
        assert_eq!(pace.due(10) - pace.due(0), Duration::from_millis(50));
    }

    #[tokio::test]
    async fn without_a_rate_there_is_always_a_next_until_time_is_up() {
        let pace = Pace::start(None, Duration::from_secs(3600));
        assert_eq!(pace.next().await.map(|(number, _)| number), Some(0));
        assert_eq!(pace.next().await.map(|(number, _)| number), Some(1));
        assert_eq!(pace.missed(), None);
        assert!(Pace::start(None, Duration::ZERO).next().await.is_none());
    }
}
