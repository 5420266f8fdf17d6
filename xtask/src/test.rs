//! `cargo xtask test`: builds everything, runs unit, documentation, property and system tests, then
//! the real clients that can run on this machine, part of the real data set, and a short run of transactions
//! with kills.

use std::path::PathBuf;

use clap::Args;

use crate::compat::{self, Against, CompatOptions};
use crate::dataset::{self, DatasetOptions};
use crate::eos::{self, EosOptions};
use crate::share::{self, ShareOptions};
use crate::steps::{Steps, cargo};

/// Options of `cargo xtask test`.
#[derive(Clone, Debug, Args)]
pub struct TestOptions {
    /// Fail when a client is skipped because its toolchain is missing.
    #[arg(long)]
    pub all: bool,
}

/// Runs all tests. The tests' own output stays visible.
pub fn run(steps: &mut Steps, options: &TestOptions) {
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
    let clients = CompatOptions {
        against: Against::Dlog,
        bootstrap: None,
        dlog: Some(built_program(steps)),
        only: Vec::new(),
        all: options.all,
        write: false,
    };
    compat::run(steps, &clients);
    dataset::run(
        steps,
        &DatasetOptions::quick(built_program(steps), options.all),
    );
    let quick = EosOptions::quick(built_program(steps), options.all);
    eos::run(steps, &quick);
    let program = built_program(steps);
    share::run(steps, &ShareOptions::quick(program, options.all));
}

/// The program that the first step built; building it again with optimisation would take longer than
/// the clients do.
fn built_program(steps: &Steps) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target
        .unwrap_or_else(|| steps.root().join("target"))
        .join("debug/dlog")
}
