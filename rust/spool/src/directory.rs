//! The names in a spool's directory, and what is done with whole files there. It must never read a record.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// How segments of this format end; another format has another ending.
const SEGMENT: &str = ".v1";
const LOCK: &str = ".lock";
const ZEROS: &[u8] = &[0; 64 * 1024];

/// The directory of one account's spool.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes it, if it is not there; nobody else may look into it.
    pub fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.0)?;
        match self.0.parent() {
            Some(parent) => sync(parent),
            None => Ok(()),
        }
    }

    pub fn lock(&self, owner: &str) -> PathBuf {
        self.0.join(format!("{owner}{LOCK}"))
    }

    pub fn segment(&self, owner: &str, number: u32) -> PathBuf {
        self.0.join(format!("{owner}.{number:08}{SEGMENT}"))
    }

    /// A file that is only ever added to, and read by people.
    pub fn rejects(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Everybody who has files here, with the paths of their segments in order.
    pub fn owners(&self) -> io::Result<BTreeMap<String, Vec<PathBuf>>> {
        let mut owners: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if let Some(owner) = name.strip_suffix(LOCK) {
                owners.entry(owner.to_owned()).or_default();
            } else if let Some((owner, _)) = name
                .strip_suffix(SEGMENT)
                .and_then(|stem| stem.rsplit_once('.'))
            {
                owners.entry(owner.to_owned()).or_default().push(path);
            }
        }
        for paths in owners.values_mut() {
            paths.sort();
        }
        Ok(owners)
    }

    /// Waits until the names in it are on the medium.
    pub fn sync(&self) -> io::Result<()> {
        sync(&self.0)
    }

    /// Adds to a file and waits until that is on the medium.
    pub fn add(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        sync(&self.0)
    }
}

/// Makes a file of zeros whose room on the disk is taken, so that storing into it cannot fail later.
///
/// Neither it nor its name is on the medium before [`Directory::sync`] and a sync of what is stored in it.
pub(crate) fn create_zeros(path: &Path, length: usize) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    if let Err(error) = fill(&mut file, length) {
        drop(file);
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

fn fill(file: &mut File, mut length: usize) -> io::Result<()> {
    while length > 0 {
        let some = length.min(ZEROS.len());
        file.write_all(&ZEROS[..some])?;
        length -= some;
    }
    Ok(())
}

/// Waits until the names in a directory are on the medium: those of new files are not, with the files alone.
#[cfg(unix)]
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Directories cannot be opened here; the file system keeps their names with the files.
#[cfg(not(unix))]
fn sync(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A name that no other client has: a forked child draws the same numbers as its parent, but is another process.
pub(crate) fn new_owner() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{}-{random:016x}", std::process::id())
}
