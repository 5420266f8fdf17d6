//! ListGroups (key 16): with filters by state (KIP-518) and type (KIP-848).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::groups::machine::GroupError;

/// States are shown from this version on.
const STATES: i16 = 4;
/// Types are shown from this version on.
const TYPES: i16 = 5;
/// All groups are of the classic protocol.
const CLASSIC: &str = "classic";

/// Answers ListGroups.
pub async fn handle(ctx: &Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let Ok(shards) = ctx.state.groups.all(&ctx.state).await else {
        return ListGroupsResponse::default()
            .with_error_code(GroupError::CoordinatorNotAvailable.code());
    };
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let mut groups = Vec::new();
    for group in shards
        .iter()
        .flat_map(|shard| shard.read(|groups| groups.list()))
    {
        if !passes(&request.states_filter, group.state.name())
            || !passes(&request.types_filter, CLASSIC)
        {
            continue;
        }
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(group.group_id)))
            .with_protocol_type(text(group.protocol_type));
        if ctx.version >= STATES {
            listed.group_state = StrBytes::from_static_str(group.state.name());
        }
        if ctx.version >= TYPES {
            listed.group_type = StrBytes::from_static_str(CLASSIC);
        }
        groups.push(listed);
    }
    groups.sort_by(|a, b| a.group_id.0.cmp(&b.group_id.0));
    ListGroupsResponse::default().with_groups(groups)
}
