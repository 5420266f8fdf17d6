//! ApiVersions (key 18): what the server serves, and which features are on.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use crate::net::reply::{Outcome, Reply};
use crate::protocol::newer::{self, Believed};
use crate::protocol::{ProtocolError, RawRequest, encode_reply, served};

/// One feature: name, lowest and highest level supported, level that is on.
pub(super) struct Feature {
    name: &'static str,
    pub(super) min: i16,
    pub(super) max: i16,
    pub(super) level: i16,
}

/// The feature with this name.
pub(super) fn feature(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// Features in the sense of KIP-584. Clients read `transaction.version` to choose their transaction
/// protocol and tools print `metadata.version`, which is that of Kafka 4.0 (level 25).
static FEATURES: &[Feature] = &[
    Feature {
        name: "metadata.version",
        min: 7,
        max: 25,
        level: 25,
    },
    Feature {
        name: "group.version",
        min: 0,
        max: 1,
        level: 1,
    },
    Feature {
        name: "share.version",
        min: 0,
        max: 1,
        level: 1,
    },
    Feature {
        name: "transaction.version",
        min: 0,
        max: 2,
        level: 2,
    },
];

/// Clients say whom they believe to speak with from this version on (KIP-1242).
const BELIEVED: i16 = 5;

/// Kafka's error for a client that found another cluster or node than it looked for: it has to begin
/// with its bootstrap servers again.
const REBOOTSTRAP_REQUIRED: i16 = 129;

/// Kafka still announces Produce from version 0 on (KAFKA-18659), although it serves none before 3:
/// librdkafka before 2.9 would not compress otherwise.
const ANNOUNCED_PRODUCE: i16 = 0;

/// Answers ApiVersions.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let (request, believed) = if raw.version >= BELIEVED {
        newer::api_versions_request(raw).map(|(request, believed)| (request, Some(believed)))?
    } else {
        (raw.decode()?, None)
    };
    let response = answer(ctx, &request, believed.as_ref());
    Ok(Outcome::Ready(raw.reply(&response)?))
}

fn answer(
    ctx: &Context,
    request: &ApiVersionsRequest,
    believed: Option<&Believed>,
) -> ApiVersionsResponse {
    if let Some(code) = believed.and_then(|believed| judge(ctx, believed)) {
        return ApiVersionsResponse::default().with_error_code(code);
    }
    if ctx.version >= 3 {
        let (name, version) = (
            &request.client_software_name,
            &request.client_software_version,
        );
        if !is_software_word(name) || !is_software_word(version) {
            return refusal(ResponseError::InvalidRequest, ctx.version);
        }
        let software = (name.to_string(), version.to_string());
        tracing::debug!(connection = ctx.connection.id, name = %software.0, version = %software.1, "client software");
        // A client may ask again; the first answer stays.
        let _ = ctx.connection.software.set(software);
    }
    response(ctx.version)
}

/// The answer to a version that is not served: version 0, with the versions that are (KIP-511).
///
/// # Errors
/// [`ProtocolError::Encoding`].
pub fn unsupported(correlation_id: i32) -> Result<Reply, ProtocolError> {
    let response = refusal(ResponseError::UnsupportedVersion, 0);
    encode_reply(ApiKey::ApiVersions, 0, correlation_id, &response)
}

/// What is wrong with the client's belief. Both halves are given, or none.
fn judge(ctx: &Context, believed: &Believed) -> Option<i16> {
    match (&believed.cluster_id, believed.node_id) {
        (None, -1) => None,
        (None, _) | (Some(_), -1) => Some(ResponseError::InvalidRequest.code()),
        (Some(cluster), node) => {
            let is_here =
                **cluster == *ctx.state.identity.cluster_id && node == ctx.state.node_id();
            (!is_here).then_some(REBOOTSTRAP_REQUIRED)
        }
    }
}

fn refusal(error: ResponseError, version: i16) -> ApiVersionsResponse {
    let own = served::find(ApiKey::ApiVersions).map(api_version);
    ApiVersionsResponse::default()
        .with_error_code(error.code())
        .with_api_keys(if version == 0 {
            own.into_iter().collect()
        } else {
            Vec::new()
        })
}

fn api_version(served: &served::Served) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(served.api as i16)
        .with_min_version(if served.api == ApiKey::Produce {
            ANNOUNCED_PRODUCE
        } else {
            served.min
        })
        .with_max_version(served.max)
}

fn response(version: i16) -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default()
        .with_api_keys(served::SERVED.iter().map(api_version).collect());
    if version >= 3 {
        response.finalized_features_epoch = 0;
        for feature in FEATURES {
            let name = StrBytes::from_static_str(feature.name);
            // Before version 4 a lowest level of 0 must not be sent (KIP-1022).
            let min = if version < 4 {
                feature.min.max(1)
            } else {
                feature.min
            };
            response.supported_features.push(
                SupportedFeatureKey::default()
                    .with_name(name.clone())
                    .with_min_version(min)
                    .with_max_version(feature.max),
            );
            if feature.level > 0 {
                response.finalized_features.push(
                    FinalizedFeatureKey::default()
                        .with_name(name)
                        .with_min_version_level(feature.level)
                        .with_max_version_level(feature.level),
                );
            }
        }
    }
    response
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?` of KIP-511.
fn is_software_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}
