//! `cargo xtask docs`: keeps in step with the code what the documents say about it.
//!
//! The table of APIs in `docs/KAFKA_COMPATIBILITY.md` is made from the broker's own table; every
//! direct dependency must have its line in `docs/dependencies.md`; links to files must lead somewhere.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

const BEGIN: &str = "<!-- apis:begin -->";
const END: &str = "<!-- apis:end -->";

/// Writes what is made from the code.
///
/// # Errors
/// When a file cannot be read or written, or has not the expected form.
pub fn write(root: &Path) -> Result<()> {
    let (path, _, wanted) = compatibility(root)?;
    fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the documents are in step with the code.
///
/// # Errors
/// When they are not.
pub fn check(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let (path, found, wanted) = compatibility(root)?;
    if found != wanted {
        findings.push(format!(
            "{} is not up to date: run cargo xtask docs",
            path.display()
        ));
    }
    findings.extend(undocumented_dependencies(root)?);
    for document in documents(root)? {
        findings.extend(dead_links(&document)?);
    }
    for finding in &findings {
        println!("  {finding}");
    }
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("{} findings in the documents", findings.len())
    }
}

/// The document with the table of APIs: its path, its text, and the text that it should have.
fn compatibility(root: &Path) -> Result<(PathBuf, String, String)> {
    let path = root.join("docs/KAFKA_COMPATIBILITY.md");
    let text = read(&path)?;
    let served = read(&root.join("crates/broker/src/protocol/served.rs"))?;
    let apis = served_apis(&served);
    if apis.is_empty() {
        bail!("no API was found in served.rs: has its form changed?");
    }
    let tests = test_files(root)?;
    let mut table = "| API | versions | tested by |\n|---|---|---|\n".to_owned();
    for (api, min, max) in apis {
        let tested_by = tests_of(&api, &tests);
        writeln!(table, "| {api} | {min} to {max} | {tested_by} |")?;
    }
    let wanted = replace_between(&text, BEGIN, END, &table)?;
    Ok((path, text, wanted))
}

/// The rows `served(ApiKey::Name, min, max)` of the broker's table.
fn served_apis(source: &str) -> Vec<(String, u32, u32)> {
    let rows = source.split("served(ApiKey::").skip(1);
    let row = |row: &str| {
        let mut fields = row.split(')').next()?.split(',').map(str::trim);
        let api = fields.next()?.to_owned();
        Some((
            api,
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        ))
    };
    rows.filter_map(row).collect()
}

/// Test programs that drive the server, with the text of all that belongs to each.
fn test_files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for folder in ["crates/broker/tests", "tests/tests"] {
        collect(&root.join(folder), "rs", &mut files)?;
    }
    // A folder in there holds what several tests share: it tests nothing by itself.
    files.retain(|file| !file.ends_with("mod.rs"));
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .display()
            .to_string();
        let mut text = read(&file)?;
        if text.contains("requests::") {
            // The test goes through the list of one request of every kind.
            text += &read(&root.join("tests/src/requests.rs"))?;
        }
        found.push((name, text));
    }
    Ok(found)
}

fn tests_of(api: &str, tests: &[(String, String)]) -> String {
    let (request, key) = (format!("{api}Request"), format!("ApiKey::{api}"));
    let names_it = |text: &str| {
        let is_word = |(at, found): (usize, &str)| {
            !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric())
                && !text[..at].ends_with(|c: char| c.is_alphanumeric())
        };
        text.match_indices(&request)
            .chain(text.match_indices(&key))
            .any(is_word)
    };
    let files = tests.iter().filter(|(_, text)| names_it(text));
    let links: Vec<String> = files
        .map(|(name, _)| {
            let short = name.rsplit('/').next().unwrap_or(name);
            format!("[{short}](../{name})")
        })
        .collect();
    if links.is_empty() {
        "clients".to_owned()
    } else {
        links.join(", ")
    }
}

pub fn replace_between(text: &str, begin: &str, end: &str, new: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(begin)
        .with_context(|| format!("{begin} is missing"))?;
    let (_, after) = rest
        .split_once(end)
        .with_context(|| format!("{end} is missing"))?;
    Ok(format!("{before}{begin}\n\n{new}\n{end}{after}"))
}

fn undocumented_dependencies(root: &Path) -> Result<Vec<String>> {
    let text = read(&root.join("docs/dependencies.md"))?;
    let mut command = MetadataCommand::new();
    let metadata = command
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()?;
    let direct: BTreeSet<&str> = metadata
        .packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| dependency.path.is_none())
        .map(|dependency| dependency.name.as_str())
        .collect();
    let missing = direct
        .into_iter()
        .filter(|name| !text.contains(&format!("\n| {name} |")));
    Ok(missing
        .map(|name| format!("docs/dependencies.md does not say why {name} is used"))
        .collect())
}

fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.join("README.md")];
    collect(&root.join("docs"), "md", &mut found)?;
    Ok(found)
}

/// Links to files of the repository that do not exist.
fn dead_links(document: &Path) -> Result<Vec<String>> {
    let text = read(document)?;
    let folder = document.parent().unwrap_or(document);
    let mut dead = Vec::new();
    for target in text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        let file = target.split('#').next().unwrap_or(target);
        if file.is_empty() || file.contains("://") {
            continue;
        }
        if !folder.join(file).exists() {
            dead.push(format!("{}: {target} does not exist", document.display()));
        }
    }
    Ok(dead)
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, extension, found)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_broker_are_read() {
        let source = "const fn served(api: ApiKey, min: i16, max: i16) -> Served {}\n\
                      served(ApiKey::Produce, 3, 13),\n    served(ApiKey::Fetch, 4, 18),\n";
        let expected = [("Produce".to_owned(), 3, 13), ("Fetch".to_owned(), 4, 18)];
        assert_eq!(served_apis(source), expected);
    }

    #[test]
    fn a_test_is_credited_with_the_api_it_names_only() {
        let tests = [(
            "x/t.rs".to_owned(),
            "let r = ProduceRequest::default();".to_owned(),
        )];
        assert_eq!(tests_of("Produce", &tests), "[t.rs](../x/t.rs)");
        assert_eq!(tests_of("uce", &tests), "clients");
    }

    #[test]
    fn text_between_markers_is_replaced() {
        let text = "a\n<b>\nold\n</b>\nz";
        assert_eq!(
            replace_between(text, "<b>", "</b>", "new\n").unwrap(),
            "a\n<b>\n\nnew\n\n</b>\nz"
        );
        assert!(replace_between(text, "<c>", "</b>", "").is_err());
    }
}
