//! This release reads what release 1 of each format wrote, byte for byte.
//!
//! The files under `tests/formats` at the top of the repository are frozen: they were written once, by
//! `cargo test -p record --test formats -- --ignored freeze`, and are never written again. A format that changes gets
//! a new folder beside the old one and a reader for both; a red test here means that journals of a released version
//! cannot be read any more. (Before the first release a file may be removed and frozen anew, in the commit that says
//! why.)

mod samples;

use record::chunk::Body;
use record::conversation::frame::{FRAME_HEAD_BYTES, Message, frame_head};
use record::header::{ChunkHeader, HEADER_BYTES};
use std::path::PathBuf;

fn frozen(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/formats").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(frozen(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The chunk as it stands on disk.
fn chunk() -> Vec<u8> {
    let laid = samples::body();
    [samples::header().encode().0.to_vec(), laid.header, laid.payload].concat()
}

#[test]
fn a_chunk_of_version_1_is_read() {
    let bytes = read("chunk-v1/chunk.bin");
    let (header, _) = ChunkHeader::decode(&bytes, samples::JOURNAL).expect("a journal header of version 1");
    assert_eq!(header, samples::header());
    assert_eq!(header.disk_bytes(), bytes.len() as u64);
    let (area, payload) = bytes[HEADER_BYTES..].split_at(header.body_header_len as usize);
    let body = Body::decode(area, samples::JOURNAL).expect("a chunk body of version 1");
    assert_eq!(body.digest, header.body_digest);
    let stream = header.streams.with_session(body.header.session).expect("the chunk's own session");
    assert_eq!(body.next_seq(), stream.next);
    let records = samples::records();
    assert_eq!(body.records.len(), records.len());
    for (record, (descriptor, data)) in body.records.iter().zip(records) {
        let at = record.descriptor.payload_offset as usize;
        let found = &payload[at..at + record.descriptor.payload_bytes as usize];
        assert_eq!(found, data, "payload of {}", descriptor.op);
        assert_eq!(body.damaged_blocks(record, found), vec![]);
        let place = record::chunk::Descriptor { payload_offset: 0, payload_bytes: 0, ..record.descriptor };
        assert_eq!(place, descriptor);
    }
}

#[test]
fn a_chunk_is_written_as_version_1() {
    assert!(chunk() == read("chunk-v1/chunk.bin"), "the bytes differ: see the head of this file");
}

/// The messages of concatenated frames.
fn messages<M: Message>(mut bytes: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() {
        let (len, crc) = frame_head(*head).expect("a head of version 4");
        messages.push(M::decode(&rest[..len], crc).expect("a message of version 4"));
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
    messages
}

fn frames<M: Message>(messages: &[M]) -> Vec<u8> {
    messages.iter().flat_map(Message::encode).collect()
}

#[test]
fn the_conversation_of_version_4_is_read_and_written() {
    let bytes = read("conversation-v4/to-appliance.bin");
    assert_eq!(messages::<record::conversation::ToAppliance>(&bytes), samples::to_appliance());
    assert!(frames(&samples::to_appliance()) == bytes);
    let bytes = read("conversation-v4/to-splitter.bin");
    assert_eq!(messages::<record::conversation::ToSplitter>(&bytes), samples::to_splitter());
    assert!(frames(&samples::to_splitter()) == bytes);
}

/// With `UNDISK_FREEZE=write` the missing ones are written: for a new version of a format only.
#[test]
fn every_frozen_file_is_there() {
    let freeze = std::env::var_os("UNDISK_FREEZE").is_some_and(|mode| mode == "write");
    let files = [
        ("chunk-v1/chunk.bin", chunk()),
        ("conversation-v4/to-appliance.bin", frames(&samples::to_appliance())),
        ("conversation-v4/to-splitter.bin", frames(&samples::to_splitter())),
    ];
    for (name, bytes) in files {
        let path = frozen(name);
        if freeze && !path.exists() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
            std::fs::write(&path, bytes).expect("write the file");
        }
        assert!(path.exists(), "{} is missing", path.display());
    }
}
