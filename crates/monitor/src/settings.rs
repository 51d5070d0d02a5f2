//! The settings of this subsystem: numbers with names, bounds and defaults. They change all at once or not at all, and
//! a reader sees one whole version.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::Error;

/// One number that can be set.
#[derive(Debug)]
pub struct Setting {
    /// Its name; the unit comes last.
    pub name: &'static str,
    /// What it is if nobody sets it.
    pub default: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
    /// What it does, one line.
    pub about: &'static str,
}

const DAY_S: f64 = 86_400.0;

/// All settings.
pub const SETTINGS: &[Setting] = &[
    of("interval_s", 1.0, 0.02, 3600.0, "time between two samples"),
    of("store_interval_s", 10.0, 0.02, 3600.0, "time between two samples that are written to the store"),
    of("objects_interval_s", 30.0, 0.02, DAY_S, "time between two counts of the objects of the garbage collector"),
    of("timeout_s", 30.0, 0.001, 3600.0, "how long a call waits for the store"),
    of("long_hold_s", 1.0, 0.0001, DAY_S, "a lock that is held for longer is an incident"),
    of("loop_lag_s", 1.0, 0.001, DAY_S, "an event loop that answers later is an incident"),
    of("pool_saturated_s", 5.0, 0.01, DAY_S, "a pool whose queue is full for this long is an incident"),
    of("leak_window_s", 1800.0, 0.1, DAY_S, "how far back growth is looked for"),
    of("leak_share", 0.2, 0.0, 1000.0, "growth in the window that is suspicious, as a share of the beginning"),
    of("leak_rss_bytes", 67_108_864.0, 1.0, 1e15, "growth of memory in the window that is suspicious"),
    of("leak_objects", 100_000.0, 1.0, 1e12, "growth of the number of objects in the window that is suspicious"),
    of("correlation_window_s", 60.0, 0.0, DAY_S, "alerts of one cause that are further apart are two incidents"),
];

const fn of(name: &'static str, default: f64, least: f64, most: f64, about: &'static str) -> Setting {
    Setting { name, default, least, most, about }
}

/// All values at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// How often they were changed.
    pub version: u64,
    /// By name.
    pub by_name: BTreeMap<&'static str, f64>,
}

/// The values, for all threads.
#[derive(Debug)]
pub struct Settings {
    values: Mutex<Arc<Values>>,
}

impl Default for Settings {
    fn default() -> Self {
        let by_name = SETTINGS.iter().map(|setting| (setting.name, setting.default)).collect();
        Self { values: Mutex::new(Arc::new(Values { version: 0, by_name })) }
    }
}

impl Settings {
    /// All values at this moment.
    #[must_use]
    pub fn values(&self) -> Arc<Values> {
        Arc::clone(&self.values.lock())
    }

    /// Changes values, all of them or none; returns the new version.
    ///
    /// # Errors
    /// If a name is unknown or a value out of bounds.
    pub fn update(&self, changes: &[(String, f64)]) -> Result<u64, Error> {
        let mut checked = Vec::with_capacity(changes.len());
        for (name, value) in changes {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            let setting = setting.ok_or_else(|| Error::Refused(format!("no setting is called `{name}`")))?;
            if !(setting.least..=setting.most).contains(value) {
                let (least, most) = (setting.least, setting.most);
                return Err(Error::Refused(format!("`{name}` must be from {least} to {most}, not {value}")));
            }
            checked.push((setting.name, *value));
        }
        let mut values = self.values.lock();
        let mut next = Values::clone(&values);
        next.version += 1;
        next.by_name.extend(checked);
        let version = next.version;
        *values = Arc::new(next);
        Ok(version)
    }

    /// Takes values from variables such as `RACEPROOF_INTERVAL_S`.
    ///
    /// # Errors
    /// If one is no number or out of bounds; then nothing changes.
    pub fn read_environment(&self, variable: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        let mut changes = Vec::new();
        for setting in SETTINGS {
            let name = format!("RACEPROOF_{}", setting.name.to_ascii_uppercase());
            if let Some(text) = variable(&name) {
                let value = text.trim().parse();
                let value = value.map_err(|_| Error::Refused(format!("`{name}` is `{text}`, which is no number")))?;
                changes.push((setting.name.to_owned(), value));
            }
        }
        if !changes.is_empty() {
            self.update(&changes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, value: f64) -> (String, f64) {
        (name.to_owned(), value)
    }

    #[test]
    fn defaults_are_within_their_bounds() {
        let settings = Settings::default();
        let all: Vec<_> = SETTINGS.iter().map(|setting| change(setting.name, setting.default)).collect();
        assert_eq!(settings.update(&all), Ok(1));
    }

    #[test]
    fn changes_come_all_at_once_or_not_at_all() {
        let settings = Settings::default();
        let before = settings.values();
        assert!(settings.update(&[change("interval_s", 2.0), change("leak_share", -1.0)]).is_err());
        assert!(settings.update(&[change("interval_s", 2.0), change("other", 1.0)]).is_err());
        assert!(settings.update(&[change("interval_s", f64::NAN)]).is_err());
        assert_eq!(settings.values(), before);
        settings.update(&[change("interval_s", 2.0), change("leak_share", 0.5)]).unwrap();
        assert_eq!(settings.values().by_name["interval_s"], 2.0);
        assert_eq!(before.by_name["interval_s"], 1.0, "who has read keeps what was read");
    }

    #[test]
    fn the_environment_is_read_as_one_change() {
        let settings = Settings::default();
        let variable = |name: &str| (name == "RACEPROOF_INTERVAL_S").then(|| " 5 ".to_owned());
        settings.read_environment(variable).unwrap();
        assert_eq!(settings.values().by_name["interval_s"], 5.0);
        assert!(settings.read_environment(|_| Some("soon".to_owned())).is_err());
        assert_eq!(settings.values().version, 1);
    }

    #[test]
    fn readers_never_see_half_a_change() {
        let settings = Settings::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..2_000 {
                    let value = f64::from(n);
                    settings.update(&[change("leak_objects", value), change("leak_rss_bytes", value)]).unwrap();
                }
            });
            for _ in 0..2_000 {
                let values = settings.values();
                let (left, right) = (values.by_name["leak_objects"], values.by_name["leak_rss_bytes"]);
                assert!(left == right || values.version == 0);
            }
        });
    }
}
