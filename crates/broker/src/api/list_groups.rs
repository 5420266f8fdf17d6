//! ListGroups (key 16): with filters by state (KIP-518) and type (KIP-848).

use dlog_groups::{GroupError, GroupListing};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};

/// States are shown from this version on.
const STATES: i16 = 4;
/// Types are shown from this version on.
const TYPES: i16 = 5;

/// Answers ListGroups.
pub async fn handle(ctx: &Context, request: ListGroupsRequest) -> ListGroupsResponse {
    match list(ctx, &request).await {
        Ok(mut groups) => {
            groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
            let shown = groups.into_iter().map(|group| listed(ctx.version, group));
            ListGroupsResponse::default().with_groups(shown.collect())
        }
        Err(error) => ListGroupsResponse::default().with_error_code(error.code()),
    }
}

async fn list(ctx: &Context, request: &ListGroupsRequest) -> Result<Vec<GroupListing>, GroupError> {
    let words = |filter: &[StrBytes]| filter.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (states, types) = (words(&request.states_filter), words(&request.types_filter));
    let mut groups = Vec::new();
    for shard in ctx.state.groups.all(&ctx.state).await? {
        groups.extend(shard.read(|groups| groups.list_groups(&states, &types))?);
    }
    Ok(groups)
}

fn listed(version: i16, group: GroupListing) -> ListedGroup {
    let mut listed = ListedGroup::default()
        .with_group_id(GroupId(text(&*group.group_id)))
        .with_protocol_type(text(group.protocol_type));
    if version >= STATES {
        listed.group_state = StrBytes::from_static_str(group.state.as_str());
    }
    if version >= TYPES {
        listed.group_type = StrBytes::from_static_str(group.group_type.as_str());
    }
    listed
}
