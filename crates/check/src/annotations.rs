//! What people say about their code: comments that begin with `raceproof:`, and the same text inside
//! `typing.Annotated`.
//!
//! Promises: every claim is either understood, and then used by the later stages, or listed in
//! [`Annotations::wrong`], so that none is passed over in silence. Comments that silence findings (`allow`) have the
//! same shape and are left to the last stage.

use facts::{FileId, Files, LockKind, Span};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::body::{Annotation, Comment, FunctionKind, LocalId, Op, Val};
use crate::name::Name;
use crate::project::{ClassId, FuncId, ModuleId, Project, Symbol, as_u32};
use crate::types::{Slot, Std, Type, TypeMap};

/// The word that silences findings.
pub const ALLOW: &str = "allow";

/// A lock as a claim names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredLock {
    /// The state that holds it.
    pub slot: Slot,
    /// What it keeps apart.
    pub kind: LockKind,
    /// Where the claim stands.
    pub span: Span,
}

/// A claim that cannot be used.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// Where it stands.
    pub span: Span,
    /// Why, lower case, no full stop.
    pub message: String,
}

/// All claims of a run.
#[derive(Debug, Default)]
pub struct Annotations {
    /// The lock that every access of a place holds.
    pub guards: FxHashMap<Slot, DeclaredLock>,
    /// The locks that the callers of a function hold.
    pub required: FxHashMap<FuncId, Vec<DeclaredLock>>,
    /// Places that one thread alone touches.
    pub confined: FxHashSet<Slot>,
    /// Classes whose instances one thread alone touches.
    pub confined_classes: FxHashSet<ClassId>,
    /// Classes whose instances threads share, in order of the text.
    pub shared: Vec<(ClassId, Span)>,
    /// Classes whose documentation says that they are thread-safe.
    pub documented: Vec<(ClassId, Span)>,
    /// What could not be used, in order of the text.
    pub wrong: Vec<Wrong>,
}

impl Annotations {
    /// Does a claim say that a place holds a lock? Its kind, if so.
    #[must_use]
    pub fn lock_kind(&self, slot: Slot) -> Option<LockKind> {
        let named = self.guards.values().chain(self.required.values().flatten());
        named.filter(|lock| lock.slot == slot).map(|lock| lock.kind).next()
    }
}

/// One `raceproof: word[args] reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive<'a> {
    /// `allow`, `guarded-by`, ...
    pub word: &'a str,
    /// What stands in the brackets, at its commas; `None` without brackets.
    pub args: Option<Vec<&'a str>>,
    /// What follows, up to the next `#`.
    pub reason: &'a str,
    /// All of it.
    pub span: Span,
}

impl Directive<'_> {
    /// Is there a reason in words?
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.reason.chars().any(char::is_alphanumeric)
    }
}

/// The directives of a comment, which may hold words for other tools as well.
#[must_use]
pub fn directives<'a>(files: &'a Files, file: FileId, comment: &Comment) -> Vec<Directive<'a>> {
    let whole = files.text(Span::new(file, comment.start, comment.end));
    let mut found = Vec::new();
    let mut at = comment.start;
    for part in whole.split('#') {
        let begin = at.saturating_sub(1).max(comment.start);
        let end = at + as_u32(part.trim_end().len());
        found.extend(directive(part, Span::new(file, begin, end)));
        at += as_u32(part.len()) + 1;
    }
    found
}

fn directive(text: &str, span: Span) -> Option<Directive<'_>> {
    let rest = text.trim().strip_prefix("raceproof:")?.trim_start();
    let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_')).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(length);
    let (args, reason) = match rest.strip_prefix('[') {
        Some(inner) => {
            let close = closing(inner);
            let args = inner[..close].split(',').map(str::trim).filter(|arg| !arg.is_empty()).collect();
            (Some(args), inner.get(close + 1..).unwrap_or(""))
        }
        None => (None, rest),
    };
    Some(Directive { word, args, reason: reason.trim(), span })
}

/// Where the bracket closes that was opened before `text`; its end if it does not.
fn closing(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return at,
            ']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The line that a comment speaks of: its own, or, where it has a line to itself, that of the code that follows.
#[must_use]
pub fn line_meant(files: &Files, file: FileId, comment: &Comment) -> u32 {
    let source = files.get(file);
    let mut line = source.position(comment.start).line;
    if comment.own_line {
        line += 1;
        while source.line(line).trim_start().starts_with('#') {
            line += 1;
        }
    }
    line
}

/// Reads all claims.
#[must_use]
pub fn read(files: &Files, project: &Project, types: &TypeMap) -> Annotations {
    let mut reader = Reader { files, project, types, found: Annotations::default() };
    for (idx, module) in project.modules.iter().enumerate() {
        let id = ModuleId(as_u32(idx));
        for comment in &module.comments {
            for directive in directives(files, module.file, comment) {
                if directive.word != ALLOW {
                    reader.comment(id, line_meant(files, module.file, comment), &directive);
                }
            }
        }
    }
    for func in project.function_ids() {
        reader.annotated(func);
    }
    reader.found.documented = crate::claims::documented(files, project);
    reader.found.wrong.sort_by_key(|wrong| wrong.span);
    reader.found
}

struct Reader<'a> {
    files: &'a Files,
    project: &'a Project,
    types: &'a TypeMap,
    found: Annotations,
}

/// A place that a line assigns, as seen from a function.
type Assigned = (FuncId, Slot);

impl Reader<'_> {
    fn wrong(&mut self, span: Span, message: String) {
        self.found.wrong.push(Wrong { span, message });
    }

    fn comment(&mut self, module: ModuleId, line: u32, said: &Directive<'_>) {
        match said.word {
            "requires" => match self.function_at(module, line) {
                Some(func) => self.require(func, said),
                None => self.wrong(said.span, "`requires` does not stand on the line of a function".to_owned()),
            },
            "shared" => match self.class_at(module, line) {
                Some(class) => self.found.shared.push((class, said.span)),
                None => self.wrong(said.span, "`shared` does not stand on the line of a class".to_owned()),
            },
            "guarded-by" | "confined" => {
                let class = self.class_at(module, line).filter(|_| said.word == "confined");
                if class.is_some() {
                    self.found.confined_classes.extend(class);
                    self.explained(said);
                    return;
                }
                let assigned = self.assigned_at(module, line);
                if assigned.is_empty() {
                    self.wrong(said.span, format!("`{}` does not stand on a line that assigns something", said.word));
                }
                for place in assigned {
                    self.place(place, said);
                }
            }
            other => self.wrong(said.span, format!("there is no annotation `{other}`")),
        }
    }

    /// Claims inside `Annotated[...]`.
    fn annotated(&mut self, func: FuncId) {
        let function = self.project.function(func);
        for (node, annotation) in &function.annotations {
            for text in texts(annotation) {
                let span = self.project.span(func, *node);
                let Some(said) = directive(text, span) else { continue };
                let slots = self.slots(func, *node);
                match said.word {
                    "guarded-by" | "confined" if !slots.is_empty() => {
                        slots.into_iter().for_each(|slot| self.place((func, slot), &said));
                    }
                    word => self.wrong(span, format!("`{word}` says nothing of an attribute or variable")),
                }
            }
        }
    }

    fn place(&mut self, (func, slot): Assigned, said: &Directive<'_>) {
        if said.word == "confined" {
            self.found.confined.insert(slot);
            self.explained(said);
            return;
        }
        let Some([lock]) = self.locks(func, said).map(|locks| <[_; 1]>::try_from(locks).ok()).unwrap_or_default()
        else {
            return;
        };
        match self.found.guards.insert(slot, lock) {
            Some(other) if other.slot != lock.slot => {
                self.wrong(said.span, "another annotation names another lock for the same place".to_owned());
            }
            _ => {}
        }
    }

    fn require(&mut self, func: FuncId, said: &Directive<'_>) {
        if let Some(locks) = self.locks(func, said) {
            self.found.required.entry(func).or_default().extend(locks);
        }
    }

    fn explained(&mut self, said: &Directive<'_>) {
        if !said.is_explained() {
            self.wrong(said.span, "`confined` does not say why".to_owned());
        }
    }

    /// The locks in the brackets; `None`, and a word about it, if one of them is unknown or there is not the right
    /// number.
    fn locks(&mut self, func: FuncId, said: &Directive<'_>) -> Option<Vec<DeclaredLock>> {
        let args = said.args.clone().unwrap_or_default();
        if args.is_empty() || said.word == "guarded-by" && args.len() > 1 {
            self.wrong(said.span, format!("`{}` names one lock in brackets", said.word));
            return None;
        }
        let mut locks = Vec::new();
        for text in args {
            match self.lock(func, text) {
                Ok((slot, kind)) => locks.push(DeclaredLock { slot, kind, span: said.span }),
                Err(message) => {
                    self.wrong(said.span, message);
                    return None;
                }
            }
        }
        Some(locks)
    }
}

/// The texts for us inside an annotation.
fn texts(annotation: &Annotation) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut work = vec![annotation];
    while let Some(at) = work.pop() {
        match at {
            Annotation::Text(text) => found.push(text.as_str()),
            Annotation::Generic(_, args) | Annotation::Union(args) => work.extend(args),
            Annotation::Name(_) | Annotation::None | Annotation::Unknown => {}
        }
    }
    found
}

/// What stands on a line.
impl Reader<'_> {
    fn line(&self, module: ModuleId, offset: u32) -> u32 {
        self.files.get(self.project.modules[module.0 as usize].file).position(offset).line
    }

    fn function_at(&self, module: ModuleId, line: u32) -> Option<FuncId> {
        let functions = &self.project.modules[module.0 as usize].functions;
        let found = functions.iter().position(|function| {
            function.kind == FunctionKind::Def
                && (self.line(module, function.start)..=self.line(module, function.head_end)).contains(&line)
        });
        found.map(|idx| self.project.func_id(module, crate::body::FuncIdx(as_u32(idx))))
    }

    fn class_at(&self, module: ModuleId, line: u32) -> Option<ClassId> {
        let classes = &self.project.modules[module.0 as usize].classes;
        let found = classes
            .iter()
            .position(|class| (self.line(module, class.start)..=self.line(module, class.head_end)).contains(&line));
        found.map(|idx| self.project.class_id(module, crate::body::ClassIdx(as_u32(idx))))
    }

    /// The places that the statement on a line assigns; locals only if there is nothing else.
    fn assigned_at(&self, module: ModuleId, line: u32) -> Vec<Assigned> {
        let mut found: Vec<Assigned> = Vec::new();
        for idx in 0..self.project.modules[module.0 as usize].functions.len() {
            let func = self.project.func_id(module, crate::body::FuncIdx(as_u32(idx)));
            let function = self.project.function(func);
            let body = &function.body;
            let ends = self.line(module, function.end);
            if function.kind != FunctionKind::Module && !(self.line(module, function.start)..=ends).contains(&line) {
                continue;
            }
            for node in body.vals() {
                let value = match body.op(node) {
                    Op::StoreAttr { value, .. }
                    | Op::StoreGlobal { value, .. }
                    | Op::StoreCaptured { value, .. }
                    | Op::StoreLocal { value, .. } => value,
                    Op::Declare { .. } => node,
                    _ => continue,
                };
                if matches!(body.op(value), Op::Function(_) | Op::Class(_) | Op::Import(_)) {
                    continue;
                }
                let first = body.node(node).start;
                let last = body.node(value).end.max(body.node(node).end);
                if (self.line(module, first)..=self.line(module, last)).contains(&line) {
                    found.extend(self.slots(func, node).into_iter().map(|slot| (func, slot)));
                }
            }
        }
        let is_local = |(_, slot): &Assigned| matches!(slot, Slot::Local(..));
        if !found.iter().all(is_local) {
            found.retain(|place| !is_local(place));
        }
        found
    }

    /// The slots that a store or declaration gives a value.
    fn slots(&self, func: FuncId, node: Val) -> Vec<Slot> {
        let function = self.project.function(func);
        match function.body.op(node) {
            Op::Declare { base: None, name } => match function.kind {
                FunctionKind::Module => vec![Slot::Global(self.project.module_of(func), name)],
                FunctionKind::ClassBody => {
                    let class = self.project.class_of(func);
                    class.map(|class| self.attr(class, name)).into_iter().collect()
                }
                _ => Vec::new(),
            },
            Op::Declare { base: Some(base), name } => {
                let classes = self.types.of(func, base).iter().filter_map(|of| match of {
                    Type::Instance(class) | Type::Class(class) => Some(*class),
                    _ => None,
                });
                classes.map(|class| self.attr(class, name)).collect()
            }
            Op::StoreLocal { local, .. } if function.kind != FunctionKind::ClassBody => vec![Slot::Local(func, local)],
            _ => self.types.slots_of(self.project, func, node).into_vec(),
        }
    }

    fn attr(&self, class: ClassId, name: Name) -> Slot {
        Slot::Attr(self.types.owner(self.project, class, name), name)
    }
}

/// Locks by name.
impl Reader<'_> {
    /// The lock that `text` names, as seen from a function; an error in words.
    fn lock(&self, func: FuncId, text: &str) -> Result<(Slot, LockKind), String> {
        let unknown = || format!("there is no `{text}` here");
        let (path, is_keyed) = text.split_once('[').map_or((text, false), |(path, _)| (path, true));
        let parts: Vec<Name> = path.split('.').map(|part| Name::new(part.trim())).collect();
        let textual = Slot::Global(self.project.module_of(func), Name::new(&format!("?{path}")));
        let (mut slot, mut types) = self.first(func, parts[0]).ok_or_else(unknown)?;
        for name in &parts[1..] {
            if types.is_empty() {
                return Ok((textual, LockKind::Thread));
            }
            (slot, types) = self.member(&types, *name).ok_or_else(unknown)?;
        }
        if is_keyed {
            return Ok((textual, LockKind::Thread));
        }
        let std = types.iter().find_map(|of| self.types.std_of(self.project, *of));
        let other = |of: &Type| {
            matches!(of, Type::Plain | Type::Container(_) | Type::Module(_) | Type::Function(_) | Type::Method(_))
        };
        let is_lock = match std {
            Some(std) => std.is_thread_lock() || std.is_loop_lock(),
            None => types.is_empty() || !types.iter().all(other),
        };
        let Some(slot) = slot.filter(|_| is_lock) else { return Err(format!("`{text}` is no lock")) };
        Ok((slot, if std.is_some_and(Std::is_loop_lock) { LockKind::EventLoop } else { LockKind::Thread }))
    }

    /// What the first part of a name is.
    fn first(&self, func: FuncId, name: Name) -> Option<(Option<Slot>, Vec<Type>)> {
        let project = self.project;
        let function = project.function(func);
        let around = if function.kind == FunctionKind::ClassBody { Some(func) } else { project.method_around(func) };
        if let Some(class) = around.and_then(|func| project.class_of(func)) {
            let own = around.and_then(|func| project.function(func).params.first()).is_some_and(|own| own.name == name);
            if own || name == "self" || name == "cls" {
                return Some((None, vec![Type::Instance(class)]));
            }
            if function.kind == FunctionKind::ClassBody && self.types.has_attr(project, class, name) {
                return self.member(&[Type::Instance(class)], name);
            }
        }
        let mut at = func;
        loop {
            let function = project.function(at);
            let local = function.body.locals.iter().position(|local| *local == name);
            if let Some(local) = local.filter(|_| matches!(function.kind, FunctionKind::Def | FunctionKind::Lambda)) {
                let local = LocalId(as_u32(local));
                return Some((Some(Slot::Local(at, local)), self.local_types(at, local)));
            }
            let parent = project.sibling(at, function.parent);
            if parent == at {
                break;
            }
            at = parent;
        }
        let module = project.module_of(func);
        self.symbol(project.lookup(module, name))
    }

    fn symbol(&self, symbol: Symbol) -> Option<(Option<Slot>, Vec<Type>)> {
        match symbol {
            Symbol::Global(module, name) => {
                let slot = Slot::Global(module, name);
                Some((Some(slot), self.types.slot(slot).to_vec()))
            }
            Symbol::Class(class) => Some((None, vec![Type::Class(class)])),
            Symbol::Module(module) => Some((None, vec![Type::Module(module)])),
            _ => None,
        }
    }

    fn local_types(&self, func: FuncId, local: LocalId) -> Vec<Type> {
        let body = &self.project.function(func).body;
        let values = body.stores[local.0 as usize].iter().filter_map(|store| match body.op(*store) {
            Op::StoreLocal { value, .. } => Some(value),
            Op::Param(_) => Some(*store),
            _ => None,
        });
        values.flat_map(|value| self.types.of(func, value).to_vec()).collect()
    }

    fn member(&self, types: &[Type], name: Name) -> Option<(Option<Slot>, Vec<Type>)> {
        types.iter().find_map(|of| match *of {
            Type::Instance(class) | Type::Class(class) => {
                let inherits = self.project.external_ancestors(class).any(|base| base != "object");
                let known = inherits || self.types.has_attr(self.project, class, name);
                let slot = self.attr(class, name);
                known.then(|| (Some(slot), self.types.slot(slot).to_vec()))
            }
            Type::Module(module) => self.symbol(self.project.member(Symbol::Module(module), name)?),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use facts::{FileId, Files, Span};

    use super::{Directive, directive};
    use crate::Options;

    /// The lines with a finding of `rule`.
    fn lines(text: &str, rule: &'static str) -> Vec<u32> {
        let mut files = Files::default();
        files.add("main.py", text);
        let options = Options { select: Some(vec![rule]), ..Options::default() };
        crate::check(&files, &options).iter().map(|finding| files.start(finding.span).line).collect()
    }

    #[test]
    fn a_directive_has_a_word_arguments_and_a_reason() {
        let span = Span::new(FileId(0), 0, 0);
        let read = |text| directive(text, span);
        let expected = Directive { word: "allow", args: Some(vec!["a", "b"]), reason: "why", span };
        assert_eq!(read(" raceproof: allow[a, b] why "), Some(expected));
        let keyed = read("raceproof: requires[self._locks[key]]").and_then(|said| said.args);
        assert_eq!(keyed, Some(vec!["self._locks[key]"]));
        assert_eq!(read("noqa"), None);
        assert!(!read("raceproof: confined -- ").is_some_and(|said| said.is_explained()));
    }

    const COUNTER: &str = "class Counter:  # CLASS\n    def __init__(self, lock):\n        self._guard = lock\n        \
                           self.n = 0  # PLACE\n    def hit(self):  # HEAD\n        self.n += 1\n";

    #[test]
    fn a_class_that_is_said_to_be_shared_is_state() {
        assert_eq!(lines(COUNTER, "unlocked-increment"), [0u32; 0]);
        let shared = COUNTER.replace("CLASS", "raceproof: shared");
        assert_eq!(lines(&shared, "unlocked-increment"), [6]);
        let guarded = COUNTER.replace("PLACE", "raceproof: guarded-by[self._guard]");
        assert_eq!(lines(&guarded, "unlocked-increment"), [6]);
    }

    #[test]
    fn a_place_that_is_said_to_be_confined_is_no_state() {
        let shared = COUNTER.replace("CLASS", "raceproof: shared");
        let confined = shared.replace("PLACE", "raceproof: confined one thread");
        assert_eq!(lines(&confined, "unlocked-increment"), [0u32; 0]);
    }

    #[test]
    fn a_required_lock_counts_as_held() {
        let shared = COUNTER.replace("CLASS", "raceproof: shared");
        let required = shared.replace("HEAD", "raceproof: requires[self._guard]");
        assert_eq!(lines(&required, "unlocked-increment"), [0u32; 0]);
        assert_eq!(lines(&required, "unknown-annotation"), [0u32; 0]);
    }

    #[test]
    fn a_guard_is_believed_to_be_a_lock_whatever_its_name() {
        let text = format!("{COUNTER}    def add(self):\n        with self._guard:\n            self.n += 1\n");
        let guarded = text.replace("PLACE", "raceproof: guarded-by[self._guard]");
        let required = guarded.replace("HEAD", "raceproof: requires[self._guard]");
        assert_eq!(lines(&required, "unlocked-increment"), [0u32; 0]);
    }
}
