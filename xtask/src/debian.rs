//! Builds a free-threaded CPython 3.13 from Debian's source package, in a cache folder outside the checkout, so that
//! the next run finds it. The lists of the system's package manager stay as they are: ours are kept beside the build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::shell::{self, is_there};

/// Source versions that were seen to build, the newest first; a mirror may lack one.
const VERSIONS: [&str; 2] = ["3.13.15-1", "3.13.5-2+deb13u5"];
const SUITES: [&str; 2] = ["forky", "trixie"];
const HEADERS: [&str; 7] =
    ["libssl-dev", "libffi-dev", "zlib1g-dev", "libbz2-dev", "liblzma-dev", "libsqlite3-dev", "libreadline-dev"];

/// Where the build is installed, if there is a home to put it.
pub fn folder() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("raceproof/python-3.13.15t"))
}

/// Downloads, builds and installs; returns the executable. Minutes.
pub fn build() -> Result<PathBuf, String> {
    let prefix = folder().ok_or("there is no home folder to build a Python in")?;
    if !is_there("apt-get", &["--version"]) {
        return Err("this is no Debian, so its source package cannot be built".to_owned());
    }
    let work = prefix.with_extension("build");
    fs::create_dir_all(&work).map_err(|cause| format!("{}: {cause}", work.display()))?;
    install_headers();
    let archive = download(&work)?;
    let source = work.join("source");
    fs::create_dir_all(&source).map_err(|cause| format!("{}: {cause}", source.display()))?;
    let unpack = ["--strip-components=1", "-xf"];
    shell::run(Command::new("tar").args(unpack).arg(&archive).arg("-C").arg(&source))?;
    let script = "./configure --disable-gil --enable-shared --prefix=\"$1\" LDFLAGS=\"-Wl,-rpath,$1/lib\" \
        && make -j\"$(nproc)\" && make install";
    let log = work.join("build.log");
    let script = format!("cd \"$0\" && ({script}) > \"$2\" 2>&1");
    eprintln!("python: building CPython from source; this takes some minutes");
    shell::run(Command::new("sh").args(["-c", &script]).args([&source, &prefix, &log]))
        .map_err(|_| format!("the build failed; its last lines are in {}", log.display()))?;
    Ok(prefix.join("bin/python3.13t"))
}

/// Installs the headers that are missing; without them the build lacks modules, but works.
fn install_headers() {
    let is_missing = |name: &&&str| !is_there("dpkg", &["-s", name]);
    let missing: Vec<&str> = HEADERS.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        return;
    }
    let sudo: &[&str] = if is_there("sudo", &["-n", "true"]) { &["sudo", "-n"] } else { &[] };
    let steps = [vec!["apt-get", "update", "-qq"], [&["apt-get", "install", "-y", "-qq"], &missing[..]].concat()];
    for step in steps {
        let words = [sudo, &step[..]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        if let Err(reason) = shell::run(&mut command) {
            eprintln!("note: {reason}; the build goes on without {}", missing.join(", "));
            return;
        }
    }
}

/// The unpatched source archive, from the first suite that has one of the versions.
fn download(work: &Path) -> Result<PathBuf, String> {
    if let Some(kept) = archive_in(work) {
        return Ok(kept);
    }
    let state = private_state(work)?;
    shell::run(Command::new("apt-get").args(["update", "-qq"]).env("APT_CONFIG", &state))?;
    for version in VERSIONS {
        let package = format!("python3.13={version}");
        let words = ["source", "-qq", "--download-only", &package];
        let mut fetch = Command::new("apt-get");
        fetch.args(words).env("APT_CONFIG", &state);
        match shell::run_in(work, &mut fetch) {
            Ok(()) => return archive_in(work).ok_or_else(|| "the source package holds no archive".to_owned()),
            Err(reason) => eprintln!("note: {reason}"),
        }
    }
    Err("Debian's source package of python3.13 is not to be had here".to_owned())
}

fn archive_in(work: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(work).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.into_iter().find(|path| path.to_string_lossy().ends_with(".orig.tar.xz"))
}

/// A package manager's state of our own: the system's lists and cache are not touched.
fn private_state(work: &Path) -> Result<PathBuf, String> {
    let mirror = mirror().ok_or("no Debian mirror is named in the sources of this machine's package manager")?;
    let sources: String = SUITES.iter().map(|suite| format!("deb-src {mirror} {suite} main\n")).collect();
    let at = work.display();
    let config = format!(
        "Dir::State::lists \"{at}/lists\";\nDir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         Dir::Cache \"{at}/cache\";\nAPT::Sandbox::User \"root\";\n"
    );
    let state = work.join("apt.conf");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.join(folder)).map_err(|cause| format!("{at}: {cause}"))?;
    }
    fs::write(work.join("sources.list"), sources).map_err(|cause| format!("{at}: {cause}"))?;
    fs::write(&state, config).map_err(|cause| format!("{at}: {cause}"))?;
    Ok(state)
}

/// The mirror that this machine takes its packages from.
fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()));
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let words: Vec<String> =
        texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    let is_mirror = |word: &&String| word.contains("://") && word.trim_end_matches('/').ends_with("/debian");
    words.iter().find(is_mirror).cloned()
}
