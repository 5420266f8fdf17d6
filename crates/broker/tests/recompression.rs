//! What the broker stores when a topic has a codec of its own, and at which level (KIP-390).
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use dlog_storage::record::{Batch, Compression};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::*;

use common::{Client, batch, compressed, records, start, text, topic_name};

async fn create(client: &mut Client, name: &str, settings: &[(&str, &str)]) {
    let configs = settings.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(1000);
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
}

/// Sets a setting of a topic, or of all brokers where there is no topic.
async fn set(client: &mut Client, topic: Option<&str>, name: &str, value: &str) {
    let config = incremental::AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(0)
        .with_value(Some(text(value)));
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(if topic.is_some() { 2 } else { 4 })
        .with_resource_name(text(topic.unwrap_or_default()))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(1, &request).await;
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

/// The batch that is stored at an offset.
async fn stored(client: &mut Client, topic: &str, offset: i64) -> Batch {
    let mut bytes = client.fetch(topic, 0, offset).await;
    Batch::split_first(&mut bytes).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_becomes_every_other() {
    let server = start().await;
    let mut client = server.client().await;
    let targets = [
        ("producer", None),
        ("uncompressed", Some(Compression::None)),
        ("gzip", Some(Compression::Gzip)),
        ("snappy", Some(Compression::Snappy)),
        ("lz4", Some(Compression::Lz4)),
        ("zstd", Some(Compression::Zstd)),
    ];
    let values = [
        "a value",
        "a value that comes again",
        "a value that comes again",
    ];
    for (target, codec) in targets {
        create(&mut client, target, &[("compression.type", target)]).await;
        for (n, from) in Compression::ALL.into_iter().enumerate() {
            let sent = compressed(&values, from);
            let offset = (n * values.len()) as i64;
            assert_eq!(client.produce(target, 0, sent).await.offset, offset);
            let found = stored(&mut client, target, offset).await;
            let expected = codec.unwrap_or(from);
            assert_eq!(
                found.header().compression(),
                Ok(expected),
                "{from} to {target}"
            );
            found.verify_crc().unwrap();
            let read = records(found.into_bytes());
            let wanted = values.iter().enumerate();
            let wanted = wanted.map(|(at, value)| (offset + at as i64, (*value).to_owned()));
            assert_eq!(read, wanted.collect::<Vec<_>>(), "{from} to {target}");
        }
    }
}

/// Text that the levels make more or less of.
fn sample() -> String {
    let mut state = 7_u32;
    let mut text = String::new();
    for n in 0..4_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(&format!(
            "{{\"id\":{n},\"name\":\"user{}\"}},",
            (state >> 16) % 900
        ));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_holds_from_the_next_batch_on() {
    let server = start().await;
    let mut client = server.client().await;
    let sample = sample();
    let size = async |client: &mut Client, topic: &str| {
        let produced = client.produce(topic, 0, batch(&[&sample])).await;
        assert_eq!(produced.error, 0);
        let found = stored(client, topic, produced.offset).await;
        found.bytes().len()
    };
    for (codec, weak, strong) in [
        ("gzip", "1", "9"),
        ("lz4", "9", "17"),
        ("zstd", "-50", "19"),
    ] {
        let name = format!("compression.{codec}.level");
        let settings = [("compression.type", codec), (&name[..], weak)];
        create(&mut client, codec, &settings).await;
        let before = size(&mut client, codec).await;
        set(&mut client, Some(codec), &name, strong).await;
        let after = size(&mut client, codec).await;
        assert!(
            after * 100 < before * 96,
            "{codec}: {before} at {weak}, {after} at {strong}"
        );

        // Where the topic says nothing the broker's level holds.
        let other = format!("{codec}-of-the-broker");
        create(&mut client, &other, &[("compression.type", codec)]).await;
        set(&mut client, None, &name, weak).await;
        assert_eq!(size(&mut client, &other).await, before, "{codec}");
        set(&mut client, None, &name, strong).await;
        assert_eq!(size(&mut client, &other).await, after, "{codec}");
    }
}
