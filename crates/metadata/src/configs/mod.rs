//! Every setting that Kafka's tools know: type, default, what is allowed, documentation.
//!
//! The tables ([`topic::TOPIC_CONFIGS`], [`broker::BROKER_CONFIGS`], [`group::GROUP_CONFIGS`],
//! [`client_metrics::CLIENT_METRICS_CONFIGS`]) are data; [`ConfigDef::validate`]
//! is the one place that judges a value. [`resolve_topic`] finds the value that holds for a topic:
//! set on the topic, else set on this broker, else set for all brokers, else given in the server's own
//! configuration, else the default.

pub mod broker;
pub mod client_metrics;
pub mod group;
pub mod topic;

use std::collections::BTreeMap;

use crate::image::MetadataImage;

/// Type of a setting, with Kafka's numbers (`ConfigDef.Type` in DescribeConfigs responses).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32-bit integer.
    Int = 3,
    /// 16-bit integer.
    Short = 4,
    /// 64-bit integer.
    Long = 5,
    /// Floating-point number.
    Double = 6,
    /// Comma-separated list.
    List = 7,
    /// A secret, never shown.
    Password = 9,
}

/// What a value must satisfy beyond its type.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Nothing.
    Any,
    /// A number of at least this.
    AtLeast(i64),
    /// A number between these, both included.
    Between(i64, i64),
    /// A fraction between 0 and 1.
    Fraction,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these words without repetition; it may be empty.
    ListOf(&'static [&'static str]),
    /// Decided by a function, which says what is wrong.
    By(fn(&str) -> Result<(), String>),
}

/// Whether and how a setting can be changed while the server runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Set on topics.
    Topic,
    /// Set on groups.
    Group,
    /// Set on client metrics subscriptions.
    ClientMetrics,
    /// Broker setting that needs a restart.
    ReadOnly,
    /// Broker setting that may differ between brokers.
    PerBroker,
    /// Broker setting that is usually set for all brokers.
    ClusterWide,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    /// Name, as Kafka has it.
    pub name: &'static str,
    /// Type.
    pub kind: ConfigKind,
    /// Default; `None` is shown as null.
    pub default: Option<&'static str>,
    /// What a value must satisfy.
    pub check: Check,
    /// For a topic setting, the broker setting that gives its default.
    pub synonym: Option<&'static str>,
    /// How it can be changed.
    pub update: Update,
    /// What it does.
    pub doc: &'static str,
}

/// Why a setting or value is refused; the text goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such setting.
    #[error("Unknown topic config name: {0}")]
    UnknownTopicConfig(String),
    /// There is no such broker setting.
    #[error("Unknown broker config name: {0}")]
    UnknownBrokerConfig(String),
    /// There is no such group setting.
    #[error("Unknown group config name: {0}")]
    UnknownGroupConfig(String),
    /// There is no such setting of a client metrics subscription.
    #[error("Unknown client metrics configuration: {0}")]
    UnknownClientMetricsConfig(String),
    /// The settings of a group do not go together, or lie outside the broker's bounds.
    #[error("{0}")]
    Group(String),
    /// The settings of a client metrics subscription are not allowed.
    #[error("{0}")]
    ClientMetrics(String),
    /// Clients cannot be chosen like this.
    #[error("Illegal client matching pattern: {0}")]
    ClientMatch(String),
    /// The setting cannot be changed while the server runs.
    #[error("Cannot update these configs dynamically: [{0}]")]
    ReadOnly(String),
    /// The value has the wrong type or range.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Invalid {
        /// Setting.
        name: String,
        /// Value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigDef {
    /// Judges a value.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the reason.
    pub fn validate(&self, value: &str) -> Result<(), ConfigError> {
        self.judge(value).map_err(|reason| ConfigError::Invalid {
            name: self.name.to_owned(),
            value: value.to_owned(),
            reason,
        })
    }

    /// Whether the value is a secret that is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigKind::Password
    }

    fn judge(&self, value: &str) -> Result<(), String> {
        let value = value.trim();
        match self.kind {
            ConfigKind::Boolean => match value.to_ascii_lowercase().as_str() {
                word @ ("true" | "false") => match self.check {
                    Check::By(judge) => judge(word),
                    _ => Ok(()),
                },
                _ => Err("Expected value to be either true or false".to_owned()),
            },
            ConfigKind::Short => {
                self.integer(value, i64::from(i16::MIN), i64::from(i16::MAX), "short")
            }
            ConfigKind::Int => self.integer(value, i64::from(i32::MIN), i64::from(i32::MAX), "int"),
            ConfigKind::Long => self.integer(value, i64::MIN, i64::MAX, "long"),
            ConfigKind::Double => {
                let number: f64 = value
                    .parse()
                    .map_err(|_| "Not a number of type DOUBLE".to_owned())?;
                match self.check {
                    Check::Fraction if !(0.0..=1.0).contains(&number) => {
                        Err("Value must be between 0 and 1".to_owned())
                    }
                    _ => Ok(()),
                }
            }
            ConfigKind::String | ConfigKind::List | ConfigKind::Password => self.words(value),
        }
    }

    fn integer(&self, value: &str, min: i64, max: i64, kind: &str) -> Result<(), String> {
        let number: i64 = value
            .parse()
            .ok()
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| format!("Not a number of type {}", kind.to_ascii_uppercase()))?;
        match self.check {
            Check::AtLeast(least) if number < least => {
                Err(format!("Value must be at least {least}"))
            }
            Check::Between(least, _) if number < least => {
                Err(format!("Value must be at least {least}"))
            }
            Check::Between(_, most) if number > most => {
                Err(format!("Value must be no more than {most}"))
            }
            Check::By(judge) => judge(value),
            _ => Ok(()),
        }
    }

    fn words(&self, value: &str) -> Result<(), String> {
        match self.check {
            Check::OneOf(words) if !words.contains(&value) => {
                Err(format!("String must be one of: {}", words.join(", ")))
            }
            Check::ListOf(words) => {
                let mut seen = Vec::new();
                for word in split_list(value) {
                    if !words.contains(&word) {
                        return Err(format!("String must be one of: {}", words.join(", ")));
                    }
                    if seen.contains(&word) {
                        return Err(format!("{word} is given twice"));
                    }
                    seen.push(word);
                }
                Ok(())
            }
            Check::By(judge) => judge(value),
            _ => Ok(()),
        }
    }
}

/// The words of a comma-separated list.
pub fn split_list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Where a value comes from, with Kafka's numbers (`ConfigEntry.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic = 1,
    /// Set on this broker while it ran.
    DynamicBroker = 2,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker = 3,
    /// Given in the server's configuration file or flags.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
    /// Set on the client metrics subscription.
    ClientMetrics = 7,
    /// Set on the group.
    Group = 8,
}

/// One place that gives a value for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Name under which the place has it.
    pub name: &'static str,
    /// The value.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// A setting with the value that holds.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The setting.
    pub def: &'static ConfigDef,
    /// Every place that gives a value, strongest first; never empty.
    pub synonyms: Vec<Synonym>,
}

impl Resolved {
    /// The value that holds.
    pub fn value(&self) -> Option<&str> {
        self.synonyms.first().and_then(|s| s.value.as_deref())
    }

    /// Where that value comes from.
    pub fn source(&self) -> ConfigSource {
        self.synonyms
            .first()
            .map_or(ConfigSource::Default, |s| s.source)
    }
}

/// Settings given when the server was started: broker setting name to value.
pub type StaticConfigs = BTreeMap<String, String>;

/// Resolves one topic setting for a topic (`None`: as a new topic would have it).
pub fn resolve_topic(
    def: &'static ConfigDef,
    topic: Option<&BTreeMap<String, String>>,
    image: &MetadataImage,
    node_id: i32,
    statics: &StaticConfigs,
) -> Resolved {
    resolve_set(def, topic, ConfigSource::Topic, image, node_id, statics)
}

/// Resolves a setting that a topic, group or subscription has of its own (`set`, whose source is `source`).
pub fn resolve_set(
    def: &'static ConfigDef,
    set: Option<&BTreeMap<String, String>>,
    source: ConfigSource,
    image: &MetadataImage,
    node_id: i32,
    statics: &StaticConfigs,
) -> Resolved {
    let mut synonyms = Vec::new();
    if let Some(value) = set.and_then(|configs| configs.get(def.name)) {
        synonyms.push(Synonym {
            name: def.name,
            value: Some(value.clone()),
            source,
        });
    }
    if let Some(name) = def.synonym {
        push_broker_places(&mut synonyms, name, image, node_id, statics);
    }
    let name = def.synonym.unwrap_or(def.name);
    let value = def.default.map(str::to_owned);
    synonyms.push(Synonym {
        name,
        value,
        source: ConfigSource::Default,
    });
    Resolved { def, synonyms }
}

/// Resolves one broker setting; `node_id` of `None` asks for the default of all brokers.
pub fn resolve_broker(
    def: &'static ConfigDef,
    image: &MetadataImage,
    node_id: Option<i32>,
    statics: &StaticConfigs,
) -> Resolved {
    let mut synonyms = Vec::new();
    match node_id {
        Some(node_id) => push_broker_places(&mut synonyms, def.name, image, node_id, statics),
        None => push_set(
            &mut synonyms,
            def.name,
            image,
            None,
            ConfigSource::DynamicDefaultBroker,
        ),
    }
    let value = def.default.map(str::to_owned);
    synonyms.push(Synonym {
        name: def.name,
        value,
        source: ConfigSource::Default,
    });
    Resolved { def, synonyms }
}

fn push_broker_places(
    synonyms: &mut Vec<Synonym>,
    name: &'static str,
    image: &MetadataImage,
    node_id: i32,
    statics: &StaticConfigs,
) {
    push_set(
        synonyms,
        name,
        image,
        Some(node_id),
        ConfigSource::DynamicBroker,
    );
    push_set(
        synonyms,
        name,
        image,
        None,
        ConfigSource::DynamicDefaultBroker,
    );
    if let Some(value) = statics.get(name) {
        let value = Some(value.clone());
        synonyms.push(Synonym {
            name,
            value,
            source: ConfigSource::StaticBroker,
        });
    }
}

fn push_set(
    synonyms: &mut Vec<Synonym>,
    name: &'static str,
    image: &MetadataImage,
    node_id: Option<i32>,
    source: ConfigSource,
) {
    if let Some(value) = image
        .broker_configs(node_id)
        .and_then(|configs| configs.get(name))
    {
        synonyms.push(Synonym {
            name,
            value: Some(value.clone()),
            source,
        });
    }
}

/// Judges a topic setting and its value (`None`: it is to be removed).
///
/// # Errors
/// When there is no such setting or the value is not allowed.
pub fn check_topic_config(
    name: &str,
    value: Option<&str>,
) -> Result<&'static ConfigDef, ConfigError> {
    let def = topic::find(name).ok_or_else(|| ConfigError::UnknownTopicConfig(name.to_owned()))?;
    if let Some(value) = value {
        def.validate(value)?;
    }
    Ok(def)
}

/// Judges a dynamic broker setting and its value (`None`: it is to be removed).
///
/// # Errors
/// When there is no such setting, it needs a restart, or the value is not allowed.
pub fn check_broker_config(
    name: &str,
    value: Option<&str>,
) -> Result<&'static ConfigDef, ConfigError> {
    let def =
        broker::find(name).ok_or_else(|| ConfigError::UnknownBrokerConfig(name.to_owned()))?;
    if def.update == Update::ReadOnly {
        return Err(ConfigError::ReadOnly(name.to_owned()));
    }
    if let Some(value) = value {
        def.validate(value)?;
    }
    Ok(def)
}

/// Judges a group setting and its value (`None`: it is to be removed). Whether it goes together with the
/// others is judged by [`group::GroupConfig::check`].
///
/// # Errors
/// When there is no such setting or the value is not allowed.
pub fn check_group_config(
    name: &str,
    value: Option<&str>,
) -> Result<&'static ConfigDef, ConfigError> {
    let def = group::find(name).ok_or_else(|| ConfigError::UnknownGroupConfig(name.to_owned()))?;
    if let Some(value) = value {
        def.validate(value)?;
    }
    Ok(def)
}

/// Judges the name of a setting of a client metrics subscription; [`client_metrics::check`] judges values.
///
/// # Errors
/// When there is no such setting.
pub fn check_client_metrics_config(
    name: &str,
    _value: Option<&str>,
) -> Result<&'static ConfigDef, ConfigError> {
    client_metrics::find(name)
        .ok_or_else(|| ConfigError::UnknownClientMetricsConfig(name.to_owned()))
}
