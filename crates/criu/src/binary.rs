//! Finding the `criu` program.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::error::{Error, Result};

/// Names the program where [`crate::Criu::find`] looks first.
pub const CRIU_VARIABLE: &str = "CRIU";

/// Where distributions put `criu`; searched after `PATH`, which often lacks the `sbin` directories.
const USUAL_DIRECTORIES: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin"];

/// Finds the `criu` program: the one `$CRIU` names, else the first on `PATH`, else in the usual
/// `sbin` directories.
///
/// # Errors
///
/// [`Error::BinaryNotFound`] with the places searched; [`Error::BinaryNotExecutable`] when what was
/// found cannot be run by this user.
pub(crate) fn find() -> Result<PathBuf> {
    find_in(
        env::var_os(CRIU_VARIABLE).as_deref(),
        env::var_os("PATH").as_deref(),
    )
}

fn find_in(variable: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf> {
    if let Some(named) = variable.filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        verify(&named)?;
        return Ok(named);
    }
    let directories = path
        .map(|path| env::split_paths(path).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .chain(USUAL_DIRECTORIES.map(PathBuf::from));

    let mut searched: Vec<PathBuf> = Vec::new();
    let mut unusable = None;
    for directory in directories.filter(|directory| !directory.as_os_str().is_empty()) {
        let candidate = directory.join("criu");
        if searched.contains(&candidate) {
            continue;
        }
        match verify(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Error::BinaryNotFound { .. }) => {}
            Err(error) => unusable = unusable.or(Some(error)),
        }
        searched.push(candidate);
    }
    Err(unusable.unwrap_or(Error::BinaryNotFound { searched }))
}

/// Checks that `path` is a program this user may run.
pub(crate) fn verify(path: &Path) -> Result<()> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::BinaryNotFound {
                searched: vec![path.to_owned()],
            });
        }
        Err(source) => {
            return Err(Error::BinaryNotExecutable {
                path: path.to_owned(),
                source,
            });
        }
    };
    let source = if metadata.is_file() {
        access(path, Access::EXEC_OK)
            .err()
            .map(std::io::Error::from)
    } else {
        Some(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    };
    source.map_or(Ok(()), |source| {
        Err(Error::BinaryNotExecutable {
            path: path.to_owned(),
            source,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_variable_wins_over_the_path() {
        let found = find_in(Some(OsStr::new("/bin/true")), Some(OsStr::new("/nowhere"))).unwrap();
        assert_eq!(found, Path::new("/bin/true"));
    }

    #[test]
    fn a_variable_that_names_nothing_is_an_error_not_a_fallback() {
        let error = find_in(Some(OsStr::new("/nowhere/criu")), Some(OsStr::new("/bin")));
        assert!(
            matches!(error, Err(Error::BinaryNotFound { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_directory_in_place_of_the_program_is_not_executable() {
        let error = verify(Path::new("/usr"));
        assert!(
            matches!(error, Err(Error::BinaryNotExecutable { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_later_usable_program_is_taken_over_an_earlier_unusable_one() {
        let base = env::temp_dir().join(format!("criu-find-{}", std::process::id()));
        let (bad, good) = (base.join("bad"), base.join("good"));
        for (directory, mode) in [(&bad, 0o644), (&good, 0o755)] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("criu"), "").unwrap();
            fs::set_permissions(directory.join("criu"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = env::join_paths([&bad, &good]).unwrap();
        assert_eq!(find_in(None, Some(&path)).unwrap(), good.join("criu"));
        let path = env::join_paths([&bad]).unwrap();
        if !Path::new("/usr/sbin/criu").exists() && !Path::new("/usr/local/sbin/criu").exists() {
            let error = find_in(None, Some(&path));
            assert!(
                matches!(error, Err(Error::BinaryNotExecutable { .. })),
                "{error:?}"
            );
        }
        fs::remove_dir_all(base).unwrap();
    }
}
