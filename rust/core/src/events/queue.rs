//! Events that wait for a batch.
//!
//! Recording never waits for the network. Billing events are kept in preference to records of checks, and an event is in
//! one batch at a time.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use parking_lot::Mutex;

use super::{
    event::{Billing, FlagCheck, Kept, KeptEvent, key_field},
    journal::{Journal, Ticket},
};

/// The capture service takes no more events in one request.
pub const MAX_BATCH: usize = 100;

/// Events that wait to be sent, oldest first.
pub struct Queue {
    key_field: Arc<[u8]>,
    /// A journal that keeps billing events beyond the life of the process, if there is one.
    journal: Option<Box<dyn Journal>>,
    billing: Lane<Billing>,
    analytics: Lane<FlagCheck>,
    /// Whether the sender was woken for a full batch and has not asked for another wake-up since.
    told: AtomicBool,
}

#[derive(Debug)]
struct Lane<E> {
    waiting: Mutex<VecDeque<E>>,
    /// The length, readable without the lock, so a full lane costs a new event almost nothing.
    len: AtomicUsize,
    capacity: usize,
    dropped: AtomicU64,
}

impl<E> Lane<E> {
    fn new(capacity: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            len: AtomicUsize::new(0),
            capacity,
            dropped: AtomicU64::new(0),
        }
    }

    fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    fn push(&self, event: E) -> bool {
        let has_room = self.push_if_room(event);
        if !has_room {
            self.drop_one();
        }
        has_room
    }

    fn push_if_room(&self, event: E) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.capacity {
            return false;
        }
        waiting.push_back(event);
        self.len.store(waiting.len(), Relaxed);
        true
    }

    fn take(&self, most: usize) -> Vec<E> {
        let mut waiting = self.waiting.lock();
        let count = most.min(waiting.len());
        let taken = waiting.drain(..count).collect();
        self.len.store(waiting.len(), Relaxed);
        // The memory that one burst needed is given back.
        if waiting.is_empty() && waiting.capacity() > 16 * MAX_BATCH {
            waiting.shrink_to_fit();
        }
        taken
    }
}

/// How many events wait, and how many found no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Track and identify events that wait.
    pub billing: usize,
    /// Flag checks that wait.
    pub analytics: usize,
    /// Track and identify events that were lost to a full queue.
    pub dropped_billing: u64,
    /// Flag checks that were dropped.
    pub dropped_analytics: u64,
}

/// One request's worth of events. They are written each time that they are sent, which is once unless something fails:
/// until then they take no more room than in the queue.
#[derive(Clone, Debug)]
pub struct Batch {
    key_field: Arc<[u8]>,
    billing: Vec<Billing>,
    analytics: Vec<FlagCheck>,
}

impl Queue {
    /// A queue with room for this many billing events and this many flag checks.
    #[must_use]
    pub fn new(api_key: &str, max_billing: usize, max_analytics: usize) -> Self {
        Self {
            key_field: key_field(api_key).into(),
            journal: None,
            billing: Lane::new(max_billing),
            analytics: Lane::new(max_analytics),
            told: AtomicBool::new(false),
        }
    }

    /// Has a journal keep billing events until they are delivered.
    #[must_use]
    pub fn with_journal(mut self, journal: Option<Box<dyn Journal>>) -> Self {
        self.journal = journal;
        self
    }

    /// Queues an event that must arrive; `true` if the sender is to be woken.
    pub fn bill(&self, event: Billing) -> bool {
        let is_queued = match &self.journal {
            None => self.billing.push(event),
            Some(journal) => self.keep_and_push(&**journal, event),
        };
        is_queued && self.is_news()
    }

    /// Queues an event that the journal keeps; without room for it in memory, the journal has it alone.
    #[cold]
    #[inline(never)]
    fn keep_and_push(&self, journal: &dyn Journal, event: Billing) -> bool {
        let (event, kept) = kept(journal, event);
        let Some((ticket, length)) = kept else {
            return self.billing.push(event);
        };
        let has_room = self.billing.push_if_room(event);
        if !has_room {
            journal.leave(ticket, length);
        }
        has_room
    }

    /// The service has taken these events, or refused them for good.
    pub fn delivered(&self, batch: &Batch) {
        if let Some(journal) = &self.journal {
            journal.delivered(&mut batch.billing.iter().filter_map(Billing::ticket));
        }
    }

    /// Empties the queue at the end of the client. The journal keeps the billing events, and those of these batches, that
    /// it does not keep yet; returns how many it could not keep.
    pub fn keep_rest<'a>(&self, batches: impl Iterator<Item = &'a Batch>) -> usize {
        let queued = self.billing.take(usize::MAX);
        let of_batches = batches.flat_map(|batch| batch.billing.iter());
        let all = queued.iter().chain(of_batches);
        all.filter(|event| event.ticket().is_none())
            .filter(|event| match &self.journal {
                None => true,
                Some(journal) => journal.keep(&mut |out| event.write_keyless(out)).is_none(),
            })
            .count()
    }

    /// Queues the record of a flag check, made only if there is room; `true` if the sender is to
    /// be woken.
    pub fn record(&self, check: impl FnOnce() -> FlagCheck) -> bool {
        if self.analytics.is_full() {
            self.analytics.drop_one();
            return false;
        }
        self.analytics.push(check()) && self.is_news()
    }

    fn is_news(&self) -> bool {
        self.has_full_batch() && !self.told.load(Relaxed) && !self.told.swap(true, Relaxed)
    }

    /// Takes up to [`MAX_BATCH`] events, billing first.
    pub fn take_batch(&self) -> Option<Batch> {
        self.told.store(false, Relaxed);
        self.take()
    }

    /// Takes a batch if it is a full one. The sender is busy then, and is not woken again until it asks to be.
    pub fn take_full_batch(&self) -> Option<Batch> {
        self.has_full_batch().then(|| self.take()).flatten()
    }

    /// Asks for a wake-up at the next full batch; `true` if one is waiting already.
    ///
    /// Both sides may miss an event that arrives at this very moment; the next one wakes the sender.
    pub fn expect_batch(&self) -> bool {
        self.told.swap(false, SeqCst);
        self.has_full_batch()
    }

    fn take(&self) -> Option<Batch> {
        let mut billing = self.billing.take(MAX_BATCH);
        if let Some(journal) = &self.journal {
            let rest = journal.take_waiting(MAX_BATCH - billing.len());
            billing.extend(rest.into_iter().map(read_back));
        }
        let analytics = self.analytics.take(MAX_BATCH - billing.len());
        (!billing.is_empty() || !analytics.is_empty()).then(|| Batch {
            key_field: self.key_field.clone(),
            billing,
            analytics,
        })
    }

    fn has_full_batch(&self) -> bool {
        self.billing.len() + self.analytics.len() >= MAX_BATCH
    }

    /// How much waits and how much was dropped.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        QueueCounts {
            billing: self.billing.len()
                + self.journal.as_ref().map_or(0, |journal| journal.waiting()),
            analytics: self.analytics.len(),
            dropped_billing: self.billing.dropped.load(Relaxed),
            dropped_analytics: self.analytics.dropped.load(Relaxed),
        }
    }
}

/// Has a journal keep an event; also returns its ticket and its length, if it is kept.
fn kept(journal: &dyn Journal, event: Billing) -> (Billing, Option<(Ticket, usize)>) {
    let mut length = 0;
    let ticket = journal.keep(&mut |out| {
        event.write_keyless(out);
        length = out.len();
    });
    match ticket {
        None => (event, None),
        Some(ticket) => {
            let event = KeptEvent::Queued(event);
            let kept = Billing::Kept(Box::new(Kept { ticket, event }));
            (kept, Some((ticket, length)))
        }
    }
}

fn read_back((ticket, object): (Ticket, Box<[u8]>)) -> Billing {
    let event = KeptEvent::Written(object);
    Billing::Kept(Box::new(Kept { ticket, event }))
}

impl Batch {
    /// The request's JSON body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.write(&mut body);
        body
    }

    /// Appends the request's JSON body.
    pub fn write(&self, out: &mut Vec<u8>) {
        // A little more than most events take, so that one allocation does.
        out.reserve((self.len() + 1) * 400);
        out.extend_from_slice(b"{\"events\":[");
        for event in &self.billing {
            event.write(&self.key_field, out);
        }
        for event in &self.analytics {
            event.write(&self.key_field, out);
        }
        out.pop();
        out.extend_from_slice(b"]}");
    }

    /// How many events are in it; never none.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is no empty batch")]
    pub fn len(&self) -> usize {
        self.billing.len() + self.analytics.len()
    }

    /// How many are track or identify events; those come first.
    #[must_use]
    pub fn billing(&self) -> usize {
        self.billing.len()
    }

    /// Two halves, to find the event that the service refuses; none of a single event.
    #[must_use]
    pub fn split(&self) -> Option<(Self, Self)> {
        if self.len() < 2 {
            return None;
        }
        let middle = self.len().div_ceil(2);
        let billed = middle.min(self.billing.len());
        let (first_billing, second_billing) = self.billing.split_at(billed);
        let (first, second) = self.analytics.split_at(middle - billed);
        let part = |billing: &[Billing], analytics: &[FlagCheck]| Self {
            key_field: self.key_field.clone(),
            billing: billing.to_vec(),
            analytics: analytics.to_vec(),
        };
        Some((part(first_billing, first), part(second_billing, second)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, MAX_BATCH, Queue};
    use crate::{
        engine::{FlagName, KeptReason},
        events::{Billing, FlagCheck, Track},
    };
    use serde_json::Value;
    use std::sync::Arc;

    fn track(event: &str) -> Billing {
        Billing::Track(Box::new(Track {
            event: event.into(),
            ..Track::default()
        }))
    }

    fn check() -> FlagCheck {
        FlagCheck {
            flag: Arc::new(FlagName {
                id: None,
                key: "f".into(),
            }),
            value: true,
            reason: KeptReason::Text("a \"quoted\" reason".into()),
            company: None,
            user: None,
            error: None,
            preflight: false,
        }
    }

    fn events(queue: &Queue) -> Vec<Value> {
        let body = queue
            .take_batch()
            .map(|batch| batch.body())
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        body["events"].as_array().cloned().unwrap_or_default()
    }

    #[test]
    fn analytics_never_takes_room_from_billing() {
        let queue = Queue::new("k", 3, 2);
        for _ in 0..5 {
            queue.record(check);
        }
        for name in ["a", "b", "c", "d"] {
            queue.bill(track(name));
        }
        let counts = queue.counts();
        assert_eq!((counts.billing, counts.analytics), (3, 2));
        assert_eq!((counts.dropped_billing, counts.dropped_analytics), (1, 3));
        let kinds: Vec<_> = events(&queue)
            .iter()
            .map(|event| event["type"].clone())
            .collect();
        assert_eq!(
            kinds,
            ["track", "track", "track", "flag_check", "flag_check"]
        );
    }

    #[test]
    fn a_full_batch_is_told_once_until_it_is_taken() {
        let queue = Queue::new("k", 1000, 1000);
        let told = (0..3 * MAX_BATCH)
            .filter(|_| queue.bill(track("t")))
            .count();
        assert_eq!(told, 1);
        assert_eq!(events(&queue).len(), MAX_BATCH);
        assert!(queue.bill(track("t")));
    }

    #[test]
    fn a_full_batch_is_taken_whole_or_not_at_all_and_the_next_is_told_when_it_is_expected() {
        let queue = Queue::new("k", 1000, 1000);
        let told = |count: usize| (0..count).filter(|_| queue.bill(track("t"))).count();
        assert_eq!(told(MAX_BATCH - 1), 0);
        assert!(queue.take_full_batch().is_none());
        assert_eq!(told(1), 1);
        assert_eq!(
            queue.take_full_batch().map(|batch| batch.len()),
            Some(MAX_BATCH)
        );
        assert_eq!(told(MAX_BATCH), 0, "the sender is at work");
        assert!(queue.expect_batch(), "what came meanwhile");
        assert!(queue.take_full_batch().is_some());
        assert!(!queue.expect_batch());
        assert_eq!(told(MAX_BATCH), 1);
    }

    #[test]
    fn halves_hold_every_event_once() {
        let queue = Queue::new("k", 10, 10);
        for name in ["a", "b", "c"] {
            queue.bill(track(name));
        }
        queue.record(check);
        let batch = queue.take_batch().unwrap();
        let (first, second) = batch.split().unwrap();
        assert_eq!((first.len(), first.billing()), (2, 2));
        assert_eq!((second.len(), second.billing()), (2, 1));
        let names = |batch: &Batch| {
            let body: Value = serde_json::from_slice(&batch.body()).unwrap();
            let events = body["events"].as_array().cloned().unwrap();
            let texts = events.iter().map(|event| event["body"]["event"].as_str());
            texts.map(|text| text.map(String::from)).collect::<Vec<_>>()
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(names(&first), [some("a"), some("b")]);
        assert_eq!(names(&second), [some("c"), None]);
        let (last, check) = second.split().unwrap();
        assert_eq!((last.billing(), check.billing()), (1, 0));
        assert!(check.split().is_none());
    }

    #[test]
    fn texts_are_escaped() {
        let queue = Queue::new("k\"ey", 10, 10);
        queue.record(check);
        let events = events(&queue);
        assert_eq!(events[0]["api_key"], "k\"ey");
        assert_eq!(events[0]["body"]["reason"], "a \"quoted\" reason");
    }
}
