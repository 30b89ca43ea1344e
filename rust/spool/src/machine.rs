//! What a spool gets from the machine that it runs on, besides memory and locks: files, syncs, a clock that never steps
//! and names that nobody has. A simulation has one of its own; nothing here is asked for each event, unless each is
//! synced.

use std::{
    fmt,
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    ops::Range,
    path::Path,
    time::Instant,
};

use crate::directory;

/// A machine with a disk.
pub trait Machine: fmt::Debug + Send + Sync {
    /// Makes a file of zeros whose room on the disk is taken.
    ///
    /// # Errors
    ///
    /// There is such a file, or no room for it.
    fn create(&self, path: &Path, length: usize) -> io::Result<File>;

    /// Waits until a part of a mapped file is on the medium, which `flush` does.
    ///
    /// # Errors
    ///
    /// It may not be there.
    fn sync(
        &self,
        path: &Path,
        range: &Range<usize>,
        flush: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<()>;

    /// Waits until the names in a directory are on the medium.
    ///
    /// # Errors
    ///
    /// They may not be there.
    fn sync_names(&self, directory: &Path) -> io::Result<()>;

    /// Now, by a clock that never steps.
    fn now(&self) -> Instant;

    /// A name that no other client has.
    fn new_owner(&self) -> String;

    /// Whether a thread may look after the spool. Else somebody calls [`crate::Spool::tend`].
    fn has_threads(&self) -> bool;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn create(&self, path: &Path, length: usize) -> io::Result<File> {
        directory::create_zeros(path, length)
    }

    fn sync(
        &self,
        _: &Path,
        _: &Range<usize>,
        flush: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        flush()
    }

    fn sync_names(&self, directory: &Path) -> io::Result<()> {
        directory::sync(directory)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A forked child draws the same numbers as its parent, but is another process.
    fn new_owner(&self) -> String {
        let random = RandomState::new().build_hasher().finish();
        format!("{}-{random:016x}", std::process::id())
    }

    fn has_threads(&self) -> bool {
        true
    }
}
