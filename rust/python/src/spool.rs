//! The spool as the core's journal: it lets go of the interpreter where it waits for the disk, and reads the clock that
//! the client has. It must never keep or forget an event by itself.

use std::{path::PathBuf, sync::Arc, time::Duration};

use pyo3::prelude::*;
use schematic_core::{
    Millis,
    events::{Journal, Ticket},
};
use schematic_spool::{Fsync, Options, Spool};

use crate::{arguments, clock};

/// The service forgets an event's key after this many milliseconds.
const KEY_LIFETIME: i64 = 24 * 3600 * 1000;

/// A spool in a directory of so many bytes; synced after so many seconds, 0 being at once and `None` never.
pub(crate) fn open_spool(
    py: Python<'_>,
    (directory, max_bytes, fsync): (PathBuf, u64, Option<f64>),
    clock: Option<&Py<PyAny>>,
) -> Arc<Spool> {
    Arc::new(Spool::new(Options {
        directory,
        max_bytes,
        fsync: fsync.map_or(Fsync::Never, fsync_of),
        longest_wait: KEY_LIFETIME,
        clock: clock_of(clock.map(|clock| clock.clone_ref(py))),
    }))
}

fn fsync_of(seconds: f64) -> Fsync {
    match Duration::try_from_secs_f64(seconds) {
        Ok(period) if !period.is_zero() => Fsync::Every(period),
        _ => Fsync::Always,
    }
}

fn clock_of(clock: Option<Py<PyAny>>) -> Box<dyn Fn() -> i64 + Send + Sync> {
    let Some(clock) = clock else {
        return Box::new(clock::wall);
    };
    Box::new(move || {
        let now = Python::attach(|py| read(py, &clock));
        now.unwrap_or_else(|_| clock::wall())
    })
}

fn read(py: Python<'_>, clock: &Py<PyAny>) -> PyResult<Millis> {
    arguments::instant("clock()", clock.call0(py)?.extract(py)?)
}

/// What the core keeps its events with.
pub(crate) fn journal(spool: &Arc<Spool>) -> Box<dyn Journal> {
    Box::new(SpoolJournal(Arc::clone(spool)))
}

struct SpoolJournal(Arc<Spool>);

fn ticket_of(ticket: Ticket) -> schematic_spool::Ticket {
    schematic_spool::Ticket::of(ticket.get())
}

impl Journal for SpoolJournal {
    fn keep(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Option<Ticket> {
        let ticket = self.0.keep(write)?;
        if self.0.waits() {
            Python::attach(|py| py.detach(|| self.0.wait()));
        }
        Ticket::new(ticket.get())
    }

    fn leave(&self, ticket: Ticket, length: usize) {
        self.0.leave(ticket_of(ticket), length);
    }

    fn waiting(&self) -> usize {
        self.0.waiting()
    }

    fn take_waiting(&self, most: usize) -> Vec<(Ticket, Box<[u8]>)> {
        if self.0.waiting() == 0 {
            return Vec::new();
        }
        let events = self.0.take_waiting(most).into_iter();
        events
            .filter_map(|(ticket, event)| Some((Ticket::new(ticket.get())?, event)))
            .collect()
    }

    fn delivered(&self, tickets: &mut dyn Iterator<Item = Ticket>) {
        self.0.delivered(&mut tickets.map(ticket_of));
    }
}
