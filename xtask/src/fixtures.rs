//! `cargo xtask fixtures`: makes the real image sets under `fixtures/` anew.
//!
//! The testkit's program dumps; here it gets its CRIUs, and Python CRIT compresses copies of some sets, as
//! Debian's CRIU 4.3 is built without LZ4.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::criu::{self, target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::guest::{Guest, quoted};
use crate::{oracle, packages, suite, tool};

/// Sets of 4.3 that are kept once more, compressed: with pages that compress, pages that do not, and shared memory.
const COMPRESSED: [&str; 3] = ["plain", "page-server", "descriptors"];

/// Sets that take the guest's kernel, which tracks memory changes and has AppArmor.
const OF_GUEST: [&str; 3] = ["incremental", "deduplicated", "apparmor"];

/// `cargo xtask fixtures [SET...]`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    packages::ensure(suite::NEEDED)?;
    let mut environment = Vec::new();
    let mut versions = Vec::new();
    for (series, variable) in criu::SERIES.into_iter().zip(suite::CRIU_VARIABLES) {
        let criu = criu::of_series(series)?;
        versions.push(format!("{series} is {}", criu.version));
        environment.push((variable, criu.path));
    }
    let crit = oracle::obtain()?;
    let workspace = workspace_directory();
    tool::output(
        Command::new(tool::cargo())
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                "criu-testkit",
                "--bins",
            ])
            .current_dir(&workspace),
    )?;
    // The images hold the paths of programs: theirs shall say nothing of the machine.
    let programs = std::env::temp_dir().join("criu-fixture-programs");
    let _ = fs::remove_dir_all(&programs);
    fs::create_dir_all(&programs).doing(format_args!("cannot create {}", programs.display()))?;
    for name in ["criu-testkit-target", "criu-testkit-fixtures"] {
        let from = target_directory().join("debug").join(name);
        fs::copy(&from, programs.join(name))
            .doing(format_args!("cannot copy {}", from.display()))?;
    }
    environment.push(("CRIU_TEST_BINARIES", programs.clone()));
    let fixtures = workspace.join("fixtures");
    if arguments.is_empty()
        || arguments
            .iter()
            .any(|wanted| OF_GUEST.contains(&wanted.as_str()))
    {
        make_in_guest(&fixtures, &programs, &environment, arguments)?;
    }
    let mut make = Command::new(programs.join("criu-testkit-fixtures"));
    make.arg(&fixtures)
        .args(arguments)
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null());
    let made = make
        .status()
        .doing("cannot run the program that makes the fixtures");
    let _ = fs::remove_dir_all(&programs);
    let made = made?;
    if !made.success() {
        return Err(Failure::new(format!(
            "the program that makes the fixtures ended with {made}"
        )));
    }
    for name in COMPRESSED {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            compress(&crit, &fixtures.join("4.3"), name)?;
        }
    }
    write_readme(&fixtures, &versions)
}

/// Makes the sets of [`OF_GUEST`] in the guest and fetches them from there.
fn make_in_guest(
    fixtures: &Path,
    programs: &Path,
    environment: &[(&str, PathBuf)],
    arguments: &[String],
) -> Outcome<()> {
    let guest = Guest::obtain()?;
    let made = guest.shared().join("fixtures");
    let word = |path: &Path| quoted(&path.display().to_string());
    // The guest sees this machine's files, but has a temporary directory of its own.
    let visible = target_directory().join("fixture-programs");
    let _ = fs::remove_dir_all(&visible);
    fs::create_dir_all(&visible).doing(format_args!("cannot create {}", visible.display()))?;
    copy_files(programs, &visible)?;
    let mut script = format!(
        "mkdir {0}; cp {1}/* {0}; mkdir {2}\n",
        word(programs),
        word(&visible),
        word(&made)
    );
    // CRIU loads policies by a program of this package.
    for programs in guest.programs_of("apparmor")? {
        script.push_str(&format!("PATH={}:$PATH\n", word(&programs)));
    }
    for (name, value) in environment {
        script.push_str(&format!("export {name}={}\n", word(value)));
    }
    script.push_str(&format!(
        "{} --guest {}",
        word(&programs.join("criu-testkit-fixtures")),
        word(&made)
    ));
    for argument in arguments {
        script.push_str(&format!(" {}", quoted(argument)));
    }
    let code = guest.run(&script, |line| println!("{line}"));
    let _ = fs::remove_dir_all(&visible);
    if code? != 0 {
        return Err(Failure::new("the sets of the guest could not be made"));
    }
    for series in criu::SERIES {
        let made = made.join(series);
        // Of one series there may be nothing among those that were asked for.
        if !made.exists() {
            continue;
        }
        let sets = fs::read_dir(&made).doing(format_args!("cannot read {}", made.display()))?;
        for set in sets.flatten() {
            let place = fixtures.join(series).join(set.file_name());
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(&place).doing(format_args!("cannot create {}", place.display()))?;
            copy_files(&set.path(), &place)?;
        }
    }
    Ok(())
}

/// Copies files, and links as links.
fn copy_files(from: &Path, to: &Path) -> Outcome<()> {
    let entries = fs::read_dir(from).doing(format_args!("cannot read {}", from.display()))?;
    for entry in entries.flatten() {
        let (file, copy) = (entry.path(), to.join(entry.file_name()));
        let copied = match fs::read_link(&file) {
            Ok(link) => std::os::unix::fs::symlink(link, &copy),
            Err(_) => fs::copy(&file, &copy).map(drop),
        };
        copied.doing(format_args!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

fn compress(crit: &Path, sets: &Path, name: &str) -> Outcome<()> {
    let from = sets.join(name);
    let to = sets.join(format!("{name}-compressed"));
    println!("4.3/{name}-compressed: the same, its pages compressed by Python CRIT");
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).doing(format_args!("cannot create {}", to.display()))?;
    copy_files(&from, &to)?;
    tool::output(Command::new(crit).args(["compress", "--in-place"]).arg(&to)).map(drop)
}

fn write_readme(fixtures: &Path, versions: &[String]) -> Outcome<()> {
    let list = fixtures.join("sets.md");
    let sets = fs::read_to_string(&list).doing(format_args!("cannot read {}", list.display()))?;
    fs::remove_file(&list).doing(format_args!("cannot remove {}", list.display()))?;
    let uname = rustix::system::uname();
    // What follows major and minor is the build's business.
    let release = uname
        .release()
        .to_string_lossy()
        .split('.')
        .take(2)
        .collect::<Vec<_>>()
        .join(".");
    let text = format!(
        "# Image sets of a real CRIU\n\n\
         Made by `cargo xtask fixtures`, which replaces them all; `cargo xtask fixtures SET...` makes only those. Each \
         is one dump of a test process (`criu-testkit-target`, see `crates/criu-testkit`), `4.2/` and `4.3/` by the \
         CRIU of that series: {versions}, the distribution's packages. Kernel {release} on {machine}.\n\n\
         Wherever a plain restore can do it, the process was restored from the very images and asked whether all it \
         held was as before; `stats-restore` comes from that. The `-compressed` sets are copies whose pages Python \
         CRIT 4.3 compressed (`crit compress --in-place`).\n\n\
         Nothing in them was changed, but for the names of the making machine's own control groups, which are \
         overwritten by the letter x.\n\n{sets}\n\
         The chains stand beside each other: the dump NAME on the pre-dump NAME-2, that on NAME-1. They and \
         apparmor come from a guest with the distribution's kernel, as the other neither tracks memory changes nor has \
         AppArmor.\n\n\
         Not here, as no build of CRIU at hand makes them: BPF maps (takes libbpf), `binfmt-misc.img` (4.3 has binary \
         formats in `userns.img`, 4.2 takes an OpenVZ kernel), and the separate images that CRIU before 3.0 wrote.\n\n\
         `fuzz/TARGET` is of no CRIU and stays as it is: inputs that once broke a target of `cargo xtask fuzz`.\n",
        versions = versions.join(", "),
        machine = uname.machine().to_string_lossy(),
    );
    let readme = fixtures.join("README.md");
    fs::write(&readme, text).doing(format_args!("cannot write {}", readme.display()))
}
