//! How fields of a message become bytes, and messages of fields.
//!
//! Owns the encoding of every type of field and the two macros that make a message out of them. Decoding takes hostile
//! bytes: every length is held against what is there before anything is allocated.

use super::Bytes;
use crate::digest::Digest;
use crate::geometry::Extent;
use crate::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use crate::position::{Label, Position, Session, SplitterIncarnation, StreamSeq};

/// A field that has bytes.
pub(super) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! wire_int {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*head))
            }
        }
    )*};
}
wire_int!(u8, u16, u32, u64);

macro_rules! wire_as {
    ($($type:ty: $int:ty, $get:expr, $make:expr;)*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let get: fn(&$type) -> $int = $get;
                get(self).put(out);
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let make: fn($int) -> Option<$type> = $make;
                make(<$int>::take(from)?)
            }
        }
    )*};
}
wire_as! {
    bool: u8, |b| u8::from(*b), |n| match n { 0 => Some(false), 1 => Some(true), _ => None };
    Incarnation: u32, |i| i.get(), |n| Some(Incarnation::new(n));
    Session: u64, |s| s.get(), |n| Some(Session::new(n));
    StreamSeq: u64, |s| s.get(), |n| Some(StreamSeq::new(n));
    SplitterIncarnation: u64, |s| s.get(), |n| Some(SplitterIncarnation::new(n));
    Position: u64, |p| p.get(), |n| Some(Position::new(n));
    Label: u64, |l| l.nanos(), |n| Some(Label::from_nanos(n));
}

impl Wire for Digest {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let (head, rest) = from.split_first_chunk()?;
        *from = rest;
        Some(Self::from_bytes(*head))
    }
}

macro_rules! wire_id {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let (head, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_bytes(*head))
            }
        }
    )*};
}
wire_id!(GroupId, VolumeId, JournalId, SplitterId);

impl Wire for Extent {
    fn put(&self, out: &mut Vec<u8>) {
        self.start().index().put(out);
        self.count().get().put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Self::new(u64::take(from)?, u64::take(from)?)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        #[expect(clippy::cast_possible_truncation, reason = "a frame is at most 2 MiB; encode checks it")]
        (self.len() as u32).put(out);
        for item in self {
            item.put(out);
        }
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let count = u32::take(from)? as usize;
        // Every item takes at least one byte: a count beyond the bytes at hand is a lie, refused before allocating.
        if count > from.len() {
            return None;
        }
        (0..count).map(|_| T::take(from)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        if bool::take(from)? { T::take(from).map(Some) } else { Some(None) }
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        Bytes(self.as_bytes().to_vec()).put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(Bytes::take(from)?.0).ok()
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        #[expect(clippy::cast_possible_truncation, reason = "a frame is at most 2 MiB; encode checks it")]
        (self.0.len() as u32).put(out);
        out.extend_from_slice(&self.0);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let count = u32::take(from)? as usize;
        let (head, rest) = from.split_at_checked(count)?;
        *from = rest;
        Some(Self(head.to_vec()))
    }
}

macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$fmeta])* pub $field: $type,)* }
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) { $(self.$field.put(out);)* }
            fn take(from: &mut &[u8]) -> Option<Self> { Some(Self { $($field: Wire::take(from)?,)* }) }
        }
    };
}

macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $tag:literal { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* })* }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$vmeta])* $variant { $($(#[$fmeta])* $field: $type,)* },)* }
        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self { $(Self::$variant { $($field,)* } => { out.push($tag); $($field.put(out);)* })* }
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                match u8::take(from)? {
                    $($tag => Some(Self::$variant { $($field: Wire::take(from)?,)* }),)*
                    _ => None,
                }
            }
        }
    };
}
