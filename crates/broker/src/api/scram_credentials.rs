//! DescribeUserScramCredentials and AlterUserScramCredentials (keys 50 and 51, KIP-554). Nobody can log in with
//! SCRAM yet, so there are no credentials, and none is taken.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};

use super::{Context, named_once, text};

/// Answers DescribeUserScramCredentials.
pub async fn describe(
    _ctx: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let users = request.users.unwrap_or_default();
    let results = named_once(&users, |user| user.name.clone()).map(|(user, repeated)| {
        let (code, message) = if repeated {
            (
                ResponseError::DuplicateResource,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {}",
                    &*user.name
                ),
            )
        } else {
            (
                ResponseError::ResourceNotFound,
                format!(
                    "Attempt to describe a user credential that does not exist: {}",
                    &*user.name
                ),
            )
        };
        DescribeUserScramCredentialsResult::default()
            .with_user(user.name.clone())
            .with_error_code(code.code())
            .with_error_message(Some(text(message)))
    });
    DescribeUserScramCredentialsResponse::default()
        .with_error_message(None)
        .with_results(results.collect())
}

/// Answers AlterUserScramCredentials.
pub async fn alter(
    _ctx: &Context,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let deleted = request.deletions.into_iter().map(|deletion| {
        (
            deletion.name,
            ResponseError::ResourceNotFound,
            "Attempt to delete a user credential that does not exist",
        )
    });
    let set = request.upsertions.into_iter().map(|upsertion| {
        (
            upsertion.name,
            ResponseError::UnsupportedSaslMechanism,
            "This server offers no SASL authentication yet: credentials cannot be set",
        )
    });
    let results = deleted.chain(set).map(|(user, code, message)| {
        AlterUserScramCredentialsResult::default()
            .with_user(user)
            .with_error_code(code.code())
            .with_error_message(Some(text(message)))
    });
    AlterUserScramCredentialsResponse::default().with_results(results.collect())
}
