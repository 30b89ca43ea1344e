//! The frozen result classes, one file each: what checks answer with. They must never build a Python object
//! before it is read, so that a check does not pay for what nobody looks at.

mod check_flag_result;
mod check_result;
mod feature_entitlement;
mod field;
mod record;
mod reservation;
mod warning_tier;

pub(crate) use check_flag_result::CheckFlagResult;
pub(crate) use check_result::CheckResult;
pub(crate) use feature_entitlement::FeatureEntitlement;
pub(crate) use reservation::Reservation;
pub(crate) use warning_tier::WarningTier;
