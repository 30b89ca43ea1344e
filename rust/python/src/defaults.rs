//! The core's defaults and limits as Python counts them: credits, and seconds rather than milliseconds.

use schematic_core::leases;

use crate::arguments::seconds;

pub(crate) use schematic_core::leases::{LARGEST_LEASE, LEASE_SIZE, LOW_WATER_MARK};

pub(crate) const LEASE_DURATION: f64 = seconds(leases::LEASE_DURATION);
pub(crate) const RESERVATION_TTL: f64 = seconds(leases::RESERVATION_TTL);
pub(crate) const LONGEST_TERM: f64 = seconds(leases::LONGEST_TERM);

/// The fewest units that no event can bill: it counts them in 63 bits.
pub(crate) const UNBILLABLE: f64 = 9_223_372_036_854_775_808.0;

/// More is held once less than this part of the first usage is left.
pub(crate) const HOLD_LOW: f64 = 0.25;
