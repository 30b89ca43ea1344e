//! What a dead process left: its segments are taken over, whatever has happened to them. It must never touch those of
//! the living.

use std::{
    ops::Range,
    path::PathBuf,
    sync::atomic::Ordering::{Relaxed, SeqCst},
};

use crate::{lock::OwnerLock, rejects, segment::Segment, shared::Shared};

impl Shared {
    /// Takes over what dead processes left.
    pub fn adopt(&self) {
        let mut inner = self.inner.lock();
        let is_open = !inner.is_closed && (inner.stock.is_open() || self.open(&mut inner).is_ok());
        drop(inner);
        if !is_open {
            return;
        }
        match self.directory.owners() {
            Ok(owners) => {
                for (name, _) in owners {
                    self.adopt_from(&name);
                }
            }
            Err(error) => self.note(format!("the spool cannot be searched: {error}")),
        }
    }

    fn adopt_from(&self, name: &str) {
        // Ours, those that we have adopted, and those of the living are locked.
        let Ok(Some(lock)) = OwnerLock::take(&self.directory.lock(name)) else {
            return;
        };
        // Read again: only with the lock does the list not change any more.
        let paths = self
            .directory
            .owners()
            .ok()
            .and_then(|mut all| all.remove(name));
        let owner = self.inner.lock().stock.add_owner(lock);
        let before = self.totals.adopted.load(SeqCst);
        for path in paths.unwrap_or_default() {
            self.adopt_segment(path, owner);
        }
        let count = self.totals.adopted.load(SeqCst) - before;
        if count > 0 {
            self.note(format!(
                "{count} events of an earlier process ({name}) are sent now"
            ));
        }
        let finished = self.inner.lock().stock.close_owner(owner);
        drop(finished);
    }

    fn adopt_segment(&self, path: PathBuf, owner: usize) {
        match Segment::open(path.clone(), owner) {
            Ok(Some(segment)) => self.take_over(segment),
            Ok(None) => {
                let _ = std::fs::remove_file(path);
            }
            Err(error) => self.note(format!("{} cannot be read: {error}", path.display())),
        }
    }

    fn take_over(&self, segment: Segment) {
        let contents = segment.contents();
        let damaged = contents.damaged.iter().map(|range| (range, false));
        let torn = contents.torn.iter().map(|range| (range, true));
        let stays = damaged
            .chain(torn)
            .filter(|(range, is_torn)| !self.put_away(&segment, range, *is_torn));
        let stays = stays.count();
        let records = contents.records.into_iter();
        let open: Vec<_> = records.filter(|record| !record.is_done).collect();
        self.totals.adopted.fetch_add(open.len() as u64, SeqCst);
        let mut inner = self.inner.lock();
        let finished = inner.stock.add(segment, open, stays);
        self.count_waiting(&inner);
        drop(inner);
        drop(finished);
    }

    /// Keeps bytes that are no record for people to look at, and tells; returns whether they need not stay.
    fn put_away(&self, segment: &Segment, range: &Range<usize>, is_torn: bool) -> bool {
        let bytes = segment.mapping.load(range.clone());
        let owner = self.owner.lock().clone();
        if let Err(error) = rejects::quarantine(&self.directory, &owner, &bytes) {
            self.note(format!("damaged bytes cannot be kept: {error}"));
            return false;
        }
        segment.erase(range);
        let (total, what) = if is_torn {
            (
                &self.totals.torn,
                "a record was cut short by the end of its process",
            )
        } else {
            (&self.totals.damaged, "a record is damaged and is not sent")
        };
        total.fetch_add(1, Relaxed);
        self.note(format!(
            "{what}: {} bytes are in {owner}.damaged",
            bytes.len()
        ));
        true
    }
}
