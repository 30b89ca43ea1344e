//! The open holds of one shard, found by id or by expiry.
//!
//! A hold is taken out once, so it ends once.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    Millis,
    leases::{Credits, Reservation, ReservationId, SlabId},
};

/// Holds by id and by expiry.
///
/// Those that lapse in the same second form a doubly linked list through their rows, so adding and
/// ending one costs the same whatever the number of open holds, and a sweep visits only what is due.
#[derive(Debug)]
pub(super) struct Holds {
    rows: Vec<Row>,
    free: Vec<u32>,
    by_id: HashTable<u32>,
    due: BTreeMap<Millis, u32>,
    /// The wall clock, when it was last seen.
    wall: Millis,
    /// The wall clock, when the clocks were last compared.
    compared_at: Millis,
    /// Whether it was seen to go back since the clocks were last compared.
    has_gone_back: bool,
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            free: Vec::new(),
            by_id: HashTable::new(),
            due: BTreeMap::new(),
            wall: Millis::MIN,
            compared_at: Millis::MIN,
            has_gone_back: false,
        }
    }
}

#[derive(Debug)]
struct Row {
    hold: Option<Hold>,
    /// The second in which the hold lapses.
    second: Millis,
    before: u32,
    after: u32,
    /// The wall clock when the hold was added.
    added_at: Millis,
    /// Whether the wall clock had gone back by a step that is still to be made up for.
    is_after_step: bool,
}

/// One open hold.
#[derive(Debug)]
pub(super) struct Hold {
    pub reservation: Arc<Reservation>,
    /// What was debited, exactly.
    pub credits: Credits,
    /// The index of its slot in the shard.
    pub slot: u32,
    /// The slab it was carved from.
    pub slab: Option<SlabId>,
    /// When it lapses, by the clock that this ledger's holds go by.
    pub lapses_at: Millis,
}

impl Hold {
    /// Credits used of it, within what it holds.
    pub fn within(&self, used: f64) -> Credits {
        Credits::new(used.max(0.0))
            .unwrap_or(self.credits)
            .min(self.credits)
    }
}

const NONE: u32 = u32::MAX;

impl Holds {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.rows.iter().filter_map(|row| row.hold.as_ref())
    }

    pub fn contains(&self, id: &ReservationId) -> bool {
        self.find(id).is_some()
    }

    fn find(&self, id: &ReservationId) -> Option<u32> {
        let rows = &self.rows;
        self.by_id
            .find(id.hash(), |&at| rows[at as usize].is(id))
            .copied()
    }

    /// Adds a hold; `false` if its id is taken, and then nothing changes.
    pub fn add(&mut self, hold: Hold) -> bool {
        let id = &hold.reservation.id;
        let (hash, second) = (id.hash(), second_of(hold.lapses_at));
        let rows = &self.rows;
        let is_it = |&at: &u32| rows[at as usize].is(id);
        let Entry::Vacant(place) = self
            .by_id
            .entry(hash, is_it, |&at| rows[at as usize].hash())
        else {
            return false;
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row::EMPTY);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "four billion holds do not fit in memory"
            )]
            let at = (self.rows.len() - 1) as u32;
            at
        });
        self.rows[at as usize] = Row {
            hold: Some(hold),
            second,
            before: NONE,
            after: NONE,
            added_at: self.wall,
            is_after_step: self.has_gone_back,
        };
        place.insert(at);
        self.link(at, second);
        true
    }

    /// Puts a row at the head of the list of its second.
    fn link(&mut self, at: u32, second: Millis) {
        let head = self.due.entry(second).or_insert(NONE);
        let after = std::mem::replace(head, at);
        if after != NONE {
            self.rows[after as usize].before = at;
        }
        let row = &mut self.rows[at as usize];
        (row.second, row.before, row.after) = (second, NONE, after);
    }

    /// Takes a hold out, so that nobody else can end it.
    pub fn take(&mut self, id: &ReservationId) -> Option<Hold> {
        let rows = &self.rows;
        let entry = self
            .by_id
            .find_entry(id.hash(), |&at| rows[at as usize].is(id))
            .ok()?;
        let (at, _) = entry.remove();
        self.unlink(at)
    }

    fn unlink(&mut self, at: u32) -> Option<Hold> {
        let row = std::mem::replace(&mut self.rows[at as usize], Row::EMPTY);
        self.free.push(at);
        if row.after != NONE {
            self.rows[row.after as usize].before = row.before;
        }
        if row.before != NONE {
            self.rows[row.before as usize].after = row.after;
        } else if row.after != NONE {
            self.due.insert(row.second, row.after);
        } else {
            self.due.remove(&row.second);
        }
        row.hold
    }

    /// Notes the wall clock before a hold is added: one that has gone back was set.
    pub fn see(&mut self, wall: Millis) {
        self.has_gone_back |= wall < self.wall;
        self.wall = wall;
    }

    /// Moves the end of the holds by the whole seconds that the wall clock was set by, if they go by it.
    ///
    /// Those that were added after it was set back have their right end already. Of some nobody knows: they
    /// stay as they are, for to last too long does no harm, and to lapse too early would.
    pub fn compared(&mut self, step: Millis, wall: Millis) {
        let was_noticed = std::mem::replace(&mut self.has_gone_back, false);
        let before = std::mem::replace(&mut self.compared_at, wall);
        self.wall = wall;
        if step == 0 && !was_noticed {
            return;
        }
        self.due.clear();
        for at in 0..self.rows.len() {
            let row = &mut self.rows[at];
            let is_after_step = std::mem::replace(&mut row.is_after_step, false)
                || (before..=wall).contains(&row.added_at);
            let Some(hold) = &mut row.hold else {
                continue;
            };
            if step >= 0 || !is_after_step {
                hold.lapses_at = hold.lapses_at.saturating_add(step.saturating_mul(1000));
            }
            let second = second_of(hold.lapses_at);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "rows are numbered by u32, see add"
            )]
            self.link(at as u32, second);
        }
    }

    /// Takes every hold that has lapsed at `now`.
    pub fn take_lapsed(&mut self, now: Millis) -> Vec<Hold> {
        let mut lapsed = Vec::new();
        for (_, &head) in self.due.range(..=second_of(now)) {
            let mut at = head;
            while at != NONE {
                let row = &self.rows[at as usize];
                if row.lapses_at() <= now {
                    lapsed.push(at);
                }
                at = row.after;
            }
        }
        lapsed
            .into_iter()
            .filter_map(|at| {
                let hash = self.rows[at as usize].hash();
                if let Ok(entry) = self.by_id.find_entry(hash, |&other| other == at) {
                    entry.remove();
                }
                self.unlink(at)
            })
            .collect()
    }
}

impl Row {
    const EMPTY: Self = Self {
        hold: None,
        second: 0,
        before: NONE,
        after: NONE,
        added_at: Millis::MIN,
        is_after_step: false,
    };

    fn is(&self, id: &ReservationId) -> bool {
        self.hold
            .as_ref()
            .is_some_and(|hold| hold.reservation.id == *id)
    }

    fn hash(&self) -> u64 {
        self.hold
            .as_ref()
            .map_or(0, |hold| hold.reservation.id.hash())
    }

    fn lapses_at(&self) -> Millis {
        self.hold
            .as_ref()
            .map_or(Millis::MAX, |hold| hold.lapses_at)
    }
}

const fn second_of(instant: Millis) -> Millis {
    instant.div_euclid(1000)
}
