use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::events::{Billing, FlagCheck};

/// The capture service takes no more events in one request.
pub const MAX_BATCH: usize = 100;

/// Events that wait to be sent, oldest first.
#[derive(Debug)]
pub struct Queue {
    api_key: Box<str>,
    billing: Lane<Billing>,
    analytics: Lane<FlagCheck>,
    /// Whether the sender was told of a full batch and has not come for it yet.
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
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.capacity {
            drop(waiting);
            self.drop_one();
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
        // The room that one burst needed is not kept for ever.
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

/// One request's worth of events, each serialised once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    events: Vec<Box<[u8]>>,
    billing: usize,
}

impl Queue {
    /// A queue with room for this many billing events and this many flag checks.
    #[must_use]
    pub fn new(api_key: &str, max_billing: usize, max_analytics: usize) -> Self {
        Self {
            api_key: api_key.into(),
            billing: Lane::new(max_billing),
            analytics: Lane::new(max_analytics),
            told: AtomicBool::new(false),
        }
    }

    /// Queues an event that must arrive; `true` if the sender is to be woken.
    pub fn bill(&self, event: Billing) -> bool {
        self.billing.push(event) && self.is_news()
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
        self.billing.len() + self.analytics.len() >= MAX_BATCH
            && !self.told.load(Relaxed)
            && !self.told.swap(true, Relaxed)
    }

    /// Takes up to [`MAX_BATCH`] events, billing first, and serialises them.
    pub fn take_batch(&self) -> Option<Batch> {
        self.told.store(false, Relaxed);
        let billing = self.billing.take(MAX_BATCH);
        let analytics = self.analytics.take(MAX_BATCH - billing.len());
        let mut scratch = Vec::with_capacity(512);
        let mut events: Vec<Box<[u8]>> = Vec::with_capacity(billing.len() + analytics.len());
        for event in &billing {
            scratch.clear();
            event.write(&self.api_key, &mut scratch);
            events.push(scratch.as_slice().into());
        }
        for event in &analytics {
            scratch.clear();
            event.write(&self.api_key, &mut scratch);
            events.push(scratch.as_slice().into());
        }
        (!events.is_empty()).then_some(Batch {
            events,
            billing: billing.len(),
        })
    }

    /// How much waits and how much was dropped.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        QueueCounts {
            billing: self.billing.len(),
            analytics: self.analytics.len(),
            dropped_billing: self.billing.dropped.load(Relaxed),
            dropped_analytics: self.analytics.dropped.load(Relaxed),
        }
    }
}

impl Batch {
    /// The request's JSON body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        const HEAD: &[u8] = b"{\"events\":[";
        let size = self
            .events
            .iter()
            .map(|event| event.len() + 1)
            .sum::<usize>();
        let mut body = Vec::with_capacity(HEAD.len() + size + 2);
        body.extend_from_slice(HEAD);
        for (at, event) in self.events.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(event);
        }
        body.extend_from_slice(b"]}");
        body
    }

    /// How many events are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many of them are track or identify events; they come first.
    #[must_use]
    pub const fn billing(&self) -> usize {
        self.billing
    }

    /// Two halves, to find the event that the service refuses.
    #[must_use]
    pub fn split(&self) -> (Self, Self) {
        let middle = self.events.len().div_ceil(2);
        let (first, second) = self.events.split_at(middle);
        (
            Self {
                events: first.to_vec(),
                billing: self.billing.min(middle),
            },
            Self {
                events: second.to_vec(),
                billing: self.billing.saturating_sub(middle),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BATCH, Queue};
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
    fn halves_hold_every_event_once() {
        let queue = Queue::new("k", 10, 10);
        for name in ["a", "b", "c"] {
            queue.bill(track(name));
        }
        queue.record(check);
        let batch = queue.take_batch().unwrap_or_default();
        let (first, second) = batch.split();
        assert_eq!((first.len(), first.billing()), (2, 2));
        assert_eq!((second.len(), second.billing()), (2, 1));
        assert_ne!(first.body(), second.body());
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
