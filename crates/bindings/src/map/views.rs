//! The views of a map: what `keys()`, `values()` and `items()` return. They show the map as it is when they are asked.

use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::{PySet, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::{Answer, MapIterator, Part, map};

/// A view with what all of them have, and the methods that are given.
macro_rules! view {
    ($(#[$doc:meta])* $view:ident, $part:expr, { $($methods:tt)* }) => {
        $(#[$doc])*
        #[pyclass(frozen, module = "raceproof")]
        pub struct $view {
            map: Py<PyAny>,
        }

        impl $view {
            /// The view of a map.
            pub fn of<'py>(map: &Bound<'py, PyAny>) -> Answer<'py> {
                Ok(Bound::new(map.py(), $view { map: map.clone().unbind() })?.into_any())
            }

            fn members<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
                Bound::new(py, self.__iter__(py))?.try_iter()?.collect()
            }
        }

        #[pymethods]
        impl $view {
            fn __iter__(&self, py: Python<'_>) -> MapIterator {
                MapIterator::new(self.map.bind(py), $part)
            }

            fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
                self.map.bind(py).len()
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let members = self.members(py)?;
                let texts = members.iter().map(|member| Ok(member.repr()?.to_string())).collect::<PyResult<Vec<_>>>()?;
                Ok(format!("{}([{}])", stringify!($view), texts.join(", ")))
            }

            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                visit.call(&self.map)
            }

            $($methods)*
        }
    };
}

/// A view whose members are a set.
macro_rules! set_view {
    ($(#[$doc:meta])* $view:ident, $part:expr, { $($methods:tt)* }) => {
        view! { $(#[$doc])* $view, $part, {
            fn __richcmp__<'py>(&self, other: &Bound<'py, PyAny>, operator: CompareOp) -> Answer<'py> {
                let py = other.py();
                if !other.is_instance(&py.import("collections.abc")?.getattr("Set")?)? {
                    return Ok(py.NotImplemented().into_bound(py));
                }
                self.set(py)?.rich_compare(PySet::new(py, other.try_iter()?.collect::<PyResult<Vec<_>>>()?)?, operator)
            }

            fn __and__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.set(other.py())?.call_method1("intersection", (other,))
            }

            fn __rand__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.__and__(other)
            }

            fn __or__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.set(other.py())?.call_method1("union", (other,))
            }

            fn __ror__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.__or__(other)
            }

            fn __xor__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.set(other.py())?.call_method1("symmetric_difference", (other,))
            }

            fn __rxor__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.__xor__(other)
            }

            fn __sub__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.set(other.py())?.call_method1("difference", (other,))
            }

            fn __rsub__<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                let set = other.py().get_type::<PySet>().call1((other,))?;
                set.call_method1("difference", (self.set(other.py())?,))
            }

            /// Has the other iterable no member of this view?
            #[pyo3(signature = (other, /))]
            fn isdisjoint<'py>(&self, other: &Bound<'py, PyAny>) -> Answer<'py> {
                self.set(other.py())?.call_method1("isdisjoint", (other,))
            }

            $($methods)*
        } }

        impl $view {
            fn set<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
                PySet::new(py, self.members(py)?)
            }
        }
    };
}

set_view! {
    /// The keys of a map.
    MapKeys, Part::Key, {
        fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
            self.map.bind(key.py()).contains(key)
        }
    }
}

set_view! {
    /// The pairs of key and value of a map.
    MapItems, Part::Item, {
        fn __contains__(&self, item: &Bound<'_, PyAny>) -> PyResult<bool> {
            let Ok(pair) = item.cast::<PyTuple>() else { return Ok(false) };
            let Ok((key, value)) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() else { return Ok(false) };
            match map(self.map.bind(item.py()))?.get(&key)? {
                Some(stored) => Ok(stored.is(&value) || stored.eq(value)?),
                None => Ok(false),
            }
        }
    }
}

view! {
    /// The values of a map.
    MapValues, Part::Value, {
        fn __contains__(&self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
            for member in self.members(value.py())? {
                if member.is(value) || member.eq(value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
