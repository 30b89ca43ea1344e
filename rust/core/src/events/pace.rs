//! How many requests may be in flight to the service: a limit that adapts to its latency.

/// A latency this many times the best one, and longer by this much, means that requests queue up somewhere. Less may be
/// this machine's own doing: a service nearby answers in a millisecond, a busy processor makes that ten.
const GROWN: f64 = 2.0;
const GROWN_BY: f64 = 0.02;
/// The weight of the newest latency in the mean.
const NEWEST: f64 = 0.125;
/// After this many responses the best latency is taken from the later half of them: the route may have changed.
const MEMORY: u32 = 1000;
/// No process has events for more requests a second than this, and a nearby service needs few at once for them.
const ENOUGH: f64 = 5000.0;
const LOWERED: f64 = 0.75;
const HALVED: f64 = 0.5;

/// A limit on concurrent requests that grows while the service responds as fast as before and falls when it does not.
///
/// At the start it grows by one with each response, until the service first proves overloaded; from then on by one
/// with each round of responses. It is lowered once in a round, as all responses of a round tell of the same moment.
#[derive(Clone, Debug)]
pub struct Pace {
    most: f64,
    limit: f64,
    settled: bool,
    /// In seconds: the best latency that counts, the best of the responses since, and the mean.
    best: f64,
    next_best: f64,
    mean: f64,
    answers: u32,
    /// Responses still to come to requests that were sent before the limit was last lowered.
    ignored: usize,
}

impl Pace {
    /// Starts with `first` concurrent requests and never allows more than `most`.
    #[must_use]
    pub fn new(first: u16, most: u16) -> Self {
        let most = f64::from(most.max(1));
        Self {
            most,
            limit: f64::from(first.max(1)).min(most),
            settled: false,
            best: f64::INFINITY,
            next_best: f64::INFINITY,
            mean: 0.0,
            answers: 0,
            ignored: 0,
        }
    }

    /// How many requests may be in flight; at least one.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a u16"
    )]
    pub const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The service accepted a batch after this many seconds. `wanted` says that more requests would have been sent, had
    /// they been allowed.
    pub fn taken(&mut self, seconds: f64, wanted: bool) {
        self.remember(seconds);
        if self.mean > self.best.mul_add(GROWN, GROWN_BY) {
            self.lower(LOWERED);
        } else if wanted && self.limit < ENOUGH * self.mean {
            let more = if self.settled { 1.0 / self.limit } else { 1.0 };
            self.limit = (self.limit + more).min(self.most);
        }
        self.ignored = self.ignored.saturating_sub(1);
    }

    /// The service rejected the request as one too many, or did not respond.
    pub fn refused(&mut self) {
        self.lower(HALVED);
        self.ignored = self.ignored.saturating_sub(1);
    }

    fn remember(&mut self, seconds: f64) {
        self.answers += 1;
        if self.answers > MEMORY {
            (self.best, self.next_best, self.answers) = (self.next_best, f64::INFINITY, 0);
        }
        self.best = self.best.min(seconds);
        self.next_best = self.next_best.min(seconds);
        self.mean = if self.mean == 0.0 {
            seconds
        } else {
            NEWEST.mul_add(seconds - self.mean, self.mean)
        };
    }

    fn lower(&mut self, share: f64) {
        if self.ignored > 0 {
            return;
        }
        self.ignored = self.limit();
        self.settled = true;
        self.limit = (self.limit * share).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    /// Runs rounds of as many requests as are allowed, to a service whose latency depends on their number.
    fn rounds(pace: &mut Pace, count: usize, latency: impl Fn(usize) -> f64) -> Vec<usize> {
        let round = |_| {
            let limit = pace.limit();
            for _ in 0..limit {
                pace.taken(latency(limit), true);
            }
            limit
        };
        (0..count).map(round).collect()
    }

    #[test]
    fn it_doubles_until_the_most_while_the_service_keeps_up() {
        let mut pace = Pace::new(8, 64);
        assert_eq!(rounds(&mut pace, 5, |_| 0.1), [8, 16, 32, 64, 64]);
    }

    #[test]
    fn it_grows_no_further_than_a_near_service_needs() {
        let mut pace = Pace::new(8, 64);
        assert_eq!(rounds(&mut pace, 5, |_| 0.001), [8; 5]);
        assert_eq!(rounds(&mut Pace::new(8, 64), 3, |_| 0.003), [8, 15, 15]);
    }

    #[test]
    fn it_stays_where_it_is_while_no_more_is_wanted() {
        let mut pace = Pace::new(8, 64);
        for _ in 0..1000 {
            pace.taken(0.1, false);
        }
        assert_eq!(pace.limit(), 8);
    }

    #[test]
    fn it_stays_near_what_a_service_takes_that_serves_twenty_at_once() {
        let mut pace = Pace::new(8, 64);
        let latency = |limit: usize| 0.1 * f64::from(u32::try_from(limit).unwrap() / 20).max(1.0);
        rounds(&mut pace, 100, latency);
        let later = rounds(&mut pace, 200, latency);
        assert!(
            later.iter().all(|&limit| (20..=64).contains(&limit)),
            "{later:?}"
        );
    }

    #[test]
    fn the_delays_of_a_busy_machine_do_not_lower_it() {
        let mut pace = Pace::new(8, 64);
        rounds(&mut pace, 10, |_| 0.001);
        let later = rounds(&mut pace, 100, |_| 0.015);
        assert!(later.iter().all(|&limit| limit >= 8), "{later:?}");
        assert!(later.ends_with(&[64]), "{later:?}");
    }

    #[test]
    fn a_round_of_refusals_lowers_it_once() {
        let mut pace = Pace::new(8, 64);
        rounds(&mut pace, 3, |_| 0.1);
        assert_eq!(pace.limit(), 64);
        for _ in 0..64 {
            pace.refused();
        }
        assert_eq!(pace.limit(), 32);
        for _ in 0..1000 {
            pace.refused();
        }
        assert_eq!(pace.limit(), 1);
    }

    #[test]
    fn after_a_refusal_it_grows_by_one_a_round() {
        let mut pace = Pace::new(8, 64);
        pace.refused();
        assert_eq!(rounds(&mut pace, 4, |_| 0.1), [4, 4, 5, 6]);
    }

    #[test]
    fn another_way_with_a_longer_latency_is_learnt() {
        let mut pace = Pace::new(8, 64);
        rounds(&mut pace, 10, |_| 0.02);
        rounds(&mut pace, 3000, |_| 0.1);
        assert_eq!(pace.limit(), 64);
    }

    #[test]
    fn the_bounds_hold() {
        assert_eq!(Pace::new(8, 3).limit(), 3);
        assert_eq!(Pace::new(0, 0).limit(), 1);
        let mut pace = Pace::new(2, 3);
        rounds(&mut pace, 100, |_| 0.1);
        assert_eq!(pace.limit(), 3);
    }
}
