//! What is not sent: records that are too old for it, and bytes that are no record any more. They are kept in files of
//! their own, for people; nothing here is ever read again.

use std::io::{self, Write};

use crate::directory::Directory;

/// Adds records to the owner's file of parked ones, a line of JSON for each.
pub(crate) fn park(
    directory: &Directory,
    owner: &str,
    records: &[(i64, Box<[u8]>)],
) -> io::Result<()> {
    let mut lines = Vec::new();
    for (written_at, payload) in records {
        write!(lines, "{{\"written_at\":{written_at},\"event\":")?;
        lines.extend_from_slice(payload);
        lines.extend_from_slice(b"}\n");
    }
    directory.add(&directory.rejects(&format!("{owner}.parked.jsonl")), &lines)
}

/// Adds bytes to the owner's file of damaged ones, as they were found.
pub(crate) fn quarantine(directory: &Directory, owner: &str, bytes: &[u8]) -> io::Result<()> {
    directory.add(&directory.rejects(&format!("{owner}.damaged")), bytes)
}
