//! Requests of admins about things that one node has none of.

use kafka_protocol::messages::*;

use super::text;
use crate::produce::topic_name;

pub(super) fn admin(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let mut samples = security();
    samples.extend(cluster_of_one(topic));
    samples
}

fn security() -> Vec<(ApiKey, RequestKind)> {
    let creation = create_acls_request::AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text("r"))
        .with_resource_pattern_type(3)
        .with_principal(text("User:u"))
        .with_host(text("*"));
    let filter = delete_acls_request::DeleteAclsFilter::default()
        .with_resource_name_filter(Some(text("r")))
        .with_pattern_type_filter(3)
        .with_principal_filter(Some(text("User:u")))
        .with_host_filter(Some(text("*")));
    let described = DescribeAclsRequest::default()
        .with_resource_name_filter(Some(text("r")))
        .with_pattern_type_filter(3)
        .with_principal_filter(Some(text("User:u")))
        .with_host_filter(Some(text("*")));
    let component = describe_client_quotas_request::ComponentData::default()
        .with_entity_type(text("user"))
        .with_match(Some(text("u")));
    let entity = alter_client_quotas_request::EntityData::default()
        .with_entity_type(text("user"))
        .with_entity_name(Some(text("u")));
    let op = alter_client_quotas_request::OpData::default()
        .with_key(text("producer_byte_rate"))
        .with_value(1.0);
    let entry = alter_client_quotas_request::EntryData::default()
        .with_entity(vec![entity])
        .with_ops(vec![op]);
    let user = describe_user_scram_credentials_request::UserName::default().with_name(text("u"));
    let deletion = alter_user_scram_credentials_request::ScramCredentialDeletion::default()
        .with_name(text("u"));
    let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion::default()
        .with_name(text("u"))
        .with_salt(b"salt".to_vec().into())
        .with_salted_password(b"password".to_vec().into());
    vec![
        (ApiKey::DescribeAcls, RequestKind::DescribeAcls(described)),
        (
            ApiKey::CreateAcls,
            RequestKind::CreateAcls(CreateAclsRequest::default().with_creations(vec![creation])),
        ),
        (
            ApiKey::DeleteAcls,
            RequestKind::DeleteAcls(DeleteAclsRequest::default().with_filters(vec![filter])),
        ),
        (
            ApiKey::DescribeClientQuotas,
            RequestKind::DescribeClientQuotas(
                DescribeClientQuotasRequest::default().with_components(vec![component]),
            ),
        ),
        (
            ApiKey::AlterClientQuotas,
            RequestKind::AlterClientQuotas(
                AlterClientQuotasRequest::default().with_entries(vec![entry]),
            ),
        ),
        (
            ApiKey::DescribeUserScramCredentials,
            RequestKind::DescribeUserScramCredentials(
                DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user])),
            ),
        ),
        (
            ApiKey::AlterUserScramCredentials,
            RequestKind::AlterUserScramCredentials(
                AlterUserScramCredentialsRequest::default()
                    .with_deletions(vec![deletion])
                    .with_upsertions(vec![upsertion]),
            ),
        ),
    ]
}

fn cluster_of_one(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let elected = elect_leaders_request::TopicPartitions::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![0]);
    let reassigned = alter_partition_reassignments_request::ReassignablePartition::default()
        .with_replicas(Some(vec![BrokerId(1)]));
    let reassigned = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![reassigned]);
    let moved = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![0]);
    let moved = alter_replica_log_dirs_request::AlterReplicaLogDir::default()
        .with_path(text("/nowhere"))
        .with_topics(vec![moved]);
    let quorum = describe_quorum_request::TopicData::default()
        .with_topic_name(topic_name("__cluster_metadata"))
        .with_partitions(vec![describe_quorum_request::PartitionData::default()]);
    let feature = update_features_request::FeatureUpdateKey::default()
        .with_feature(text("metadata.version"))
        .with_max_version_level(1);
    vec![
        (
            // Version 0 has no types.
            ApiKey::ListConfigResources,
            RequestKind::ListConfigResources(ListConfigResourcesRequest::default()),
        ),
        (
            ApiKey::ElectLeaders,
            RequestKind::ElectLeaders(
                ElectLeadersRequest::default().with_topic_partitions(Some(vec![elected])),
            ),
        ),
        (
            ApiKey::AlterPartitionReassignments,
            RequestKind::AlterPartitionReassignments(
                AlterPartitionReassignmentsRequest::default().with_topics(vec![reassigned]),
            ),
        ),
        (
            ApiKey::AlterReplicaLogDirs,
            RequestKind::AlterReplicaLogDirs(
                AlterReplicaLogDirsRequest::default().with_dirs(vec![moved]),
            ),
        ),
        (
            ApiKey::DescribeQuorum,
            RequestKind::DescribeQuorum(DescribeQuorumRequest::default().with_topics(vec![quorum])),
        ),
        (
            ApiKey::UpdateFeatures,
            RequestKind::UpdateFeatures(
                UpdateFeaturesRequest::default().with_feature_updates(vec![feature]),
            ),
        ),
        (
            ApiKey::UnregisterBroker,
            RequestKind::UnregisterBroker(
                UnregisterBrokerRequest::default().with_broker_id(BrokerId(77)),
            ),
        ),
    ]
}
