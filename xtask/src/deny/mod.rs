//! `cargo xtask deny`: the dependencies against `deny.toml`.
//!
//! [`policy`] judges, from what `cargo metadata` says; nothing is asked of the network. When
//! cargo-deny is installed it reads the same file afterwards, and must agree.

mod policy;

use std::path::Path;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::steps::{Outcome, Steps, cargo, is_installed};
use policy::Policy;

/// Judges the dependencies of the workspace.
pub fn run(steps: &mut Steps) {
    steps.step("dependencies", judge);
    steps.record("cargo-deny", |root| {
        if !is_installed("cargo-deny", "--version") {
            let reason = "not installed; the step before has checked the same rules";
            return Ok(Outcome::Skipped(reason.to_owned()));
        }
        let arguments = ["deny", "--offline", "check", "bans", "licenses", "sources"];
        cargo(root, &arguments, &[]).map(|()| Outcome::Passed)
    });
}

fn judge(root: &Path) -> Result<()> {
    let path = root.join("deny.toml");
    let text = std::fs::read_to_string(&path).context("cannot read deny.toml")?;
    let policy = Policy::parse(&text).context("deny.toml")?;
    let metadata = metadata(root, policy.targets())?;
    let report = policy.judge(&metadata);
    println!("{} packages looked at", report.packages);
    for finding in &report.findings {
        println!("  {finding}");
    }
    if !report.findings.is_empty() {
        bail!("{} findings against deny.toml", report.findings.len());
    }
    Ok(())
}

/// What the workspace depends on, on the systems that it is released for. The lock file decides; it
/// is not changed. Without what a build would need to have downloaded, cargo may ask the registry.
fn metadata(root: &Path, targets: &[String]) -> Result<Metadata> {
    let list = |offline: bool| {
        let mut options = vec!["--locked".to_owned()];
        if offline {
            options.push("--offline".to_owned());
        }
        for target in targets {
            options.extend(["--filter-platform".to_owned(), target.clone()]);
        }
        let mut command = MetadataCommand::new();
        command
            .manifest_path(root.join("Cargo.toml"))
            .other_options(options)
            .exec()
    };
    list(true)
        .or_else(|_| list(false))
        .context("cannot list the dependencies")
}
