//! A hostile length never makes a decoder allocate: what it takes is bounded by the bytes at hand.
//!
//! One test, alone in its process, under an allocator that remembers the most that was taken at once.

use record::checksum::crc32c;
use record::chunk::Body;
use record::conversation::frame::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, Message, frame_head};
use record::conversation::{ToAppliance, ToSplitter};
use record::header::ChunkHeader;
use record::ids::JournalId;
use record::member::JoinNote;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator unchanged; counting touches nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        MOST.fetch_max(taken, Ordering::SeqCst);
        // SAFETY: the caller keeps the promises of `alloc`, and they are the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: `pointer` came from `alloc` above, so from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were taken at once while `work` ran.
fn most_taken<T>(work: impl FnOnce() -> T) -> usize {
    let before = TAKEN.load(Ordering::SeqCst);
    MOST.store(before, Ordering::SeqCst);
    drop(work());
    MOST.load(Ordering::SeqCst) - before
}

#[test]
fn lengths_that_lie_take_no_memory() {
    let journal = JournalId::from_bytes([1; 16]);
    // Four bytes of 0xff anywhere are a count or a length of 4 Gi of whatever stands there.
    for at in (0..256).step_by(2) {
        let mut bytes = vec![0; 8192];
        bytes[..8].copy_from_slice(b"UDCB\x01\0\0\0");
        bytes[8..24].fill(1);
        bytes[at..at + 4].fill(0xff);
        assert!(most_taken(|| Body::decode(&bytes, journal)) < 64 * 1024, "body, lie at {at}");
        assert!(most_taken(|| ChunkHeader::decode(&bytes, journal)) < 64 * 1024, "header, lie at {at}");
        assert!(most_taken(|| JoinNote::decode(&bytes)) < 64 * 1024, "note, lie at {at}");
        for tag in 0..16 {
            let mut body = bytes[..300].to_vec();
            body[0] = tag;
            let crc = crc32c(&body);
            assert!(most_taken(|| ToAppliance::decode(&body, crc)) < 64 * 1024, "message {tag}, lie at {at}");
            assert!(most_taken(|| ToSplitter::decode(&body, crc)) < 64 * 1024, "message {tag}, lie at {at}");
        }
    }
    let mut head = [0xff; FRAME_HEAD_BYTES];
    assert!(frame_head(head).is_err(), "refused before anyone allocates by it");
    head[..4].copy_from_slice(&u32::try_from(FRAME_BYTES_MAX).expect("2 MiB").to_le_bytes());
    assert!(frame_head(head).is_ok());

    // The largest honest frame, of the smallest items: the list it becomes stays within a few times its bytes.
    let mut body = vec![10];
    body.extend_from_slice(&[0; 8]);
    let count = (FRAME_BYTES_MAX - 64) / 20;
    body.extend_from_slice(&u32::try_from(count).expect("a count").to_le_bytes());
    for _ in 0..count {
        body.extend_from_slice(&[1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
    body.push(1);
    let crc = crc32c(&body);
    assert!(most_taken(|| ToSplitter::decode(&body, crc)) < 8 * body.len());
}
