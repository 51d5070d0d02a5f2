//! State of one call that a method leaves on its object, for a callback of that call to find.

use facts::{Confidence, Finding, RuleInfo};

use super::Analysis;
use crate::body::{Op, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId};
use crate::types::Type;

/// A method that hooks methods of its own object into something that was passed to it, and leaves on the object what
/// they need.
pub struct PerCall {
    method: FuncId,
    hook: Val,
    /// The attributes: who stores them, and where.
    stores: Vec<(Name, FuncId, Val)>,
    /// Where a callback reads the first.
    read: (FuncId, Val),
}

impl Analysis<'_> {
    /// State of calls that methods of a class keep on the object, if there is such.
    #[must_use]
    pub fn calls_kept_on_self(&self, class: ClassId) -> Option<PerCall> {
        let mut methods: Vec<FuncId> = self.project.class_info(class).methods.values().copied().collect();
        methods.sort_unstable();
        methods.into_iter().filter(|method| !self.is_test(*method)).find_map(|method| self.per_call(method))
    }

    fn per_call(&self, method: FuncId) -> Option<PerCall> {
        if self.is_owned_by_maker(method) || self.project.function(method).params.len() < 2 {
            return None;
        }
        let body = self.body(method);
        let hooks: Vec<(Val, FuncId)> =
            body.vals().flat_map(|call| self.hooked(method, call).into_iter().map(move |func| (call, func))).collect();
        let hook = hooks.first()?.0;
        let here = self.self_reach(method);
        let mut later: Vec<FuncId> = Vec::new();
        for (_, callback) in &hooks {
            later.extend(self.self_reach(*callback));
        }
        let mut stores: Vec<(Name, FuncId, Val)> = Vec::new();
        let mut read = None;
        for func in here.iter().chain(&later) {
            for (name, store) in self.call_state(*func) {
                let used = later.iter().find_map(|later| self.read_of(*later, name).map(|val| (*later, val)));
                let known = stores.iter().any(|(known, ..)| *known == name);
                if let (Some(used), false) = (used, known) {
                    read.get_or_insert(used);
                    stores.push((name, *func, store));
                }
            }
        }
        // The method itself must leave something behind.
        let own = stores.iter().position(|(_, func, _)| *func == method)?;
        stores.swap(0, own);
        Some(PerCall { method, hook, stores, read: read? })
    }

    /// The methods of `self` that a call hooks into an object that was passed in.
    fn hooked(&self, method: FuncId, call: Val) -> Vec<FuncId> {
        let body = self.body(method);
        let Op::Call { func: target, args } = body.op(call) else { return Vec::new() };
        let Op::Attr { base, name } = body.op(target) else { return Vec::new() };
        let origin = body.origin(base);
        let on_param = matches!(body.op(origin), Op::Param(idx) if idx > 0);
        // What is kept belongs to the object, not to one call.
        let kept =
            body.vals().any(|val| matches!(body.op(val), Op::StoreAttr { value, .. } if body.origin(value) == origin));
        let registers = ["register", "add", "hook", "callback", "on", "subscribe", "connect", "listen"];
        if !on_param || kept || !name.as_str().split('_').any(|word| registers.contains(&word)) {
            return Vec::new();
        }
        let values = body.args(args).iter().filter(|arg| self.is_attr_of_self(method, arg.value));
        let bound = values.flat_map(|arg| self.types.of(method, arg.value)).filter_map(|of| match of {
            Type::Method(callback) => Some(*callback),
            _ => None,
        });
        bound.collect()
    }

    /// The attributes of `self` that a function sets to something that belongs to the call.
    fn call_state(&self, func: FuncId) -> Vec<(Name, Val)> {
        let body = self.body(func);
        let stores = body.vals().filter_map(|val| {
            let Op::StoreAttr { value, .. } = body.op(val) else { return None };
            let name = self.self_attr(func, val)?;
            let constant = matches!(body.op(body.origin(value)), Op::None | Op::Truth(_) | Op::Scalar | Op::Str(_));
            (!constant).then_some((name, val))
        });
        stores.collect()
    }

    fn read_of(&self, func: FuncId, name: Name) -> Option<Val> {
        let body = self.body(func);
        body.vals().find(|val| matches!(body.op(*val), Op::Attr { .. }) && self.self_attr(func, *val) == Some(name))
    }
}

impl PerCall {
    /// The finding, if two calls can overlap.
    #[must_use]
    pub fn finding(&self, analysis: &Analysis<'_>, rule: &'static RuleInfo) -> Option<Finding> {
        let (.., confidence) = analysis.overlap_of(self.method, self.method)?;
        let (name, func, store) = *self.stores.first()?;
        let place = format!("self.{name}");
        let message = format!("`{place}` keeps the state of one call on an object that serves many");
        let mut finding = Finding::new(rule, analysis.span(func, store), message)
            .on(place)
            .within(analysis.symbol(func))
            .also(analysis.span(self.method, self.hook), "a method of the object is called back for this call")
            .also(analysis.span(self.read.0, self.read.1), "the callback finds what the latest call has left");
        for (name, func, store) in self.stores.iter().skip(1).take(4) {
            finding = finding.also(analysis.span(*func, *store), format!("`self.{name}` is state of one call too"));
        }
        Some(finding.confidence(confidence.min(Confidence::Medium)))
    }
}
