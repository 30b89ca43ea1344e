//! The segments that this process has, its own and those it adopted, and what of them is still to be done. Everything
//! here is under the spool's one lock; it makes and removes no file itself.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use crate::{lock::OwnerLock, mapping::Mapping, record::Record, segment::Segment};

/// Bytes of a mapping that may not be on the medium yet.
pub(crate) type Dirty = (Arc<Mapping>, Range<usize>);

/// An owner of segments: ourselves, or one that is dead.
#[derive(Debug)]
struct Owner {
    lock: Option<OwnerLock>,
    segments: usize,
}

/// What is not needed any more. Dropping it removes the files, which takes longer than the lock should be held.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    segments: Vec<Segment>,
    locks: Vec<OwnerLock>,
}

impl Drop for Finished {
    fn drop(&mut self) {
        self.segments.drain(..).for_each(Segment::remove);
        // Last: segments without a lock would belong to nobody.
        self.locks.drain(..).for_each(OwnerLock::remove);
    }
}

/// A record that waited, and what is on the disk of it: nothing if it was damaged meanwhile.
pub(crate) type ReadBack = (u32, Record, Option<Box<[u8]>>);

/// The number of our own among the owners.
pub(crate) const OWN: usize = 0;

/// All segments of this process.
#[derive(Debug)]
pub(crate) struct Stock {
    segments: HashMap<u32, Segment>,
    owners: Vec<Owner>,
    current: Option<u32>,
    pub spare: Option<Segment>,
    /// Whether somebody is making a spare.
    pub is_making: bool,
    next: u32,
    /// Records that are in no memory queue, oldest first.
    waiting: VecDeque<(u32, Record)>,
    /// Of all files, with those that are being made.
    pub bytes: u64,
    dirty_from: usize,
    dirty: Vec<Dirty>,
    has_new_names: bool,
}

impl Stock {
    pub fn new() -> Self {
        Self {
            segments: HashMap::new(),
            owners: vec![Owner {
                lock: None,
                segments: 0,
            }],
            current: None,
            spare: None,
            is_making: false,
            next: 0,
            waiting: VecDeque::new(),
            bytes: 0,
            dirty_from: 0,
            dirty: Vec::new(),
            has_new_names: false,
        }
    }

    /// Takes our own lock in; without it there is no spool.
    pub fn open(&mut self, lock: OwnerLock) {
        self.owners[OWN].lock = Some(lock);
    }

    pub fn is_open(&self) -> bool {
        self.owners[OWN].lock.is_some()
    }

    /// A number that no other segment of ours has.
    pub fn next_number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// The segment that is written into, if a record of this length fits.
    pub fn writable(&mut self, length: usize) -> Option<(u32, &mut Segment)> {
        let number = self.current?;
        let segment = self.segments.get_mut(&number)?;
        segment.has_room(length).then_some((number, segment))
    }

    /// Whether the current segment is half full, and nothing is there to go on with.
    pub fn wants_spare(&self) -> bool {
        let current = self.current.and_then(|number| self.segments.get(&number));
        let is_half_full = |segment: &Segment| segment.written * 2 >= segment.mapping.len();
        self.spare.is_none() && !self.is_making && current.is_some_and(is_half_full)
    }

    /// Goes on with another segment.
    pub fn roll(&mut self, segment: Segment) -> Finished {
        let finished = self.seal();
        self.dirty_from = 0;
        self.has_new_names = true;
        let number = self.next_number();
        self.current = Some(number);
        self.owners[OWN].segments += 1;
        self.segments.insert(number, segment);
        finished
    }

    /// Writes no more into the current segment.
    pub fn seal(&mut self) -> Finished {
        let mut finished = Finished::default();
        self.note_dirty();
        if let Some(number) = self.current.take()
            && let Some(segment) = self.segments.get_mut(&number)
        {
            segment.is_sealed = true;
            self.finish(number, &mut finished);
        }
        finished
    }

    /// Writes no more into the current segment if nothing in it is waited for: its room is needed.
    pub fn seal_if_done(&mut self) -> Finished {
        let current = self.current.and_then(|number| self.segments.get(&number));
        match current {
            Some(segment) if segment.open == 0 => self.seal(),
            _ => Finished::default(),
        }
    }

    fn note_dirty(&mut self) {
        let current = self.current.and_then(|number| self.segments.get(&number));
        if let Some(segment) = current
            && segment.written > self.dirty_from
        {
            let range = self.dirty_from..segment.written;
            self.dirty_from = segment.written;
            self.dirty.push((Arc::clone(&segment.mapping), range));
        }
    }

    /// What was written and not synced; it counts as synced from now on.
    pub fn take_dirty(&mut self) -> Vec<Dirty> {
        self.note_dirty();
        std::mem::take(&mut self.dirty)
    }

    /// Whether there are files whose names were not synced; they count as synced from now on.
    pub fn take_new_names(&mut self) -> bool {
        std::mem::take(&mut self.has_new_names)
    }

    /// An owner that is dead, and whose lock we have.
    pub fn add_owner(&mut self, lock: OwnerLock) -> usize {
        self.owners.push(Owner {
            lock: Some(lock),
            segments: 0,
        });
        self.owners.len() - 1
    }

    /// Takes in a segment of another, with its records that are not done.
    ///
    /// `kept` says how much of it is to stay for another reason.
    pub fn add(&mut self, mut segment: Segment, records: Vec<Record>, kept: usize) -> Finished {
        let mut finished = Finished::default();
        let number = self.next_number();
        self.bytes += segment.len();
        segment.open = records.len() + kept;
        self.owners[segment.owner].segments += 1;
        self.waiting
            .extend(records.into_iter().map(|record| (number, record)));
        self.segments.insert(number, segment);
        self.finish(number, &mut finished);
        finished
    }

    /// Lets go of an owner that turned out to have nothing.
    pub fn close_owner(&mut self, owner: usize) -> Finished {
        let mut finished = Finished::default();
        if let Some(owner) = self.owners.get_mut(owner)
            && owner.segments == 0
        {
            finished.locks.extend(owner.lock.take());
        }
        finished
    }

    /// Leaves a record to be read again.
    pub fn wait(&mut self, number: u32, record: Record) {
        self.waiting.push_back((number, record));
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The oldest record that waits.
    pub fn take_waiting(&mut self) -> Option<ReadBack> {
        let (number, record) = self.waiting.pop_front()?;
        let segment = self.segments.get(&number);
        let payload = segment.and_then(|segment| segment.payload(record));
        Some((number, record, payload))
    }

    /// Marks a record as done, and says what is not needed any more.
    pub fn done(&mut self, number: u32, at: usize, finished: &mut Finished) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.mark(at);
            self.finish(number, finished);
        }
    }

    fn finish(&mut self, number: u32, finished: &mut Finished) {
        if !self.segments.get(&number).is_some_and(Segment::is_finished) {
            return;
        }
        let Some(segment) = self.segments.remove(&number) else {
            return;
        };
        self.bytes -= segment.len();
        let owner = segment.owner;
        finished.segments.push(segment);
        self.owners[owner].segments -= 1;
        if owner != OWN {
            let mut rest = self.close_owner(owner);
            finished.locks.append(&mut rest.locks);
        }
    }

    /// Records that are not done.
    pub fn open_records(&self) -> usize {
        self.segments.values().map(|segment| segment.open).sum()
    }

    /// Ends: what is done is removed, and the locks of what is not are released with the rest of this.
    pub fn close(&mut self) -> Finished {
        let mut finished = self.seal();
        if let Some(spare) = self.spare.take() {
            self.bytes -= spare.len();
            finished.segments.push(spare);
        }
        finished.locks.append(&mut self.close_owner(OWN).locks);
        self.segments.clear();
        self.waiting.clear();
        for owner in &mut self.owners {
            owner.lock = None;
        }
        finished
    }
}
