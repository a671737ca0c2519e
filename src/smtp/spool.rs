//! The body of the message that is coming in: in memory while there is room, else sealed in a file without a name.
//!
//! Promises that octets count against one budget of the whole server as they are received, never as they are
//! announced, until the last copy of the body is gone, whoever has answered what meanwhile; that one network leaves a
//! part of it to the others; that bodies in memory have a share of their own, beyond which small ones go to a file, too;
//! and that nothing outlives its [`Spool`].

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::smtp::sealed_file::SealedFile;
use crate::smtp::share::Shares;

/// A larger body leaves a quarter of the memory to smaller ones, and has a buffer there that it never grows out of.
const SMALL_OCTETS: usize = 256 * 1024;
/// The largest that stays in memory. Reading a message takes three times its size: of the largest ones only those that
/// are being read are to be there.
const LARGE_OCTETS: usize = 4 * 1024 * 1024;
/// What a file is written in: so much of each body waits in memory at most.
const BLOCK_OCTETS: usize = 128 * 1024;

/// Octets of bodies that may be on their way at once, in all sessions together.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    low_water: u64,
    shares: Shares,
    /// What of it may be in memory.
    memory_left: AtomicU64,
    /// What of that is for small bodies alone.
    memory_for_small: u64,
}

/// Why a body cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// Too much is on its way in other sessions.
    #[error("the budget for message bodies is used up")]
    OverBudget,
    /// Too much is on its way from the client's network.
    #[error("the network's share of the budget for message bodies is used up")]
    OverShare,
    /// The temporary file cannot be made or written.
    #[error("cannot write the temporary file of a message body")]
    Unwritable(#[source] io::Error),
}

/// The raw message as received (dots unstuffed), and what it holds of the budget: given back when both the body and
/// the [`Received`] that came of it are gone.
#[derive(Debug)]
pub struct Body {
    kept: Kept,
    reserved: Option<Reservation>,
}

#[derive(Debug)]
enum Kept {
    File(SealedFile),
    Memory(Buffer),
}

/// A body in memory, once it is large behind room for our trace fields.
#[derive(Debug, Default)]
struct Buffer {
    octets: Vec<u8>,
    /// Where the body begins.
    start: usize,
}

/// Where large messages are worked on there are only so many places, and so many for one network: a part of both is
/// taken until the last clone is dropped.
pub type Place = Arc<dyn std::any::Any + Send + Sync>;

/// A whole body in memory, once. Holds its part of the budget until it is dropped.
#[derive(Debug)]
pub struct Received {
    octets: Vec<u8>,
    /// The message begins here. Before it is room for our trace fields, so that they need no second copy of it.
    start: usize,
    _held: (Option<Reservation>, Option<Place>),
}

/// The body so far.
#[derive(Debug)]
pub(super) struct Spool {
    content: Content,
    reserved: Reservation,
}

#[derive(Debug)]
enum Content {
    File {
        file: SealedFile,
        unwritten: Vec<u8>,
    },
    Memory(Buffer),
    /// It could not be kept; what still comes is dropped.
    Refused,
}

/// Octets of the budget that one body holds; given back on drop.
#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    /// Whose it is.
    ip: IpAddr,
    octets: u64,
    in_memory: u64,
}

impl Body {
    /// Its length in octets.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        match &self.kept {
            Kept::File(file) => file.size_bytes(),
            Kept::Memory(body) => as_u64(body.len()),
        }
    }

    /// Reads it whole; this is the one copy of it in memory. `place` is given back when that is gone.
    ///
    /// # Errors
    /// The temporary file cannot be read, or has been changed.
    pub async fn read(self, place: Option<Place>) -> io::Result<Received> {
        let Self { kept, reserved } = self;
        match kept {
            Kept::File(file) => {
                // The reservation goes along: a reading that nobody waits for any more still takes memory.
                let reading = tokio::task::spawn_blocking(move || {
                    let octets = file.read(HEADROOM_OCTETS)?;
                    Ok(Received { octets, start: HEADROOM_OCTETS, _held: (reserved, place) })
                });
                reading.await.map_err(io::Error::other)?
            }
            Kept::Memory(Buffer { octets, start }) => {
                Ok(Received { octets, start, _held: (reserved, place) })
            }
        }
    }
}

/// A message that came by another way than SMTP, and holds nothing of any budget.
impl From<Vec<u8>> for Received {
    fn from(octets: Vec<u8>) -> Self {
        Self { octets, start: 0, _held: (None, None) }
    }
}

/// The same, not yet looked at.
impl From<Vec<u8>> for Body {
    fn from(octets: Vec<u8>) -> Self {
        Self { kept: Kept::Memory(Buffer { octets, start: 0 }), reserved: None }
    }
}

impl Received {
    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    /// Another message in its place, holding what this one held of the budget.
    #[must_use]
    pub fn replaced_by(self, octets: Vec<u8>) -> Self {
        Self { octets, start: 0, ..self }
    }

    /// With these octets in front. A large body is not copied for it, unless they are very many.
    #[must_use]
    pub fn with_front(mut self, front: &[u8]) -> Bytes {
        if let Some(start) = self.start.checked_sub(front.len())
            && let Some(room) = self.octets.get_mut(start..self.start)
        {
            room.copy_from_slice(front);
            self.start = start;
            return Bytes::from_owner(self);
        }
        let octets = [front, self.as_bytes()].concat();
        Bytes::from_owner(self.replaced_by(octets))
    }
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Budget {
    /// So many octets, of which so many in memory.
    pub(super) fn new(octets: u64, in_memory: u64) -> Self {
        Self {
            left: AtomicU64::new(octets),
            low_water: octets / 8,
            shares: Shares::of(octets),
            memory_left: AtomicU64::new(in_memory),
            memory_for_small: in_memory / 4,
        }
    }

    /// Whether another message should not even begin.
    pub(super) fn is_low(&self) -> bool {
        self.left.load(Ordering::Relaxed) < self.low_water
    }

    /// The same for a client there: others may still have room.
    pub(super) fn is_low_for(&self, ip: IpAddr) -> bool {
        self.is_low() || self.shares.is_low(ip)
    }
}

impl Spool {
    pub(super) fn new(budget: Arc<Budget>, ip: IpAddr) -> Self {
        let reserved = Reservation { budget, ip, octets: 0, in_memory: 0 };
        Self { content: Content::Memory(Buffer::default()), reserved }
    }

    /// Forgets what is there and begins an empty body.
    pub(super) fn restart(&mut self) {
        *self = self.empty();
    }

    fn empty(&self) -> Self {
        Self::new(Arc::clone(&self.reserved.budget), self.reserved.ip)
    }

    /// Adds to the body.
    ///
    /// # Errors
    /// Over the budget or the network's share of it, or if the file cannot be written. Then nothing is kept any more.
    pub(super) async fn append(&mut self, bytes: &Bytes) -> Result<(), SpoolError> {
        if matches!(self.content, Content::Refused) {
            return Ok(());
        }
        let appended = self.try_append(bytes).await;
        if appended.is_err() {
            self.restart();
            self.content = Content::Refused;
        }
        appended
    }

    /// The whole body, with what it holds of the budget.
    ///
    /// # Errors
    /// If the last block cannot be written.
    pub(super) async fn finish(&mut self) -> Result<Body, SpoolError> {
        self.write_out(1).await?;
        let empty = self.empty();
        let Self { content, reserved } = std::mem::replace(self, empty);
        let kept = match content {
            Content::File { file, .. } => Kept::File(file),
            Content::Memory(body) => Kept::Memory(body),
            Content::Refused => return Err(SpoolError::OverBudget),
        };
        Ok(Body { kept, reserved: Some(reserved) })
    }

    async fn try_append(&mut self, bytes: &Bytes) -> Result<(), SpoolError> {
        self.reserved.grow(bytes.len())?;
        match &mut self.content {
            Content::Memory(body) => {
                if self.reserved.grow_in_memory(bytes.len(), body.len()) && body.make_room(bytes.len()) {
                    body.octets.extend_from_slice(bytes);
                    return Ok(());
                }
                let body = std::mem::take(body);
                // For the time of the writing: who breaks it off leaves a body that is refused.
                self.content = Content::Refused;
                let (file, mut unwritten) = off_the_reactor(move || moved_to_file(&body)).await?;
                unwritten.extend_from_slice(bytes);
                self.content = Content::File { file, unwritten };
                self.reserved.leave_memory();
            }
            Content::File { unwritten, .. } => unwritten.extend_from_slice(bytes),
            Content::Refused => {}
        }
        self.write_out(BLOCK_OCTETS).await
    }

    /// Writes what is waiting for the file, if it is at least so much.
    async fn write_out(&mut self, least: usize) -> Result<(), SpoolError> {
        if !matches!(&self.content, Content::File { unwritten, .. } if unwritten.len() >= least) {
            return Ok(());
        }
        // Taken out for the time of the writing.
        let taken = std::mem::replace(&mut self.content, Content::Refused);
        if let Content::File { mut file, unwritten } = taken {
            let (file, unwritten) =
                off_the_reactor(move || file.append(unwritten).map(|empty| (file, empty))).await?;
            self.content = Content::File { file, unwritten };
        }
        Ok(())
    }
}

impl Buffer {
    const fn len(&self) -> usize {
        self.octets.len() - self.start
    }

    fn body(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    /// Makes room for so many more. A large body gets all it may ever take, so that it is never copied: the system
    /// gives memory for it as it is filled. False if there is none.
    fn make_room(&mut self, more: usize) -> bool {
        if self.start > 0 || self.len() + more <= SMALL_OCTETS {
            return true;
        }
        let mut octets = Vec::new();
        if octets.try_reserve_exact(HEADROOM_OCTETS + LARGE_OCTETS).is_err() {
            return false;
        }
        octets.resize(HEADROOM_OCTETS, 0);
        octets.extend_from_slice(self.body());
        *self = Self { octets, start: HEADROOM_OCTETS };
        true
    }
}

/// With what is still to be written.
fn moved_to_file(body: &Buffer) -> io::Result<(SealedFile, Vec<u8>)> {
    let (blocks, unwritten) = body.body().as_chunks::<BLOCK_OCTETS>();
    let mut file = SealedFile::create()?;
    let mut block = Vec::with_capacity(BLOCK_OCTETS);
    for octets in blocks {
        block.extend_from_slice(octets);
        block = file.append(block)?;
    }
    block.extend_from_slice(unwritten);
    Ok((file, block))
}

impl Reservation {
    fn grow(&mut self, octets: usize) -> Result<(), SpoolError> {
        let octets = as_u64(octets);
        self.budget.shares.take(self.ip, octets).ok_or(SpoolError::OverShare)?;
        if take(&self.budget.left, octets, 0).is_none() {
            self.budget.shares.give_back(self.ip, octets);
            return Err(SpoolError::OverBudget);
        }
        self.octets += octets;
        Ok(())
    }

    fn grow_in_memory(&mut self, octets: usize, behind: usize) -> bool {
        if behind + octets > LARGE_OCTETS {
            return false;
        }
        let keep = if behind + octets > SMALL_OCTETS { self.budget.memory_for_small } else { 0 };
        let octets = as_u64(octets);
        let is_granted = take(&self.budget.memory_left, octets, keep).is_some();
        self.in_memory += if is_granted { octets } else { 0 };
        is_granted
    }

    fn leave_memory(&mut self) {
        self.budget.memory_left.fetch_add(std::mem::take(&mut self.in_memory), Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.leave_memory();
        self.budget.shares.give_back(self.ip, self.octets);
        self.budget.left.fetch_add(self.octets, Ordering::Relaxed);
    }
}

/// Takes so many, if so many are left after it.
fn take(from: &AtomicU64, octets: u64, keep: u64) -> Option<u64> {
    let rest = |left: u64| left.checked_sub(octets).filter(|rest| *rest >= keep);
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).ok()
}

fn as_u64(octets: usize) -> u64 {
    u64::try_from(octets).unwrap_or(u64::MAX)
}

/// A slow disk stops this session, not the others.
async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SpoolError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(SpoolError::Unwritable)
}

/// Our trace fields take one to three KiB.
const HEADROOM_OCTETS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 1 << 22;
    /// What one address may have of it.
    const SHARE: usize = 1 << 20;
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn left(budget: &Budget) -> (u64, u64) {
        (budget.left.load(Ordering::Relaxed), budget.memory_left.load(Ordering::Relaxed))
    }

    async fn spooled(octets: usize, in_memory: u64) -> (Received, Arc<Budget>, Vec<u8>, bool) {
        let budget = Arc::new(Budget::new(BUDGET.max(4 * as_u64(octets)), in_memory));
        let mut spool = Spool::new(Arc::clone(&budget), HERE);
        let whole: Vec<u8> = (0..octets).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for piece in whole.chunks(10_000) {
            spool.append(&Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let body = spool.finish().await.unwrap();
        let is_file = matches!(body.kept, Kept::File(_));
        assert_eq!(body.size_bytes(), as_u64(octets));
        let received = body.read(None).await.unwrap();
        assert!(received.as_bytes() == whole, "{octets} octets come back as they were");
        (received, budget, whole, is_file)
    }

    #[tokio::test]
    async fn a_small_body_may_take_all_memory_and_a_large_one_leaves_a_quarter() {
        for (octets, in_memory, is_file) in [
            (SMALL_OCTETS, SMALL_OCTETS, false),
            (SMALL_OCTETS + 1, SMALL_OCTETS, true),
            (3 * SMALL_OCTETS, 4 * SMALL_OCTETS, false),
            (3 * SMALL_OCTETS + 1, 4 * SMALL_OCTETS, true),
            (11 * SMALL_OCTETS + 17, 8 * SMALL_OCTETS, true),
            (11 * SMALL_OCTETS + 17, 16 * SMALL_OCTETS, false),
            (LARGE_OCTETS, 2 * LARGE_OCTETS, false),
            (LARGE_OCTETS + 1, 2 * LARGE_OCTETS, true),
        ] {
            assert_eq!(spooled(octets, as_u64(in_memory)).await.3, is_file, "{octets} of {in_memory}");
        }
    }

    #[tokio::test]
    async fn s16_what_memory_has_no_room_for_goes_to_a_file_however_small() {
        assert!(!spooled(20_000, 20_000).await.3);
        let (received, budget, _, is_file) = spooled(20_001, 20_000).await;
        assert!(is_file);
        assert_eq!(left(&budget), (BUDGET - 20_001, 20_000));
        drop(received);
        assert_eq!(left(&budget), (BUDGET, 20_000));
    }

    #[tokio::test]
    async fn s16_the_budget_is_held_by_the_last_copy_of_a_body() {
        for (octets, in_memory) in [(1000, BUDGET), (SMALL_OCTETS + 1, BUDGET), (SMALL_OCTETS + 1, 0)] {
            let (received, budget, whole, _) = spooled(octets, in_memory).await;
            let raw = received.with_front(b"Received: x\r\n");
            assert_eq!(raw, [&b"Received: x\r\n"[..], &whole].concat());
            let kept = raw.slice(3..10);
            drop(raw);
            assert_eq!(left(&budget).0, BUDGET - as_u64(octets));
            drop(kept);
            assert_eq!(left(&budget), (BUDGET, in_memory));
        }
    }

    #[tokio::test]
    async fn trace_fields_go_in_front_without_a_copy_as_long_as_there_is_room() {
        let fronts = [HEADROOM_OCTETS, HEADROOM_OCTETS + 1];
        for (front, in_memory) in fronts.into_iter().flat_map(|front| [(front, BUDGET), (front, 0)]) {
            let (received, _, whole, _) = spooled(SMALL_OCTETS + 1, in_memory).await;
            let at = received.as_bytes().as_ptr();
            let raw = received.with_front(&vec![b'f'; front]);
            assert!(raw[front..] == whole && raw[..front].iter().all(|octet| *octet == b'f'));
            assert_eq!(raw[front..].as_ptr() != at, front > HEADROOM_OCTETS);
        }
    }

    #[tokio::test]
    async fn s16_the_budget_is_given_back_and_a_refused_body_holds_nothing() {
        let budget = Arc::new(Budget::new(BUDGET, BUDGET));
        let (share, one) = (Bytes::from(vec![0; SHARE]), Bytes::from_static(b"x"));
        let mut spools: Vec<Spool> =
            (1..=5).map(|last| Spool::new(Arc::clone(&budget), IpAddr::from([127, 0, 0, last]))).collect();
        for spool in &mut spools[..4] {
            spool.append(&share).await.unwrap();
        }
        assert!(budget.is_low());
        assert!(matches!(spools[4].append(&one).await, Err(SpoolError::OverBudget)));
        assert!(spools[4].append(&share).await.is_ok(), "what still comes is dropped");
        assert!(spools[4].finish().await.is_err());
        let fifth = IpAddr::from([127, 0, 0, 5]);
        spools.clear();
        assert_eq!(left(&budget), (BUDGET, BUDGET));
        assert!(budget.shares.take(fifth, as_u64(SHARE)).is_some(), "what was refused holds no share either");
    }

    #[tokio::test]
    async fn s16_one_address_gets_its_share_and_leaves_the_rest_to_others() {
        let budget = Arc::new(Budget::new(BUDGET, BUDGET));
        let (half, one) = (Bytes::from(vec![0; SHARE / 2]), Bytes::from_static(b"x"));
        // Two messages at once, of one address: each counts against the same share.
        let mut spools = [(); 2].map(|()| Spool::new(Arc::clone(&budget), HERE));
        for spool in &mut spools {
            spool.append(&half).await.unwrap();
        }
        assert!(budget.is_low_for(HERE) && !budget.is_low());
        assert!(matches!(spools[0].append(&one).await, Err(SpoolError::OverShare)));
        assert!(!budget.is_low_for(HERE), "the refused one is given back");
        let other = IpAddr::from([127, 0, 0, 2]);
        assert!(!budget.is_low_for(other));
        assert!(Spool::new(Arc::clone(&budget), other).append(&half).await.is_ok());
        let received = spools[1].finish().await.unwrap().read(None).await.unwrap();
        spools[0].restart();
        spools[0].append(&half).await.unwrap();
        assert!(budget.is_low_for(HERE), "a message that is being worked on counts");
        drop(received);
        assert!(!budget.is_low_for(HERE));
    }
}
