//! Comparing a volume with its newest image, and recording again what differs.
//!
//! Owns the course of a comparison: a piece is read under the range lock, with the number behind the last record laid
//! noted while it is held, so that the image right behind that record must hold the very same; the appliance answers
//! with a digest once those records are durable. Hosts wait only for the read of a piece, never for the journal. Where a
//! piece differs it is read once more and compared block by block: what differs then is told. Deliberately no job of the
//! worker's queue: a comparison takes hours, and a rollback must not wait for it.

use super::resync::lay_content;
use super::{Hands, Stopped};
use crate::backing::{AlignedBuffer, PIECE_BYTES};
use crate::group::Group;
use crate::lock::lock;
use crate::outbox::Mode;
use crate::volume::Volume;
use record::conversation::ToAppliance;
use record::digest::Digest;
use record::geometry::{BLOCK_SECTORS, Extent};
use record::ids::Incarnation;
use record::position::{Session, StreamSeq};
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes that are read a second, at most: a comparison leaves the backing to the hosts.
const RATE_BYTES: u64 = 128 << 20;
/// Pieces whose digests may be on their way.
const PIECES_AHEAD: usize = 4;
/// Blocks of a piece that may be on their way; with the pieces, fewer than an appliance lets wait.
const BLOCKS_AHEAD: usize = 32;
/// How long an answer, or a link over which it can come, may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a piece is looked at closely, when the link is cut meanwhile.
const TRIES: usize = 10;
/// How often a wait looks again.
const TICK: Duration = Duration::from_millis(20);
/// Most places that are told; with more, the volume is another one altogether.
const PLACES_MAX: usize = 10_000;

/// What is asked of the image.
type Key = (Incarnation, Extent, StreamSeq);
/// The digest, or why there is none.
type Answer = Result<Digest, String>;

/// The appliance's answers, until they are taken.
#[derive(Debug, Default)]
pub struct Digests {
    answers: Mutex<Vec<(Key, Answer)>>,
    /// A comparison runs.
    running: AtomicBool,
}

impl Digests {
    /// An answer has come. Kept only as long as somebody may wait for it.
    pub fn put(&self, volume: Incarnation, extent: Extent, at: StreamSeq, answer: Answer) {
        let mut answers = lock(&self.answers);
        if answers.len() < 2 * (PIECES_AHEAD + BLOCKS_AHEAD) {
            answers.push(((volume, extent, at), answer));
        }
    }

    fn take(&self, key: &Key) -> Option<Answer> {
        let mut answers = lock(&self.answers);
        let at = answers.iter().position(|(of, _)| of == key)?;
        Some(answers.swap_remove(at).1)
    }

    /// Nobody waits any more for answers within this extent.
    fn forget(&self, extent: Extent) {
        lock(&self.answers).retain(|((_, of, _), _)| of.intersection(extent).is_none());
    }

    /// One comparison at a time; `None` while another one runs.
    fn begin(&self) -> Option<Running<'_>> {
        let first = !self.running.swap(true, Ordering::AcqRel);
        first.then(|| {
            lock(&self.answers).clear();
            Running(self)
        })
    }
}

/// A comparison runs until this is dropped.
struct Running<'a>(&'a Digests);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes compared.
    pub bytes: u64,
    /// Where volume and image differ, in address order.
    pub differing: Vec<Extent>,
    /// Where the image could not be read, and why.
    pub unreadable: Vec<(Extent, String)>,
    /// Whether the volume's content was recorded again where they differ.
    pub repaired: bool,
}

/// Why a comparison did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot begin.
    #[error("{0}")]
    Refused(String),
    /// It began.
    #[error("it broke off after {done} bytes: {why}")]
    BrokeOff {
        /// Bytes compared before.
        done: u64,
        /// Why.
        why: String,
    },
    /// There are too many differences to tell.
    #[error("volume and image differ in more than {PLACES_MAX} places: resynchronise the whole group")]
    TooMuch,
}

/// A piece whose digest is on its way.
struct Asked {
    extent: Extent,
    at: StreamSeq,
    digest: Digest,
    link: u64,
}

/// A piece as the volume holds it, and right behind which record.
struct Seen {
    session: Session,
    link: u64,
    at: StreamSeq,
}

/// One comparison of one volume.
struct Comparison<'a, H> {
    group: &'a Group,
    hands: &'a H,
    volume: &'a Volume,
    buffer: AlignedBuffer,
    /// Bytes read from the backing.
    read: u64,
    found: Found,
}

/// Compares the whole volume; with `repair`, records its content again where it differs. `tell` learns of bytes compared.
pub async fn verify(
    group: &Group,
    hands: &impl Hands,
    volume: &Volume,
    repair: bool,
    mut tell: impl FnMut(u64),
) -> Result<Found, VerifyError> {
    let Some(_running) = group.digests.begin() else {
        return Err(VerifyError::Refused("a volume of the group is being compared already; wait for it".into()));
    };
    if let Some(why) = not_now(group, volume) {
        return Err(VerifyError::Refused(why));
    }
    let buffer = AlignedBuffer::new(PIECE_BYTES);
    let mut comparison = Comparison { group, hands, volume, buffer, read: 0, found: Found::default() };
    let done = comparison.run(&mut tell).await;
    let mut found = comparison.found;
    done.map_err(|stopped| match stopped {
        Ended::TooMuch => VerifyError::TooMuch,
        Ended::BrokeOff(why) => VerifyError::BrokeOff { done: found.bytes, why },
    })?;
    if repair && !found.differing.is_empty() {
        record_again(group, hands, volume, &found.differing)
            .await
            .map_err(|why| VerifyError::BrokeOff { done: found.bytes, why })?;
        found.repaired = true;
    }
    Ok(found)
}

/// Why nothing can be compared at present.
fn not_now(group: &Group, volume: &Volume) -> Option<String> {
    if group.rollback().is_some() || group.stream.hold().is_some() {
        return Some("a rollback of its group is under way".into());
    }
    if !volume.sync.joined.load(Ordering::Acquire) {
        return Some("it is being synchronised for the first time".into());
    }
    match group.stream.mode() {
        (Mode::Active, _) if group.is_linked() => None,
        (Mode::Active | Mode::Waiting, _) => Some("there is no link to the appliance".into()),
        (Mode::Resyncing, _) => Some("its group is being resynchronised".into()),
        (Mode::Marking, why) => Some(format!("the group's writes are not being recorded: {why}")),
    }
}

/// Why a comparison ends before its end.
enum Ended {
    TooMuch,
    BrokeOff(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::BrokeOff(format!("reading the backing failed: {error}"))
    }
}

impl<H: Hands> Comparison<'_, H> {
    async fn run(&mut self, tell: &mut impl FnMut(u64)) -> Result<(), Ended> {
        let began = self.group.stream.now();
        let Some(whole) = Extent::whole(self.volume.backing.size()) else { return Ok(()) };
        let mut pieces = whole.pieces((PIECE_BYTES / 512) as u64);
        let mut asked: VecDeque<Asked> = VecDeque::new();
        loop {
            while asked.len() < PIECES_AHEAD
                && let Some(extent) = pieces.next()
            {
                asked.push_back(self.ask_piece(extent).await?);
            }
            let Some(first) = asked.pop_front() else { return Ok(()) };
            if self.answer(first.link, (self.volume.incarnation, first.extent, first.at)).await?
                != Some(Ok(first.digest))
            {
                self.look_closely(first.extent).await?;
            }
            self.found.bytes += first.extent.bytes();
            tell(self.found.bytes);
            let due = Duration::from_secs_f64(self.read as f64 / RATE_BYTES as f64);
            let early = due.saturating_sub(self.group.stream.now().since(began));
            if !early.is_zero() && self.hands.pause(self.group, early).await {
                return Err(Ended::BrokeOff("the splitter ends".into()));
            }
        }
    }

    /// Reads a piece into the buffer, under the lock.
    async fn see(&mut self, extent: Extent) -> Result<Seen, Ended> {
        let deadline = self.group.stream.now().plus(PATIENCE);
        loop {
            if let Some(seen) = self.try_see(extent).await? {
                return Ok(seen);
            }
            if let (Mode::Marking | Mode::Resyncing, why) = self.group.stream.mode() {
                let why = if why.is_empty() { "the group is being resynchronised".to_owned() } else { why };
                return Err(Ended::BrokeOff(why));
            }
            let held = self.group.stream.hold().is_some();
            let why = if held { "hosts were held for a rollback" } else { "there was no link to the appliance" };
            self.pause(deadline.boot_ns, why).await?;
        }
    }

    /// `None` when there is no link, hosts are held, or what a killed splitter had in flight has not come again and may
    /// have left half of it in the backing: later.
    async fn try_see(&mut self, extent: Extent) -> Result<Option<Seen>, Ended> {
        let (group, volume) = (self.group, self.volume);
        let link = group.link_count();
        let held = group.stream.hold().is_some() || group.stream.has_inherited();
        let Some(session) = group.stream.session().filter(|_| group.is_linked() && !held) else {
            return Ok(None);
        };
        let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
        let mut taken = volume.stream.take_reading(volume.incarnation, extent);
        taken.turn().await;
        let read = match volume.backing.data_from(extent.start().index()) {
            // A hole that nobody can fill while it is held.
            Ok(data) if data.is_none_or(|data| data.start().index() >= extent.end()) => {
                self.buffer.bytes_mut()[..bytes].fill(0);
                Ok(0)
            }
            Ok(_) => volume
                .backing
                .read(self.hands, extent, &mut self.buffer.bytes_mut()[..bytes])
                .await
                .map(|()| extent.bytes()),
            Err(error) => Err(error),
        };
        let at = group.stream.marks().laid;
        // What was recorded up to here is of this session only if it still is, with every write recorded.
        let sound = group.stream.mode().0 == Mode::Active
            && group.stream.session() == Some(session)
            && group.link_count() == link
            && group.stream.hold().is_none();
        volume.stream.finish(taken);
        self.read += read?;
        Ok(sound.then_some(Seen { session, link, at }))
    }

    async fn ask_piece(&mut self, extent: Extent) -> Result<Asked, Ended> {
        let seen = self.see(extent).await?;
        let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
        let digest = Digest::of(&self.buffer.bytes()[..bytes]);
        self.ask(&seen, extent);
        Ok(Asked { extent, at: seen.at, digest, link: seen.link })
    }

    fn ask(&self, seen: &Seen, extent: Extent) {
        let volume = self.volume.incarnation;
        // A link that broke is noticed where the answer is awaited.
        self.group.send(seen.link, &ToAppliance::VerifyRead { session: seen.session, volume, extent, at: seen.at });
    }

    /// The answer, or `None` when its link is gone.
    async fn answer(&self, link: u64, key: Key) -> Result<Option<Answer>, Ended> {
        let deadline = self.group.stream.now().plus(PATIENCE).boot_ns;
        loop {
            if let Some(answer) = self.group.digests.take(&key) {
                return Ok(Some(answer));
            }
            if self.group.link_count() != link {
                return Ok(None);
            }
            self.pause(deadline, "the appliance did not answer").await?;
        }
    }

    async fn pause(&self, deadline: u64, why: &str) -> Result<(), Ended> {
        if self.group.stream.now().boot_ns >= deadline {
            return Err(Ended::BrokeOff(format!("{why} for {} s", PATIENCE.as_secs())));
        }
        if self.hands.pause(self.group, TICK).await {
            return Err(Ended::BrokeOff("the splitter ends".into()));
        }
        Ok(())
    }

    /// A piece differs, or its answer went lost: once more, block by block.
    async fn look_closely(&mut self, extent: Extent) -> Result<(), Ended> {
        'again: for _ in 0..TRIES {
            self.group.digests.forget(extent);
            let seen = self.see(extent).await?;
            let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
            let content = self.buffer.bytes()[..bytes].to_vec();
            let blocks: Vec<(Extent, Digest)> = extent
                .pieces(BLOCK_SECTORS)
                .zip(content.chunks(usize::try_from(BLOCK_SECTORS * 512).unwrap_or(4096)))
                .map(|(block, content)| (block, Digest::of(content)))
                .collect();
            let (mut differing, mut unreadable) = (Vec::new(), Vec::new());
            for run in blocks.chunks(BLOCKS_AHEAD) {
                for (block, _) in run {
                    self.ask(&seen, *block);
                }
                for (block, digest) in run {
                    match self.answer(seen.link, (self.volume.incarnation, *block, seen.at)).await? {
                        Some(Ok(found)) if found == *digest => {}
                        Some(Ok(_)) => differing.push(*block),
                        Some(Err(why)) => unreadable.push((*block, why)),
                        None => continue 'again,
                    }
                }
            }
            for block in differing {
                add(&mut self.found.differing, block);
            }
            for (block, why) in unreadable {
                match self.found.unreadable.last_mut() {
                    Some((last, reason)) if last.end() == block.start().index() && *reason == why => {
                        *last = Extent::between(last.start().index(), block.end()).unwrap_or(*last);
                    }
                    Some(_) | None => self.found.unreadable.push((block, why)),
                }
            }
            if self.found.differing.len() > PLACES_MAX || self.found.unreadable.len() > PLACES_MAX {
                return Err(Ended::TooMuch);
            }
            return Ok(());
        }
        Err(Ended::BrokeOff("the link to the appliance is cut again and again".into()))
    }
}

/// Adds a block behind the others, as one with the last if it touches it.
fn add(extents: &mut Vec<Extent>, block: Extent) {
    match extents.last_mut() {
        Some(last) if last.end() == block.start().index() => {
            *last = Extent::between(last.start().index(), block.end()).unwrap_or(*last);
        }
        Some(_) | None => extents.push(block),
    }
}

/// Records what the volume holds, and waits until the journal has it.
async fn record_again(group: &Group, hands: &impl Hands, volume: &Volume, differing: &[Extent]) -> Result<(), String> {
    let session = group.stream.session().ok_or("there is no session")?;
    let over = || {
        let goes_on = group.stream.mode().0 == Mode::Active && group.stream.session() == Some(session);
        if !goes_on {
            return Some("records were lost meanwhile, and a resynchronisation follows");
        }
        group.stream.hold().is_some().then_some("a rollback of the group began meanwhile")
    };
    let wait_for = async |ready: &dyn Fn() -> bool| -> Result<(), String> {
        super::wait(group, hands, ready, over).await.map_err(|stopped| match stopped {
            Stopped::Pointless(why) => why.to_owned(),
            Stopped::Held => "a rollback of the group began meanwhile".to_owned(),
            Stopped::Backing(error) => error.to_string(),
        })
    };
    for piece in differing.iter().flat_map(|extent| extent.pieces((PIECE_BYTES / 512) as u64)) {
        wait_for(&|| !group.stream.is_crowded()).await?;
        if let Some(why) = over() {
            return Err(why.to_owned());
        }
        lay_content(volume, hands, session, piece).await.map_err(|stopped| match stopped {
            Stopped::Pointless(why) => why.to_owned(),
            Stopped::Held => "a rollback of the group began meanwhile".to_owned(),
            Stopped::Backing(error) => format!("reading the backing failed: {error}"),
        })?;
    }
    let laid = group.stream.marks().laid;
    group.stream.hurry();
    wait_for(&|| group.stream.marks().durable >= laid).await
}
