//! The rest of the tools for admins: settings of all kinds of entities, and what a single node without access
//! control has little to say about. The newest distribution's only: older ones lack some of them.

use anyhow::{Result, ensure};

use super::tools::{Tools, contains};

/// A step's name, and what it does.
type Step<'a> = (&'static str, fn(&Tools<'a>) -> Result<()>);

impl<'a> Tools<'a> {
    pub(super) fn rest_of_admin(&mut self) {
        let steps: [Step<'a>; 9] = [
            ("configs-entities", Self::configs_of_entities),
            ("configs-loggers", Self::configs_of_loggers),
            ("acls", Self::acls),
            ("features", Self::features),
            ("quorum", Self::quorum),
            ("cluster-tool", Self::cluster),
            ("elect-leaders", Self::elect_leaders),
            ("reassign", Self::reassign),
            ("topic-filters", Self::topic_filters),
        ];
        for (name, run) in steps {
            if self.three {
                self.push(name, None, "asked of the newest tools only");
            } else {
                self.step(name, run);
            }
        }
    }

    fn configs(&self, entity: &[&str], more: &[&str]) -> Result<String> {
        self.tool("configs", &[entity, more].concat())
    }

    /// What a tool says when it fails.
    fn refused(&self, script: &str, arguments: &[&str]) -> Result<String> {
        match self.tool(script, arguments) {
            Err(error) => Ok(format!("{error:#}")),
            Ok(output) => anyhow::bail!("kafka-{script} did not fail: {output}"),
        }
    }

    fn configs_of_entities(&self) -> Result<()> {
        let group = format!("{}-configured", self.prefix);
        let metrics = format!("{}-metrics", self.prefix);
        for (kind, name, setting) in [
            ("groups", &group[..], "consumer.session.timeout.ms=50000"),
            ("client-metrics", &metrics, "interval.ms=60000"),
            ("brokers", "1", "log.retention.ms=987654321"),
        ] {
            let entity = ["--entity-type", kind, "--entity-name", name];
            let key = setting.split('=').next().unwrap_or_default();
            self.configs(&entity, &["--alter", "--add-config", setting])?;
            contains(&self.configs(&entity, &["--describe"])?, setting)?;
            contains(&self.configs(&entity[..2], &["--describe"])?, setting)?;
            contains(&self.configs(&entity, &["--describe", "--all"])?, setting)?;
            self.configs(&entity, &["--alter", "--delete-config", key])?;
            let output = self.configs(&entity, &["--describe"])?;
            ensure!(!output.contains(setting), "{kind}: still there: {output}");
        }
        let entity = ["--entity-type", "groups", "--entity-name", &group];
        let output = self.refused(
            "configs",
            &[
                &entity[..],
                &["--alter", "--add-config", "consumer.session.timeout.ms=1"],
            ]
            .concat(),
        )?;
        contains(&output, "must be in the range 45000 to 60000 inclusive.")?;
        let all = ["--entity-type", "brokers", "--entity-default"];
        let setting = "log.cleaner.min.compaction.lag.ms=7";
        self.configs(&all, &["--alter", "--add-config", setting])?;
        contains(&self.configs(&all, &["--describe"])?, setting)?;
        let key = "log.cleaner.min.compaction.lag.ms";
        self.configs(&all, &["--alter", "--delete-config", key])?;
        for kind in ["users", "clients", "ips"] {
            self.configs(&["--entity-type", kind], &["--describe"])?;
        }
        Ok(())
    }

    fn configs_of_loggers(&self) -> Result<()> {
        let entity = ["--entity-type", "broker-loggers", "--entity-name", "1"];
        let before = self.configs(&entity, &["--describe"])?;
        let root = before
            .split_whitespace()
            .find_map(|word| word.strip_prefix("root="));
        let Some(root) = root else {
            anyhow::bail!("no root logger: {before}");
        };
        self.configs(&entity, &["--alter", "--add-config", "root=WARN"])?;
        contains(&self.configs(&entity, &["--describe"])?, "root=WARN")?;
        let back = format!("root={root}");
        self.configs(&entity, &["--alter", "--add-config", &back])?;
        Ok(())
    }

    fn acls(&self) -> Result<()> {
        let disabled = "SecurityDisabledException";
        contains(&self.refused("acls", &["--list"])?, disabled)?;
        let added = [
            "--add",
            "--allow-principal",
            "User:a",
            "--topic",
            &self.data,
        ];
        contains(&self.refused("acls", &added)?, disabled)
    }

    fn features(&self) -> Result<()> {
        let output = self.tool("features", &["describe"])?;
        for feature in ["metadata.version", "group.version", "transaction.version"] {
            contains(&output, &format!("Feature: {feature}"))?;
        }
        let upgrade = ["upgrade", "--feature", "no.such=1"];
        contains(
            &self.refused("features", &upgrade)?,
            "does not support this feature",
        )
    }

    fn quorum(&self) -> Result<()> {
        let output = self.tool("metadata-quorum", &["describe", "--status"])?;
        contains(&output, "LeaderId:               1\n")?;
        contains(&output, "CurrentObservers:       []")?;
        contains(
            &self.tool("metadata-quorum", &["describe", "--replication"])?,
            "Leader",
        )
    }

    fn cluster(&self) -> Result<()> {
        let call = |more: &[&str]| {
            let server = ["--bootstrap-server", self.bootstrap];
            self.call("cluster", &[more, &server[..]].concat(), "")
        };
        contains(&call(&["cluster-id"])?, "Cluster ID: ")?;
        contains(&call(&["list-endpoints"])?, "unfenced")?;
        match call(&["unregister", "--id", "77"]) {
            Err(error) => contains(&format!("{error:#}"), "77 is not currently registered"),
            Ok(output) => contains(&output, "77 is not currently registered"),
        }
    }

    fn elect_leaders(&self) -> Result<()> {
        for election in ["preferred", "unclean"] {
            let first = ["--election-type", election, "--topic", &self.data];
            let output = self.tool(
                "leader-election",
                &[&first[..], &["--partition", "0"]].concat(),
            )?;
            contains(&output, "Valid replica already elected")?;
        }
        Ok(())
    }

    fn reassign(&self) -> Result<()> {
        let file = |name: &str, content: String| {
            let path = self.scratch.join(name);
            std::fs::write(&path, content)?;
            anyhow::Ok(path.to_string_lossy().into_owned())
        };
        let topic = &self.data;
        let topics = format!(r#"{{"version":1,"topics":[{{"topic":"{topic}"}}]}}"#);
        let topics = file("topics.json", topics)?;
        let plan = format!(
            r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":0,"replicas":[1]}}]}}"#
        );
        let plan = file("plan.json", plan)?;
        let run = |more: &[&str]| self.tool("reassign-partitions", more);
        let generate = ["--generate", "--topics-to-move-json-file", &topics];
        let output = run(&[&generate[..], &["--broker-list", "1"]].concat())?;
        contains(&output, "Proposed partition reassignment configuration")?;
        let with = |action: &str| run(&[action, "--reassignment-json-file", &plan]);
        contains(&with("--execute")?, "Successfully started")?;
        contains(&with("--verify")?, "is completed.")?;
        let throttled = ["--execute", "--throttle", "1000000"];
        let output = run(&[&throttled[..], &["--reassignment-json-file", &plan]].concat())?;
        contains(&output, "limit was set to 1000000 B/s")?;
        contains(&with("--verify")?, "Clearing topic-level throttles")?;
        contains(&with("--cancel")?, "None of the specified partition")?;
        contains(&run(&["--list"])?, "No partition reassignments found.")
    }

    fn topic_filters(&self) -> Result<()> {
        for filter in [
            "--under-replicated-partitions",
            "--unavailable-partitions",
            "--under-min-isr-partitions",
        ] {
            let output = self.tool("topics", &["--describe", filter])?;
            ensure!(!output.contains(&self.data), "{filter}: {output}");
        }
        let output = self.tool("topics", &["--describe", "--topics-with-overrides"])?;
        contains(&output, &self.data)?;
        for (time, offset) in [
            ("max-timestamp", ""),
            ("earliest-local", "0"),
            ("latest", ""),
        ] {
            let partition = format!("{}:0", self.data);
            let arguments = ["--topic-partitions", &partition, "--time", time];
            let output = self.tool("get-offsets", &arguments)?;
            contains(&output, &format!("{partition}:{offset}"))?;
        }
        Ok(())
    }
}
