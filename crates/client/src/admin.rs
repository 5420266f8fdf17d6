//! Topics, settings and groups.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};

use crate::cluster::Client;
use crate::connection::text;
use crate::error::{ClientError, Result};

/// Kafka's number for topics among the resources with settings.
const TOPIC: i8 = 2;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name.
    pub name: String,
    /// Value; `None` when it is secret or unset.
    pub value: Option<String>,
    /// Whether it differs from the default.
    pub is_set: bool,
}

impl Client {
    fn admin_timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout().as_millis()).unwrap_or(i32::MAX)
    }

    /// Creates a topic; -1 partitions or replicas leaves the number to the broker.
    ///
    /// # Errors
    /// [`ClientError::Refused`], for example when it exists.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(String, String)],
    ) -> Result<()> {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.admin_timeout_ms());
        let answer = self.call_controller(&request, 7).await?;
        for topic in &answer.topics {
            ClientError::check(
                topic.error_code,
                || format!("create topic {name}"),
                topic.error_message.as_deref(),
            )?;
        }
        Ok(())
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// [`ClientError::Refused`], for example when it does not exist.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        // Versions up to 5 have names, later ones topics.
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![
                DeleteTopicState::default().with_name(Some(TopicName(text(name)))),
            ])
            .with_timeout_ms(self.admin_timeout_ms());
        let answer = self.call_controller(&request, 6).await?;
        for topic in &answer.responses {
            ClientError::check(
                topic.error_code,
                || format!("delete topic {name}"),
                topic.error_message.as_deref(),
            )?;
        }
        Ok(())
    }

    /// Grows a topic to `total` partitions.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn add_partitions(&self, name: &str, total: i32) -> Result<()> {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(text(name)))
            .with_count(total)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.admin_timeout_ms());
        let answer = self.call_controller(&request, 3).await?;
        for topic in &answer.results {
            let what = || format!("add partitions to {name}");
            ClientError::check(topic.error_code, what, topic.error_message.as_deref())?;
        }
        Ok(())
    }

    /// The settings of a topic, by name.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn topic_settings(&self, name: &str) -> Result<Vec<Setting>> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let answer = self
            .call(
                &DescribeConfigsRequest::default().with_resources(vec![resource]),
                4,
            )
            .await?;
        let mut settings = Vec::new();
        for result in answer.results {
            let what = || format!("settings of {name}");
            ClientError::check(result.error_code, what, result.error_message.as_deref())?;
            settings.extend(result.configs.into_iter().map(|config| Setting {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_set: config.config_source == 1,
            }));
        }
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(settings)
    }

    /// Sets (`Some`) and resets (`None`) settings of a topic.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn change_topic_settings(
        &self,
        name: &str,
        changes: &[(String, Option<String>)],
    ) -> Result<()> {
        let configs = changes.iter().map(|(name, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.call_controller(&request, 1).await?;
        for result in &answer.responses {
            let what = || format!("settings of {name}");
            ClientError::check(result.error_code, what, result.error_message.as_deref())?;
        }
        Ok(())
    }
}
