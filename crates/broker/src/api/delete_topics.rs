//! DeleteTopics (key 20): by name, or from version 6 by topic id too (KIP-516).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use uuid::Uuid;

use super::{Context, named_once, text};
use crate::state::BrokerState;
use crate::topics::TopicError;

/// Answers DeleteTopics.
pub async fn handle(ctx: &Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked: Vec<DeleteTopicState> = if ctx.version >= 6 {
        request.topics
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)))
            .collect()
    };
    let responses: Vec<DeletableTopicResult> = ctx
        .blocking(move |state| {
            // A topic that is named and meant by its id too is the same one.
            let image = state.image();
            let meant = |topic: &DeleteTopicState| match &topic.name {
                Some(name) => match image.topic(name) {
                    Some(found) => (None, found.id),
                    None => (Some(name.clone()), topic.topic_id),
                },
                None => (None, topic.topic_id),
            };
            let each = named_once(&asked, meant);
            each.map(|(topic, repeated)| delete(state, topic, repeated))
                .collect()
        })
        .await;
    let deleted = responses.iter().filter(|answer| answer.error_code == 0);
    let mut names = Vec::new();
    for topic in deleted {
        ctx.state.share.forget_topic(&ctx.state, topic.topic_id);
        names.extend(topic.name.as_ref().map(|name| name.to_string()));
    }
    crate::groups::forget_topics(&ctx.state, names);
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete(state: &BrokerState, asked: &DeleteTopicState, repeated: bool) -> DeletableTopicResult {
    let answer = DeletableTopicResult::default()
        .with_name(asked.name.clone())
        .with_topic_id(asked.topic_id);
    let deleted = if repeated {
        Err(TopicError::duplicate_topic())
    } else {
        find(state, asked).and_then(|(id, name)| {
            state.delete_topic(id)?;
            Ok((id, name))
        })
    };
    match deleted {
        Ok((id, name)) => answer
            .with_topic_id(id)
            .with_name(Some(kafka_protocol::messages::TopicName(text(name)))),
        Err(error) => answer
            .with_error_code(error.code.code())
            .with_error_message(Some(text(&error.message))),
    }
}

fn find(state: &BrokerState, asked: &DeleteTopicState) -> Result<(Uuid, String), TopicError> {
    let image = state.image();
    let found = match &asked.name {
        Some(_) if !asked.topic_id.is_nil() => {
            return Err(TopicError::new(
                ResponseError::InvalidRequest,
                "You may not specify both topic name and topic id.",
            ));
        }
        None if asked.topic_id.is_nil() => {
            return Err(TopicError::new(
                ResponseError::InvalidRequest,
                "Neither topic name nor id were specified.",
            ));
        }
        Some(name) => image
            .topic(name)
            .ok_or(ResponseError::UnknownTopicOrPartition),
        None => image
            .topic_by_id(asked.topic_id)
            .ok_or(ResponseError::UnknownTopicId),
    };
    match found {
        Ok(topic) => Ok((topic.id, topic.name.to_string())),
        Err(code) => Err(TopicError::new(
            code,
            match code {
                ResponseError::UnknownTopicId => "This server does not host this topic ID.",
                _ => "This server does not host this topic-partition.",
            },
        )),
    }
}
