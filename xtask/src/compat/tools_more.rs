//! Console tools for transactions, Streams, share groups, and more of consumer groups.
//!
//! What the tools are to find is made by `ToolHelper`, which the newest Java client runs: a transaction that is
//! open, one that hangs, what an application leaves.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use super::clients::{self, Client, Prepared};
use super::must;
use super::tools::{Tools, contains};

/// Lets a broker take records of a transaction that no coordinator knows, as all brokers once did.
const VERIFICATION: &str = "transaction.partition.verification.enable";

/// Held by those who have changed it.
static SETTING: Mutex<()> = Mutex::new(());

impl Tools<'_> {
    /// Runs the helper in a mode; what it printed.
    fn helper(&self, arguments: &[&str]) -> Result<String> {
        let Prepared::Program { mut command, .. } = clients::prepare(self.root, Client::Java4)?
        else {
            bail!("the newest Java client is missing");
        };
        // The last argument names the class.
        command.pop();
        let (program, first) = command.split_first().context("an empty command")?;
        let mut helper = std::process::Command::new(program);
        helper.args(first).arg("ToolHelper").arg(arguments[0]);
        must(helper.arg(self.bootstrap).args(&arguments[1..]))
    }

    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(super) fn group_details(&mut self) {
        self.step("group-state", |tools| {
            let group = ["--group", &tools.group];
            let describe = |more: &[&str]| {
                tools.tool(
                    "consumer-groups",
                    &[&["--describe"], &group[..], more].concat(),
                )
            };
            contains(&describe(&["--state"])?, "Empty")?;
            describe(&["--members", "--verbose"])?;
            let listed = tools.tool("consumer-groups", &["--list", "--state", "Empty"])?;
            contains(&listed, &tools.group)?;
            let listed = tools.tool("consumer-groups", &["--list", "--type", "classic"])?;
            contains(&listed, &tools.group)?;
            let listed = tools.tool("consumer-groups", &["--list", "--state", "Stable"])?;
            ensure!(!listed.contains(&tools.group), "listed as stable: {listed}");
            Ok(())
        });
        self.step("group-resets", |tools| {
            for (reset, offset) in [
                (&["--to-offset", "3"][..], "3"),
                (&["--shift-by", "2"], "5"),
                (&["--by-duration", "PT1H"], "0"),
                (&["--to-datetime", "2100-01-01T00:00:00.000"], "17"),
                (&["--to-earliest"], "0"),
                (&["--to-latest"], "17"),
                (&["--to-current"], "17"),
            ] {
                let group = ["--group", &tools.group, "--topic", &tools.data];
                let arguments = [&["--reset-offsets", "--execute"], &group[..], reset].concat();
                let output = tools.tool("consumer-groups", &arguments)?;
                // GROUP TOPIC PARTITION NEW-OFFSET; the older tools put no line end before them.
                let words: Vec<_> = output.split_whitespace().collect();
                let topic = words.iter().rposition(|word| *word == tools.data);
                let found = topic.and_then(|topic| words.get(topic + 2)).copied();
                let how = reset.join(" ");
                ensure!(found == Some(offset), "{how} is not {offset}: {output}");
            }
            tools.lag("0")
        });
        self.step("group-delete-offsets", |tools| {
            let group = ["--group", &tools.group, "--topic", &tools.data];
            let output = tools.tool(
                "consumer-groups",
                &[&["--delete-offsets"], &group[..]].concat(),
            )?;
            contains(&output, "Successful")?;
            let described =
                tools.tool("consumer-groups", &["--describe", "--group", &tools.group])?;
            ensure!(
                !described.contains(&tools.data),
                "the offset is still there: {described}"
            );
            Ok(())
        });
    }

    pub(super) fn transactions(&mut self) {
        let (topic, id) = (self.named("open"), self.named("open-id"));
        self.step("txn-tool-list", |tools| {
            tools.create(&topic, "1", "retention.ms=-1")?;
            tools.helper(&["open", &topic, &id])?;
            let listed = tools.tool("transactions", &["list"])?;
            let line = listed.lines().find(|line| line.contains(&id));
            contains(line.unwrap_or(&listed), "Ongoing")
        });
        self.step("txn-tool-describe", |tools| {
            let output = tools.tool("transactions", &["describe", "--transactional-id", &id])?;
            contains(&output, "Ongoing")?;
            contains(&output, &format!("{topic}-0"))
        });
        self.step("txn-tool-producers", |tools| {
            let row = tools.producer_of(&topic)?;
            ensure!(
                row.last().is_some_and(|last| last == "0"),
                "no open transaction: {row:?}"
            );
            Ok(())
        });
        if self.three {
            self.push("txn-tool-terminate", None, "not in these tools");
        } else {
            self.step("txn-tool-terminate", |tools| {
                let terminate = ["forceTerminateTransaction", "--transactionalId", &id];
                tools.tool("transactions", &terminate)?;
                let row = tools.producer_of(&topic)?;
                ensure!(
                    row.last().is_some_and(|last| last == "None"),
                    "still open: {row:?}"
                );
                Ok(())
            });
        }
        self.step("txn-tool-hanging", Self::hanging);
    }

    /// The one row of `describe-producers`: the start of its transaction comes last.
    fn producer_of(&self, topic: &str) -> Result<Vec<String>> {
        let arguments = ["describe-producers", "--topic", topic, "--partition", "0"];
        let output = self.tool("transactions", &arguments)?;
        let mut rows = output.lines().map(|line| line.split_whitespace());
        let row = rows.find(|row| {
            row.clone()
                .next()
                .is_some_and(|id| id.parse::<i64>().is_ok())
        });
        let row = row.with_context(|| format!("no producer in: {output}"))?;
        Ok(row.map(str::to_owned).collect())
    }

    /// A transaction that no coordinator knows is found, and aborted by its first offset.
    fn hanging(&self) -> Result<()> {
        let topic = self.named("hanging");
        self.create(&topic, "1", "retention.ms=-1")?;
        let made = self.make_hanging(&topic)?;
        let producer = made
            .strip_prefix("producer ")
            .context("the helper tells the producer")?;
        let at = ["--topic", &topic, "--partition", "0"];
        let find = |found: bool| {
            let output = self.tool("transactions", &[&["find-hanging"], &at[..]].concat())?;
            let is_found = output
                .lines()
                .any(|line| line.contains(&topic) && line.contains(producer));
            ensure!(is_found == found, "hanging: {is_found}: {output}");
            Ok(())
        };
        find(true)?;
        let abort = [&["abort"], &at[..], &["--start-offset", "0"]].concat();
        self.tool("transactions", &abort)?;
        find(false)?;
        let row = self.producer_of(&topic)?;
        ensure!(
            row.last().is_some_and(|last| last == "None"),
            "still open: {row:?}"
        );
        Ok(())
    }

    /// The setting is the whole broker's: both lines of tools run at a time, and each takes it back.
    fn make_hanging(&self, topic: &str) -> Result<String> {
        let _alone = SETTING.lock().unwrap_or_else(PoisonError::into_inner);
        self.verification("--add-config", &format!("{VERIFICATION}=false"))?;
        let made = self.helper(&["hang", topic]);
        self.verification("--delete-config", VERIFICATION)?;
        made
    }

    fn verification(&self, how: &str, what: &str) -> Result<()> {
        let entity = [
            "--entity-type",
            "brokers",
            "--entity-default",
            "--alter",
            how,
            what,
        ];
        self.tool("configs", &entity).map(drop)
    }

    /// A Streams application has run: its topics are deleted, its offsets go back.
    pub(super) fn streams_reset(&self) -> Result<()> {
        let (application, input) = (self.named("streams"), self.named("streams-in"));
        let output = self.named("streams-out");
        for topic in [&input, &output] {
            self.create(topic, "1", "retention.ms=-1")?;
        }
        self.produce(&input, &[], "one\ntwo\none\n")?;
        self.helper(&["streams", &application, &input, &output])?;
        let internal = || -> Result<usize> {
            let topics = self.tool("topics", &["--list"])?;
            let own = |topic: &&str| {
                topic.starts_with(&application) && **topic != *input && **topic != *output
            };
            Ok(topics.lines().filter(own).count())
        };
        let before = internal()?;
        ensure!(before == 2, "{before} internal topics instead of 2");
        let arguments = [
            "--application-id",
            &application,
            "--input-topics",
            &input,
            "--force",
        ];
        let told = self.tool("streams-application-reset", &arguments)?;
        contains(&told, "Reset-offsets for input topics")?;
        let after = internal()?;
        ensure!(after == 0, "{after} internal topics are left: {told}");
        let described = self.tool("consumer-groups", &["--describe", "--group", &application])?;
        let mut rows = described.lines().map(|line| line.split_whitespace());
        let row = rows.find(|row| row.clone().any(|word| word == input));
        let mut row = row.with_context(|| described.clone())?;
        let offset = row.nth(3);
        ensure!(
            offset == Some("0"),
            "the offset did not go back: {described}"
        );
        Ok(())
    }

    pub(super) fn share_groups(&mut self) {
        const STEPS: [&str; 4] = [
            "share-tool-consume",
            "share-tool-list",
            "share-tool-reset",
            "share-tool-delete",
        ];
        if self.three {
            for step in STEPS {
                self.push(step, None, "not in these tools");
            }
            return;
        }
        let (topic, group) = (self.named("share"), self.named("share-g"));
        self.step(STEPS[0], |tools| {
            tools.create(&topic, "1", "retention.ms=-1")?;
            let entity = [
                "--entity-type",
                "groups",
                "--entity-name",
                &group,
                "--alter",
            ];
            let change = ["--add-config", "share.auto.offset.reset=earliest"];
            tools.tool("configs", &[&entity[..], &change[..]].concat())?;
            tools.produce(&topic, &[], "one\ntwo\nthree\n")?;
            let consume = ["--topic", &topic, "--group", &group, "--max-messages", "3"];
            let output = tools.tool(
                "console-share-consumer",
                &[&consume[..], &["--timeout-ms", "20000"]].concat(),
            )?;
            ["one", "two", "three"]
                .iter()
                .try_for_each(|value| contains(&output, value))
        });
        self.step(STEPS[1], |tools| {
            contains(&tools.tool("share-groups", &["--list"])?, &group)?;
            contains(&tools.tool("groups", &["--list", "--share"])?, &group)?;
            let describe = ["--describe", "--group", &group];
            let state = tools.tool("share-groups", &[&describe[..], &["--state"]].concat())?;
            contains(&state, "Empty")?;
            tools.share_lag(&group, &topic, "0")
        });
        self.step(STEPS[2], |tools| {
            let reset = [
                "--reset-offsets",
                "--execute",
                "--to-earliest",
                "--group",
                &group,
            ];
            tools.tool("share-groups", &[&reset[..], &["--topic", &topic]].concat())?;
            tools.share_lag(&group, &topic, "3")?;
            let delete = ["--delete-offsets", "--group", &group, "--topic", &topic];
            let output = tools.tool("share-groups", &delete)?;
            contains(&output, "Successful")
        });
        self.step(STEPS[3], |tools| {
            tools.tool("share-groups", &["--delete", "--group", &group])?;
            let output = tools.tool("share-groups", &["--list"])?;
            ensure!(!output.contains(&group), "the group is still listed");
            Ok(())
        });
    }

    /// GROUP TOPIC PARTITION START-OFFSET LAG
    fn share_lag(&self, group: &str, topic: &str, expected: &str) -> Result<()> {
        let output = self.tool("share-groups", &["--describe", "--group", group])?;
        let mut rows = output.lines().map(|line| line.split_whitespace());
        let row = rows.find(|row| row.clone().nth(1) == Some(topic));
        let lag = row.and_then(|mut row| row.nth(4));
        ensure!(lag == Some(expected), "the lag is not {expected}: {output}");
        Ok(())
    }
}
