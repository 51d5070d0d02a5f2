//! Does a number grow without end? Memory that is used and given back goes up and down; memory that leaks lifts the
//! floor.
//!
//! # The rule
//! The points of a window are parted into four quarters of equal length in time. Growth is suspected if each quarter
//! has a point and its smallest value is above the smallest of the quarter before, and if from the first floor to the
//! last it grew by at least [`Rule::share`] of the first and by at least [`Rule::least`]. A window that is not full
//! yet (shorter than [`Rule::window_s`]) says nothing.

use crate::health::Point;

const QUARTERS: usize = 4;

/// What counts as growth without end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// How far back is looked, in seconds.
    pub window_s: f64,
    /// Growth that is suspicious, as a share of the first floor.
    pub share: f64,
    /// Growth that is suspicious, in units of the metric.
    pub least: f64,
}

/// How a number grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The smallest value of the first quarter.
    pub from: f64,
    /// The smallest value of the last quarter.
    pub to: f64,
    /// Units per hour, from quarter to quarter.
    pub per_hour: f64,
}

/// Judges the points of a metric, the oldest first.
#[must_use]
pub fn growth(points: &[Point], rule: Rule) -> Option<Growth> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    if last - first < rule.window_s || rule.window_s <= 0.0 {
        return None;
    }
    let begin = last - rule.window_s;
    let mut floors = [f64::INFINITY; QUARTERS];
    for (at_s, value) in points.iter().filter(|(at_s, _)| *at_s >= begin) {
        let place = (at_s - begin) / rule.window_s * QUARTERS as f64;
        let floor = &mut floors[(place as usize).min(QUARTERS - 1)];
        *floor = floor.min(*value);
    }
    let rises = floors.windows(2).all(|pair| pair[0] < pair[1]);
    let [from, .., to] = floors;
    let gain = to - from;
    let is_suspicious = rises && to.is_finite() && gain >= rule.least && gain >= rule.share * from;
    let quarters_h = rule.window_s / 3600.0 * (QUARTERS - 1) as f64 / QUARTERS as f64;
    is_suspicious.then_some(Growth { from, to, per_hour: gain / quarters_h })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { window_s: 400.0, share: 0.1, least: 10.0 };

    fn points(value: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..=50).map(|n| f64::from(n) * 10.0).map(|at_s| (at_s, value(at_s))).collect()
    }

    #[test]
    fn a_floor_that_rises_is_suspected_and_its_pace_is_said() {
        let found = growth(&points(|at_s| 100.0 + at_s / 10.0), RULE).unwrap();
        assert_eq!((found.from, found.to), (110.0, 140.0));
        assert!((found.per_hour - 360.0).abs() < 1e-9);
    }

    #[test]
    fn a_saw_tooth_is_not_suspected_however_high_its_teeth() {
        assert_eq!(growth(&points(|at_s| 100.0 + (at_s % 90.0)), RULE), None);
    }

    #[test]
    fn a_leak_below_a_saw_tooth_is_suspected() {
        assert!(growth(&points(|at_s| 100.0 + at_s / 5.0 + (at_s % 50.0)), RULE).is_some());
    }

    #[test]
    fn a_step_that_stays_is_not_suspected() {
        assert_eq!(growth(&points(|at_s| if at_s < 250.0 { 100.0 } else { 900.0 }), RULE), None);
    }

    #[test]
    fn little_growth_and_short_windows_say_nothing() {
        assert_eq!(growth(&points(|at_s| 1e6 + at_s / 10.0), RULE), None, "less than a tenth");
        assert_eq!(growth(&points(|at_s| 10.0 + at_s / 100.0), RULE), None, "less than ten units");
        assert_eq!(growth(&points(|at_s| 100.0 + at_s)[..30], RULE), None, "not a whole window");
        assert_eq!(growth(&[], RULE), None);
    }

    #[test]
    fn a_quarter_without_points_says_nothing() {
        let mut holed = points(|at_s| 100.0 + at_s);
        holed.retain(|(at_s, _)| !(200.0..300.0).contains(at_s));
        assert_eq!(growth(&holed, RULE), None);
    }
}
