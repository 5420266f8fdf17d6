//! Who this data folder belongs to: `meta.properties`, as Kafka has it.

use std::path::Path;

use dlog_storage::disk::{self, Disk};
use uuid::Uuid;

use crate::error::{BrokerError, Result};

/// Name of the file.
pub const FILE: &str = "meta.properties";

/// Identity of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Id of the node that owns the folder.
    pub node_id: i32,
    /// Id of the folder (KIP-858).
    pub directory_id: Uuid,
}

/// Writes a UUID as Kafka does: URL-safe base64 without padding, 22 characters.
pub fn kafka_uuid(id: Uuid) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = id.as_u128();
    // 128 bits are 21 digits of 6 bits and one of the last 2 bits, padded with zeros.
    (0..22)
        .map(|i| {
            let digit = if i < 21 {
                (bits >> (122 - 6 * i)) & 63
            } else {
                (bits & 3) << 4
            };
            char::from(ALPHABET[digit as usize])
        })
        .collect()
}

/// Reads what [`kafka_uuid`] writes.
pub fn parse_kafka_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut bits: u128 = 0;
    for (i, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = if i < 21 {
            bits << 6 | u128::from(digit)
        } else {
            bits << 2 | u128::from(digit >> 4)
        };
    }
    Some(Uuid::from_u128(bits))
}

/// Reads the identity, or gives the folder one.
///
/// # Errors
/// When the file is of another node, or cannot be read or written.
pub fn load_or_create(
    disk: &dyn Disk,
    data_dir: &Path,
    node_id: i32,
    wanted_cluster_id: Option<&str>,
) -> Result<Identity> {
    let path = data_dir.join(FILE);
    let io = |operation, source| BrokerError::Io {
        operation,
        path: path.clone(),
        source,
    };
    let exists = disk
        .list(data_dir)
        .map_err(|e| io("list the folder of", e))?;
    if !exists.iter().any(|entry| entry.name == FILE) {
        let identity = Identity {
            cluster_id: wanted_cluster_id.map_or_else(|| kafka_uuid(Uuid::new_v4()), str::to_owned),
            node_id,
            directory_id: Uuid::new_v4(),
        };
        disk::replace_file(disk, &path, identity.to_text().as_bytes())
            .map_err(|e| io("write", e))?;
        return Ok(identity);
    }
    let text = disk::read_file(disk, &path, 64 << 10).map_err(|e| io("read", e))?;
    let wrong = |reason: String| BrokerError::Identity {
        path: path.clone(),
        reason,
    };
    let identity = Identity::from_text(&String::from_utf8_lossy(&text)).map_err(wrong)?;
    if identity.node_id != node_id {
        return Err(wrong(format!(
            "the folder belongs to node {}, this is node {node_id}: set node.id to {}, or choose another data folder",
            identity.node_id, identity.node_id
        )));
    }
    match wanted_cluster_id {
        Some(wanted) if wanted != identity.cluster_id => Err(wrong(format!(
            "the folder belongs to cluster {}, not {wanted}: choose another data folder",
            identity.cluster_id
        ))),
        _ => Ok(identity),
    }
}

impl Identity {
    fn to_text(&self) -> String {
        format!(
            "version=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id,
            self.node_id,
            kafka_uuid(self.directory_id)
        )
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once('='));
            lines
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("{name} is missing"))
        };
        if value("version")? != "1" {
            return Err("the version is not 1: a newer release wrote it".to_owned());
        }
        let node_id = value("node.id")?
            .parse()
            .map_err(|_| "node.id is no number".to_owned())?;
        let directory_id = parse_kafka_uuid(value("directory.id")?)
            .ok_or("directory.id is no id of 22 characters")?;
        Ok(Self {
            cluster_id: value("cluster.id")?.to_owned(),
            node_id,
            directory_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_kafka_writes_them() {
        // Uuid.METADATA_TOPIC_ID of Kafka is (0, 1).
        assert_eq!(kafka_uuid(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        for id in [
            Uuid::nil(),
            Uuid::max(),
            Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        ] {
            assert_eq!(parse_kafka_uuid(&kafka_uuid(id)), Some(id));
        }
        assert_eq!(parse_kafka_uuid("short"), None);
        assert_eq!(parse_kafka_uuid("!!!!!!!!!!!!!!!!!!!!!!"), None);
    }

    #[test]
    fn an_identity_survives_its_text() {
        let identity = Identity {
            cluster_id: "c".to_owned(),
            node_id: 7,
            directory_id: Uuid::from_u128(5),
        };
        assert_eq!(Identity::from_text(&identity.to_text()), Ok(identity));
        assert!(Identity::from_text("version=1\nnode.id=1\n").is_err());
    }
}
