//! DescribeAcls, CreateAcls and DeleteAcls (keys 29 to 31): there is no access control, and that is said as
//! a Kafka without an authorizer says it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse,
};

use super::{Context, text};

const CODE: ResponseError = ResponseError::SecurityDisabled;

/// Answers DescribeAcls.
pub async fn describe(_ctx: &Context, _request: DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(CODE.code())
        .with_error_message(Some(text("No Authorizer is configured on the broker")))
}

/// Answers CreateAcls.
pub async fn create(_ctx: &Context, request: CreateAclsRequest) -> CreateAclsResponse {
    let refused = AclCreationResult::default()
        .with_error_code(CODE.code())
        .with_error_message(Some(text("No Authorizer is configured.")));
    CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
}

/// Answers DeleteAcls.
pub async fn delete(_ctx: &Context, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(CODE.code())
        .with_error_message(Some(text("No Authorizer is configured.")));
    DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
}
