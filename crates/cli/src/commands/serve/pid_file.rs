//! The PID file: written when the server is ready, removed when it stops.

use std::path::PathBuf;

use anyhow::Context as _;

/// Removes the file when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the id of this process. A file that is there already is of a server that was killed: the
    /// lock on the data folder, not this file, keeps two servers apart.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(path: PathBuf) -> anyhow::Result<Self> {
        let text = format!("{}\n", std::process::id());
        std::fs::write(&path, text)
            .with_context(|| format!("cannot write the PID file {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the PID file could not be removed");
        }
    }
}
