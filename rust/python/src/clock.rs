//! The system's clocks.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use schematic_core::Millis;

/// Milliseconds since the Unix epoch. An administrator or a time service may make it step.
pub(crate) fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        let seconds = Millis::try_from(since.as_secs()).unwrap_or(Millis::MAX);
        seconds
            .saturating_mul(1000)
            .saturating_add(Millis::from(since.subsec_millis()))
    })
}

/// Milliseconds by a clock that never steps and goes on while the machine is suspended.
///
/// The standard library's stands still then on Linux.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn steady() -> Millis {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[allow(
        unsafe_code,
        reason = "the system fills in what it was handed, a value of its own type"
    )]
    // SAFETY: `now` is a valid timespec that outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    if status != 0 {
        return since_first();
    }
    #[allow(
        clippy::useless_conversion,
        reason = "the types of a timespec depend on the target"
    )]
    let (seconds, nanos) = (Millis::from(now.tv_sec), Millis::from(now.tv_nsec));
    seconds
        .saturating_mul(1000)
        .saturating_add(nanos / 1_000_000)
}

/// Milliseconds by a clock that never steps.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn steady() -> Millis {
    since_first()
}

/// Seconds by a clock that never goes back; it may stand still while the machine is suspended.
pub(crate) fn monotonic() -> f64 {
    elapsed().as_secs_f64()
}

fn since_first() -> Millis {
    Millis::try_from(elapsed().as_millis()).unwrap_or(Millis::MAX)
}

fn elapsed() -> Duration {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}
