//! The HTTP port: metrics for Prometheus and health for whoever restarts or routes to this process.
//!
//! | path | answer |
//! |---|---|
//! | `/` | names the other paths |
//! | `/metrics` | all metrics, OpenMetrics text 1.0 |
//! | `/health/live` | 200 as long as the process serves HTTP |
//! | `/health/ready` | 200 when all logs are open and clients are served, else 503 |
//!
//! Invariants: the port is open before the logs are, so that a long recovery can be watched; nothing
//! a client does here can hold more than [`Limits`] allows; nothing here changes the server's state.

mod health;
mod process;
mod routes;
mod server;

pub use health::{ConsoleState, Health};
pub use server::{Console, ConsoleError, Limits};
