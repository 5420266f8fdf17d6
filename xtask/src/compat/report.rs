//! What the clients said, as JSON, as a table on the terminal and as a table in the documentation.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::steps::Outcome;

const BEGIN: &str = "<!-- compat:begin -->";
const END: &str = "<!-- compat:end -->";

/// The steps in the order of the table, and what they mean.
const STEPS: [(&str, &str); 75] = [
    ("api-versions", "broker API versions"),
    ("create-topic", "create a topic with configs"),
    ("list-topics", "list topics"),
    ("describe-topic", "describe a topic"),
    ("alter-configs", "alter configs"),
    ("describe-configs", "describe configs"),
    ("add-partitions", "add partitions"),
    ("delete-records", "delete records"),
    ("describe-cluster", "describe the cluster"),
    ("describe-log-dirs", "describe log directories"),
    ("delete-topic", "delete a topic"),
    ("produce-none", "produce uncompressed"),
    ("produce-gzip", "produce with gzip"),
    ("produce-snappy", "produce with snappy"),
    ("produce-lz4", "produce with lz4"),
    ("produce-zstd", "produce with zstd"),
    ("acks-0", "acks=0"),
    ("acks-1", "acks=1"),
    ("acks-all", "acks=all"),
    ("idempotent", "idempotent producer"),
    ("partitioner", "default partitioner"),
    ("consume", "consume, byte for byte"),
    ("consume-offset", "consume from an offset"),
    ("offsets-for-times", "offsets by timestamp"),
    ("long-poll", "long poll"),
    ("incremental-fetch", "fetch session"),
    ("group-join", "group: a second member joins"),
    ("group-leave", "group: it leaves"),
    ("group-commit", "group: restart from a commit"),
    ("group-list", "list groups"),
    ("group-describe", "describe a group"),
    ("group-lag", "lag of a group"),
    ("group-reset-offsets", "reset a group's offsets"),
    (
        "group-state",
        "kafka-consumer-groups: states, members, types",
    ),
    ("group-resets", "kafka-consumer-groups: seven ways to reset"),
    (
        "group-delete-offsets",
        "kafka-consumer-groups: delete offsets",
    ),
    ("group-delete", "delete a group"),
    ("group-consumer-protocol", "group.protocol=consumer"),
    ("txn-produce", "transaction: committed"),
    ("txn-abort", "transaction: aborted is not shown"),
    ("txn-offsets", "transaction: offsets of a group"),
    ("txn-fence", "transaction: a zombie is fenced"),
    ("txn-tool-list", "kafka-transactions list"),
    ("txn-tool-describe", "kafka-transactions describe"),
    (
        "txn-tool-producers",
        "kafka-transactions describe-producers",
    ),
    (
        "txn-tool-terminate",
        "kafka-transactions forceTerminateTransaction",
    ),
    ("txn-tool-hanging", "kafka-transactions find-hanging, abort"),
    ("streams-reset", "kafka-streams-application-reset"),
    ("share-consume", "share group: two members"),
    ("share-acknowledge", "share group: accept, release, reject"),
    ("share-tool-consume", "kafka-console-share-consumer"),
    ("share-tool-list", "kafka-share-groups: list, describe"),
    (
        "share-tool-reset",
        "kafka-share-groups: reset, delete offsets",
    ),
    ("share-tool-delete", "kafka-share-groups: delete"),
    ("error-unknown-topic", "error: unknown topic"),
    ("error-too-large", "error: record too large"),
    ("error-invalid-topic", "error: invalid topic name"),
    ("error-topic-exists", "error: topic exists"),
    ("error-invalid-config", "error: invalid config"),
    ("reset-earliest", "out of range, reset to earliest"),
    ("reset-latest", "out of range, reset to latest"),
    ("reset-none", "out of range, no reset"),
    (
        "configs-entities",
        "kafka-configs: groups, client metrics, brokers",
    ),
    ("configs-loggers", "kafka-configs: levels of loggers"),
    ("acls", "kafka-acls: no access control, and said so"),
    ("features", "kafka-features"),
    ("quorum", "kafka-metadata-quorum"),
    ("cluster-tool", "kafka-cluster"),
    ("elect-leaders", "kafka-leader-election"),
    ("reassign", "kafka-reassign-partitions"),
    ("topic-filters", "kafka-topics, kafka-get-offsets: filters"),
    ("perf-test", "performance tools"),
    ("dump-log", "kafka-dump-log on the data"),
    ("read-by-java-4", "its records read by Java"),
    ("read-by-confluent-kafka", "its records read by librdkafka"),
];

/// One step of one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepResult {
    /// The step's name.
    pub step: String,
    /// Null when the client has no such function.
    pub ok: Option<bool>,
    /// The error, or what is worth knowing.
    #[serde(default)]
    pub detail: String,
}

/// All steps of one client.
#[derive(Clone, Debug, Serialize)]
pub struct ClientReport {
    /// The client's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Why it did not run.
    pub skipped: Option<String>,
    /// How long it ran.
    pub seconds: f64,
    /// What it did.
    pub steps: Vec<StepResult>,
}

impl ClientReport {
    /// Nothing has run yet.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            skipped: None,
            seconds: 0.0,
            steps: Vec::new(),
        }
    }

    /// Whether all five topics of the data set were written.
    pub fn wrote_all(&self) -> bool {
        let written =
            |step: &&StepResult| step.step.starts_with("produce-") && step.ok == Some(true);
        self.steps.iter().filter(written).count() == 5
    }

    fn failures(&self) -> impl Iterator<Item = &StepResult> {
        self.steps.iter().filter(|step| step.ok == Some(false))
    }

    fn count(&self, ok: Option<bool>) -> usize {
        self.steps.iter().filter(|step| step.ok == ok).count()
    }

    /// A line for the terminal, and one for each failure.
    pub fn summary(&self) -> String {
        if let Some(reason) = &self.skipped {
            return format!("{:<16} skipped: {reason}", self.name);
        }
        let mut text = format!(
            "{:<16} {:<8} {} passed, {} failed, {} not supported, {:.0} s",
            self.name,
            self.version,
            self.count(Some(true)),
            self.count(Some(false)),
            self.count(None),
            self.seconds
        );
        for failure in self.failures() {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n    {}: {}",
                failure.step,
                shortened(&failure.detail)
            );
        }
        text
    }

    /// What the whole run makes of this client.
    pub fn outcome(&self, all: bool) -> Outcome {
        match &self.skipped {
            Some(reason) if all => Outcome::Failed(reason.clone()),
            Some(reason) => Outcome::Skipped(reason.clone()),
            None if self.steps.is_empty() => Outcome::Failed("it did nothing".to_owned()),
            None => match self
                .failures()
                .map(|step| format!("{} ({})", step.step, shortened(&step.detail)))
                .collect::<Vec<_>>()
            {
                failed if failed.is_empty() => Outcome::Passed,
                // What is printed elsewhere may be far above, or not kept.
                failed => Outcome::Failed(failed.join(", ")),
            },
        }
    }

    /// A program that ended early has failed all that it did not come to.
    fn cell(&self, step: &str) -> &'static str {
        let ended_early = self.failures().any(|result| result.step == "program");
        match self.steps.iter().find(|result| result.step == step) {
            Some(StepResult { ok: Some(true), .. }) => "✓",
            Some(StepResult { ok: None, .. }) => "–",
            None if !ended_early => "–",
            Some(StepResult {
                ok: Some(false), ..
            })
            | None => "✗",
        }
    }
}

/// The whole matrix.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The broker's name and version.
    pub broker: String,
    /// In the order of the table.
    pub clients: Vec<ClientReport>,
}

impl Report {
    /// Writes `target/compat/results.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, root: &Path) -> Result<()> {
        let path = root.join("target/compat/results.json");
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn ran(&self) -> Vec<&ClientReport> {
        self.clients
            .iter()
            .filter(|client| client.skipped.is_none())
            .collect()
    }

    /// The table in Markdown, without notes.
    pub fn table(&self) -> String {
        let ran = self.ran();
        let mut text = String::from("| |");
        for client in &ran {
            let _ = write!(text, " {} {} |", client.name, client.version);
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(ran.len()));
        for (step, meaning) in STEPS {
            let cells: Vec<_> = ran.iter().map(|client| client.cell(step)).collect();
            if cells.iter().any(|cell| *cell != "–") {
                let _ = write!(text, "\n| {meaning} | {} |", cells.join(" | "));
            }
        }
        text.push('\n');
        text
    }

    fn documentation(&self) -> String {
        let mut text = format!(
            "\n✓ passed, ✗ failed, – the client has no such function or the step is not for it. Broker: {}.\n\n",
            self.broker
        );
        text.push_str(&self.table());
        for client in self.ran() {
            for failure in client.failures() {
                let _ = write!(
                    text,
                    "\n- {}, {}: {}",
                    client.name,
                    failure.step,
                    shortened(&failure.detail)
                );
            }
        }
        let partitioners: Vec<_> = self
            .ran()
            .into_iter()
            .filter_map(|client| {
                let found = client
                    .steps
                    .iter()
                    .find(|step| step.step == "partitioner" && step.ok == Some(true))?;
                Some(format!("{}: {}", client.name, found.detail))
            })
            .collect();
        if !partitioners.is_empty() {
            let _ = write!(
                text,
                "\nDefault partitioners: {}.\n",
                partitioners.join("; ")
            );
        }
        text.push('\n');
        text
    }

    /// Puts the table between the markers of `docs/KAFKA_COMPATIBILITY.md`.
    ///
    /// # Errors
    /// When the file or its markers are missing.
    pub fn write_docs(&self, root: &Path) -> Result<()> {
        let path = root.join("docs/KAFKA_COMPATIBILITY.md");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let replaced = between_markers(&text, &self.documentation())?;
        fs::write(&path, replaced)?;
        Ok(())
    }
}

/// On one line, and only the first and last part of what is long; the JSON file has all of it.
fn shortened(detail: &str) -> String {
    let line = detail.replace('\n', " ");
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= 400 {
        return line;
    }
    let first: String = characters[..200].iter().collect();
    let last: String = characters[characters.len() - 200..].iter().collect();
    format!("{first} … {last}")
}

fn between_markers(text: &str, content: &str) -> Result<String> {
    let begin = text.find(BEGIN).context("the begin marker is missing")? + BEGIN.len();
    let end = begin
        + text[begin..]
            .find(END)
            .context("the end marker is missing")?;
    Ok(format!("{}\n{content}{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ok: Option<bool>) -> ClientReport {
        let mut client = ClientReport::new("java-4", "4.4.0");
        client.steps.push(StepResult {
            step: "create-topic".to_owned(),
            ok,
            detail: "why".to_owned(),
        });
        client
    }

    #[test]
    fn a_function_that_the_client_lacks_is_no_failure() {
        assert_eq!(report(None).outcome(true), Outcome::Passed);
        assert_eq!(report(Some(true)).outcome(true), Outcome::Passed);
        let failed = Outcome::Failed("create-topic (why)".to_owned());
        assert_eq!(report(Some(false)).outcome(false), failed);
    }

    #[test]
    fn a_skipped_client_fails_only_when_all_are_wanted() {
        let mut client = ClientReport::new("sarama", "");
        client.skipped = Some("go is not installed".to_owned());
        let reason = "go is not installed".to_owned();
        assert_eq!(client.outcome(false), Outcome::Skipped(reason.clone()));
        assert_eq!(client.outcome(true), Outcome::Failed(reason));
    }

    #[test]
    fn the_table_has_only_steps_that_somebody_did() {
        let report = Report {
            broker: "dlog".to_owned(),
            clients: vec![report(Some(true))],
        };
        let table = report.table();
        assert!(table.contains("| create a topic with configs | ✓ |"));
        assert!(!table.contains("list topics"));
    }

    #[test]
    fn only_what_lies_between_the_markers_is_replaced() {
        let text = format!("before {BEGIN} old {END} after");
        let replaced = between_markers(&text, "new\n").unwrap();
        assert_eq!(replaced, format!("before {BEGIN}\nnew\n{END} after"));
        assert!(between_markers("no markers", "new").is_err());
    }

    #[test]
    fn what_a_program_did_not_come_to_has_failed() {
        let mut client = report(Some(true));
        assert_eq!(client.cell("acks-0"), "–");
        client.steps.push(StepResult {
            step: "program".to_owned(),
            ok: Some(false),
            detail: "it ended".to_owned(),
        });
        assert_eq!(client.cell("acks-0"), "✗");
        assert_eq!(client.cell("create-topic"), "✓");
    }

    #[test]
    fn long_details_keep_both_ends() {
        let detail = format!("begin{}end", "ä".repeat(1000));
        let short = shortened(&detail);
        assert!(short.starts_with("begin") && short.ends_with("end"));
        assert!(short.chars().count() < 410);
        assert_eq!(shortened("two\nlines"), "two lines");
    }

    #[test]
    fn a_line_of_a_client_is_understood() {
        let line = r#"{"step":"acks-0","ok":null,"detail":"no"}"#;
        let result: StepResult = serde_json::from_str(line).unwrap();
        assert_eq!(result.ok, None);
    }
}
