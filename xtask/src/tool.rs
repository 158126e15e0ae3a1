//! Other programs: looked up, run to their end, their output kept for the error message.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Doing, Failure, Outcome};

/// Finds an executable by name on PATH; the super-user's directories count too, as `su` may have left them out.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

/// The cargo that runs us.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Whether the path is a file somebody may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Runs a program without standard input; gives what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let result = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .doing(format_args!("cannot run {}", words(command)))?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&result.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&result.stderr));
    Err(Failure::new(format!(
        "{} ended with {}\n{}",
        words(command),
        result.status,
        tail(&said, 15)
    )))
}

/// A command as a person would type it.
pub(crate) fn words(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy();
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || "'\"$&|;<>*".contains(c))
        {
            format!("'{}'", word.replace('\'', r"'\''"))
        } else {
            word.into_owned()
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last lines of a text, indented for an error message.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_quoted_with_what_it_said() {
        let failure = output(Command::new("sh").args(["-c", "echo so it is >&2; exit 3"]))
            .expect_err("exits 3");
        let text = failure.to_string();
        assert!(text.contains("sh -c 'echo so it is >&2; exit 3'"), "{text}");
        assert!(text.contains("exit status: 3\n    so it is"), "{text}");
    }

    #[test]
    fn the_shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
