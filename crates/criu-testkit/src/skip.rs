//! Tests that cannot run here say so, where nobody can overlook it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

/// Whether CI could have made the test run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Something is missing that `cargo xtask test` provides: it counts as a failure there.
    Avoidable,
    /// The kernel or the machine cannot do it.
    Unavoidable,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Skip::Avoidable => "avoidable",
            Skip::Unavoidable => "unavoidable",
        })
    }
}

/// Ends the test here, counted and printed as skipped: `skip!(Unavoidable, "kernel has no {}", what)`.
///
/// The line goes to standard error and to the file named by `$CRIU_TEST_SKIP_LOG`, from which `cargo xtask test`
/// counts. Returns from the function it stands in.
#[macro_export]
macro_rules! skip {
    ($kind:ident, $($reason:tt)+) => {{
        $crate::record_skip($crate::Skip::$kind, &::std::format!($($reason)+));
        return;
    }};
}

/// Records that the running test, or part of it, is skipped; [`skip!`] is the usual way to say so.
pub fn record_skip(kind: Skip, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed test");
    let reason = reason.replace('\n', " ");
    // Straight to the descriptor: the test harness would swallow what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason} ({kind})");
    let Some(log) = std::env::var_os("CRIU_TEST_SKIP_LOG") else {
        return;
    };
    // One write in append mode is one line, also when many tests write at once.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|mut file| file.write_all(format!("{kind}\t{test}\t{reason}\n").as_bytes()));
    if let Err(error) = written {
        panic!("cannot write the skip to {}: {error}", log.display());
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Runs itself anew as a child, as the environment of a running test program cannot be changed.
    #[test]
    fn a_skip_is_logged_with_its_test_and_ends_the_test() {
        if std::env::var_os("CRIU_TEST_SKIP_LOG")
            .is_some_and(|log| log.to_string_lossy().ends_with("skip-test.log"))
        {
            skip!(Unavoidable, "kernel has\nno {}", "wings");
        }
        let directory = crate::TempDir::new();
        let log = directory.join("skip-test.log");
        let output = Command::new(std::env::current_exe().expect("known"))
            .args([
                "--exact",
                "skip::tests::a_skip_is_logged_with_its_test_and_ends_the_test",
            ])
            .env("CRIU_TEST_SKIP_LOG", &log)
            .output()
            .expect("runs");
        assert!(output.status.success());
        let name = "skip::tests::a_skip_is_logged_with_its_test_and_ends_the_test";
        assert_eq!(
            std::fs::read_to_string(log).expect("written"),
            format!("unavoidable\t{name}\tkernel has no wings\n")
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains(&format!(
                "SKIPPED {name}: kernel has no wings (unavoidable)"
            )),
            "{said}"
        );
    }
}
