//! Modules, classes and functions of all files, with imports resolved across files.
//!
//! Promises: every function, class and module has one dense id; a name at module level resolves to what it is bound
//! to, through imports and re-exports. What is not among the checked files is external and known by its dotted name
//! only. Modules of the standard library about which we have facts stay external even where the library itself is
//! checked.

mod resolve;

use facts::{FileId, Files, Span};
use rustc_hash::FxHashMap;

use crate::body::{Class, ClassIdx, FuncIdx, Function, FunctionKind, Module, Op, Val};
use crate::name::{self, Name};

pub use resolve::Symbol;

/// A module of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub u32);

/// A function of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FuncId(pub u32);

/// A class of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u32);

/// A store to a module-level name.
#[derive(Clone, Copy, Debug)]
pub struct GlobalStore {
    /// Where.
    pub func: FuncId,
    /// What is stored.
    pub value: Val,
}

/// A class with what it inherits.
#[derive(Clone, Debug)]
pub struct ClassInfo {
    /// Its module.
    pub module: ModuleId,
    /// Its index there.
    pub idx: ClassIdx,
    /// Bases in the project.
    pub bases: Vec<ClassId>,
    /// Dotted names of other bases.
    pub external_bases: Vec<Name>,
    /// Functions of its body by name; the last definition counts.
    pub methods: FxHashMap<Name, FuncId>,
    /// Direct subclasses in the project.
    pub subclasses: Vec<ClassId>,
    /// Itself, then its ancestors, nearest first.
    pub mro: Vec<ClassId>,
}

/// All that is checked.
pub struct Project {
    /// In the order of the files.
    pub modules: Vec<Module>,
    /// What they can be imported as.
    pub names: Vec<Name>,
    /// Is it a test, by its path?
    pub is_test: Vec<bool>,
    packages: Vec<bool>,
    paths: Vec<Vec<Name>>,
    by_suffix: FxHashMap<Name, Vec<ModuleId>>,
    func_base: Vec<u32>,
    func_module: Vec<ModuleId>,
    class_base: Vec<u32>,
    /// By [`ClassId`].
    pub classes: Vec<ClassInfo>,
    /// By module: names bound at module level, wherever the store stands.
    pub globals: Vec<FxHashMap<Name, Vec<GlobalStore>>>,
    /// By module: does it import all that another one has?
    stars: Vec<bool>,
    /// By module: what the names bound there stand for, once all is linked.
    symbols: Vec<FxHashMap<Name, Symbol>>,
    /// By module: what its imports bind, once all is linked.
    imports: Vec<Vec<Symbol>>,
    /// Methods of all classes by name.
    pub methods_by_name: FxHashMap<Name, Vec<FuncId>>,
}

/// Links the modules of a run.
#[must_use]
pub fn build(files: &Files, modules: Vec<Module>) -> Project {
    let mut project = Project::index(files, modules);
    project.collect_globals();
    project.link_classes();
    project.resolve();
    project
}

impl Project {
    fn index(files: &Files, modules: Vec<Module>) -> Self {
        let mut func_base = Vec::new();
        let mut func_module = Vec::new();
        let mut class_base = Vec::new();
        let mut class_count = 0;
        for (idx, module) in modules.iter().enumerate() {
            func_base.push(as_u32(func_module.len()));
            func_module.extend(module.functions.iter().map(|_| ModuleId(as_u32(idx))));
            class_base.push(class_count);
            class_count += as_u32(module.classes.len());
        }
        let paths: Vec<Vec<Name>> = modules.iter().map(|module| path_parts(&files.get(module.file).path)).collect();
        let packages: Vec<bool> = modules.iter().map(|module| is_init(&files.get(module.file).path)).collect();
        let shown = || modules.iter().map(|module| files.get(module.file).path.as_str());
        let above = above(shown());
        let is_test = shown().map(|path| is_test(&path[above..])).collect();
        let package_dirs: rustc_hash::FxHashSet<Vec<Name>> =
            paths.iter().zip(&packages).filter(|(_, init)| **init).map(|(path, _)| path.clone()).collect();
        let mut by_suffix: FxHashMap<Name, Vec<ModuleId>> = FxHashMap::default();
        let mut names = Vec::new();
        for (idx, path) in paths.iter().enumerate() {
            let mut best = None;
            for from in (0..path.len()).rev() {
                if from > 0 && is_package_dir(&package_dirs, &path[..from]) {
                    continue;
                }
                let dotted = join(&path[from..]);
                best.get_or_insert(dotted);
                by_suffix.entry(dotted).or_default().push(ModuleId(as_u32(idx)));
            }
            names.push(best.unwrap_or_else(|| Name::new("")));
        }
        let globals = modules.iter().map(|_| FxHashMap::default()).collect();
        Self {
            modules,
            names,
            is_test,
            packages,
            paths,
            by_suffix,
            func_base,
            func_module,
            class_base,
            classes: Vec::new(),
            globals,
            stars: Vec::new(),
            symbols: Vec::new(),
            imports: Vec::new(),
            methods_by_name: FxHashMap::default(),
        }
    }

    fn collect_globals(&mut self) {
        for id in self.function_ids().collect::<Vec<_>>() {
            let module = self.module_of(id);
            let body = &self.function(id).body;
            let stores: Vec<_> = body
                .vals()
                .filter_map(|val| match body.op(val) {
                    Op::StoreGlobal { name, value, .. } => Some((name, GlobalStore { func: id, value })),
                    _ => None,
                })
                .collect();
            for (name, store) in stores {
                self.globals[module.0 as usize].entry(name).or_default().push(store);
            }
        }
        self.stars = self.globals.iter().map(|bound| bound.contains_key(&name::STAR)).collect();
    }

    fn link_classes(&mut self) {
        for (module_idx, module) in self.modules.iter().enumerate() {
            for class_idx in 0..module.classes.len() {
                self.classes.push(ClassInfo {
                    module: ModuleId(as_u32(module_idx)),
                    idx: ClassIdx(as_u32(class_idx)),
                    bases: Vec::new(),
                    external_bases: Vec::new(),
                    methods: FxHashMap::default(),
                    subclasses: Vec::new(),
                    mro: Vec::new(),
                });
            }
        }
        for id in self.function_ids().collect::<Vec<_>>() {
            let function = self.function(id);
            let (name, kind) = (function.name, function.kind);
            if let (FunctionKind::Def, Some(idx)) = (kind, function.class) {
                let class = self.class_id(self.module_of(id), idx);
                self.classes[class.0 as usize].methods.insert(name, id);
                self.methods_by_name.entry(name).or_default().push(id);
            }
        }
        for id in self.class_ids() {
            let (bases, external) = self.bases_of(id);
            for base in &bases {
                self.classes[base.0 as usize].subclasses.push(id);
            }
            let class = &mut self.classes[id.0 as usize];
            class.bases = bases;
            class.external_bases = external;
        }
        for id in self.class_ids() {
            self.classes[id.0 as usize].mro = self.linearise(id);
        }
    }

    fn bases_of(&self, id: ClassId) -> (Vec<ClassId>, Vec<Name>) {
        let class = self.class(id);
        let module = self.classes[id.0 as usize].module;
        let scope = self.func_id(module, class.parent);
        let (mut bases, mut external) = (Vec::new(), Vec::new());
        for base in &class.bases {
            match self.symbol_of(scope, *base) {
                Some(Symbol::Class(base)) if base != id => bases.push(base),
                Some(Symbol::External(name)) => external.push(name),
                _ => external.push(Name::new("?")),
            }
        }
        (bases, external)
    }

    /// Depth first, each class once: near enough to C3 for looking up who defines what.
    fn linearise(&self, id: ClassId) -> Vec<ClassId> {
        let mut order = Vec::new();
        let mut work = vec![id];
        while let Some(class) = work.pop() {
            if order.contains(&class) || order.len() > 64 {
                continue;
            }
            order.push(class);
            work.extend(self.classes[class.0 as usize].bases.iter().rev());
        }
        order
    }

    /// All functions, module and class bodies included.
    pub fn function_ids(&self) -> impl DoubleEndedIterator<Item = FuncId> + use<> {
        (0..as_u32(self.func_module.len())).map(FuncId)
    }

    /// All classes.
    pub fn class_ids(&self) -> impl Iterator<Item = ClassId> + use<> {
        (0..as_u32(self.classes.len())).map(ClassId)
    }

    /// A function.
    #[must_use]
    pub fn function(&self, id: FuncId) -> &Function {
        let module = self.func_module[id.0 as usize];
        let idx = id.0 - self.func_base[module.0 as usize];
        &self.modules[module.0 as usize].functions[idx as usize]
    }

    /// The module of a function.
    #[must_use]
    pub fn module_of(&self, id: FuncId) -> ModuleId {
        self.func_module[id.0 as usize]
    }

    /// The id of a function of a module.
    #[must_use]
    pub fn func_id(&self, module: ModuleId, idx: FuncIdx) -> FuncId {
        FuncId(self.func_base[module.0 as usize] + idx.0)
    }

    /// The id of a function that the body of `near` names.
    #[must_use]
    pub fn sibling(&self, near: FuncId, idx: FuncIdx) -> FuncId {
        self.func_id(self.module_of(near), idx)
    }

    /// The id of a class of a module.
    #[must_use]
    pub fn class_id(&self, module: ModuleId, idx: ClassIdx) -> ClassId {
        ClassId(self.class_base[module.0 as usize] + idx.0)
    }

    /// A class.
    #[must_use]
    pub fn class(&self, id: ClassId) -> &Class {
        let info = &self.classes[id.0 as usize];
        self.modules[info.module.0 as usize].class(info.idx)
    }

    /// A class with what it inherits.
    #[must_use]
    pub fn class_info(&self, id: ClassId) -> &ClassInfo {
        &self.classes[id.0 as usize]
    }

    /// The class whose method a function is.
    #[must_use]
    pub fn class_of(&self, id: FuncId) -> Option<ClassId> {
        let function = self.function(id);
        function.class.map(|idx| self.class_id(self.module_of(id), idx))
    }

    /// The class whose `self` a function sees: its own, or that of the method it is nested in.
    #[must_use]
    pub fn method_around(&self, id: FuncId) -> Option<FuncId> {
        let mut at = id;
        loop {
            let function = self.function(at);
            if function.kind == FunctionKind::Def && function.class.is_some() {
                return Some(at);
            }
            let parent = self.sibling(at, function.parent);
            if parent == at || function.kind == FunctionKind::ClassBody {
                return None;
            }
            at = parent;
        }
    }

    /// The method that an instance of `class` has under `name`.
    #[must_use]
    pub fn method(&self, class: ClassId, name: Name) -> Option<FuncId> {
        let mro = &self.classes[class.0 as usize].mro;
        mro.iter().find_map(|at| self.classes[at.0 as usize].methods.get(&name).copied())
    }

    /// Overrides of a method in subclasses of `class`, at most `max`.
    #[must_use]
    pub fn overrides(&self, class: ClassId, name: Name, max: usize) -> Vec<FuncId> {
        let mut found = Vec::new();
        let mut work = self.classes[class.0 as usize].subclasses.clone();
        let mut steps = 0;
        while let Some(at) = work.pop() {
            steps += 1;
            if found.len() >= max || steps > 256 {
                break;
            }
            let info = &self.classes[at.0 as usize];
            found.extend(info.methods.get(&name));
            work.extend(&info.subclasses);
        }
        found
    }

    /// All ancestors outside the project, by dotted name.
    pub fn external_ancestors(&self, class: ClassId) -> impl Iterator<Item = Name> + '_ {
        self.classes[class.0 as usize]
            .mro
            .iter()
            .flat_map(|at| self.classes[at.0 as usize].external_bases.iter().copied())
    }

    /// The file of a function.
    #[must_use]
    pub fn file_of(&self, id: FuncId) -> FileId {
        self.modules[self.module_of(id).0 as usize].file
    }

    /// The text of a node.
    #[must_use]
    pub fn span(&self, func: FuncId, val: Val) -> Span {
        self.function(func).body.span(self.file_of(func), val)
    }

    /// Where a function is defined: its head.
    #[must_use]
    pub fn head(&self, id: FuncId) -> Span {
        let function = self.function(id);
        Span::new(self.file_of(id), function.start, function.head_end.max(function.start))
    }
}

fn path_parts(path: &str) -> Vec<Name> {
    let stem = path.strip_suffix(".py").or_else(|| path.strip_suffix(".pyi")).unwrap_or(path);
    let mut parts: Vec<&str> = stem.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.last() == Some(&"__init__") {
        parts.pop();
    }
    parts.into_iter().map(Name::new).collect()
}

fn is_init(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|file| file == "__init__.py")
}

/// The length of what all paths begin with, if they lead out of the current folder: that a project lies below a folder
/// `test` makes no test of it.
fn above<'a>(paths: impl Iterator<Item = &'a str>) -> usize {
    let folders = paths.map(|path| path.rfind('/').map_or("", |end| &path[..=end]));
    let shared = folders.reduce(|one, two| {
        let same = one.split_inclusive('/').zip(two.split_inclusive('/')).take_while(|(one, two)| one == two);
        &one[..same.map(|(part, _)| part.len()).sum()]
    });
    shared.filter(|folder| folder.starts_with('/') || folder.starts_with("../")).map_or(0, str::len)
}

/// Is a file a test, by its name and folders?
fn is_test(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or("");
    file.starts_with("test_")
        || file.starts_with("pytest_")
        || file.ends_with("_test.py")
        || file == "conftest.py"
        || parts.any(|part| matches!(part, "tests" | "test" | "idle_test" | "testing" | "benchmarks" | "examples_test"))
}

fn is_package_dir(dirs: &rustc_hash::FxHashSet<Vec<Name>>, dir: &[Name]) -> bool {
    dirs.contains(dir)
}

pub(crate) fn join(parts: &[Name]) -> Name {
    let texts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
    Name::new(&texts.join("."))
}

pub(crate) fn as_u32(len: usize) -> u32 {
    u32::try_from(len).expect("fewer than 2^32 functions and nodes")
}

#[cfg(test)]
mod tests {
    use super::above;

    #[test]
    fn what_lies_above_a_project_outside_the_current_folder_is_left_out() {
        let length = |paths: &[&str]| above(paths.iter().copied());
        assert_eq!(length(&["/home/test/a/b.py", "/home/test/a/c/d.py"]), "/home/test/a/".len());
        assert_eq!(length(&["../tests/ab/x.py", "../tests/ac/x.py"]), "../tests/".len());
        assert_eq!(length(&["tests/a.py", "tests/b.py"]), 0);
        assert_eq!(length(&["/a/b.py", "c.py"]), 0);
        assert_eq!(length(&[]), 0);
    }
}
