//! Which files are looked at: walks folders, honours `.gitignore`, and gives a sorted list.
//!
//! It promises the same list for the same tree, and to end: links are not followed, so that a loop of links does no
//! harm. What was asked for by name is looked at even where a folder walk would have left it out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{DirEntry, WalkBuilder, WalkState};

use crate::error::Error;

/// Folders that hold no code of the project's own.
const SKIPPED_FOLDERS: &[&str] = &[
    ".bzr",
    ".direnv",
    ".eggs",
    ".git",
    ".hg",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".nox",
    ".pyenv",
    ".pytest_cache",
    ".pytype",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    ".vscode",
    "__pycache__",
    "__pypackages__",
    "buck-out",
    "node_modules",
    "site-packages",
    "venv",
];

/// Folders that hold results of a build, unless they are packages (`__init__.py` in them).
const BUILD_FOLDERS: &[&str] = &["_build", "build", "dist"];

/// Globs of the configuration, relative to the folder that it stands in.
#[derive(Debug)]
pub struct Globs {
    root: PathBuf,
    globs: Gitignore,
}

impl Globs {
    /// Reads globs as `.gitignore` does: without a `/` they match at any depth.
    ///
    /// # Errors
    /// If one of them is no glob.
    pub fn new<'a>(root: &Path, globs: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut builder = GitignoreBuilder::new("");
        for glob in globs {
            builder.add_line(None, glob).map_err(|cause| Error::new(format!("`{glob}` is no glob")).because(cause))?;
        }
        let globs = builder.build().map_err(|cause| Error::new("the globs cannot be used together").because(cause))?;
        Ok(Self { root: absolute(root), globs })
    }

    /// Does a glob match the path, or a folder that it lies in?
    #[must_use]
    pub fn matches(&self, path: &Path, is_folder: bool) -> bool {
        let path = absolute(path);
        match path.strip_prefix(&self.root) {
            Ok(below) if !self.globs.is_empty() && !below.as_os_str().is_empty() => {
                self.globs.matched_path_or_any_parents(below, is_folder).is_ignore()
            }
            _ => false,
        }
    }
}

/// What a walk is told.
#[derive(Debug, Default)]
pub struct Wanted {
    /// If there are any, only files that match.
    pub include: Option<Globs>,
    /// Not these.
    pub exclude: Option<Globs>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Discovered {
    /// Files to read: the path as shown, and the path to open. Sorted, each once.
    pub files: BTreeMap<String, PathBuf>,
    /// What could not be looked at, and why.
    pub unreadable: BTreeMap<String, String>,
    /// How many notebooks were passed over.
    pub notebooks: usize,
    /// How many stub files (`.pyi`) were passed over: they hold no code that runs.
    pub stubs: usize,
}

impl Discovered {
    fn absorb(&mut self, other: Discovered) {
        self.files.extend(other.files);
        self.unreadable.extend(other.unreadable);
        self.notebooks += other.notebooks;
        self.stubs += other.stubs;
    }
}

/// Finds the files below `paths`.
///
/// # Errors
/// If a path that was asked for is not there.
pub fn discover(paths: &[PathBuf], wanted: &Wanted) -> Result<Discovered, Error> {
    let mut found = Discovered::default();
    for path in paths {
        let meta = std::fs::metadata(path).map_err(|cause| {
            Error::new(format!("cannot look at `{}`", path.display()))
                .because(reason(&cause))
                .help("give files or folders that exist")
        })?;
        if meta.is_dir() {
            found.absorb(walk(path, wanted));
        } else {
            take(path, true, wanted, &mut found);
        }
    }
    Ok(found)
}

fn walk(root: &Path, wanted: &Wanted) -> Discovered {
    let found = Mutex::new(Discovered::default());
    WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .follow_links(false)
        // What a user keeps at home must not change what a project's check finds.
        .git_global(false)
        .build_parallel()
        .run(|| {
            Box::new(|entry| {
                let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                visit(entry, wanted, &mut found)
            })
        });
    found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn visit(entry: Result<DirEntry, ignore::Error>, wanted: &Wanted, found: &mut Discovered) -> WalkState {
    match entry {
        Ok(entry) => {
            let kind = entry.file_type();
            if kind.is_some_and(|kind| kind.is_dir()) {
                if entry.depth() > 0 && is_skipped(entry.path(), wanted) {
                    return WalkState::Skip;
                }
            } else if kind.is_some_and(|kind| kind.is_file()) {
                take(entry.path(), false, wanted, found);
            }
        }
        Err(error) => {
            if let Some((path, reason)) = walk_failure(&error) {
                found.unreadable.insert(shown(path), reason);
            }
        }
    }
    WalkState::Continue
}

/// The path and the reason of a failed step; `None` for what does not keep files from being read, such as a line of
/// a `.gitignore` that is no glob.
fn walk_failure(error: &ignore::Error) -> Option<(&Path, String)> {
    let mut path = None;
    let mut error = error;
    loop {
        match error {
            ignore::Error::WithPath { path: at, err } => {
                path = Some(at.as_path());
                error = err;
            }
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
                error = err;
            }
            ignore::Error::Io(cause) => return path.map(|path| (path, reason(cause))),
            _ => return None,
        }
    }
}

fn is_skipped(folder: &Path, wanted: &Wanted) -> bool {
    let name = folder.file_name().map(|name| name.to_string_lossy());
    let name = name.as_deref().unwrap_or("");
    SKIPPED_FOLDERS.contains(&name)
        || name.ends_with(".egg-info")
        || (BUILD_FOLDERS.contains(&name) && !folder.join("__init__.py").exists())
        || wanted.exclude.as_ref().is_some_and(|globs| globs.matches(folder, true))
}

/// Takes a file if it is wanted. One that was asked for by name is, whatever it is called.
fn take(path: &Path, by_name: bool, wanted: &Wanted, found: &mut Discovered) {
    let matches = |globs: &Option<Globs>| globs.as_ref().is_some_and(|g| g.matches(path, false));
    if !by_name && matches(&wanted.exclude) {
        return;
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ipynb") => found.notebooks += 1,
        Some("pyi") => found.stubs += 1,
        _ if by_name => drop(found.files.insert(shown(path), path.to_path_buf())),
        Some("py") if wanted.include.is_none() || matches(&wanted.include) => {
            found.files.insert(shown(path), path.to_path_buf());
        }
        _ => {}
    }
}

/// The reason of an IO failure in words that are the same on every system where the kind is known.
#[must_use]
pub fn reason(cause: &std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => cause.to_string().to_lowercase(),
    }
}

/// A path as it is shown: relative to the current folder where it lies below it, with `/` between its parts. Bytes
/// that are no text are shown as `\xFF`, so that two files never share a name.
#[must_use]
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path.strip_prefix(&here).unwrap_or(path);
    let mut text = String::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::RootDir => text.push('/'),
            part => {
                if !text.is_empty() && !text.ends_with('/') {
                    text.push('/');
                }
                for chunk in part.as_os_str().as_encoded_bytes().utf8_chunks() {
                    text.push_str(chunk.valid());
                    for byte in chunk.invalid() {
                        let _ = write!(text, "\\x{byte:02X}");
                    }
                }
            }
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// A path from the root of the file system, without `.` and `..`; links stay as they are.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for part in whole.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_at_any_depth_unless_they_hold_a_slash() {
        let globs = Globs::new(Path::new("/p"), ["migrations", "src/*_pb2.py"]).expect("globs");
        assert!(globs.matches(Path::new("/p/a/migrations/x.py"), false));
        assert!(globs.matches(Path::new("/p/src/a_pb2.py"), false));
        assert!(!globs.matches(Path::new("/p/lib/src/a_pb2.py"), false));
        assert!(!globs.matches(Path::new("/elsewhere/migrations/x.py"), false));
    }

    #[test]
    fn paths_are_shown_without_a_leading_dot() {
        assert_eq!(shown(Path::new("./a/./b.py")), "a/b.py");
        assert_eq!(shown(Path::new("/a/b.py")), "/a/b.py");
        assert_eq!(shown(Path::new("../b.py")), "../b.py");
        assert_eq!(shown(Path::new(".")), ".");
    }
}
