//! The topics as the groups of a shard see them.

use std::sync::Arc;

use dlog_groups::{TopicCatalog, TopicInfo};
use dlog_metadata::MetadataImage;
use parking_lot::Mutex;
use uuid::Uuid;

/// A snapshot of the metadata, numbered within its shard.
#[derive(Debug)]
struct Topics {
    image: Arc<MetadataImage>,
    version: u64,
}

impl TopicCatalog for Topics {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let topic = self.image.topic(name)?;
        Some(TopicInfo {
            id: topic.id,
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        })
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        self.image.topic_by_id(id).map(|topic| topic.name.clone())
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.image.topics().for_each(|topic| visit(&topic.name));
    }
}

/// Which metadata a shard was last shown.
#[derive(Debug, Default)]
pub struct Seen {
    last: Mutex<(Option<Arc<MetadataImage>>, u64)>,
}

impl Seen {
    /// The topics of this image, unless the shard has them already.
    pub(super) fn newer(&self, image: &Arc<MetadataImage>) -> Option<Arc<dyn TopicCatalog>> {
        let mut last = self.last.lock();
        if last.0.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, image)) {
            return None;
        }
        last.0 = Some(image.clone());
        last.1 += 1;
        Some(Arc::new(Topics {
            image: image.clone(),
            version: last.1,
        }))
    }
}
