//! What callers and the thread of a spool share: keeping events, making room for them, syncing. It must never refuse
//! an event without counting it.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    directory::{Directory, new_owner},
    lock::OwnerLock,
    options::{Fsync, Options},
    report::{News, Totals},
    segment::Segment,
    signal::Signal,
    stock::Stock,
    ticket::Ticket,
};

const LARGEST_SEGMENT: u64 = 1024 * 1024;
const SMALLEST_SEGMENT: u64 = 16 * 1024;
const PAGE: u64 = 4096;
/// Between two attempts to make a file where that has failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long the thread sleeps where nothing is synced by time.
const IDLE: Duration = Duration::from_secs(60);
/// Attempts to find a name that nobody has.
const NAMES: usize = 10;

/// What the one lock protects.
#[derive(Debug)]
pub(crate) struct Inner {
    pub stock: Stock,
    pub scratch: Vec<u8>,
    pub retry_at: Option<Instant>,
    pub is_closed: bool,
    /// Whether the last event found no room.
    pub is_refusing: bool,
    /// Of the newest record.
    pub ordinal: u64,
}

/// What callers and the thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub options: Options,
    pub directory: Directory,
    pub owner: Mutex<String>,
    pub inner: Mutex<Inner>,
    /// Held by whoever syncs; the ordinal up to which that is done.
    pub synced: Mutex<u64>,
    pub totals: Totals,
    pub waiting: AtomicUsize,
    pub news: Mutex<News>,
    pub signal: Arc<Signal>,
}

impl Shared {
    /// Keeps one event.
    pub fn keep(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Option<Ticket> {
        // Before the lock: a clock may be a program's own.
        let now = (self.options.clock)();
        let mut inner = self.inner.lock();
        let mut scratch = std::mem::take(&mut inner.scratch);
        scratch.clear();
        write(&mut scratch);
        let kept = self.append(&mut inner, &scratch, now);
        inner.scratch = scratch;
        inner.is_refusing |= kept.is_err();
        let wants_spare = inner.stock.wants_spare();
        drop(inner);
        if wants_spare {
            self.signal.wake();
        }
        match kept {
            Ok(ticket) => return Some(ticket),
            Err(fault) => self.refuse(&fault),
        }
        None
    }

    fn append(&self, inner: &mut Inner, payload: &[u8], now: i64) -> Result<Ticket, Refusal> {
        let length = u32::try_from(payload.len()).map_err(|_| Refusal::Full)?;
        if inner.stock.writable(payload.len()).is_none() {
            self.ready(inner, payload.len())?;
        }
        let Some((number, segment)) = inner.stock.writable(payload.len()) else {
            return Err(Refusal::Full);
        };
        let range = segment.append(length, payload, now);
        inner.ordinal += 1;
        if std::mem::take(&mut inner.is_refusing) {
            self.news.lock().fault = None;
        }
        let at = u32::try_from(range.start).map_err(|_| Refusal::Full)?;
        Ok(Ticket::new(number, at))
    }

    /// Makes sure that there is a segment with room for a payload.
    pub fn ready(&self, inner: &mut Inner, length: usize) -> Result<(), Refusal> {
        if inner.is_closed {
            return Err(Refusal::Closed);
        }
        if inner.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(Refusal::Again);
        }
        let made = self.make(inner, length);
        if let Err(Refusal::Failed(_)) = made {
            inner.retry_at = Some(Instant::now() + RETRY);
        } else {
            inner.retry_at = None;
        }
        made
    }

    fn make(&self, inner: &mut Inner, length: usize) -> Result<(), Refusal> {
        if !inner.stock.is_open() {
            self.open(inner)?;
        }
        if let Some(spare) = inner.stock.spare.take_if(|spare| spare.has_room(length)) {
            drop(inner.stock.roll(spare));
            return Ok(());
        }
        drop(inner.stock.seal_if_done());
        let size = self.size_for(length);
        if inner.stock.bytes + size > self.options.max_bytes {
            return Err(Refusal::Full);
        }
        let path = self.path(inner.stock.next_number());
        let segment = create(path, size).map_err(Refusal::Failed)?;
        inner.stock.bytes += size;
        drop(inner.stock.roll(segment));
        Ok(())
    }

    pub fn open(&self, inner: &mut Inner) -> Result<(), Refusal> {
        self.directory.create().map_err(Refusal::Failed)?;
        for _ in 0..NAMES {
            let name = new_owner();
            let lock = OwnerLock::take(&self.directory.lock(&name)).map_err(Refusal::Failed)?;
            if let Some(lock) = lock {
                *self.owner.lock() = name;
                inner.stock.open(lock);
                return Ok(());
            }
        }
        Err(Refusal::Failed(io::Error::other("no lock can be had")))
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.directory.segment(&self.owner.lock(), number)
    }

    fn size_for(&self, length: usize) -> u64 {
        let usual = (self.options.max_bytes / 8).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
        let needed = crate::record::size(length) as u64;
        usual.max(needed).next_multiple_of(PAGE)
    }

    #[cold]
    fn refuse(&self, refusal: &Refusal) {
        self.totals.refused.fetch_add(1, Relaxed);
        self.tell(refusal);
    }

    /// Reports why nothing can be kept now.
    pub fn tell(&self, refusal: &Refusal) {
        if !matches!(refusal, Refusal::Again) {
            self.news.lock().fault = Some(self.describe(refusal));
        }
    }

    fn describe(&self, refusal: &Refusal) -> String {
        let directory = self.options.directory.display();
        match refusal {
            Refusal::Full => format!(
                "{directory} is full: new usage is in memory only ({} bytes at most)",
                self.options.max_bytes
            ),
            Refusal::Failed(error) => {
                format!("{directory} cannot be written ({error}): new usage is in memory only")
            }
            Refusal::Again | Refusal::Closed => format!("{directory} is closed"),
        }
    }

    /// Makes the next segment while the current one has room.
    pub fn make_spare(&self) {
        let mut inner = self.inner.lock();
        let size = self.size_for(0);
        let is_blocked = inner.is_closed || inner.stock.bytes + size > self.options.max_bytes;
        if is_blocked || !inner.stock.wants_spare() {
            return;
        }
        inner.stock.is_making = true;
        inner.stock.bytes += size;
        let path = self.path(inner.stock.next_number());
        drop(inner);
        let made = create(path, size);
        let mut inner = self.inner.lock();
        inner.stock.is_making = false;
        match made {
            Ok(spare) => inner.stock.spare = Some(spare),
            // Whoever needs it tries again, and tells.
            Err(_) => inner.stock.bytes -= size,
        }
    }

    /// How often the thread is to look.
    pub fn period(&self) -> Duration {
        match self.options.fsync {
            Fsync::Every(period) => period,
            Fsync::Always | Fsync::Never => IDLE,
        }
    }

    pub fn sync_if_timed(&self) {
        if let Fsync::Every(_) = self.options.fsync {
            self.sync(u64::MAX);
        }
    }

    /// Waits until everything up to a record is on the medium, which one caller does for all who wait.
    pub fn sync(&self, ordinal: u64) {
        let mut synced = self.synced.lock();
        if *synced >= ordinal {
            return;
        }
        let mut inner = self.inner.lock();
        let dirty = inner.stock.take_dirty();
        let has_names = inner.stock.take_new_names();
        let newest = inner.ordinal;
        drop(inner);
        // All of them, even if one fails.
        let synced_ranges = dirty.iter().map(|(mapping, range)| mapping.sync(range));
        let names = has_names.then(|| self.directory.sync());
        for error in synced_ranges.chain(names).filter_map(Result::err) {
            let text = format!("{}: {error}", self.options.directory.display());
            self.note(format!("usage may not survive a power loss: {text}"));
        }
        *synced = newest;
    }

    pub fn note(&self, notice: String) {
        let notices = &mut self.news.lock().notices;
        // Nobody may be there to read them.
        if notices.len() < 100 && !notices.contains(&notice) {
            notices.push(notice);
        }
    }

    pub fn count_waiting(&self, inner: &Inner) {
        self.waiting.store(inner.stock.waiting(), Relaxed);
    }
}

fn create(path: PathBuf, size: u64) -> io::Result<Segment> {
    let length = usize::try_from(size).map_err(io::Error::other)?;
    Segment::create(path, length)
}

/// Why an event is not kept.
#[derive(Debug)]
pub(crate) enum Refusal {
    Full,
    Failed(io::Error),
    /// It failed a moment ago.
    Again,
    Closed,
}
