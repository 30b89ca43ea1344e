//! The lock by which one process owns its segments, and by which others see that it is dead. The operating system
//! releases it when the process ends, however it ends; nothing here waits for a lock.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

#[cfg(unix)]
pub use unix::close_in_child;
#[cfg(unix)]
use unix::{Held, try_lock};
#[cfg(windows)]
use windows::{Held, try_lock};

/// The files of one owner are ours.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    path: PathBuf,
    _held: Held,
}

impl OwnerLock {
    /// Takes the lock, or nothing if another client has it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let held = try_lock(path)?;
        Ok(held.map(|held| Self {
            path: path.to_owned(),
            _held: held,
        }))
    }

    /// Removes the lock's file: this owner has nothing any more.
    pub fn remove(self) {
        // If it stays, the next client finds an owner without segments, and removes it then.
        let _ = fs::remove_file(&self.path);
    }
}

fn open(options: &mut fs::OpenOptions, path: &Path) -> io::Result<File> {
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::OpenOptions,
        io,
        os::{
            fd::{AsRawFd, IntoRawFd, RawFd},
            unix::fs::MetadataExt,
        },
        path::Path,
        sync::atomic::{AtomicI32, Ordering::SeqCst},
    };

    use super::open;

    const FREE: RawFd = -1;
    /// Every lock that this process holds, so that a forked child can let go of it without any other lock.
    static HELD: [AtomicI32; 256] = [const { AtomicI32::new(FREE) }; 256];

    #[derive(Debug)]
    pub(super) struct Held(&'static AtomicI32);

    #[allow(unsafe_code, reason = "the standard library has no flock yet")]
    pub(super) fn try_lock(path: &Path) -> io::Result<Option<Held>> {
        let file = open(&mut OpenOptions::new(), path)?;
        // SAFETY: a system call on a descriptor that is open.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(error),
            };
        }
        // Whoever had the lock before may have removed the file meanwhile.
        if file.metadata()?.nlink() == 0 {
            return Ok(None);
        }
        let descriptor = file.into_raw_fd();
        for place in &HELD {
            if place
                .compare_exchange(FREE, descriptor, SeqCst, SeqCst)
                .is_ok()
            {
                return Ok(Some(Held(place)));
            }
        }
        close(descriptor);
        Err(io::Error::other("too many spools are open"))
    }

    impl Drop for Held {
        fn drop(&mut self) {
            close(self.0.swap(FREE, SeqCst));
        }
    }

    #[allow(unsafe_code, reason = "descriptors are closed by number here")]
    fn close(descriptor: RawFd) {
        if descriptor != FREE {
            // SAFETY: whoever took the number out of its place owns the descriptor.
            unsafe { libc::close(descriptor) };
        }
    }

    /// Lets go of the parent's locks; for a child right after the fork, where little else may be done.
    ///
    /// A lock lasts as long as any process has it open, so a child that kept it would make its dead parent seem alive.
    pub fn close_in_child() {
        for place in &HELD {
            close(place.swap(FREE, SeqCst));
        }
    }
}

#[cfg(windows)]
mod windows {
    use std::{
        fs::{File, OpenOptions},
        io,
        os::windows::fs::OpenOptionsExt,
        path::Path,
    };

    use super::open;

    #[derive(Debug)]
    pub(super) struct Held(#[allow(dead_code, reason = "it is open, which is the lock")] File);

    const SHARING_VIOLATION: i32 = 32;
    const SHARE_DELETE: u32 = 4;

    pub(super) fn try_lock(path: &Path) -> io::Result<Option<Held>> {
        match open(OpenOptions::new().share_mode(SHARE_DELETE), path) {
            Ok(file) => Ok(Some(Held(file))),
            Err(error) if error.raw_os_error() == Some(SHARING_VIOLATION) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Nothing is inherited here.
#[cfg(not(unix))]
pub const fn close_in_child() {}
