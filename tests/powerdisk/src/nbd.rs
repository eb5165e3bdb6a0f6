//! The NBD protocol, fixed newstyle, simple replies: what QEMU needs of a server.
//!
//! Owns the bytes of the conversation. What a request does is asked of an [`Export`].

use crate::cache::Durable;
use std::io::{self, ErrorKind, Read, Write};

/// One disk as a client sees it.
pub trait Export {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Does one request. `Err` is told to the client; [`Fate::Gone`] ends the conversation without an answer.
    fn request(&self, request: Request) -> Fate;
}

/// What a client asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// So many bytes from an offset.
    Read {
        /// Where.
        at: u64,
        /// How many.
        len: u32,
    },
    /// Write these.
    Write {
        /// Where.
        at: u64,
        /// What.
        bytes: Vec<u8>,
        /// When it must be durable.
        durable: Durable,
    },
    /// Make this read zero.
    Zero {
        /// Where.
        at: u64,
        /// How many.
        len: u64,
        /// When it must be durable.
        durable: Durable,
    },
    /// Make durable what was written.
    Flush,
}

/// What became of a request.
#[derive(Debug)]
pub enum Fate {
    /// Done; the bytes of a read.
    Done(Vec<u8>),
    /// It failed.
    Failed(io::Error),
    /// The power is gone: nobody answers.
    Gone,
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client went away.
    Closed,
    /// The power went away.
    Gone,
}

const HELLO: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_LIST: u32 = 3;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_SERVER: u32 = 2;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;

/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES.
const FLAGS: u16 = 1 | 4 | 8 | 32 | 64;

const COMMAND_FUA: u16 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// The longest request that is taken; QEMU asks for 32 MiB at most, and the size is told to it.
const LONGEST: u32 = 32 << 20;
/// The longest option that is read.
const LONGEST_OPTION: u32 = 64 << 10;

/// Talks to one client until it goes away, or the power does.
pub fn serve(mut stream: impl Read + Write, export: &impl Export) -> io::Result<End> {
    if !shake_hands(&mut stream, export)? {
        return Ok(End::Closed);
    }
    loop {
        let mut head = [0; 28];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(End::Closed),
            Err(error) => return Err(error),
        }
        if be(&head[0..4]) != u64::from(REQUEST) {
            return Err(io::Error::new(ErrorKind::InvalidData, "not a request"));
        }
        let flags = u16::try_from(be(&head[4..6])).unwrap_or(0);
        let (kind, at) = (be(&head[6..8]), be(&head[16..24]));
        let len = u32::try_from(be(&head[24..28])).unwrap_or(u32::MAX);
        let durable = if flags & COMMAND_FUA == 0 { Durable::Later } else { Durable::Now };
        let request = match kind {
            0 if len <= LONGEST => Request::Read { at, len },
            1 => {
                if len > LONGEST {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a write that is too long"));
                }
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                stream.read_exact(&mut bytes)?;
                Request::Write { at, bytes, durable }
            }
            2 => return Ok(End::Closed),
            3 => Request::Flush,
            4 | 6 => Request::Zero { at, len: u64::from(len), durable },
            _ => {
                answer(&mut stream, &head[8..16], EINVAL, &[])?;
                continue;
            }
        };
        match export.request(request) {
            Fate::Done(bytes) => answer(&mut stream, &head[8..16], 0, &bytes)?,
            Fate::Failed(error) => {
                let code = if error.kind() == ErrorKind::InvalidInput { EINVAL } else { EIO };
                answer(&mut stream, &head[8..16], code, &[])?;
            }
            Fate::Gone => return Ok(End::Gone),
        }
    }
}

fn answer(stream: &mut impl Write, handle: &[u8], code: u32, bytes: &[u8]) -> io::Result<()> {
    let mut reply = Vec::with_capacity(16 + bytes.len());
    reply.extend_from_slice(&REPLY.to_be_bytes());
    reply.extend_from_slice(&code.to_be_bytes());
    reply.extend_from_slice(handle);
    reply.extend_from_slice(bytes);
    stream.write_all(&reply)
}

/// The conversation before the first request; whether there is going to be one.
fn shake_hands(stream: &mut (impl Read + Write), export: &impl Export) -> io::Result<bool> {
    let mut hello = Vec::new();
    hello.extend_from_slice(&HELLO.to_be_bytes());
    hello.extend_from_slice(&OPTION.to_be_bytes());
    hello.extend_from_slice(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&hello)?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    let zeroes = be(&flags) & u64::from(NO_ZEROES) == 0;
    loop {
        let mut head = [0; 16];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        let (magic, option, len) = (be(&head[0..8]), be(&head[8..12]), be(&head[12..16]));
        if magic != OPTION || len > u64::from(LONGEST_OPTION) {
            return Err(io::Error::new(ErrorKind::InvalidData, "not an option"));
        }
        let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
        stream.read_exact(&mut data)?;
        let option = u32::try_from(option).unwrap_or(0);
        match option {
            OPTION_EXPORT_NAME => {
                let mut reply = Vec::from(export.size().to_be_bytes());
                reply.extend_from_slice(&FLAGS.to_be_bytes());
                reply.extend_from_slice(&[0; 124][..if zeroes { 124 } else { 0 }]);
                stream.write_all(&reply)?;
                return Ok(true);
            }
            OPTION_ABORT => {
                option_reply(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            OPTION_LIST => {
                option_reply(stream, option, REPLY_SERVER, &[0; 4])?;
                option_reply(stream, option, REPLY_ACK, &[])?;
            }
            OPTION_INFO | OPTION_GO => {
                let mut about = vec![0, 0];
                about.extend_from_slice(&export.size().to_be_bytes());
                about.extend_from_slice(&FLAGS.to_be_bytes());
                option_reply(stream, option, REPLY_INFO, &about)?;
                // Smallest, preferred and longest request.
                let mut sizes = vec![0, 3];
                for size in [512, 4096, LONGEST] {
                    sizes.extend_from_slice(&size.to_be_bytes());
                }
                option_reply(stream, option, REPLY_INFO, &sizes)?;
                option_reply(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            _ => option_reply(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn option_reply(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = Vec::from(OPTION_REPLY.to_be_bytes());
    reply.extend_from_slice(&option.to_be_bytes());
    reply.extend_from_slice(&kind.to_be_bytes());
    reply.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    reply.extend_from_slice(data);
    stream.write_all(&reply)
}

/// A big-endian number of at most eight bytes.
fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
