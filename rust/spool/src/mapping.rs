//! A file of fixed size as memory. It is the one place with raw pointers; nothing outside may reach beyond the file.

use std::{
    fs::File,
    io,
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use memmap2::MmapRaw;

/// A whole file, shared with the operating system: what is stored here outlives the process.
#[derive(Debug)]
pub(crate) struct Mapping(MmapRaw);

impl Mapping {
    /// Maps a file, which must not be empty and must not be made shorter as long as this exists.
    pub fn new(file: &File) -> io::Result<Self> {
        MmapRaw::map_raw(file).map(Self)
    }

    /// Has the operating system prepare every page, so that the first store to each takes no longer than others.
    pub fn prepare(&self) {
        // Older systems cannot; nothing but time depends on it.
        #[cfg(target_os = "linux")]
        let _ = self.0.advise(memmap2::Advice::PopulateWrite);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Stores bytes. The caller alone may use this range.
    #[allow(unsafe_code, reason = "a mapped file is memory that others may change")]
    pub fn store(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len() && bytes.len() <= self.len() - at);
        // SAFETY: the range is within the mapping, which no Rust reference covers.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_mut_ptr().add(at), bytes.len());
        }
    }

    /// Stores four bytes after everything that was stored before.
    #[allow(unsafe_code, reason = "a mapped file is memory that others may change")]
    pub fn publish(&self, at: usize, bytes: [u8; 4]) {
        assert!(at % 4 == 0 && at + 4 <= self.len());
        // SAFETY: within the mapping, and aligned, as a mapping starts with a page.
        let place = unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().add(at).cast()) };
        place.store(u32::from_ne_bytes(bytes), Ordering::Release);
    }

    /// Copies bytes out.
    #[allow(unsafe_code, reason = "a mapped file is memory that others may change")]
    pub fn load(&self, range: Range<usize>) -> Box<[u8]> {
        assert!(range.start <= range.end && range.end <= self.len());
        let mut bytes = vec![0; range.len()];
        // SAFETY: the range is within the mapping, and the copy is our own.
        unsafe {
            let start = self.0.as_ptr().add(range.start);
            std::ptr::copy_nonoverlapping(start, bytes.as_mut_ptr(), bytes.len());
        }
        bytes.into()
    }

    /// Waits until a range is on the medium.
    pub fn sync(&self, range: &Range<usize>) -> io::Result<()> {
        self.0.flush_range(range.start, range.len())
    }
}
