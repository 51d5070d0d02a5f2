//! Replaces a file in one step: a reader sees the old bytes or the new ones, never a part. What is no plain file, such
//! as a device or a pipe, is written to as it is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to a file beside `file` and moves it into place. Permissions stay, and so does a link: what it
/// points to is replaced.
///
/// # Errors
/// If the folder cannot be written to. A plain file is then as it was.
pub fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(file).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return fs::OpenOptions::new().write(true).open(file)?.write_all(bytes);
    }
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut fresh = tempfile::Builder::new().prefix(".raceproof-").tempfile_in(folder)?;
    fresh.write_all(bytes)?;
    fresh.as_file().sync_all()?;
    match fs::metadata(&target) {
        Ok(meta) => fs::set_permissions(fresh.path(), meta.permissions())?,
        Err(_) => make_readable(fresh.path())?,
    }
    fresh.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

/// A new file gets the permissions that a new file has; the temporary one is for its owner only.
#[cfg(unix)]
fn make_readable(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_a_new_one_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.txt");
        for text in ["one", "two"] {
            replace(&file, text.as_bytes()).expect("it can be written");
            assert_eq!(fs::read_to_string(&file).expect("it is there"), text);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
