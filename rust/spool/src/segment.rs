//! One segment: a file of records, mapped, of which some are still waited for. It never grows, and a record in it
//! never moves.

use std::{
    fs::{self, OpenOptions},
    io,
    ops::Range,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    directory,
    mapping::Mapping,
    record::{self, Contents, DONE, MARK, Record},
};

/// A segment, and how many of its records are not done.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    pub mapping: Arc<Mapping>,
    pub written: usize,
    pub open: usize,
    /// Whether nothing more is written into it.
    pub is_sealed: bool,
    /// Whose it was, as a number of the stock's.
    pub owner: usize,
}

impl Segment {
    /// A new one of zeros.
    pub fn create(path: PathBuf, length: usize) -> io::Result<Self> {
        let file = directory::create_zeros(&path, length)?;
        let mapping = Mapping::new(&file).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        mapping.prepare();
        Ok(Self {
            path,
            mapping: Arc::new(mapping),
            written: 0,
            open: 0,
            is_sealed: false,
            owner: 0,
        })
    }

    /// One that a dead process left; `None` if it is empty.
    pub fn open(path: PathBuf, owner: usize) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        let mapping = Mapping::new(&file)?;
        Ok(Some(Self {
            path,
            written: mapping.len(),
            mapping: Arc::new(mapping),
            open: 0,
            is_sealed: true,
            owner,
        }))
    }

    pub fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    pub fn has_room(&self, length: usize) -> bool {
        record::size(length) <= self.mapping.len() - self.written
    }

    /// Adds a record, for which there must be room; returns where it is.
    pub fn append(&mut self, length: u32, payload: &[u8], written_at: i64) -> Range<usize> {
        let start = self.written;
        let head = record::head(length, written_at, payload);
        self.mapping.store(start + record::HEAD, payload);
        self.mapping.store(start + 4, &head[4..]);
        self.mapping.publish(start, record::MAGIC);
        self.written = start + record::size(payload.len());
        self.open += 1;
        start..self.written
    }

    /// Marks a record as done, so that nobody sends it again.
    pub fn mark(&mut self, at: usize) {
        self.mapping.store(at + MARK, &[DONE]);
        self.open = self.open.saturating_sub(1);
    }

    pub fn is_finished(&self) -> bool {
        self.is_sealed && self.open == 0
    }

    /// All that is in it.
    pub fn contents(&self) -> Contents {
        record::scan(&self.mapping.load(0..self.mapping.len()))
    }

    /// The payload of a record that is whole on the disk, too; it may have been damaged since it was found.
    pub fn payload(&self, found: Record) -> Option<Box<[u8]>> {
        let bytes = self.mapping.load(found.at..found.payload().end);
        let is_whole = record::scan(&bytes)
            .records
            .first()
            .map(|first| first.length)
            == Some(found.length);
        is_whole.then(|| bytes[record::HEAD..].into())
    }

    /// Forgets bytes that are kept elsewhere now.
    pub fn erase(&self, range: &Range<usize>) {
        self.mapping.store(range.start, &vec![0; range.len()]);
    }

    /// Unlinks the file. If that fails, its records are marked, and the next client unlinks it.
    pub fn remove(self) {
        let Self { path, mapping, .. } = self;
        drop(mapping);
        let _ = fs::remove_file(path);
    }
}
