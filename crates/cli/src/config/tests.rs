use std::path::Path;

use super::*;
use crate::config::{print, sources};

fn given(name: &str, value: &str) -> Given {
    Given {
        name: name.to_owned(),
        value: value.to_owned(),
        origin: Origin::Flag(name.replace('.', "-")),
    }
}

fn from_file(text: &str) -> Result<Resolved, ConfigError> {
    resolve(sources::parse_file(Path::new("dlog.toml"), text)?)
}

#[test]
fn every_default_means_what_no_value_means() {
    let defaults: Vec<Given> = SETTINGS
        .iter()
        .filter_map(|setting| Some(given(setting.name, setting.default.as_deref()?)))
        .collect();
    assert!(defaults.len() > 50);
    let mut with = resolve(defaults).unwrap().server;
    let without = resolve(Vec::new()).unwrap().server;
    with.broker.defaults.clear();
    assert_eq!(with.broker, without.broker);
    assert_eq!(with.http, without.http);
    assert_eq!(with.log_level, without.log_level);
    assert_eq!(with.log_format, without.log_format);
}

#[test]
fn every_setting_has_its_own_name_everywhere() {
    let mut names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
    let reserved = ["config", "help", "defaults", "effective", "json", "version"];
    assert!(
        SETTINGS
            .iter()
            .all(|setting| !reserved.contains(&setting.flag))
    );
}

#[test]
fn settings_that_only_this_server_has_can_be_given() {
    let own = dlog_metadata::configs::broker::BROKER_CONFIGS
        .iter()
        .filter(|def| def.name.starts_with("dlog."));
    let missing: Vec<_> = own
        .filter(|def| !SETTINGS.iter().any(|setting| setting.name == def.name))
        .map(|def| def.name)
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn tables_and_dotted_keys_are_the_same() {
    let text = "kafka = [\"127.0.0.1:0\", \"INSIDE://127.0.0.1:9095\"]\n\
                num.partitions = 6\n\
                [log]\nretention.ms = 3_600_000\nflush = \"interval:50ms\"\n";
    let resolved = from_file(text).unwrap();
    let broker = &resolved.server.broker;
    assert_eq!(broker.num_partitions, 6);
    assert_eq!(broker.defaults["log.retention.ms"], "3600000");
    assert_eq!(broker.defaults["log.flush"], "interval:50ms");
    let names: Vec<&str> = broker.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["PLAINTEXT", "INSIDE"]);
    let Origin::File { line, .. } = &resolved.given["log.flush"].origin else {
        panic!()
    };
    assert_eq!(*line, 5);
}

#[test]
fn an_unknown_name_is_an_error_that_helps() {
    for (text, expected) in [
        (
            "# first\nlog.retension.ms = 1\n",
            "dlog.toml:2: unknown setting log.retension.ms; did you mean log.retention.ms?",
        ),
        (
            "data_dir = \"x\"",
            "dlog.toml:1: unknown setting data_dir; did you mean data.dir?",
        ),
        (
            "[log]\n\ndirs = \"x\"",
            "dlog.toml:3: unknown setting log.dirs; the name here is data.dir",
        ),
        ("zzz = 1", "dlog.toml:1: unknown setting zzz"),
    ] {
        assert_eq!(from_file(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_bad_value_is_named_with_its_place() {
    for (text, expected) in [
        (
            "num.partitions = \"many\"",
            "dlog.toml:1: num.partitions = many: must be a whole number from -2147483648 to 2147483647",
        ),
        (
            "\nlog.flush = \"never\"",
            "dlog.toml:2: log.flush = never: \"never\" is no flush policy: \
             use always, messages:N, interval:Tms or os",
        ),
        ("http = 1", "dlog.toml:1: http = 1: 1 is not host:port"),
        ("kafka = []", "dlog.toml:1: kafka = : must not be empty"),
        ("num.partitions = {", "dlog.toml:1: "),
        (
            "auto.create.topics.enable = \"yes\"",
            "dlog.toml:1: auto.create.topics.enable = yes: must be true or false",
        ),
        (
            "\nlog.flush = \"os\"\nlog.flush.interval.ms = 5",
            "dlog.toml:3: cannot extend value of type string with a dotted key: \
             put the names in quotes, \"log.flush\" = …",
        ),
        (
            "http = 2020-01-01",
            "dlog.toml:1: http: expected text, a number, true, false or a list",
        ),
        (
            "[[kafka]]\nname = \"x\"",
            "dlog.toml:1: kafka: expected text, a number, true, false or a list",
        ),
    ] {
        let message = from_file(text).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn the_last_one_wins() {
    let mut all = sources::parse_file(Path::new("f"), "num.partitions = 1\nnode.id = 4").unwrap();
    let variables = [
        ("DLOG_NUM_PARTITIONS", "2"),
        ("HOME", "/"),
        ("DLOG_CONFIG", "f"),
    ];
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    all.extend(sources::from_environment(variables).unwrap());
    all.push(given("num.partitions", "3"));
    let resolved = resolve(all).unwrap();
    assert_eq!(resolved.server.broker.num_partitions, 3);
    assert_eq!(resolved.server.broker.node_id, 4);
    assert_eq!(
        resolved.given["num.partitions"].origin.to_string(),
        "--num-partitions"
    );
}

#[test]
fn an_unknown_variable_is_an_error_that_helps() {
    let variables = [("DLOG_DATADIR".into(), "x".into())];
    let error = sources::from_environment(variables.into_iter())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "DLOG_DATADIR: unknown setting DLOG_DATADIR; did you mean DLOG_DATA_DIR?"
    );
}

#[test]
fn advertised_addresses_find_their_listener() {
    let server = resolve(vec![
        given("kafka", "127.0.0.1:1,OUT://[::1]:2"),
        given("advertised.listeners", "OUT://broker.example:9999"),
    ]);
    let listeners = server.unwrap().server.broker.listeners;
    assert_eq!(listeners[0].advertised_host, None);
    assert_eq!(
        listeners[1].advertised_host.as_deref(),
        Some("broker.example")
    );
    assert_eq!(listeners[1].advertised_port, Some(9999));
    let wrong = resolve(vec![given(
        "advertised.listeners",
        "OUT://broker.example:9999",
    )]);
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .ends_with("kafka has no listener named OUT")
    );
}

#[test]
fn listeners_are_checked() {
    assert_eq!(listeners("localhost:9092").unwrap()[0].bind.port(), 9092);
    for wrong in [
        "9092",
        "A://127.0.0.1:1,A://127.0.0.1:2",
        "A B://127.0.0.1:1",
        "127.0.0.1:99999",
    ] {
        assert!(listeners(wrong).is_err(), "{wrong}");
    }
    for wrong in ["OUT://host", "OUT://:1", "OUT://host:0", "://host:1"] {
        assert!(advertised(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_printed_can_be_read() {
    let text =
        "kafka = \"127.0.0.1:0\"\nlog.flush = \"os\"\nlog.cleaner.min.cleanable.ratio = 0.25";
    let resolved = from_file(text).unwrap();
    let printed = print::toml(Some(&resolved));
    let again = from_file(&printed).unwrap();
    assert_eq!(again.server.broker, resolved.server.broker);
    assert_eq!(again.given.len(), 3);
    // Uncommented, the defaults can be read as well.
    let defaults = print::toml(None);
    let lines = defaults.lines().map(|line| {
        let is_setting = line.starts_with("# \"") && !line.ends_with('=');
        if is_setting {
            line.trim_start_matches("# ").to_owned()
        } else {
            String::new()
        }
    });
    let lines: Vec<String> = lines.collect();
    assert!(from_file(&lines.join("\n")).unwrap().given.len() > 50);
}
