//! The five codecs by name and number, and the levels each one has.

use std::fmt;
use std::str::FromStr;

use super::RecordError;

/// How the records of a batch are compressed; the low three bits of the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the frames of snappy-java (what Java writes and every client reads).
    Snappy = 2,
    /// LZ4 frames, version 1.
    Lz4 = 3,
    /// Zstandard, RFC 8878 (KIP-110).
    Zstd = 4,
}

/// The bits of the attributes that name the codec.
const CODEC_MASK: i16 = 0x07;

impl Compression {
    /// All codecs, by ascending number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec that a batch's attributes name.
    ///
    /// # Errors
    /// [`RecordError::UnknownCompression`] for the numbers 5 to 7.
    pub fn from_attributes(attributes: i16) -> Result<Self, RecordError> {
        match attributes & CODEC_MASK {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(RecordError::UnknownCompression(other as u8)),
        }
    }

    /// The codec's number, as it stands in the attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec's name in configurations: `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The lowest and highest level of a codec that has levels (KIP-390's ranges).
    ///
    /// LZ4 levels are accepted because Kafka's configuration has them; the encoder here has one
    /// level and ignores them.
    pub fn levels(self) -> Option<(i32, i32)> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip => Some((1, 9)),
            Self::Lz4 => Some((1, 17)),
            Self::Zstd => Some((-131_072, 22)),
        }
    }

    /// Checks that the codec has this level; `None` is every codec's default.
    ///
    /// # Errors
    /// [`RecordError::BadLevel`].
    pub fn check_level(self, level: Option<i32>) -> Result<(), RecordError> {
        let (Some(level), Some((min, max))) = (level, self.levels()) else {
            return Ok(());
        };
        // Kafka writes gzip's default level as −1.
        let is_gzip_default = self == Self::Gzip && level == -1;
        if is_gzip_default || (min..=max).contains(&level) {
            return Ok(());
        }
        Err(RecordError::BadLevel {
            codec: self,
            level,
            min,
            max,
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Compression {
    type Err = RecordError;

    fn from_str(name: &str) -> Result<Self, RecordError> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| RecordError::UnknownCompressionName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (number, codec) in Compression::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(codec.id()), number);
            assert_eq!(codec.to_string().parse(), Ok(codec));
            // Bits above the codec's do not matter.
            assert_eq!(
                Compression::from_attributes(0x7ff8 | number as i16),
                Ok(codec)
            );
        }
        assert!("GZIP".parse::<Compression>().is_err());
        for unknown in 5..8 {
            assert!(Compression::from_attributes(unknown).is_err());
        }
    }

    #[test]
    fn levels() {
        assert!(Compression::Gzip.check_level(Some(-1)).is_ok());
        assert!(Compression::Gzip.check_level(Some(10)).is_err());
        assert!(Compression::Zstd.check_level(Some(-7)).is_ok());
        assert!(Compression::Zstd.check_level(Some(23)).is_err());
        assert!(Compression::None.check_level(Some(99)).is_ok());
        assert!(Compression::Lz4.check_level(None).is_ok());
    }
}
