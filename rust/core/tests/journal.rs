//! A queue whose billing events are kept in a journal, too.

#![allow(clippy::unwrap_used, reason = "a test fails where it may")]

use std::sync::Arc;

use parking_lot::Mutex;
use schematic_core::events::{Billing, Journal, Queue, Ticket, Track};

fn track(event: &str) -> Billing {
    Billing::Track(Box::new(Track {
        event: event.into(),
        ..Track::default()
    }))
}

/// An event, until it is delivered.
type Page = Option<Box<[u8]>>;

/// A journal in memory, which keeps so many events.
#[derive(Clone, Default)]
struct Pages {
    room: usize,
    kept: Arc<Mutex<Vec<Page>>>,
    left: Arc<Mutex<Vec<Ticket>>>,
}

impl Journal for Pages {
    fn keep(&self, write: &mut dyn FnMut(&mut Vec<u8>)) -> Option<Ticket> {
        let mut out = Vec::new();
        write(&mut out);
        let mut kept = self.kept.lock();
        if kept.len() == self.room {
            return None;
        }
        kept.push(Some(out.into()));
        Ticket::new(kept.len() as u64)
    }

    fn leave(&self, ticket: Ticket, _: usize) {
        self.left.lock().push(ticket);
    }

    fn waiting(&self) -> usize {
        self.left.lock().len()
    }

    fn take_waiting(&self, most: usize) -> Vec<(Ticket, Box<[u8]>)> {
        let mut left = self.left.lock();
        let count = most.min(left.len());
        let kept = self.kept.lock();
        let text = |ticket: &Ticket| kept[usize::try_from(ticket.get()).unwrap() - 1].clone();
        left.drain(..count)
            .filter_map(|ticket| Some((ticket, text(&ticket)?)))
            .collect()
    }

    fn delivered(&self, tickets: &mut dyn Iterator<Item = Ticket>) {
        let mut kept = self.kept.lock();
        for ticket in tickets {
            kept[usize::try_from(ticket.get()).unwrap() - 1] = None;
        }
    }
}

#[test]
fn a_journal_keeps_events_until_they_are_delivered_and_sends_what_has_no_room_in_memory() {
    let pages = Pages {
        room: 3,
        ..Pages::default()
    };
    let queue = Queue::new("k", 2, 10).with_journal(Some(Box::new(pages.clone())));
    for name in ["a", "b", "c", "d"] {
        queue.bill(track(name));
    }
    let counts = queue.counts();
    assert_eq!((counts.billing, counts.dropped_billing), (3, 1));
    let first = pages.kept.lock()[0].clone().unwrap();
    assert_eq!(&*first, b"{\"type\":\"track\",\"body\":{\"event\":\"a\"}}");
    let batch = queue.take_batch().unwrap();
    let plain = Queue::new("k", 10, 10);
    for name in ["a", "b", "c"] {
        plain.bill(track(name));
    }
    assert_eq!(batch.body(), plain.take_batch().unwrap().body());
    queue.delivered(&batch);
    assert!(pages.kept.lock().iter().all(Option::is_none));
}

#[test]
fn at_the_end_a_journal_is_given_what_it_does_not_keep() {
    let pages = Pages::default();
    let queue = Queue::new("k", 10, 10).with_journal(Some(Box::new(pages.clone())));
    queue.bill(track("a"));
    let batch = queue.take_batch().unwrap();
    queue.bill(track("b"));
    assert_eq!(queue.keep_rest([&batch].into_iter()), 2);
    assert_eq!(queue.counts().billing, 0);
}
