//! Records that no memory queue has, read back to be sent. What is too old is parked: the service may have forgotten its
//! key, and would bill it twice.

use std::sync::atomic::Ordering::Relaxed;

use crate::{record::Record, rejects, shared::Shared, stock::Finished, ticket::Ticket};

impl Shared {
    /// Takes up to so many, oldest first.
    pub fn take_waiting(&self, most: usize) -> Vec<(Ticket, Box<[u8]>)> {
        let oldest = (self.options.clock)() - self.options.longest_wait;
        let (mut taken, mut late) = (Vec::new(), Vec::new());
        let mut inner = self.inner.lock();
        while taken.len() < most
            && late.len() < most
            && let Some((number, record, payload)) = inner.stock.take_waiting()
        {
            match payload {
                Some(payload) if record.written_at < oldest => late.push((number, record, payload)),
                Some(payload) => match u32::try_from(record.at) {
                    Ok(at) => taken.push((Ticket::new(number, at), payload)),
                    Err(_) => self.note("a record is out of reach".into()),
                },
                // Its bytes stay where they are, for the next client to put away.
                None => self.note("a record was damaged while it waited".into()),
            }
        }
        self.count_waiting(&inner);
        drop(inner);
        self.park(late);
        taken
    }

    fn park(&self, late: Vec<(u32, Record, Box<[u8]>)>) {
        if late.is_empty() {
            return;
        }
        let owner = self.owner.lock().clone();
        let places: Vec<_> = late
            .iter()
            .map(|(number, record, _)| (*number, record.at))
            .collect();
        let records: Vec<_> = late
            .into_iter()
            .map(|(_, record, payload)| (record.written_at, payload))
            .collect();
        if let Err(error) = rejects::park(&self.directory, &owner, &records) {
            // They stay in their segments, not done: the next client tries again.
            self.note(format!(
                "events too old to be sent cannot be parked: {error}"
            ));
            return;
        }
        self.totals.parked.fetch_add(records.len() as u64, Relaxed);
        self.note(format!(
            "{} events are too old to be sent, as the service may have forgotten their keys: they are in \
             {owner}.parked.jsonl",
            records.len()
        ));
        let mut finished = Finished::default();
        let mut inner = self.inner.lock();
        for (number, at) in places {
            inner.stock.done(number, at, &mut finished);
        }
        drop(inner);
    }
}
