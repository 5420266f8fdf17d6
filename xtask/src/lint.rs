//! `cargo xtask lint`: format, clippy and rustdoc with warnings denied, dependencies.

use crate::steps::{Steps, cargo};
use crate::{deny, docs};

/// Runs all checks that need no test run.
pub fn run(steps: &mut Steps) {
    steps.step("format", |root| {
        cargo(root, &["fmt", "--all", "--", "--check"], &[])
    });
    steps.step("clippy", |root| {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        cargo(root, &arguments, &[])
    });
    steps.step("rustdoc", |root| {
        let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
        cargo(root, &arguments, &[("RUSTDOCFLAGS", "-D warnings")])
    });
    steps.step("documents", docs::check);
    deny::run(steps);
}
