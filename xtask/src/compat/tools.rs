//! Kafka's console tools, each started as a process of its own, as its shell scripts do.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::report::StepResult;
use super::target::Target;
use crate::kafka::Distribution;

/// No tool is asked for anything that takes long.
const TOOL_BOUND: Duration = Duration::from_secs(45);

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// What is written with each codec: headers, key, value.
const LINES: &str = "h:1,i:2\tkey\tvalue\nh:1\tNULL\tno key\nh:1\tnull-value\tNULL\n";
/// What the consumer prints for that.
const READ: [&str; 3] = [
    "h:1,i:2\tkey\tvalue",
    "h:1\tnull\tno key",
    "h:1\tnull-value\tnull",
];

/// Does the steps with the tools of a distribution.
pub fn run(
    root: &Path,
    distribution: &Distribution,
    target: &Target,
    name: &str,
) -> Vec<StepResult> {
    let mut tools = Tools::new(root, distribution, target, name);
    if let Err(error) = fs::create_dir_all(&tools.scratch) {
        tools.step("program", |_| {
            bail!("no folder for the tools' output: {error}")
        });
        return tools.steps;
    }
    tools.admin();
    tools.producing();
    tools.consuming();
    tools.groups();
    tools.transactions();
    tools.step("streams-reset", Tools::streams_reset);
    tools.share_groups();
    tools.rest_of_admin();
    tools.step("perf-test", Tools::perf_test);
    tools.step("delete-records", Tools::delete_records);
    tools.errors();
    tools.step("delete-topic", Tools::delete_topic);
    tools.steps
}

/// Reads what [`run`] wrote with kafka-dump-log, after the broker has ended: while it runs, the
/// space that it reserved at the end of the active segment looks like damage to that tool.
pub fn dump_log(
    root: &Path,
    distribution: &Distribution,
    target: &Target,
    name: &str,
) -> Vec<StepResult> {
    let mut tools = Tools::new(root, distribution, target, name);
    match &target.log_dir {
        Some(folder) => tools.step("dump-log", |tools| tools.dump_log(folder)),
        None => tools.push("dump-log", None, "the broker's folder is not known"),
    }
    tools.steps
}

/// The tools of one distribution, and what they did so far.
pub(super) struct Tools<'a> {
    pub(super) root: &'a Path,
    /// What the names of topics and groups begin with.
    pub(super) prefix: String,
    distribution: &'a Distribution,
    pub(super) bootstrap: &'a str,
    pub(super) three: bool,
    topic: String,
    pub(super) data: String,
    pub(super) group: String,
    pub(super) scratch: PathBuf,
    steps: Vec<StepResult>,
}

impl<'a> Tools<'a> {
    fn new(root: &'a Path, distribution: &'a Distribution, target: &'a Target, name: &str) -> Self {
        let prefix = format!("{name}-{}", std::process::id());
        Self {
            root,
            distribution,
            bootstrap: &target.bootstrap,
            three: distribution.version.starts_with("3."),
            topic: format!("{prefix}-admin"),
            data: format!("{prefix}-data"),
            group: format!("{prefix}-g"),
            prefix,
            scratch: root.join("target/compat/tools").join(name),
            steps: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, step: &str, ok: Option<bool>, detail: &str) {
        self.steps.push(StepResult {
            step: step.to_owned(),
            ok,
            detail: detail.to_owned(),
        });
    }

    pub(super) fn step(&mut self, name: &str, run: impl FnOnce(&Self) -> Result<()>) {
        match run(self) {
            Ok(()) => self.push(name, Some(true), ""),
            Err(error) => self.push(name, Some(false), &format!("{error:#}")),
        }
    }

    /// The class behind one of Kafka's scripts; some moved between the lines.
    fn class(&self, script: &str) -> &'static str {
        match (script, self.three) {
            ("broker-api-versions", true) => "kafka.admin.BrokerApiVersionsCommand",
            ("broker-api-versions", false) => "org.apache.kafka.tools.BrokerApiVersionsCommand",
            ("configs", true) => "kafka.admin.ConfigCommand",
            ("configs", false) => "org.apache.kafka.tools.ConfigCommand",
            ("console-consumer", _) => "org.apache.kafka.tools.consumer.ConsoleConsumer",
            ("console-producer", true) => "kafka.tools.ConsoleProducer",
            ("console-producer", false) => "org.apache.kafka.tools.ConsoleProducer",
            ("consumer-groups", _) => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            ("consumer-perf-test", _) => "org.apache.kafka.tools.ConsumerPerformance",
            ("delete-records", _) => "org.apache.kafka.tools.DeleteRecordsCommand",
            ("dump-log", true) => "kafka.tools.DumpLogSegments",
            ("dump-log", false) => "org.apache.kafka.tools.DumpLogSegments",
            ("acls", _) => "org.apache.kafka.tools.AclCommand",
            ("cluster", _) => "org.apache.kafka.tools.ClusterTool",
            ("features", _) => "org.apache.kafka.tools.FeatureCommand",
            ("leader-election", _) => "org.apache.kafka.tools.LeaderElectionCommand",
            ("metadata-quorum", _) => "org.apache.kafka.tools.MetadataQuorumCommand",
            ("reassign-partitions", _) => {
                "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
            }
            ("get-offsets", _) => "org.apache.kafka.tools.GetOffsetShell",
            ("groups", _) => "org.apache.kafka.tools.GroupsCommand",
            ("log-dirs", _) => "org.apache.kafka.tools.LogDirsCommand",
            ("producer-perf-test", _) => "org.apache.kafka.tools.ProducerPerformance",
            ("console-share-consumer", _) => "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
            ("share-groups", _) => "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
            ("streams-application-reset", _) => "org.apache.kafka.tools.StreamsResetter",
            ("transactions", _) => "org.apache.kafka.tools.TransactionsCommand",
            _ => "org.apache.kafka.tools.TopicCommand",
        }
    }

    /// Runs a tool to its end; its output, or an error with it.
    pub(super) fn call(&self, script: &str, arguments: &[&str], stdin: &str) -> Result<String> {
        let log = self.scratch.join("output");
        let file = File::create(&log)?;
        // The tools live for a second: the optimising compiler would only slow them.
        let mut child = self
            .distribution
            .java(None)
            .args([
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                self.class(script),
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start java")?;
        let mut input = child.stdin.take().context("the pipe was asked for")?;
        input.write_all(stdin.as_bytes())?;
        drop(input);
        let end = Instant::now() + TOOL_BOUND;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                child.kill()?;
                child.wait()?;
                bail!(
                    "kafka-{script}: no end within {TOOL_BOUND:?}: {}",
                    fs::read_to_string(&log)?
                );
            }
            thread::sleep(Duration::from_millis(10));
        };
        let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        ensure!(
            status.success(),
            "kafka-{script} failed ({status}): {output}"
        );
        Ok(output)
    }

    /// A tool that takes the broker as `--bootstrap-server`.
    pub(super) fn tool(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--bootstrap-server", self.bootstrap];
        all.extend_from_slice(arguments);
        self.call(script, &all, "")
    }

    fn admin(&mut self) {
        self.step("api-versions", |tools| {
            contains(&tools.tool("broker-api-versions", &[])?, "Produce(0): ")
        });
        self.step("create-topic", |tools| {
            tools.create(&tools.topic, "3", "retention.ms=86400000")?;
            tools.create(&tools.data, "1", "retention.ms=-1")
        });
        self.step("list-topics", |tools| {
            contains(&tools.tool("topics", &["--list"])?, &tools.topic)
        });
        self.step("describe-topic", |tools| tools.has_partitions("3"));
        self.step("alter-configs", |tools| {
            let entity = ["--entity-type", "topics", "--entity-name", &tools.topic];
            let change = ["--alter", "--add-config", "retention.ms=7200000"];
            tools.tool("configs", &[&entity[..], &change[..]].concat())?;
            Ok(())
        });
        self.step("describe-configs", |tools| {
            let entity = [
                "--entity-type",
                "topics",
                "--entity-name",
                &tools.topic,
                "--describe",
            ];
            contains(&tools.tool("configs", &entity)?, "retention.ms=7200000")
        });
        self.step("add-partitions", |tools| {
            tools.tool(
                "topics",
                &["--alter", "--topic", &tools.topic, "--partitions", "5"],
            )?;
            tools.has_partitions("5")
        });
        self.step("describe-log-dirs", |tools| {
            let output = tools.tool("log-dirs", &["--describe", "--topic-list", &tools.topic])?;
            contains(&output, &format!("{}-0", tools.topic))
        });
    }

    pub(super) fn create(&self, topic: &str, partitions: &str, config: &str) -> Result<()> {
        let arguments = ["--create", "--topic", topic, "--partitions", partitions];
        let more = ["--replication-factor", "1", "--config", config];
        self.tool("topics", &[&arguments[..], &more[..]].concat())?;
        Ok(())
    }

    fn has_partitions(&self, count: &str) -> Result<()> {
        let output = self.tool("topics", &["--describe", "--topic", &self.topic])?;
        contains(&output, &format!("PartitionCount: {count}"))
    }

    pub(super) fn produce(&self, topic: &str, options: &[&str], lines: &str) -> Result<()> {
        let first = ["--bootstrap-server", self.bootstrap, "--topic", topic];
        let output = self.call("console-producer", &[&first[..], options].concat(), lines)?;
        ensure!(!output.contains("ERROR"), "{output}");
        Ok(())
    }

    fn producing(&mut self) {
        for codec in CODECS {
            self.step(&format!("produce-{codec}"), |tools| {
                let mut options = vec!["--compression-codec", codec];
                for property in ["parse.headers=true", "parse.key=true", "null.marker=NULL"] {
                    options.extend(["--property", property]);
                }
                tools.produce(&tools.data, &options, LINES)
            });
        }
        for acks in ["0", "1", "all"] {
            self.step(&format!("acks-{acks}"), |tools| {
                tools.produce(
                    &tools.topic,
                    &["--request-required-acks", acks],
                    "one\ntwo\n",
                )
            });
        }
    }

    fn consume(&self, count: &str, options: &[&str]) -> Result<String> {
        let first = [
            "--topic",
            &self.data,
            "--max-messages",
            count,
            "--timeout-ms",
            "20000",
        ];
        let mut all = [&first[..], options].concat();
        for property in ["print.key=true", "print.headers=true", "print.offset=true"] {
            all.extend(["--property", property]);
        }
        self.tool("console-consumer", &all)
    }

    fn consuming(&mut self) {
        self.step("consume", |tools| {
            let output = tools.consume("15", &["--from-beginning"])?;
            for offset in 0..15 {
                contains(&output, &format!("Offset:{offset}\t{}\n", READ[offset % 3]))?;
            }
            Ok(())
        });
        self.step("consume-offset", |tools| {
            let output = tools.consume("1", &["--partition", "0", "--offset", "4"])?;
            contains(&output, &format!("Offset:4\t{}\n", READ[1]))
        });
        self.step("offsets-for-times", |tools| {
            for (time, offset) in [("earliest", 0), ("latest", 15), ("1000", 0)] {
                let output =
                    tools.tool("get-offsets", &["--topic", &tools.data, "--time", time])?;
                contains(&output, &format!("{}:0:{offset}\n", tools.data))?;
            }
            Ok(())
        });
    }

    fn groups(&mut self) {
        self.step("group-commit", |tools| {
            // The console consumer commits when it ends.
            tools.consume("15", &["--group", &tools.group, "--from-beginning"])?;
            tools.produce(&tools.data, &[], "after the commit\n")?;
            let output = tools.consume("1", &["--group", &tools.group])?;
            contains(&output, "Offset:15\tNO_HEADERS\tnull\tafter the commit\n")
        });
        self.step("group-list", |tools| {
            contains(&tools.tool("consumer-groups", &["--list"])?, &tools.group)
        });
        self.step("group-describe", |tools| tools.lag("0"));
        self.step("group-lag", |tools| {
            tools.produce(&tools.data, &[], "unread\n")?;
            tools.lag("1")
        });
        self.step("group-reset-offsets", |tools| {
            let arguments = [
                "--reset-offsets",
                "--to-earliest",
                "--execute",
                "--topic",
                &tools.data,
            ];
            let group = ["--group", &tools.group];
            tools.tool("consumer-groups", &[&group[..], &arguments[..]].concat())?;
            tools.lag("17")
        });
        self.group_details();
        self.step("group-delete", |tools| {
            tools.tool("consumer-groups", &["--delete", "--group", &tools.group])?;
            let output = tools.tool("consumer-groups", &["--list"])?;
            ensure!(!output.contains(&tools.group), "the group is still listed");
            Ok(())
        });
    }

    /// GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
    pub(super) fn lag(&self, expected: &str) -> Result<()> {
        let output = self.tool("consumer-groups", &["--describe", "--group", &self.group])?;
        let row = output
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| row.get(1) == Some(&self.data.as_str()));
        let lag = row.as_ref().and_then(|row| row.get(5)).copied();
        ensure!(lag == Some(expected), "the lag is not {expected}: {output}");
        Ok(())
    }

    fn perf_test(&self) -> Result<()> {
        let topic = ["--topic", &self.topic];
        let bootstrap = format!("bootstrap.servers={}", self.bootstrap);
        let load = [
            "--num-records",
            "5000",
            "--record-size",
            "100",
            "--throughput",
            "-1",
        ];
        let option = if self.three {
            "--producer-props"
        } else {
            "--command-property"
        };
        let arguments = [&topic[..], &load[..], &[option, &bootstrap]].concat();
        contains(
            &self.call("producer-perf-test", &arguments, "")?,
            "5000 records sent",
        )?;
        let option = if self.three {
            "--messages"
        } else {
            "--num-records"
        };
        let output = self.tool(
            "consumer-perf-test",
            &[&topic[..], &[option, "5000"]].concat(),
        )?;
        contains(&output, "fetch.nMsg.sec")
    }

    fn dump_log(&self, folder: &Path) -> Result<()> {
        let partition = find_folder(folder, &format!("{}-0", self.data))
            .with_context(|| format!("{} has no such partition", folder.display()))?;
        let segment = partition
            .join("00000000000000000000.log")
            .display()
            .to_string();
        let arguments = ["--deep-iteration", "--print-data-log", "--files", &segment];
        let output = self.call("dump-log", &arguments, "")?;
        ensure!(
            !output.contains("isvalid: false"),
            "a batch is not valid: {output}"
        );
        for codec in CODECS {
            contains(&output, &format!("compresscodec: {codec}"))?;
        }
        contains(&output, "payload: unread")
    }

    fn delete_records(&self) -> Result<()> {
        let file = self.scratch.join("delete.json");
        let topic = &self.data;
        let text = serde_json::json!({
            "version": 1,
            "partitions": [{"topic": topic, "partition": 0, "offset": 4}],
        });
        fs::write(&file, text.to_string())?;
        let file = file.display().to_string();
        let output = self.tool("delete-records", &["--offset-json-file", &file])?;
        contains(&output, "low_watermark: 4")?;
        let output = self.tool("get-offsets", &["--topic", topic, "--time", "earliest"])?;
        contains(&output, &format!("{topic}:0:4"))
    }

    fn errors(&mut self) {
        let cases = [
            (
                "error-invalid-topic",
                "not a topic!",
                "retention.ms=-1",
                "nvalid",
            ),
            (
                "error-topic-exists",
                &self.data.clone(),
                "retention.ms=-1",
                "already exists",
            ),
            (
                "error-invalid-config",
                &format!("{}-bad", self.data),
                "retention.ms=soon",
                "Invalid value soon",
            ),
        ];
        for (step, topic, config, expected) in cases {
            self.step(step, |tools| match tools.create(topic, "1", config) {
                Ok(()) => bail!("it succeeded"),
                Err(error) => contains(&error.to_string(), expected),
            });
        }
    }

    fn delete_topic(&self) -> Result<()> {
        self.tool("topics", &["--delete", "--topic", &self.topic])?;
        let output = self.tool("topics", &["--list"])?;
        ensure!(!output.contains(&self.topic), "the topic is still listed");
        Ok(())
    }
}

/// Fails with the output when it lacks something.
pub(super) fn contains(output: &str, expected: &str) -> Result<()> {
    ensure!(output.contains(expected), "no {expected:?} in: {output}");
    Ok(())
}

/// The folder of a partition, wherever the broker keeps it.
fn find_folder(root: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = fs::read_dir(root)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect::<Vec<_>>();
    if let Some(found) = folders.iter().find(|path| path.ends_with(name)) {
        return Some(found.clone());
    }
    folders.sort();
    folders.iter().find_map(|folder| find_folder(folder, name))
}
