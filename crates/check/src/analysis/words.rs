//! Findings in words: places, locks, both sides of a race, and why they can overlap.

use facts::{Action, CallStep, Evidence, Finding, GuardVote, Path, RuleInfo};

use super::{Analysis, Guard, Rival, Stretch};
use crate::body::{FunctionKind, Op, Val};
use crate::contexts::{EntryKind, Reason};
use crate::project::FuncId;
use crate::summary::{Access, Touch, changes_first};
use crate::types::{Slot, Type};

/// How many accesses beside the rival are shown.
const OTHERS_MAX: usize = 3;

pub(super) fn place(analysis: &Analysis<'_>, func: FuncId, val: Val, slot: Slot) -> String {
    let body = analysis.body(func);
    if let (Op::Attr { base, name } | Op::StoreAttr { base, name, .. } | Op::DelAttr { base, name }, Slot::Attr(..)) =
        (body.op(val), slot)
        && let Op::Local(local) = body.op(base)
        && local.0 == 0
        && analysis.project.class_of(func).is_some()
    {
        return format!("{}.{name}", body.locals[0]);
    }
    self::slot(analysis, slot, func)
}

pub(super) fn slot(analysis: &Analysis<'_>, slot: Slot, seen_from: FuncId) -> String {
    match slot {
        Slot::Global(_, name) => name.as_str().trim_start_matches('?').to_owned(),
        Slot::Attr(class, name) => {
            let method = analysis.project.method_around(seen_from);
            let own = method.and_then(|method| analysis.project.class_of(method));
            let related = own.is_some_and(|own| analysis.project.class_info(own).mro.contains(&class));
            let on_class = is_class_attribute(analysis, slot);
            if related && !on_class {
                format!("self.{name}")
            } else {
                format!("{}.{name}", analysis.project.class(class).name)
            }
        }
        Slot::Local(func, local) => analysis.body(func).locals[local.0 as usize].to_string(),
    }
}

/// Is the attribute made by the class body or through the class?
pub(super) fn is_class_attribute(analysis: &Analysis<'_>, slot: Slot) -> bool {
    let Some(place) = analysis.summaries.places.get(&slot) else { return false };
    let mut on_class = false;
    for access in analysis.accesses(*place) {
        match (access.touch, analysis.body(access.func).op(access.val)) {
            (Touch::Store(_) | Touch::Update(_), Op::StoreAttr { base, .. }) => {
                let through_class = analysis.types.of(access.func, base).iter().any(|of| matches!(of, Type::Class(_)));
                if !through_class {
                    return false;
                }
                on_class = true;
            }
            (_, Op::StoreLocal { .. }) => on_class = true,
            _ => {}
        }
    }
    on_class
}

fn doing(analysis: &Analysis<'_>, access: &Access) -> String {
    let place = analysis.place_name(access);
    match access.touch {
        Touch::Load | Touch::Member => format!("reads `{place}`"),
        Touch::Store(value) if matches!(analysis.body(access.func).op(value), Op::None) => {
            format!("sets `{place}` to None")
        }
        Touch::Store(_) => format!("assigns `{place}`"),
        Touch::Update(_) => format!("reads `{place}` and writes it back"),
        Touch::Delete => format!("deletes `{place}`"),
        Touch::ItemLoad => format!("reads an item of `{place}`"),
        Touch::ItemStore => format!("stores an item of `{place}`"),
        Touch::ItemUpdate => format!("reads an item of `{place}` and writes it back"),
        Touch::ItemDelete => format!("deletes an item of `{place}`"),
        Touch::Contains => format!("tests membership in `{place}`"),
        Touch::Len => format!("takes the length of `{place}`"),
        Touch::Iterate => format!("iterates over `{place}`"),
        Touch::Snapshot => format!("copies `{place}`"),
        Touch::Method(name) if changes_first(name.as_str()) => format!("calls `{name}()` on `{place}`"),
        Touch::Method(name) => format!("calls `{place}.{name}()`"),
        Touch::Escape => format!("hands out `{place}`"),
    }
}

impl Analysis<'_> {
    /// What an access does, as "reads `self.x`".
    #[must_use]
    pub fn doing(&self, access: &Access) -> String {
        doing(self, access)
    }

    /// What meets in a race: two tasks of a loop, or two threads.
    #[must_use]
    pub fn who(&self, rival: &Rival<'_>) -> &'static str {
        let on_loop = |group: usize| self.contexts.groups[group].thread(group).on_event_loop;
        if on_loop(rival.our_group) && on_loop(rival.their_group) { "task" } else { "thread" }
    }

    /// A finding about a race: the access, the rival, and others that can come in between as related spans.
    #[must_use]
    pub fn race(
        &self,
        info: &'static RuleInfo,
        access: &Access,
        ours: Stretch,
        rival: &Rival<'_>,
        message: String,
        order: Vec<String>,
    ) -> Finding {
        let other = rival.access;
        let mut evidence = self.evidence(ours, doing(self, access), rival, self.guard(access.place), order);
        // The stretch of a walk ends with the last step of its loop; readers look for its beginning.
        if let Evidence::Possible { paths, .. } = &mut evidence {
            paths[0].span = self.span(access.func, access.act);
        }
        let mut finding = Finding::new(info, self.span(access.func, access.act), message)
            .on(self.place_name(access))
            .within(self.symbol(access.func))
            .also(self.span(other.func, other.act), format!("another {} {} here", self.who(rival), doing(self, other)))
            .confidence(rival.confidence)
            .because(evidence);
        let own = self.span(access.func, access.act);
        let more =
            self.accesses(access.place).filter(|more| !more.owned && super::is_write(more) && more.act != other.act);
        let mut n_more = 0;
        for more in more {
            let span = self.span(more.func, more.act);
            if n_more == OTHERS_MAX {
                break;
            }
            if span == own || !self.meets(ours, Action::Update, more) {
                continue;
            }
            n_more += 1;
            finding = finding.also(span, format!("or {} here", doing(self, more)));
        }
        finding
    }

    /// Both sides of a race: call paths, locks, why they overlap, the guard's vote, and one bad order.
    #[must_use]
    pub fn evidence(
        &self,
        ours: Stretch,
        our_action: String,
        rival: &Rival<'_>,
        guard: Option<Guard>,
        order: Vec<String>,
    ) -> Evidence {
        let other = rival.access;
        let mine = self.side_in_words(rival.our_group, ours.func, ours.to, our_action, self.locks_over(ours));
        let their_locks = self.summaries.locks_at(other.func, other.act);
        let theirs = self.side_in_words(rival.their_group, other.func, other.act, doing(self, other), their_locks);
        let vote = guard.map(|guard| GuardVote {
            lock: self.name_of(guard.lock.place, ours.func),
            with: guard.with,
            without: guard.without,
        });
        let overlap = self.overlap(rival.our_group, rival.their_group, other);
        Evidence::Possible { paths: vec![mine, theirs], overlap, vote, order }
    }

    fn side_in_words(&self, group: usize, func: FuncId, at: Val, action: String, locks: facts::LockSet) -> Path {
        let path = self.contexts.path(group, func);
        let calls = path
            .iter()
            .map(|(func, call)| CallStep {
                function: self.shown(*func),
                span: call.map_or_else(|| self.project.head(*func), |(caller, at)| self.span(caller, at)),
            })
            .collect();
        let first = path.first().map_or(func, |(first, _)| *first);
        Path {
            thread: self.entry_in_words(group, first),
            calls,
            locks: locks.iter().map(|lock| self.name_of(lock.place, func)).collect(),
            span: self.span(func, at),
            action,
        }
    }

    fn shown(&self, func: FuncId) -> String {
        match self.symbol(func) {
            "" => "<module>".to_owned(),
            name => name.to_owned(),
        }
    }

    /// An entry point in words.
    #[must_use]
    pub fn entry_in_words(&self, group: usize, func: FuncId) -> String {
        let name = self.shown(func);
        match self.contexts.groups[group].kind {
            EntryKind::Main => "the main thread".to_owned(),
            EntryKind::Thread => format!("a thread that runs `{name}`"),
            EntryKind::Pool => format!("a pool thread that runs `{name}`"),
            EntryKind::Handler => format!("a server thread that runs the handler `{name}`"),
            EntryKind::Task => format!("a task of the event loop that runs `{name}`"),
            EntryKind::Finalizer => format!("the finalizer `{name}`, at any allocation on any thread"),
            EntryKind::Hook => format!("the hook `{name}`"),
            EntryKind::Api => format!("any thread that calls `{name}`"),
            EntryKind::AsyncApi => format!("a task that awaits `{name}`"),
        }
    }

    fn overlap(&self, ours: usize, theirs: usize, other: &Access) -> String {
        let (one, two) = (&self.contexts.groups[ours], &self.contexts.groups[theirs]);
        let threads = match (ours == theirs, one.kind) {
            (true, EntryKind::Api) => "two threads can call in at once".to_owned(),
            (true, EntryKind::AsyncApi) => "two tasks can await it at once".to_owned(),
            (true, EntryKind::Handler) => "a server runs its handlers on several threads".to_owned(),
            (true, EntryKind::Pool) => "a pool runs it on several threads".to_owned(),
            (true, EntryKind::Task) => "two tasks can take turns at an await".to_owned(),
            (true, _) => "several such threads can run at once".to_owned(),
            (false, _) if one.thread(ours).same_loop(two.thread(theirs)) => {
                "two tasks can take turns at an await".to_owned()
            }
            (false, _) => match (one.kind, two.kind) {
                (EntryKind::Finalizer, _) | (_, EntryKind::Finalizer) => {
                    "finalizers run in the middle of other code".to_owned()
                }
                _ if one.thread(ours).same_loop(two.thread(theirs)) => {
                    "two tasks can take turns at an await".to_owned()
                }
                _ => "the two run on different threads".to_owned(),
            },
        };
        match self.sharing(other.place) {
            Some(sharing) => format!("{threads}; {}", self.reason_in_words(sharing.reason)),
            None => threads,
        }
    }

    /// Why instances of a class are shared.
    #[must_use]
    pub fn reason_in_words(&self, reason: Reason) -> String {
        match reason {
            Reason::Configured => "the configuration says that instances are shared".to_owned(),
            Reason::Declared => "an annotation says that instances are shared".to_owned(),
            Reason::Documented => "its documentation says that it is thread-safe".to_owned(),
            Reason::HandsOut => "the object hands its own methods to threads or tasks".to_owned(),
            Reason::OwnsThread => "the object owns a thread".to_owned(),
            Reason::OwnsLock => "the object owns a lock, so it is meant for several threads".to_owned(),
            Reason::HoldsGuarded => {
                "the object holds a container with a lock of its own, so it is meant for several threads".to_owned()
            }
            Reason::OwnsLoopLock => "the object owns a lock for tasks, so it is meant for several of them".to_owned(),
            Reason::Global => "an instance is stored in a module global".to_owned(),
            Reason::ClassAttribute => "an instance is stored in a class attribute".to_owned(),
            Reason::Metaclass => "its instances are classes, which all threads share".to_owned(),
            Reason::Descriptor => "one descriptor serves all instances".to_owned(),
            Reason::Held(class) => {
                format!("the object is held by a shared `{}`", self.project.class(class).name)
            }
        }
    }

    /// The name of the class a method belongs to, for messages.
    #[must_use]
    pub fn kind_of(&self, func: FuncId) -> FunctionKind {
        self.project.function(func).kind
    }
}
