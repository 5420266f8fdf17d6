//! Walks the frames of a segment file in order: Kafka batches (format v2) or single messages (v1).
//!
//! Everything that reads a segment sequentially (recovery, index rebuilding, searches behind an
//! index entry, verification, compaction) goes through [`Walker`], so that what counts as a whole
//! frame is decided in one place. Lengths are checked against the bytes that are there before they
//! are used.

use std::io;

use crate::config::Format;
use crate::disk::DiskFile;
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, crc32c, v1};

/// How closely frames are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Headers only: enough to find offsets in bytes that are known to be sound.
    Header,
    /// Whole frames with their checksums.
    Checksum,
}

/// One batch or message in a segment.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) position: u64,
    pub(crate) len: u64,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp_ms: i64,
    /// Header of a v2 batch.
    pub(crate) batch: Option<BatchHeader>,
}

impl Frame {
    pub(crate) fn end(&self) -> u64 {
        self.position + self.len
    }

    /// The leader epoch, where the format has one and it is known.
    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        self.batch
            .as_ref()
            .map(|header| header.partition_leader_epoch)
            .filter(|epoch| *epoch >= 0)
    }

    /// Whether the frame's bytes have the checksum that they carry.
    pub(crate) fn checksum_holds(&self, bytes: &[u8]) -> bool {
        self.checksums(bytes)
            .is_some_and(|(stored, computed)| stored == computed)
    }

    /// The stored checksum and the computed one: over everything from the attributes on (byte 21) of
    /// a batch, over everything behind the checksum (byte 8) of a v1 message.
    fn checksums(&self, bytes: &[u8]) -> Option<(u32, u32)> {
        match &self.batch {
            Some(header) => Some((header.crc, crc32c(bytes.get(21..)?))),
            None => {
                let stored = bytes.get(4..8)?.try_into().ok()?;
                Some((u32::from_be_bytes(stored), crc32c(bytes.get(8..)?)))
            }
        }
    }
}

/// What the walker found at its position.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole frame.
    Frame(Frame),
    /// Nothing more: the end of the range, or zeros written ahead of the appends.
    End,
    /// Bytes that are no whole, sound frame.
    Bad {
        /// What is wrong with them.
        reason: String,
    },
}

/// Largest window that is read at once while frames are smaller. Larger ones are no faster, and a thread
/// that is woken on the same processor may have to wait for the whole call.
const CHECKSUM_WINDOW: usize = 256 << 10;
const HEADER_WINDOW: usize = 8 << 10;
/// Header of a v1 message up to the key length.
const V1_PREFIX: usize = 18;

/// A cursor over the frames of one segment file.
pub(crate) struct Walker<'a> {
    file: &'a dyn DiskFile,
    format: Format,
    depth: Depth,
    position: u64,
    end: u64,
    next_offset: i64,
    contiguous: bool,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Walker<'a> {
    /// Walks from `position`, where a frame with a base offset of at least `next_offset` begins, to
    /// at most `end`.
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        format: Format,
        depth: Depth,
        position: u64,
        end: u64,
        next_offset: i64,
    ) -> Self {
        let window = Vec::new();
        Self {
            file,
            format,
            depth,
            position,
            end,
            next_offset,
            contiguous: false,
            window,
            window_start: position,
        }
    }

    /// Takes an offset that is skipped for damage: base offsets are not under the checksum, and only
    /// compaction leaves holes.
    pub(crate) fn contiguous(mut self, contiguous: bool) -> Self {
        self.contiguous = contiguous;
        self
    }

    /// Where the next frame is expected.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Offset after the last frame.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Takes the next step.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let left = self.end.saturating_sub(self.position);
        if left == 0 {
            return Ok(Step::End);
        }
        let step = match self.format {
            Format::V2 => self.step_v2(left)?,
            Format::V1 => self.step_v1(left)?,
        };
        if let Step::Frame(frame) = &step {
            self.position = frame.end();
            self.next_offset = frame.last_offset + 1;
        }
        Ok(step)
    }

    /// The bytes of the frame that [`Self::step`] returned last.
    pub(crate) fn frame_bytes(&mut self, frame: &Frame) -> io::Result<&[u8]> {
        let len = frame.len as usize;
        self.fill(frame.position, len)?;
        let start = (frame.position - self.window_start) as usize;
        Ok(&self.window[start..start + len])
    }

    fn step_v2(&mut self, left: u64) -> io::Result<Step> {
        if left < BATCH_HEADER_BYTES as u64 {
            return self.short_tail(left);
        }
        let head = self.peek(BATCH_HEADER_BYTES)?;
        if head.iter().all(|byte| *byte == 0) {
            return self.zeros_or_bad();
        }
        let header = match BatchHeader::parse(head) {
            Ok(header) => header,
            Err(error) => {
                return Ok(Step::Bad {
                    reason: error.to_string(),
                });
            }
        };
        let len = header.total_bytes() as u64;
        if let Some(reason) = self.implausible(&header, len, left) {
            return Ok(Step::Bad { reason });
        }
        let frame = Frame {
            position: self.position,
            len,
            base_offset: header.base_offset,
            last_offset: header.base_offset + i64::from(header.last_offset_delta),
            max_timestamp_ms: header.max_timestamp,
            batch: Some(header),
        };
        self.judged(frame)
    }

    /// The frame, or what its checksum says against it.
    fn judged(&mut self, frame: Frame) -> io::Result<Step> {
        if self.depth == Depth::Header {
            return Ok(Step::Frame(frame));
        }
        let checksums = frame.checksums(self.frame_bytes(&frame)?);
        Ok(match checksums {
            Some((stored, computed)) if stored == computed => Step::Frame(frame),
            Some((stored, computed)) => Step::Bad {
                reason: format!("checksum {stored:08x} is stored, {computed:08x} was computed"),
            },
            None => Step::Bad {
                reason: "the frame is too short for a checksum".to_owned(),
            },
        })
    }

    fn implausible(&self, header: &BatchHeader, len: u64, left: u64) -> Option<String> {
        if len < BATCH_HEADER_BYTES as u64 {
            return Some(format!("batch length {len} is shorter than a batch header"));
        }
        if len > left {
            return Some(format!(
                "batch of {len} bytes, but only {left} bytes are left"
            ));
        }
        let (base, expected) = (header.base_offset, self.next_offset);
        if base < expected || (self.contiguous && base != expected) {
            return Some(format!("base offset {base} where {expected} was expected"));
        }
        if header.last_offset_delta < 0
            || header
                .base_offset
                .checked_add(i64::from(header.last_offset_delta) + 1)
                .is_none()
        {
            return Some(format!(
                "impossible last offset delta {}",
                header.last_offset_delta
            ));
        }
        None
    }

    fn step_v1(&mut self, left: u64) -> io::Result<Step> {
        if left < V1_PREFIX as u64 {
            return self.short_tail(left);
        }
        let head = self.peek(V1_PREFIX)?;
        if head.iter().all(|byte| *byte == 0) {
            return self.zeros_or_bad();
        }
        let len = 8 + u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let timestamp = head[10..18]
            .iter()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
            as i64;
        if head[8] != v1::MAGIC {
            return Ok(Step::Bad {
                reason: format!("magic byte {} in a v1 segment", head[8]),
            });
        }
        if len < v1::MIN_MESSAGE_BYTES as u64 || len > left {
            return Ok(Step::Bad {
                reason: format!("message of {len} bytes, but {left} bytes are left"),
            });
        }
        if self.next_offset == i64::MAX {
            return Ok(Step::Bad {
                reason: "no offset follows the largest one".to_owned(),
            });
        }
        let frame = Frame {
            position: self.position,
            len,
            base_offset: self.next_offset,
            last_offset: self.next_offset,
            max_timestamp_ms: timestamp,
            batch: None,
        };
        self.judged(frame)
    }

    fn short_tail(&mut self, left: u64) -> io::Result<Step> {
        let tail = self.peek(left as usize)?;
        if tail.iter().all(|byte| *byte == 0) {
            return Ok(Step::End);
        }
        Ok(Step::Bad {
            reason: format!("{left} bytes are too few for a frame"),
        })
    }

    /// Zeros where a header should be are the end, provided that nothing follows them.
    fn zeros_or_bad(&mut self) -> io::Result<Step> {
        let mut position = self.position;
        let mut chunk = vec![0; 64 << 10];
        while position < self.end {
            let want = chunk.len().min((self.end - position) as usize);
            let read = self.file.read_at(&mut chunk[..want], position)?;
            if read == 0 {
                break;
            }
            if let Some(i) = chunk[..read].iter().position(|byte| *byte != 0) {
                let at = position + i as u64;
                return Ok(Step::Bad {
                    reason: format!("zeros, followed by other bytes at position {at}"),
                });
            }
            position += read as u64;
        }
        Ok(Step::End)
    }

    fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        self.fill(self.position, len)?;
        let start = (self.position - self.window_start) as usize;
        Ok(&self.window[start..start + len])
    }

    /// Makes the window hold `len` bytes from `position`; the caller checked that they exist.
    fn fill(&mut self, position: u64, len: usize) -> io::Result<()> {
        let have = self.window_start + self.window.len() as u64;
        if position >= self.window_start && position + len as u64 <= have {
            return Ok(());
        }
        let usual = match self.depth {
            Depth::Header => HEADER_WINDOW,
            Depth::Checksum => CHECKSUM_WINDOW,
        };
        let left = self.end.saturating_sub(position) as usize;
        let want = usual.max(len).min(left);
        self.window.resize(want, 0);
        self.window_start = position;
        let read = self.file.read_at(&mut self.window, position)?;
        self.window.truncate(read);
        if read < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}
