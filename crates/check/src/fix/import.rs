//! How a module can write `threading.Lock`, and the import that this takes.

use facts::Edit;

use super::sheet::Sheet;
use crate::analysis::Analysis;
use crate::body::{FuncIdx, Op};
use crate::name::Name;
use crate::project::ModuleId;
use crate::source::outline::Kind;

/// Something that a module can use once it has the import.
pub(super) struct Imported {
    /// How it is written.
    pub(super) text: String,
    /// The import, if it is not there yet.
    pub(super) edit: Option<Edit>,
}

/// How `module` can name `package.member`, at `before` at the latest (anywhere in a function: the end of the text).
pub(super) fn member(
    analysis: &Analysis<'_>,
    sheet: Sheet<'_>,
    module: ModuleId,
    package: &str,
    member: &str,
    before: u32,
) -> Option<Imported> {
    let lowered = &analysis.project.modules[module.0 as usize];
    let body = &lowered.functions.first()?.body;
    let top = package.split('.').next().unwrap_or(package);
    let mut taken = false;
    for val in body.vals() {
        let Op::StoreGlobal { name, value, .. } = body.op(val) else { continue };
        let node = body.node(val);
        let Op::Import(idx) = body.op(value) else {
            taken |= name == top;
            continue;
        };
        let import = lowered.imports[idx as usize];
        let statement = sheet.outline.at(node.start)?;
        let usable = sheet.outline.statements[statement].suite == 0 && node.end <= before && import.level == 0;
        if usable && import.module == package && import.member.is_none() {
            // `import a.b` binds `a`.
            let base = if import.binds_top { package } else { name.as_str() };
            return Some(Imported { text: format!("{base}.{member}"), edit: None });
        }
        if usable && import.module == package && import.member == Some(Name::new(member)) {
            return Some(Imported { text: name.to_string(), edit: None });
        }
        let same_top = import.module.as_str().split('.').next() == Some(top);
        taken |= name == top && (!same_top || import.member.is_some());
    }
    let bound_elsewhere = (1..lowered.functions.len()).any(|idx| {
        let function = lowered.function(FuncIdx(super::sheet::as_u32(idx)));
        function.globals.contains(&Name::new(top))
    });
    if taken || bound_elsewhere {
        return None;
    }
    Some(Imported { text: format!("{package}.{member}"), edit: Some(insert(sheet, package, before)?) })
}

/// `import package`, among the first imports that stand before `before`, in the order of the alphabet where they are
/// in order.
fn insert(sheet: Sheet<'_>, package: &str, before: u32) -> Option<Edit> {
    let outline = sheet.outline;
    let top = &outline.suites[0].statements;
    let kind = |idx: usize| outline.statements[idx].kind;
    let line = format!("import {package}");
    let skipped = top.iter().take_while(|idx| matches!(kind(**idx), Kind::Text | Kind::Future)).count();
    let Some(head) = top.get(skipped).copied() else {
        return sheet.line_after(*top.last()?, &line);
    };
    let early = |idx: &usize| kind(*idx) == Kind::Import && sheet.start(*idx) < before;
    let Some(at) = top.iter().position(early) else {
        let n_blank = if matches!(kind(head), Kind::Function | Kind::Class) { 2 } else { 1 };
        return sheet.line_before(head, &format!("{line}{}", sheet.eol().repeat(n_blank)));
    };
    // The first group: imports without a blank line or another statement between them.
    let mut group = vec![top[at]];
    for next in &top[at + 1..] {
        let between = sheet.slice(sheet.end(*group.last()?), sheet.start(*next));
        if kind(*next) != Kind::Import || between.matches('\n').count() != 1 {
            break;
        }
        group.push(*next);
    }
    let standard: Vec<usize> =
        group.iter().copied().filter(|idx| is_standard(imported(sheet.statement(*idx)))).collect();
    let Some(first) = standard.first() else {
        return sheet.line_before(group[0], &format!("{line}{}", sheet.eol()));
    };
    let comes_first = |idx: &&usize| {
        let text = sheet.statement(**idx);
        text.starts_with("import ") && imported(text) < package
    };
    match standard.iter().rev().find(comes_first) {
        Some(before) => sheet.line_after(*before, &line),
        None => sheet.line_before(*first, &line),
    }
}

/// The package that an import statement names.
fn imported(statement: &str) -> &str {
    let rest = statement.strip_prefix("import").or_else(|| statement.strip_prefix("from")).unwrap_or("");
    rest.trim_start().split([' ', '.', ',', '\t', '\\', '\r', '\n']).next().unwrap_or("")
}

fn is_standard(package: &str) -> bool {
    const PACKAGES: &str = " abc argparse array ast asyncio atexit base64 binascii bisect builtins bz2 calendar cmath \
        codecs collections colorsys concurrent configparser contextlib contextvars copy copyreg csv ctypes dataclasses \
        datetime decimal difflib dis email enum errno faulthandler fcntl fnmatch fractions ftplib functools gc getopt \
        getpass gettext glob graphlib gzip hashlib heapq hmac html http imaplib importlib inspect io ipaddress \
        itertools json keyword linecache locale logging lzma mailbox marshal math mimetypes mmap multiprocessing \
        netrc numbers operator optparse os pathlib pdb pickle pkgutil platform plistlib pprint profile pwd queue \
        random re readline reprlib resource sched secrets select selectors shelve shlex shutil signal site smtplib \
        socket socketserver sqlite3 ssl stat statistics string struct subprocess symtable sys sysconfig syslog tarfile \
        tempfile termios textwrap threading time timeit tkinter token tokenize trace traceback tracemalloc \
        tty turtle types typing unicodedata unittest urllib uuid venv warnings wave weakref webbrowser wsgiref xml \
        xmlrpc zipapp zipfile zipimport zlib zoneinfo ";
    package == "_thread" || PACKAGES.contains(&format!(" {package} "))
}
