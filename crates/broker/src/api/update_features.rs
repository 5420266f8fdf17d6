//! UpdateFeatures (key 57, KIP-584): the levels are those of the program; asking for them is no error, asking
//! for others is.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::api_versions::feature;
use super::{Context, text};

/// One error is for the whole request from this version on.
const WHOLE: i16 = 2;

/// Answers UpdateFeatures.
pub async fn handle(ctx: &Context, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let node = ctx.state.node_id();
    let judged: Vec<_> = request
        .feature_updates
        .iter()
        .map(|update| (update, judge(node, update)))
        .collect();
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    if ctx.version >= WHOLE {
        return match judged.iter().find_map(|(_, judged)| judged.as_ref().err()) {
            None => response,
            Some(reason) => response
                .with_error_code(ResponseError::InvalidUpdateVersion.code())
                .with_error_message(Some(text(format!(
                    "The update failed for all features since the following feature had an error: {reason}"
                )))),
        };
    }
    let results = judged.into_iter().map(|(update, judged)| {
        let answer = UpdatableFeatureResult::default().with_feature(update.feature.clone());
        match judged {
            Ok(()) => answer.with_error_message(None),
            Err(reason) => answer
                .with_error_code(ResponseError::InvalidUpdateVersion.code())
                .with_error_message(Some(text(reason))),
        }
    });
    response.with_results(results.collect())
}

fn judge(node: i32, update: &FeatureUpdateKey) -> Result<(), String> {
    let (name, wanted) = (&*update.feature, update.max_version_level);
    let invalid = |reason: String| {
        Err(format!(
            "Invalid update version {wanted} for feature {name}. {reason}"
        ))
    };
    match feature(name) {
        None => invalid(format!(
            "Local controller {node} does not support this feature."
        )),
        Some(known) if !(known.min..=known.max).contains(&wanted) => invalid(format!(
            "Local controller {node} only supports versions {}-{}",
            known.min, known.max
        )),
        Some(known) if known.level != wanted => invalid(format!(
            "This server runs at level {} and cannot change it.",
            known.level
        )),
        Some(_) => Ok(()),
    }
}
