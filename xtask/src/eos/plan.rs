//! When who is killed: a pure function of the seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The broker gets SIGKILL, and is started again on its folder.
    Broker,
    /// A client, by its place, gets SIGKILL; the next instance takes over.
    Client(usize),
    /// A client, by its place, is stopped, the next instance takes over, and the first one goes on.
    Zombie(usize),
}

/// How many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blows {
    /// SIGKILLs of the broker.
    pub broker: usize,
    /// SIGKILLs of clients.
    pub clients: usize,
    /// Clients that come back too late.
    pub zombies: usize,
}

/// Blows with their times from the beginning: one in each of as many equal parts of the span, in any order
/// of kinds. `clients` may be killed, `zombies` stopped. The same seed gives the same ones.
pub fn plan(
    seed: u64,
    span: Duration,
    blows: Blows,
    clients: &[usize],
    zombies: &[usize],
) -> Vec<(Duration, Blow)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = vec![Blow::Broker; blows.broker];
    for (count, places, kind) in [
        (blows.clients, clients, Blow::Client as fn(usize) -> Blow),
        (blows.zombies, zombies, Blow::Zombie),
    ] {
        if !places.is_empty() {
            all.extend((0..count).map(|_| kind(places[random.random_range(0..places.len())])));
        }
    }
    all.shuffle(&mut random);
    let part = span.as_secs_f64() / all.len().max(1) as f64;
    let times = (0..all.len()).map(|i| part * (i as f64 + random.random::<f64>()));
    let times: Vec<_> = times.map(Duration::from_secs_f64).collect();
    times.into_iter().zip(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOWS: Blows = Blows {
        broker: 4,
        clients: 3,
        zombies: 2,
    };

    #[test]
    fn blows_are_spread_and_repeatable() {
        let span = Duration::from_secs(20);
        for seed in 0..200 {
            let found = plan(seed, span, BLOWS, &[0, 1, 2, 7], &[1, 2]);
            assert_eq!(found, plan(seed, span, BLOWS, &[0, 1, 2, 7], &[1, 2]));
            assert!(found.is_sorted_by_key(|(time, _)| *time));
            assert!(found.last().is_some_and(|(time, _)| *time <= span));
            let count = |wanted: fn(&Blow) -> bool| found.iter().filter(|(_, b)| wanted(b)).count();
            assert_eq!(count(|b| *b == Blow::Broker), 4);
            assert_eq!(count(|b| matches!(b, Blow::Client(0 | 1 | 2 | 7))), 3);
            assert_eq!(count(|b| matches!(b, Blow::Zombie(1 | 2))), 2);
        }
        assert_ne!(
            plan(1, span, BLOWS, &[0], &[0]),
            plan(2, span, BLOWS, &[0], &[0])
        );
    }

    #[test]
    fn nobody_is_killed_where_nobody_may_be() {
        let found = plan(3, Duration::from_secs(1), BLOWS, &[], &[]);
        assert_eq!(found.len(), 4);
    }
}
