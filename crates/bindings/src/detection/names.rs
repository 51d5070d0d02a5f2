//! Names of attributes and globals, under a number each, and which of them the program stores at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::raw::held::Held;

/// Of more names all are taken to be stored.
const NAMES_MAX: usize = 1 << 16;

#[derive(Default)]
struct Table {
    numbers: HashMap<String, u32>,
    names: Vec<(String, &'static Held)>,
}

/// See the module.
pub struct Names {
    table: RwLock<Table>,
    stored: Box<[AtomicBool]>,
}

impl Default for Names {
    fn default() -> Names {
        let stored = (0..NAMES_MAX).map(|_| AtomicBool::new(false)).collect();
        Names { table: RwLock::default(), stored }
    }
}

impl Names {
    /// The number of a name.
    pub fn number(&self, py: Python<'_>, name: &str) -> u32 {
        if let Some(number) = self.table.read().numbers.get(name) {
            return *number;
        }
        // Names are kept for ever: code refers to them by their numbers.
        let object: &'static Held = Box::leak(Box::new(Held::of(PyString::intern(py, name).as_any())));
        let mut table = self.table.write();
        if let Some(number) = table.numbers.get(name) {
            return *number;
        }
        let number = table.names.len() as u32;
        table.names.push((name.to_owned(), object));
        table.numbers.insert(name.to_owned(), number);
        number
    }

    /// The number of a name that is only known now; nothing for a read of what nobody stores.
    pub fn dynamic(&self, name: &Bound<'_, PyAny>, stores: bool) -> Option<u32> {
        let py = name.py();
        let name = name.cast::<PyString>().ok()?.to_str().ok()?;
        if stores {
            let number = self.number(py, name);
            self.store(number);
            return Some(number);
        }
        let number = self.table.read().numbers.get(name).copied()?;
        self.is_stored(number).then_some(number)
    }

    /// The name with this number, as an object.
    pub fn object(&self, number: u32) -> Option<&'static Held> {
        self.table.read().names.get(number as usize).map(|(_, object)| *object)
    }

    /// The name with this number.
    pub fn name(&self, number: u32) -> String {
        self.table.read().names.get(number as usize).map_or_else(String::new, |(name, _)| name.clone())
    }

    /// The program stores attributes of this name.
    pub fn store(&self, number: u32) {
        if let Some(stored) = self.stored.get(number as usize) {
            stored.store(true, Relaxed);
        }
    }

    /// Does it?
    #[inline(always)]
    pub fn is_stored(&self, number: u32) -> bool {
        self.stored.get(number as usize).is_none_or(|stored| stored.load(Relaxed))
    }
}
