//! `cargo xtask test`: builds everything, then unit, documentation, property and system tests.

use clap::Args;

use crate::steps::{Steps, cargo};

/// Options of `cargo xtask test`.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// Fail when a client is skipped because its toolchain is missing.
    #[arg(long)]
    pub all: bool,
}

/// Runs all tests. The tests' own output stays visible.
pub fn run(steps: &mut Steps, _options: &TestOptions) {
    // The system tests start the program; it must be there, and be this version, before they do.
    steps.step("build", |root| {
        cargo(root, &["build", "--workspace", "--locked"], &[])
    });
    if steps.has_failed() {
        return;
    }
    steps.step("tests", |root| {
        cargo(
            root,
            &["test", "--workspace", "--locked", "--no-fail-fast"],
            &[],
        )
    });
}
