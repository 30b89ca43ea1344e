//! The spool: events are kept here before the caller goes on, and forgotten when the service has taken them. What it
//! cannot keep it counts; it must never make room by forgetting what nobody has taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use parking_lot::Mutex;

use crate::{
    directory::Directory,
    keeper,
    options::{Fsync, Options},
    record::Record,
    report::{Counts, Report, Totals},
    shared::{Inner, Shared},
    stock::{Finished, Stock},
    ticket::Ticket,
};

/// Events on disk until the service has taken them.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Spool {
    /// A spool that touches no file before [`Spool::start`] or the first event.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            shared: Arc::new(Shared {
                directory: Directory::new(options.directory.clone()),
                owner: Mutex::default(),
                inner: Mutex::new(Inner {
                    stock: Stock::new(),
                    scratch: Vec::new(),
                    retry_at: None,
                    is_closed: false,
                    is_refusing: false,
                    ordinal: 0,
                }),
                synced: Mutex::new(0),
                totals: Totals::default(),
                waiting: AtomicUsize::new(0),
                news: Mutex::default(),
                signal: Arc::default(),
                options,
            }),
            thread: Mutex::default(),
        }
    }

    /// Opens the files, and starts the thread, which adopts what dead processes left. May be called again.
    pub fn start(&self) {
        let mut thread = self.thread.lock();
        if thread.is_none() && !self.shared.inner.lock().is_closed {
            let mut inner = self.shared.inner.lock();
            let ready = self.shared.ready(&mut inner, 0);
            inner.is_refusing = ready.is_err();
            drop(inner);
            if let Err(refusal) = ready {
                self.shared.tell(&refusal);
            }
            *thread = keeper::start(&self.shared);
        }
    }

    /// Keeps one event, which `write` writes; `None` if that is not possible, which is counted.
    ///
    /// When this returns, the operating system has the event; see also [`Spool::wait`].
    pub fn keep(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Option<Ticket> {
        self.shared.keep(write)
    }

    /// Waits, if so configured, until everything that was kept is on the medium.
    pub fn wait(&self) {
        if self.shared.options.fsync == Fsync::Always {
            let ordinal = self.shared.inner.lock().ordinal;
            self.shared.sync(ordinal);
        }
    }

    /// Whether [`Spool::wait`] may wait.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.shared.options.fsync == Fsync::Always
    }

    /// Leaves an event to [`Spool::take_waiting`], as memory has no room for it.
    pub fn leave(&self, ticket: Ticket, length: usize) {
        let (number, at) = ticket.place();
        let record = Record {
            at,
            length,
            written_at: (self.shared.options.clock)(),
            is_done: false,
        };
        let mut inner = self.shared.inner.lock();
        inner.stock.wait(number, record);
        self.shared.count_waiting(&inner);
    }

    /// Events that are in no memory queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Relaxed)
    }

    /// Takes up to so many of them, oldest first; those that are too old are parked instead.
    pub fn take_waiting(&self, most: usize) -> Vec<(Ticket, Box<[u8]>)> {
        self.shared.take_waiting(most)
    }

    /// The service has taken these events, or refused them for good.
    pub fn delivered(&self, tickets: &mut dyn Iterator<Item = Ticket>) {
        let mut finished = Finished::default();
        let mut inner = self.shared.inner.lock();
        for ticket in tickets {
            let (number, at) = ticket.place();
            inner.stock.done(number, at, &mut finished);
        }
        drop(inner);
    }

    /// Takes over what dead processes left.
    pub fn adopt(&self) {
        self.shared.adopt();
    }

    /// What it has and has done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = self.shared.inner.lock();
        let totals = &self.shared.totals;
        Counts {
            open: inner.stock.open_records(),
            waiting: inner.stock.waiting(),
            bytes: inner.stock.bytes,
            refused: totals.refused.load(Relaxed),
            adopted: totals.adopted.load(Relaxed),
            parked: totals.parked.load(Relaxed),
            damaged: totals.damaged.load(Relaxed),
            torn: totals.torn.load(Relaxed),
        }
    }

    /// What somebody should know; notices are told once.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut news = self.shared.news.lock();
        Report {
            fault: news.fault.clone(),
            notices: std::mem::take(&mut news.notices),
        }
    }

    /// Ends, with everything on the medium that is not delivered: the next client adopts it.
    pub fn close(&self) {
        self.shared.signal.end();
        if let Some(thread) = self.thread.lock().take() {
            // It ends soon, and cannot panic with anything of ours.
            let _ = thread.join();
        }
        if self.shared.options.fsync != Fsync::Never {
            self.shared.sync(u64::MAX);
        }
        let mut inner = self.shared.inner.lock();
        inner.is_closed = true;
        let finished = inner.stock.close();
        self.shared.count_waiting(&inner);
        drop(inner);
        drop(finished);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.signal.end();
    }
}
