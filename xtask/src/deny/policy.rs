//! What `deny.toml` allows, and what in a dependency graph it does not.
//!
//! The part of cargo-deny's schema that the file uses is read; a key that is not known here is an
//! error, so that no rule is written that nobody checks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::semver::{Version, VersionReq};
use cargo_metadata::{Metadata, Package};
use serde::Deserialize;
use spdx::expression::ExpressionReq;
use spdx::{Expression, ParseMode};

/// The file, as cargo-deny defines it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
    /// cargo-deny's own, with its data base.
    #[serde(rename = "advisories")]
    _advisories: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Graph {
    targets: Vec<String>,
    #[serde(rename = "all-features")]
    _all_features: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<LicenseException>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LicenseException {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: Level,
    wildcards: Level,
    #[serde(default)]
    allow_wildcard_paths: bool,
    #[serde(default)]
    skip: Vec<CrateRule>,
    #[serde(default)]
    deny: Vec<CrateRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CrateRule {
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: Level,
    unknown_git: Level,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Allow,
    Deny,
}

/// A crate, or some versions of it: `name`, `name@1.2.3`, `name:<1.2.3` as in cargo-deny.
#[derive(Debug)]
struct Spec {
    name: String,
    versions: VersionReq,
    reason: String,
}

impl Spec {
    fn parse(rule: &CrateRule) -> Result<Self> {
        let (name, versions) = match (rule.spec.split_once('@'), rule.spec.split_once(':')) {
            (Some((name, version)), _) => (name, format!("={version}")),
            (None, Some((name, versions))) => (name, versions.to_owned()),
            (None, None) => (rule.spec.as_str(), "*".to_owned()),
        };
        let versions = versions
            .parse()
            .with_context(|| format!("versions of {}", rule.spec))?;
        Ok(Self {
            name: name.to_owned(),
            versions,
            reason: rule.reason.clone(),
        })
    }

    fn matches(&self, name: &str, version: &Version) -> bool {
        self.name == name && self.versions.matches(version)
    }
}

/// The rules.
#[derive(Debug)]
pub struct Policy {
    file: File,
    banned: Vec<Spec>,
    skipped: Vec<Spec>,
}

/// What a judgement found.
#[derive(Debug, Default)]
pub struct Report {
    /// Number of packages that were looked at, our own included.
    pub packages: usize,
    /// One line each.
    pub findings: Vec<String>,
}

impl Policy {
    /// Reads the rules.
    ///
    /// # Errors
    /// When the text is not a `deny.toml`, or has rules that are not checked here.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let specs = |rules: &[CrateRule]| rules.iter().map(Spec::parse).collect::<Result<Vec<_>>>();
        let (banned, skipped) = (specs(&file.bans.deny)?, specs(&file.bans.skip)?);
        Ok(Self {
            file,
            banned,
            skipped,
        })
    }

    /// The systems that are looked at.
    pub fn targets(&self) -> &[String] {
        &self.file.graph.targets
    }

    /// Looks at every package that takes part in the build or in the tests.
    pub fn judge(&self, metadata: &Metadata) -> Report {
        let used: BTreeSet<_> = match &metadata.resolve {
            Some(resolve) => resolve.nodes.iter().map(|node| &node.id).collect(),
            None => metadata
                .packages
                .iter()
                .map(|package| &package.id)
                .collect(),
        };
        let mut report = Report::default();
        let mut versions = BTreeMap::<&str, BTreeSet<&Version>>::new();
        for package in metadata
            .packages
            .iter()
            .filter(|package| used.contains(&package.id))
        {
            report.packages += 1;
            versions
                .entry(package.name.as_str())
                .or_default()
                .insert(&package.version);
            let is_ours = metadata.workspace_members.contains(&package.id);
            report.findings.extend(self.judge_package(package, is_ours));
        }
        report.findings.extend(self.judge_duplicates(&versions));
        report
    }

    fn judge_package(&self, package: &Package, is_ours: bool) -> Vec<String> {
        let mut findings = Vec::new();
        let named = format!("{} {}", package.name, package.version);
        if let Err(reason) = self.judge_license(&package.name, package.license.as_deref()) {
            findings.push(format!("licence: {named}: {reason}"));
        }
        for ban in &self.banned {
            if ban.matches(&package.name, &package.version) {
                findings.push(format!("banned: {named}: {}", ban.reason));
            }
        }
        if is_ours {
            findings.extend(self.judge_wildcards(package));
        } else if let Err(reason) = self.judge_source(package) {
            findings.push(format!("source: {named}: {reason}"));
        }
        findings
    }

    fn judge_license(&self, name: &str, license: Option<&str>) -> Result<(), String> {
        let text = license.ok_or("no licence is given")?;
        let expression = Expression::parse_mode(text, ParseMode::LAX)
            .map_err(|error| error.reason.to_string())?;
        let licenses = &self.file.licenses;
        let exceptions = licenses
            .exceptions
            .iter()
            .filter(|exception| exception.name == name);
        let allowed: Vec<&str> = exceptions
            .flat_map(|exception| &exception.allow)
            .chain(&licenses.allow)
            .map(String::as_str)
            .collect();
        let is_allowed = |requirement: &spdx::LicenseReq| {
            let wanted = requirement.to_string();
            allowed.iter().any(|&license| license == wanted)
        };
        expression
            .evaluate_with_failures(is_allowed)
            .map_err(|refused: Vec<&ExpressionReq>| {
                let refused: Vec<String> = refused.iter().map(|one| one.req.to_string()).collect();
                format!("{text}: {} is not allowed", refused.join(", "))
            })
    }

    fn judge_source(&self, package: &Package) -> Result<(), String> {
        let Some(source) = &package.source else {
            return Err("a folder outside the workspace".to_owned());
        };
        let is_git = source.repr.starts_with("git+");
        if is_git && self.file.sources.unknown_git == Level::Deny {
            return Err(format!("a Git repository, {source}"));
        }
        let is_other_registry = !is_git && !source.is_crates_io();
        if is_other_registry && self.file.sources.unknown_registry == Level::Deny {
            return Err(format!("not the default registry, {source}"));
        }
        Ok(())
    }

    fn judge_wildcards(&self, package: &Package) -> Vec<String> {
        let bans = &self.file.bans;
        let wildcard = |dependency: &&cargo_metadata::Dependency| {
            dependency.req == VersionReq::STAR
                && !(bans.allow_wildcard_paths && dependency.path.is_some())
        };
        if bans.wildcards == Level::Allow {
            return Vec::new();
        }
        let wildcards = package.dependencies.iter().filter(wildcard);
        wildcards
            .map(|found| {
                format!(
                    "wildcard: {} takes any version of {}",
                    package.name, found.name
                )
            })
            .collect()
    }

    fn judge_duplicates(&self, versions: &BTreeMap<&str, BTreeSet<&Version>>) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, versions) in versions {
            let is_skipped =
                |version: &&&Version| self.skipped.iter().any(|skip| skip.matches(name, version));
            let counted: Vec<String> = versions
                .iter()
                .filter(|v| !is_skipped(v))
                .map(ToString::to_string)
                .collect();
            if counted.len() > 1 && self.file.bans.multiple_versions == Level::Deny {
                findings.push(format!("duplicate: {name}: {}", counted.join(", ")));
            }
        }
        for skip in &self.skipped {
            let present = versions.get(skip.name.as_str());
            if present.is_none_or(|versions| versions.len() < 2) {
                let name = &skip.name;
                findings.push(format!(
                    "stale: {name} is no duplicate any more; delete its skip"
                ));
            }
        }
        findings
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
