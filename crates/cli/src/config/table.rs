//! Every setting of the server: name, type, default, documentation, and what it changes.
//!
//! Settings that this server reads itself are in [`OWN`]; the defaults of topics come from the table
//! that the Kafka APIs use, so that a file and Kafka's tools know the same names.

use std::sync::LazyLock;

use dlog_metadata::configs::{ConfigDef, ConfigKind, broker, topic};

use super::ServerConfig;
use super::resolve::{self, Draft};

/// What a value looks like, for the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text.
    Text,
    /// A file or folder.
    Path,
    /// `host:port`.
    Address,
    /// Several values, separated by commas; in a file also an array, as a flag also repeated.
    List,
}

impl Kind {
    /// One word, as it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Text => "text",
            Self::Path => "path",
            Self::Address => "address",
            Self::List => "list",
        }
    }
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Name in a file; Kafka's where Kafka has the setting.
    pub name: &'static str,
    /// Name as a flag, without the dashes before it.
    pub flag: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// Default; `None` when there is no value unless one is given.
    pub default: Option<String>,
    /// What it does, one sentence with units.
    pub doc: &'static str,
    /// Heading under which it is listed.
    pub section: &'static str,
    /// What it changes.
    pub apply: Apply,
}

/// What a value changes.
#[derive(Clone, Copy, Debug)]
pub enum Apply {
    /// Settings of the process.
    Own(fn(&mut Draft, &str) -> Result<(), String>),
    /// Defaults that the broker looks up by name.
    ByName(&'static ConfigDef),
}

impl Setting {
    /// Name as an environment variable.
    pub fn variable(&self) -> String {
        format!("DLOG_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

/// Called once for each setting, for a table that is never freed.
fn flag_of(name: &str) -> &'static str {
    name.replace('.', "-").leak()
}

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// All settings, in the order in which they are listed.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let server = ServerConfig::default();
    let own = OWN.iter().map(|own| Setting {
        name: own.name,
        flag: flag_of(own.name),
        kind: own.kind,
        default: (own.default)(&server),
        doc: own.doc,
        section: own.section,
        apply: Apply::Own(own.apply),
    });
    let by_name = broker::BROKER_CONFIGS.iter().filter_map(by_name);
    let mut settings: Vec<_> = own.chain(by_name).collect();
    // Stable: within a section the order of the tables stays.
    settings.sort_by_key(|setting| SECTIONS.iter().position(|&name| name == setting.section));
    settings
});

const SERVER: &str = "Server";
const CLIENTS: &str = "Connections and requests";
const TOPICS: &str = "Defaults of topics";
const GROUPS: &str = "Consumer groups";
const TRANSACTIONS: &str = "Transactions";
const UPKEEP: &str = "Upkeep";
const DISK: &str = "Room on the disk";
const SECTIONS: &[&str] = &[SERVER, CLIENTS, TOPICS, GROUPS, TRANSACTIONS, UPKEEP, DISK];

fn by_name(def: &'static ConfigDef) -> Option<Setting> {
    if OWN.iter().any(|own| own.name == def.name) {
        return None;
    }
    let of_topic = topic::TOPIC_CONFIGS
        .iter()
        .find(|topic| topic.synonym == Some(def.name));
    // Streams groups are not served: their settings only bound what a group may be set to.
    let is_of_groups = def.name.starts_with("group.") && !def.name.starts_with("group.streams.")
        || def.name.starts_with("dlog.group.")
        || ["offsets.retention.minutes", "offsets.topic.num.partitions"].contains(&def.name);
    let is_of_transactions =
        def.name.starts_with("transaction") || def.name.starts_with("add.partitions.to.txn.");
    let section = match of_topic {
        Some(_) => TOPICS,
        // Nothing here would read it.
        None if def.doc.starts_with("Not used") => return None,
        None if is_of_groups => GROUPS,
        None if is_of_transactions => TRANSACTIONS,
        None if def.name.starts_with("dlog.disk.") => DISK,
        None if def.name.starts_with("log.cleaner.") => UPKEEP,
        None if def.name.starts_with("dlog.cleaner.") => UPKEEP,
        None => return None,
    };
    let kind = match def.kind {
        ConfigKind::Boolean => Kind::Boolean,
        ConfigKind::Int | ConfigKind::Short | ConfigKind::Long => Kind::Integer,
        ConfigKind::Double => Kind::Number,
        ConfigKind::List => Kind::List,
        ConfigKind::String | ConfigKind::Password => Kind::Text,
    };
    let default = def.default.or(of_topic.and_then(|topic| topic.default));
    // "Default of retention.ms." says nothing to whoever does not know the topic setting.
    let doc = match of_topic {
        Some(topic) if def.doc.starts_with("Default of ") => topic.doc,
        _ => def.doc,
    };
    Some(Setting {
        name: def.name,
        flag: flag_of(def.name),
        kind,
        default: default.map(str::to_owned),
        doc,
        section,
        apply: Apply::ByName(def),
    })
}

/// A setting that this server reads itself.
struct Own {
    name: &'static str,
    kind: Kind,
    section: &'static str,
    doc: &'static str,
    /// From the settings themselves: there is no second place to forget.
    default: fn(&ServerConfig) -> Option<String>,
    apply: fn(&mut Draft, &str) -> Result<(), String>,
}

/// A setting that is one field of the broker's settings.
macro_rules! field {
    ($name:literal, $field:ident, $kind:ident, $section:ident, $doc:literal) => {
        Own {
            name: $name,
            kind: Kind::$kind,
            section: $section,
            doc: $doc,
            default: |server| Some(server.broker.$field.to_string()),
            apply: |draft, value| resolve::parse_into(&mut draft.server.broker.$field, value),
        }
    };
}

static OWN: &[Own] = &[
    Own {
        name: "data.dir",
        kind: Kind::Path,
        section: SERVER,
        doc: "Folder of all data, used by one process at a time.",
        default: |_| resolve::default_data_dir().map(|dir| dir.display().to_string()),
        apply: |draft, value| {
            draft.data_dir = Some(value.into());
            Ok(())
        },
    },
    Own {
        name: "kafka",
        kind: Kind::List,
        section: SERVER,
        doc: "Addresses for Kafka clients, each [NAME://]host:port; port 0 takes a free one.",
        default: |server| {
            server
                .broker
                .listeners
                .first()
                .map(|listener| listener.bind.to_string())
        },
        apply: |draft, value| {
            draft.listeners = resolve::listeners(value)?;
            Ok(())
        },
    },
    Own {
        name: "advertised.listeners",
        kind: Kind::List,
        section: SERVER,
        doc: "Addresses that clients are told to connect to, each NAME://host:port; without it those of kafka.",
        default: |_| None,
        apply: |draft, value| {
            draft.advertised = resolve::advertised(value)?;
            Ok(())
        },
    },
    Own {
        name: "http",
        kind: Kind::Address,
        section: SERVER,
        doc: "Address of the HTTP port with /metrics and /health, or off.",
        default: |server| server.http.map(|address| address.to_string()),
        apply: |draft, value| {
            draft.server.http = resolve::address_or_off(value)?;
            Ok(())
        },
    },
    field!(
        "node.id",
        node_id,
        Integer,
        SERVER,
        "Id of this node; a data folder remembers it."
    ),
    Own {
        name: "broker.rack",
        kind: Kind::Text,
        section: SERVER,
        doc: "Rack of this node.",
        default: |_| None,
        apply: |draft, value| {
            draft.server.broker.rack = Some(value.to_owned());
            Ok(())
        },
    },
    Own {
        name: "cluster.id",
        kind: Kind::Text,
        section: SERVER,
        doc: "Id that a new cluster gets; without it a random one.",
        default: |_| None,
        apply: |draft, value| {
            draft.server.broker.cluster_id = Some(value.to_owned());
            Ok(())
        },
    },
    Own {
        name: "pid.file",
        kind: Kind::Path,
        section: SERVER,
        doc: "File that gets the process id while the server runs.",
        default: |_| None,
        apply: |draft, value| {
            draft.server.pid_file = Some(value.into());
            Ok(())
        },
    },
    Own {
        name: "log.level",
        kind: Kind::Text,
        section: SERVER,
        doc: "What the server logs: error, warn, info, debug, trace, or directives like dlog_broker=debug,info.",
        default: |server| Some(server.log_level.clone()),
        apply: |draft, value| {
            draft.server.log_level = resolve::log_level(value)?;
            Ok(())
        },
    },
    Own {
        name: "log.format",
        kind: Kind::Text,
        section: SERVER,
        doc: "How the server logs: text, json, or auto (text on a terminal, else json).",
        default: |_| Some("auto".to_owned()),
        apply: |draft, value| {
            draft.server.log_format = resolve::log_format(value)?;
            Ok(())
        },
    },
    field!(
        "shutdown.timeout.ms",
        shutdown_timeout_ms,
        Integer,
        SERVER,
        "How long a shutdown waits for requests under way, in ms."
    ),
    field!(
        "auto.create.topics.enable",
        auto_create_topics,
        Boolean,
        TOPICS,
        "Whether a topic is created when a client asks for it and it does not exist."
    ),
    field!(
        "num.partitions",
        num_partitions,
        Integer,
        TOPICS,
        "Partitions of a topic whose creator does not say."
    ),
    field!(
        "max.partitions.per.topic",
        max_partitions_per_topic,
        Integer,
        TOPICS,
        "Most partitions that one topic may have."
    ),
    field!(
        "socket.request.max.bytes",
        socket_request_max_bytes,
        Integer,
        CLIENTS,
        "Largest request accepted, in bytes."
    ),
    field!(
        "first.request.max.bytes",
        first_request_max_bytes,
        Integer,
        CLIENTS,
        "Largest first request of a connection, in bytes."
    ),
    field!(
        "max.connections",
        max_connections,
        Integer,
        CLIENTS,
        "Most connections at any time."
    ),
    field!(
        "max.connections.per.ip",
        max_connections_per_ip,
        Integer,
        CLIENTS,
        "Most connections from one address."
    ),
    field!(
        "connections.max.idle.ms",
        connections_max_idle_ms,
        Integer,
        CLIENTS,
        "Connections without a request for this long are closed, in ms."
    ),
    field!(
        "max.in.flight.requests",
        max_in_flight_requests,
        Integer,
        CLIENTS,
        "Requests of one connection that may be waiting for their response."
    ),
    field!(
        "write.timeout.ms",
        write_timeout_ms,
        Integer,
        CLIENTS,
        "A client that takes nothing of its responses for this long is cut off, in ms."
    ),
    field!(
        "socket.send.buffer.bytes",
        socket_send_buffer_bytes,
        Integer,
        CLIENTS,
        "Send buffer of connections, in bytes; 0 leaves it to the operating system."
    ),
    field!(
        "socket.receive.buffer.bytes",
        socket_receive_buffer_bytes,
        Integer,
        CLIENTS,
        "Receive buffer of connections, in bytes; 0 leaves it to the operating system."
    ),
    field!(
        "fetch.max.bytes",
        fetch_max_bytes,
        Integer,
        CLIENTS,
        "Most bytes of records returned for one fetch request; one batch is always returned."
    ),
    field!(
        "max.incremental.fetch.session.cache.slots",
        fetch_session_cache_slots,
        Integer,
        CLIENTS,
        "Incremental fetch sessions kept (KIP-227)."
    ),
    field!(
        "min.incremental.fetch.session.eviction.ms",
        min_fetch_session_eviction_ms,
        Integer,
        CLIENTS,
        "A fetch session unused for this long may be given up for another one, in ms."
    ),
    field!(
        "producer.id.expiration.ms",
        producer_id_expiration_ms,
        Integer,
        UPKEEP,
        "Producer ids unused for this long are forgotten, in ms."
    ),
    field!(
        "producer.id.max.per.partition",
        producer_id_max_per_partition,
        Integer,
        UPKEEP,
        "Most producer ids remembered for one partition, 0 for no limit; the longest silent ones go first."
    ),
    field!(
        "log.retention.check.interval.ms",
        retention_check_interval_ms,
        Integer,
        UPKEEP,
        "How often old segments are looked for, in ms."
    ),
    field!(
        "num.recovery.threads.per.data.dir",
        recovery_threads,
        Integer,
        UPKEEP,
        "Threads that open partitions at start; 0 takes the number of cores."
    ),
    field!(
        "flusher.threads",
        flusher_threads,
        Integer,
        UPKEEP,
        "Threads that flush to the disk; that many flushes may be under way."
    ),
];
