//! How long threads wait for locks and hold them: histograms of nanoseconds, one pair for each name of a lock.
//!
//! The memory is bounded: after [`SERIES_MAX`] names all further ones share a series called [`OTHERS`], and no series is
//! ever given back.

use std::sync::LazyLock;
use std::time::Instant;

use crate::histogram::Histogram;
use crate::raw::guarded::Guarded;

/// How many names have a series of their own.
pub const SERIES_MAX: usize = 128;
/// The name of the series that the remaining locks share.
pub const OTHERS: &str = "(others)";

/// Stripes of a histogram, so that threads do not meet.
const STRIPES: usize = 4;

/// The two histograms of all locks of one name.
pub struct Series {
    /// The name.
    pub name: String,
    /// How long threads waited for such a lock.
    pub waits: Histogram,
    /// How long threads held one.
    pub holds: Histogram,
}

static SERIES: Guarded<Vec<&'static Series>> = Guarded::new(Vec::new());

/// The series of this name. It is made when it is first asked for.
pub fn series(name: &str) -> &'static Series {
    let find = |all: &[&'static Series], name: &str| all.iter().find(|series| series.name == name).copied();
    let find_or_room = |all: &mut Vec<_>| find(all, name).ok_or(all.len() < SERIES_MAX);
    let name = match SERIES.with(find_or_room) {
        Ok(found) => return found,
        Err(true) => name,
        Err(false) => OTHERS,
    };
    if let Some(found) = SERIES.with(|all| find(all, name)) {
        return found;
    }
    let made = Series { name: name.to_owned(), waits: Histogram::new(STRIPES), holds: Histogram::new(STRIPES) };
    let made: &'static Series = Box::leak(Box::new(made));
    // Another thread may have been faster. Then ours leaks, which can happen a few times for each name.
    SERIES.with(|all| {
        find(all, name).unwrap_or_else(|| {
            all.push(made);
            made
        })
    })
}

/// All series, in the order in which they were made.
pub fn all() -> Vec<&'static Series> {
    SERIES.with(|all| all.clone())
}

/// Nanoseconds since the first call, on a clock that never goes back.
pub fn now_ns() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed().as_nanos() as u64
}

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_share_a_series() {
        (0..SERIES_MAX).for_each(|idx| {
            series(&format!("lock {idx}"));
        });
        let late = series("one more");
        assert_eq!(late.name, OTHERS);
        assert!(std::ptr::eq(late, series("and another")));
        assert!(std::ptr::eq(series("lock 0"), series("lock 0")));
        assert!(all().len() <= SERIES_MAX + 1);
    }
}
