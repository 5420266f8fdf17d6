//! The settings of consumer, share and streams groups (KIP-848, KIP-932, KIP-1071), and what holds for a
//! group.
//!
//! A group's own value must lie within bounds that the broker sets. They are checked when a value is set,
//! and again when it is used: a bound that was moved afterwards wins ([`GroupConfig`] clamps).

use super::ConfigKind::{Boolean, Int, List, String};
use super::{
    Check, ConfigDef, ConfigError, ConfigKind, ConfigSource, Resolved, StaticConfigs, Update,
    resolve_broker, resolve_set, split_list,
};
use crate::image::{Configs, MetadataImage};

const fn def(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    check: Check,
    synonym: Option<&'static str>,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default: Some(default),
        check,
        synonym,
        update: Update::Group,
        doc,
    }
}

/// The setting with this name.
pub fn find(name: &str) -> Option<&'static ConfigDef> {
    GROUP_CONFIGS.iter().find(|def| def.name == name)
}

/// All group settings, by name.
pub static GROUP_CONFIGS: &[ConfigDef] = &[
    def(
        "consumer.assignment.interval.ms",
        Int,
        "100",
        Check::AtLeast(0),
        Some("group.consumer.assignment.interval.ms"),
        "Time between two assignments that the server computes for a consumer group, in ms.",
    ),
    def(
        "consumer.heartbeat.interval.ms",
        Int,
        "5000",
        Check::AtLeast(1),
        Some("group.consumer.heartbeat.interval.ms"),
        "How often members of a consumer group are told to send a heartbeat, in ms.",
    ),
    def(
        "consumer.session.timeout.ms",
        Int,
        "45000",
        Check::AtLeast(1),
        Some("group.consumer.session.timeout.ms"),
        "A member of a consumer group that is silent for this long is gone, in ms.",
    ),
    def(
        "errors.deadletterqueue.copy.record.enable",
        Boolean,
        "false",
        Check::Any,
        None,
        "Whether a record that a share group gives up is copied to the dead letter topic, or only named there.",
    ),
    def(
        "errors.deadletterqueue.topic.name",
        String,
        "",
        Check::Any,
        None,
        "Topic for records that a share group gives up; empty for none.",
    ),
    def(
        "share.assignment.interval.ms",
        Int,
        "1000",
        Check::AtLeast(0),
        Some("group.share.assignment.interval.ms"),
        "Time between two assignments that the server computes for a share group, in ms.",
    ),
    def(
        "share.auto.offset.reset",
        String,
        "latest",
        Check::By(share_start),
        None,
        "Where a share group begins in a partition that is new to it: earliest, latest, or by_duration:PnDTnHnMn.nS before now.",
    ),
    def(
        "share.delivery.count.limit",
        Int,
        "5",
        Check::AtLeast(1),
        Some("group.share.delivery.count.limit"),
        "How often a record is delivered to a share group before it is given up.",
    ),
    def(
        "share.heartbeat.interval.ms",
        Int,
        "5000",
        Check::AtLeast(1),
        Some("group.share.heartbeat.interval.ms"),
        "How often members of a share group are told to send a heartbeat, in ms.",
    ),
    def(
        "share.isolation.level",
        String,
        "read_uncommitted",
        Check::OneOf(&["read_committed", "read_uncommitted"]),
        None,
        "Whether a share group sees records of open and aborted transactions.",
    ),
    def(
        "share.partition.max.record.locks",
        Int,
        "2000",
        Check::AtLeast(100),
        Some("group.share.partition.max.record.locks"),
        "Most records of a partition that a share group has locked at a time.",
    ),
    def(
        "share.record.lock.duration.ms",
        Int,
        "30000",
        Check::AtLeast(1000),
        Some("group.share.record.lock.duration.ms"),
        "How long a member of a share group may take for a record before another one gets it, in ms.",
    ),
    def(
        "share.renew.acknowledge.enable",
        Boolean,
        "true",
        Check::Any,
        None,
        "Whether members of a share group may ask for more time for a record.",
    ),
    def(
        "share.session.timeout.ms",
        Int,
        "45000",
        Check::AtLeast(1),
        Some("group.share.session.timeout.ms"),
        "A member of a share group that is silent for this long is gone, in ms.",
    ),
    def(
        "streams.assignment.interval.ms",
        Int,
        "1000",
        Check::AtLeast(0),
        Some("group.streams.assignment.interval.ms"),
        "Time between two assignments that the server computes for a streams group, in ms.",
    ),
    def(
        "streams.assignor.name",
        String,
        "sticky",
        Check::Any,
        Some("group.streams.assignors"),
        "Assignor of a streams group, one of group.streams.assignors.",
    ),
    def(
        "streams.heartbeat.interval.ms",
        Int,
        "5000",
        Check::AtLeast(1),
        Some("group.streams.heartbeat.interval.ms"),
        "How often members of a streams group are told to send a heartbeat, in ms.",
    ),
    def(
        "streams.initial.rebalance.delay.ms",
        Int,
        "3000",
        Check::AtLeast(0),
        Some("group.streams.initial.rebalance.delay.ms"),
        "Time that the first assignment of a new streams group waits for more members, in ms.",
    ),
    def(
        "streams.num.standby.replicas",
        Int,
        "0",
        Check::AtLeast(0),
        Some("group.streams.num.standby.replicas"),
        "Standby copies of each task of a streams group.",
    ),
    def(
        "streams.rack.aware.assignment.tags",
        List,
        "",
        Check::Any,
        Some("group.streams.rack.aware.assignment.tags"),
        "Client tags over which standby copies of a streams group are spread.",
    ),
    def(
        "streams.session.timeout.ms",
        Int,
        "45000",
        Check::AtLeast(1),
        Some("group.streams.session.timeout.ms"),
        "A member of a streams group that is silent for this long is gone, in ms.",
    ),
];

/// The broker settings that bound a group's own value: lowest and highest.
struct Bounds {
    name: &'static str,
    min: Option<&'static str>,
    max: Option<&'static str>,
}

const fn between(name: &'static str, min: &'static str, max: &'static str) -> Bounds {
    Bounds {
        name,
        min: Some(min),
        max: Some(max),
    }
}

static BOUNDS: &[Bounds] = &[
    between(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    between(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    between(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    between(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    between(
        "share.session.timeout.ms",
        "group.share.min.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
    between(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    between(
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    between(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    between(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    between(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    between(
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    Bounds {
        name: "streams.num.standby.replicas",
        min: None,
        max: Some("group.streams.max.standby.replicas"),
    },
    between(
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
];

/// A session must outlive more than one heartbeat.
static SESSIONS: &[(&str, &str)] = &[
    (
        "consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms",
    ),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    (
        "streams.session.timeout.ms",
        "streams.heartbeat.interval.ms",
    ),
];

/// What holds for one group: its own settings, else the broker's.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig<'a> {
    set: Option<&'a Configs>,
    image: &'a MetadataImage,
    node_id: i32,
    statics: &'a StaticConfigs,
}

/// Where a share group begins in a partition that is new to it (KIP-932).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStart {
    /// With the oldest record.
    Earliest,
    /// With the next record.
    Latest,
    /// With the first record that is at most this old, in ms.
    ByDuration(i64),
}

impl<'a> GroupConfig<'a> {
    /// The settings of the group with this id; the group need not exist.
    pub fn new(
        image: &'a MetadataImage,
        group_id: &str,
        node_id: i32,
        statics: &'a StaticConfigs,
    ) -> Self {
        Self {
            set: image.group_config(group_id),
            image,
            node_id,
            statics,
        }
    }

    /// One setting with the places that give it a value.
    pub fn resolve(&self, def: &'static ConfigDef) -> Resolved {
        let source = ConfigSource::Group;
        resolve_set(
            def,
            self.set,
            source,
            self.image,
            self.node_id,
            self.statics,
        )
    }

    /// The value of a setting as text; empty when there is none of this name.
    pub fn text(&self, name: &str) -> std::string::String {
        let resolved = find(name).map(|def| self.resolve(def));
        let value = resolved.as_ref().and_then(Resolved::value);
        value.unwrap_or_default().trim().to_owned()
    }

    /// The value of a number, within the broker's bounds. 0 when there is no number of this name.
    pub fn number(&self, name: &str) -> i32 {
        let value = self.text(name).parse().unwrap_or_default();
        let bounds = BOUNDS.iter().find(|bounds| bounds.name == name);
        bounds.map_or(value, |bounds| {
            let (min, max) = self.bounds(bounds);
            value.min(max).max(min)
        })
    }

    /// The value of a Boolean.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    /// Where a share group begins in a partition that is new to it.
    pub fn share_auto_offset_reset(&self) -> ShareStart {
        parse_share_start(&self.text("share.auto.offset.reset")).unwrap_or(ShareStart::Latest)
    }

    fn bounds(&self, bounds: &Bounds) -> (i32, i32) {
        let of = |name: Option<&str>, none: i32| {
            let def = name.and_then(super::broker::find);
            let resolved =
                def.map(|def| resolve_broker(def, self.image, Some(self.node_id), self.statics));
            let value = resolved.as_ref().and_then(Resolved::value);
            value.and_then(|value| value.parse().ok()).unwrap_or(none)
        };
        (of(bounds.min, i32::MIN), of(bounds.max, i32::MAX))
    }

    /// Judges all settings of a group together, as they would be after a change.
    ///
    /// # Errors
    /// [`ConfigError::Group`] with Kafka's sentence.
    pub fn check(&self, after: &Configs) -> Result<(), ConfigError> {
        let refuse = |reason: std::string::String| Err(ConfigError::Group(reason));
        for bounds in BOUNDS {
            let Some(value) = number_of(after, bounds.name) else {
                continue;
            };
            let (min, max) = self.bounds(bounds);
            if (min..=max).contains(&value) {
                continue;
            }
            return refuse(match bounds.min {
                Some(_) => format!(
                    "{} must be in the range {min} to {max} inclusive.",
                    bounds.name
                ),
                None => format!("{} must be less than or equal to {max}", bounds.name),
            });
        }
        let changed = GroupConfig {
            set: Some(after),
            image: self.image,
            node_id: self.node_id,
            statics: self.statics,
        };
        for (session, heartbeat) in SESSIONS {
            let touched = after.contains_key(*session) || after.contains_key(*heartbeat);
            if touched && changed.number(session) <= changed.number(heartbeat) {
                return refuse(format!("{session} must be greater than {heartbeat}"));
            }
        }
        if let Some(name) = after.get("streams.assignor.name") {
            let registered = super::broker::find("group.streams.assignors")
                .map(|def| resolve_broker(def, self.image, Some(self.node_id), self.statics));
            let registered = registered.as_ref().and_then(Resolved::value).unwrap_or("");
            if !split_list(registered).any(|one| one == name) {
                return refuse(format!(
                    "streams.assignor.name '{name}' is not a registered task assignor. Registered assignors are: [{}].",
                    split_list(registered).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        if let Some(tags) = after.get("streams.rack.aware.assignment.tags") {
            let mut tags: Vec<&str> = split_list(tags).collect();
            let count = tags.len();
            tags.sort_unstable();
            tags.dedup();
            if tags.len() < count {
                return refuse(
                    "streams.rack.aware.assignment.tags must not contain duplicate tag keys."
                        .to_owned(),
                );
            }
        }
        match after.get("errors.deadletterqueue.topic.name") {
            Some(topic) if topic.starts_with("__") => refuse(
                "errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

fn number_of(configs: &Configs, name: &str) -> Option<i32> {
    configs.get(name)?.trim().parse().ok()
}

fn share_start(value: &str) -> Result<(), std::string::String> {
    match parse_share_start(value) {
        Some(_) => Ok(()),
        None => Err(format!(
            "Invalid value `{value}` for configuration share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        )),
    }
}

fn parse_share_start(value: &str) -> Option<ShareStart> {
    match value {
        "earliest" => Some(ShareStart::Earliest),
        "latest" => Some(ShareStart::Latest),
        _ => duration_ms(value.strip_prefix("by_duration:")?).map(ShareStart::ByDuration),
    }
}

/// An ISO 8601 duration in days, hours, minutes and seconds, in ms. `None` when it is none, is negative, or
/// does not fit.
fn duration_ms(text: &str) -> Option<i64> {
    let upper = text.to_ascii_uppercase();
    let rest = upper.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        // A T with nothing behind it is not allowed.
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (rest, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    if !days.is_empty() {
        total = whole(days.strip_suffix('D')?)?.checked_mul(86_400_000)?;
    }
    let mut time = time;
    for (unit, ms) in [('H', 3_600_000), ('M', 60_000)] {
        if let Some((count, rest)) = time.split_once(unit) {
            total = total.checked_add(whole(count)?.checked_mul(ms)?)?;
            time = rest;
        }
    }
    if !time.is_empty() {
        total = total.checked_add(seconds_ms(time.strip_suffix('S')?)?)?;
    }
    Some(total)
}

fn whole(digits: &str) -> Option<i64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

fn seconds_ms(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    whole(seconds)?.checked_mul(1000)?.checked_add(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_java() {
        for (text, ms) in [
            ("PT1H", 3_600_000),
            ("P2DT3H4M5.25S", 183_845_250),
            ("pt0.5s", 500),
            ("P1D", 86_400_000),
            ("PT90M", 5_400_000),
        ] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "PT-1H",
            "-PT1H",
            "PT1",
            "PTS",
            "P1H",
            "PT1S2M",
            "PT1.1M",
            "P99999999999999D",
            "1H",
            "PT+1H",
        ] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn defaults_and_synonyms_fit_the_checks() {
        for def in GROUP_CONFIGS {
            let default = def.default.expect("every group setting has a default");
            assert_eq!(def.validate(default), Ok(()), "{}", def.name);
            if let Some(synonym) = def.synonym {
                let broker = super::super::broker::find(synonym).expect(synonym);
                assert_eq!(broker.default, Some(default), "{synonym}");
            }
        }
        for bounds in BOUNDS {
            assert!(find(bounds.name).is_some(), "{}", bounds.name);
            for name in bounds.min.iter().chain(&bounds.max) {
                assert!(super::super::broker::find(name).is_some(), "{name}");
            }
        }
        assert!(GROUP_CONFIGS.is_sorted_by_key(|def| def.name));
    }

    #[test]
    fn a_value_outside_the_bounds_is_refused_and_a_moved_bound_wins() {
        use crate::record::{ConfigResource, MetadataRecord};
        let set =
            |resource: ConfigResource, name: &str, value: &str| MetadataRecord::ConfigChanged {
                resource,
                name: name.to_owned(),
                value: Some(value.to_owned()),
            };
        let mut image = MetadataImage::default();
        let statics = StaticConfigs::new();
        let name = "consumer.session.timeout.ms";
        let group = || ConfigResource::Group("g".to_owned());
        image.apply(&set(group(), name, "60000")).expect("fits");
        let config = GroupConfig::new(&image, "g", 1, &statics);
        assert_eq!(config.number(name), 60_000);
        assert_eq!(
            GroupConfig::new(&image, "other", 1, &statics).number(name),
            45_000
        );
        let refused = |name: &str, value: &str| {
            let after = Configs::from([(name.to_owned(), value.to_owned())]);
            config.check(&after).map_err(|error| error.to_string())
        };
        assert_eq!(
            refused(name, "1"),
            Err(
                "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive.".into()
            )
        );
        assert_eq!(
            refused("streams.num.standby.replicas", "3"),
            Err("streams.num.standby.replicas must be less than or equal to 2".into())
        );
        assert_eq!(refused("consumer.heartbeat.interval.ms", "15000"), Ok(()));
        let broker = ConfigResource::Broker(None);
        let moved = set(broker, "group.consumer.max.session.timeout.ms", "50000");
        image.apply(&moved).expect("fits");
        let config = GroupConfig::new(&image, "g", 1, &statics);
        assert_eq!(config.number(name), 50_000);
    }
}
