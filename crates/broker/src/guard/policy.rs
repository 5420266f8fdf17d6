//! When a disk is too full, as a pure decision: levels, how fast producers may go on, and whether the
//! reserve file is held.
//!
//! Invariants: with no more free than the reserve nothing is admitted; what is admitted never takes the free
//! bytes below the reserve, as far as the last look tells; a level is left only when there is clearly more
//! room than where it began, so that it does not flicker.

use dlog_storage::disk::Space;

/// A level is left this many percent of the disk below where it began.
const HYSTERESIS_PERCENT: u64 = 2;

/// The reserve is at most this part of the disk.
const RESERVE_PART: u64 = 50;

/// Producers are refused when this part of the reserve is all that is left above it: where most batches would
/// not fit, none is taken.
const REFUSE_PART: u64 = 16;

/// They are taken again when this part of the reserve is free above it.
const RESUME_PART: u64 = 4;

/// The reserve file is this part of the reserve.
const FILE_PART: u64 = 16;

/// The smallest reserve file: room for a checkpoint and what belongs to it.
const MIN_FILE_BYTES: u64 = 64 << 10;

/// Longest time that a producer is told to wait. Five requests that a client has in flight wait one after the
/// other and must not reach its request timeout of 30 s.
pub const MAX_THROTTLE_MS: i64 = 5_000;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From this much of the disk on it is said.
    pub alert_percent: u64,
    /// From this much of the disk on producers are slowed down.
    pub throttle_percent: u64,
    /// Free bytes that producers do not get.
    pub reserve_bytes: u64,
    /// What is left above the reserve may be written in this time, in ms, once producers are slowed down.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            alert_percent: 80,
            throttle_percent: 95,
            reserve_bytes: 256 << 20,
            drain_ms: 60_000,
        }
    }
}

impl Limits {
    /// The reserve on a disk of this size, in bytes.
    pub fn reserve(&self, total_bytes: u64) -> u64 {
        self.reserve_bytes.min(total_bytes / RESERVE_PART)
    }

    /// Size of the reserve file on a disk of this size, in bytes; 0 for none.
    pub fn file_bytes(&self, total_bytes: u64) -> u64 {
        match self.reserve(total_bytes) {
            0 => 0,
            reserve => (reserve / FILE_PART).max(MIN_FILE_BYTES.min(reserve)),
        }
    }
}

/// How full the disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// There is room.
    #[default]
    Normal = 0,
    /// Somebody should look.
    Alert = 1,
    /// Producers are slowed down.
    Throttle = 2,
    /// Producers are refused.
    Refuse = 3,
}

impl Level {
    /// For logs and people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Alert => "alert",
            Self::Throttle => "throttle",
            Self::Refuse => "refuse",
        }
    }
}

/// What should become of the reserve file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveFile {
    /// There is room for it.
    Hold,
    /// Its room is needed.
    Release,
    /// As it is.
    Keep,
}

/// Parts of a hundred of the disk that are used, of what this process could use.
pub fn used_percent(space: Space) -> u64 {
    let usable = space.used_bytes.saturating_add(space.free_bytes);
    // A disk without any room is full.
    (u128::from(space.used_bytes) * 100)
        .checked_div(u128::from(usable))
        .map_or(100, |percent| u64::try_from(percent).unwrap_or(100))
}

/// The level after a look, given the one before it.
pub fn level(before: Level, space: Space, limits: &Limits) -> Level {
    let reserve = limits.reserve(space.total_bytes);
    let margin = if before == Level::Refuse {
        reserve / RESUME_PART
    } else {
        reserve / REFUSE_PART
    };
    // Without a reserve a disk is full when it is full.
    if space.free_bytes <= reserve.saturating_add(margin) {
        return Level::Refuse;
    }
    let used = used_percent(space);
    let reached = |level: Level, percent: u64| {
        let from = if before >= level {
            percent.saturating_sub(HYSTERESIS_PERCENT)
        } else {
            percent
        };
        used >= from
    };
    // 100 percent is for never: with nothing free it is refused.
    if limits.throttle_percent < 100 && reached(Level::Throttle, limits.throttle_percent) {
        Level::Throttle
    } else if limits.alert_percent < 100 && reached(Level::Alert, limits.alert_percent) {
        Level::Alert
    } else {
        Level::Normal
    }
}

/// What the reserve file should do after a look.
pub fn reserve_file(space: Space, limits: &Limits) -> ReserveFile {
    let file = limits.file_bytes(space.total_bytes);
    let reserve = limits.reserve(space.total_bytes);
    if space.free_bytes < file {
        ReserveFile::Release
    } else if space.free_bytes >= reserve.saturating_add(file) {
        ReserveFile::Hold
    } else {
        ReserveFile::Keep
    }
}

/// A batch that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that stay free.
    pub reserve_bytes: u64,
}

/// What is known since the last look, and who may write how much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admission {
    limits: Limits,
    space: Space,
    level: Level,
    /// What producers may still write.
    room_bytes: u64,
    /// When everything admitted so far is paid for at the rate that holds, in ms.
    paid_at_ms: i64,
}

impl Admission {
    /// Other settings hold from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The settings.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The level since the last look.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What the last look saw.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Bytes above the reserve.
    pub fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    /// Takes in what the file system says; true when that is another level.
    pub fn look(&mut self, space: Space) -> bool {
        let before = self.level;
        self.level = level(before, space, &self.limits);
        self.space = space;
        self.room_bytes = match self.level {
            Level::Refuse => 0,
            _ => {
                let reserve = self.limits.reserve(space.total_bytes);
                space.free_bytes.saturating_sub(reserve)
            }
        };
        self.level != before
    }

    /// Asks for a batch; how long its sender has to wait with the next one, in ms.
    ///
    /// # Errors
    /// [`Refused`] when it would take what is kept.
    pub fn admit(&mut self, now_ms: i64, bytes: u64) -> Result<i64, Refused> {
        if bytes > self.room_bytes {
            return Err(Refused {
                free_bytes: self.space.free_bytes,
                reserve_bytes: self.limits.reserve(self.space.total_bytes),
            });
        }
        // Until the next look the batch is only here.
        self.room_bytes -= bytes;
        if self.level < Level::Throttle {
            return Ok(0);
        }
        // The whole room takes drain_ms, so the part that the batch takes of it takes that part of the time:
        // the less there is, the longer.
        let room = self.room_bytes.saturating_add(bytes).max(1);
        let cost_ms = u128::from(bytes) * u128::from(self.limits.drain_ms) / u128::from(room);
        let cost_ms = i64::try_from(cost_ms).unwrap_or(i64::MAX);
        let latest = now_ms.saturating_add(MAX_THROTTLE_MS);
        self.paid_at_ms = self
            .paid_at_ms
            .max(now_ms)
            .saturating_add(cost_ms)
            .min(latest);
        Ok(self.paid_at_ms.saturating_sub(now_ms))
    }
}

#[cfg(test)]
mod tests;
