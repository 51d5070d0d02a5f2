//! What people say of their locks, as rules ask for it.

use facts::{Lock, PlaceId, Span};

use super::Analysis;
use crate::body::{FunctionKind, Op};
use crate::contexts::CallSite;
use crate::project::FuncId;

/// The lock that an annotation names for a place.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredGuard {
    /// The lock that every access holds, it says.
    pub lock: Lock,
    /// Where it says so.
    pub span: Span,
}

impl<'a> Analysis<'a> {
    /// The lock that an annotation says every access of a place holds. Each access that is not owned and does not
    /// hold it (see `Summaries::locks_at`) contradicts it.
    #[must_use]
    pub fn declared_guard(&self, place: PlaceId) -> Option<DeclaredGuard> {
        self.summaries.declared_guards.get(&place).map(|(lock, span)| DeclaredGuard { lock: *lock, span: *span })
    }

    /// The calls of functions that say which lock their callers hold, where that lock is not held: the call and the
    /// lock. Calls while the object is still being made do not count.
    pub fn unmet_requirements(&self) -> impl Iterator<Item = (&'a CallSite, Lock)> + '_ {
        self.functions().flat_map(|func| self.unmet_requirements_of(func))
    }

    fn unmet_requirements_of(&self, func: FuncId) -> Vec<(&'a CallSite, Lock)> {
        let required = &self.summaries.function(func).required;
        if required.is_empty() {
            return Vec::new();
        }
        let mut unmet = Vec::new();
        for site in &self.contexts.callers[func.0 as usize] {
            let caller = self.summaries.function(site.caller);
            let importing = self.project.function(site.caller).kind != FunctionKind::Def && site.as_value;
            let is_call = matches!(self.body(site.caller).op(site.at), Op::Call { .. } | Op::Attr { .. });
            if caller.init_only || importing || site.guessed || !is_call {
                continue;
            }
            let held = self.summaries.locks_at(site.caller, site.at);
            unmet.extend(required.iter().filter(|lock| !held.holds(lock.place)).map(|lock| (site, lock)));
        }
        unmet
    }
}
