//! The frame around a message: how long it is, and that it arrived as it was sent.
//!
//! A frame is `u32` length of the body, `u32` CRC-32C of the body, the body: one message. Owns how a message becomes a frame,
//! and why the bytes of one are refused. Deliberately knows no socket; decoding takes hostile bytes.

use super::wire::Wire as _;
use super::{ToAppliance, ToSplitter, VERSION};

/// Bytes in front of a frame's body.
pub const FRAME_HEAD_BYTES: usize = 8;
/// More than a chunk's frame has, or that of an ack.
const ORDINARY_BYTES: usize = 96;
/// Longest body of a frame, in bytes; a longer one ends the connection before anything is allocated.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The version that an `Open` of another release announces; the tag and this field stay where they are for ever.
fn open_version(body: &[u8]) -> Option<u16> {
    match body {
        [1, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
        [..] => None,
    }
}

/// Why a frame is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// Longer than any frame is.
    TooLong(u32),
    /// The checksum does not match.
    Checksum,
    /// No message has these bytes.
    Malformed,
    /// An `Open` in another version of the conversation, whose other fields this release does not know.
    OtherVersion(u16),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(n) => write!(f, "frame of {n} bytes, at most {FRAME_BYTES_MAX} are allowed"),
            Self::Checksum => f.write_str("checksum of a frame does not match"),
            Self::Malformed => f.write_str("a frame holds no known message"),
            Self::OtherVersion(v) => {
                write!(f, "the peer speaks version {v} of the conversation, this release version {VERSION}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// A message that travels in frames.
pub trait Message: Sized {
    /// The whole frame, head and body.
    fn encode(&self) -> Vec<u8>;
    /// Reads a body whose head announced this checksum.
    fn decode(body: &[u8], crc: u32) -> Result<Self, FrameError>;
}

/// The length and the checksum that a frame's head announces.
pub fn frame_head(head: [u8; FRAME_HEAD_BYTES]) -> Result<(usize, u32), FrameError> {
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if len as usize > FRAME_BYTES_MAX { Err(FrameError::TooLong(len)) } else { Ok((len as usize, crc)) }
}

macro_rules! message {
    ($($type:ty: $version:expr),*) => {$(
        impl Message for $type {
            fn encode(&self) -> Vec<u8> {
                assert!(self.is_sound(), "fields of a message contradict each other: {self:?}");
                // As much as those take that are sent all the time.
                let mut out = Vec::with_capacity(ORDINARY_BYTES);
                out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
                self.put(&mut out);
                let body = out.len() - FRAME_HEAD_BYTES;
                assert!(body <= FRAME_BYTES_MAX, "messages are bounded where they are made");
                let crc = crate::checksum::crc32c(&out[FRAME_HEAD_BYTES..]);
                #[expect(clippy::cast_possible_truncation, reason = "checked just above")]
                out[0..4].copy_from_slice(&(body as u32).to_le_bytes());
                out[4..8].copy_from_slice(&crc.to_le_bytes());
                out
            }
            fn decode(body: &[u8], crc: u32) -> Result<Self, FrameError> {
                if crate::checksum::crc32c(body) != crc {
                    return Err(FrameError::Checksum);
                }
                let version: fn(&[u8]) -> Option<u16> = $version;
                let mut rest = body;
                match Self::take(&mut rest) {
                    Some(message) if rest.is_empty() && message.is_sound() => Ok(message),
                    Some(_) | None => Err(match version(body) {
                        Some(v) if v != VERSION => FrameError::OtherVersion(v),
                        Some(_) | None => FrameError::Malformed,
                    }),
                }
            }
        }
    )*};
}
message!(ToAppliance: open_version, ToSplitter: |_| None);
