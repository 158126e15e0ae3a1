//! A working CRIU: found on the machine, or obtained from its distribution into a private prefix.
//!
//! ```text
//! target/criu/4.3/criu      starts the prefix's CRIU through the prefix's own dynamic loader
//! target/criu/4.3/prefix/   the unpacked packages, C library included
//! target/criu/4.3/works-on  the kernel on which the trial passed
//! target/criu/apt/          apt's lists and cache
//! ```

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::apt::{Offer, PrivateApt, Source, os_release_field};
use crate::failure::{Doing, Failure, Outcome};
use crate::{tool, trial};

/// The series the tests run against.
pub(crate) const SERIES: [&str; 2] = ["4.2", "4.3"];

/// The oldest CRIU worth trying on a machine of today: 3.17.1 already fails on current kernels.
const OLDEST_WORTH_TRYING: (u32, u32) = (4, 0);

/// A CRIU that passed its trial on this machine.
#[derive(Debug, Clone)]
pub(crate) struct WorkingCriu {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

/// `cargo xtask criu [--version 4.2|4.3]`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let series = match arguments.as_slice() {
        [] => None,
        ["--version", series] => Some(*series),
        [argument] => argument.strip_prefix("--version="),
        _ => return Err(Failure::new("usage: cargo xtask criu [--version 4.2|4.3]")),
    };
    if !arguments.is_empty() && series.is_none() {
        return Err(Failure::new("usage: cargo xtask criu [--version 4.2|4.3]"));
    }
    let criu = match series {
        Some(series) => of_series(series)?,
        None => any()?,
    };
    println!("{}\nVersion: {}", criu.path.display(), criu.version);
    Ok(())
}

/// Any CRIU that works: `$CRIU`, `criu` on PATH, the distribution's package, newer packages of the distribution.
pub(crate) fn any() -> Outcome<WorkingCriu> {
    needs_root()?;
    if let Some(named) = named(None)? {
        return Ok(named);
    }
    if let Some(installed) = installed(None) {
        return Ok(installed);
    }
    // What was obtained before works without asking the archive again.
    for name in ["distribution", SERIES[0], SERIES[1]] {
        if let Some(cached) = cached(&home().join(name)) {
            return Ok(cached);
        }
    }
    match obtain_from_own_release() {
        Ok(Some(criu)) => return Ok(criu),
        Ok(None) => {}
        Err(failure) => eprintln!("the distribution's own package does not do: {failure}"),
    }
    of_series(SERIES[0]).or_else(|failure| {
        eprintln!("{failure}");
        of_series(SERIES[1])
    })
}

/// A CRIU of one series, such as `4.2`: `$CRIU` or the one on PATH if it is of that series, else a private one.
pub(crate) fn of_series(series: &str) -> Outcome<WorkingCriu> {
    needs_root()?;
    if let Some(named) = named(Some(series))? {
        return Ok(named);
    }
    if let Some(installed) = installed(Some(series)) {
        return Ok(installed);
    }
    obtain(series)
}

/// Where the private CRIUs live.
pub(crate) fn home() -> PathBuf {
    target_directory().join("criu")
}

/// The directory of the workspace's own manifest.
pub(crate) fn workspace_directory() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// Cargo's target directory.
pub(crate) fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => workspace.join(target),
        None => workspace.join("target"),
    }
}

fn needs_root() -> Outcome<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(
        Failure::new("only root may checkpoint and restore, so CRIU cannot be tried")
            .with_remedy("run this as root"),
    )
}

/// `$CRIU`. Whoever sets it wants that one: it is an error if it does not work.
fn named(series: Option<&str>) -> Outcome<Option<WorkingCriu>> {
    let Some(path) = std::env::var_os("CRIU")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
    else {
        return Ok(None);
    };
    if !tool::is_executable(&path) {
        return Err(Failure::new(format!(
            "$CRIU is {}, which is not an executable file",
            path.display()
        )));
    }
    let version = trial::version(&path)?;
    if series.is_some_and(|series| !is_of_series(&version, series)) {
        return Ok(None);
    }
    try_out(&path)
        .map_err(|failure| failure.while_doing(format_args!("$CRIU ({})", path.display())))?;
    Ok(Some(WorkingCriu { path, version }))
}

/// `criu` on PATH, if it works.
fn installed(series: Option<&str>) -> Option<WorkingCriu> {
    let path = tool::find("criu")?;
    let version = trial::version(&path).ok()?;
    if series.is_some_and(|series| !is_of_series(&version, series)) {
        return None;
    }
    match try_out(&path) {
        Ok(()) => Some(WorkingCriu { path, version }),
        Err(failure) => {
            eprintln!("{} {version} does not work here: {failure}", path.display());
            None
        }
    }
}

/// The package of the release this machine runs, if its version can be expected to work on a kernel of today.
fn obtain_from_own_release() -> Outcome<Option<WorkingCriu>> {
    let place = home().join("distribution");
    if let Some(cached) = cached(&place) {
        return Ok(Some(cached));
    }
    let _lock = Lock::take(&home())?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let Some(codename) = os_release_field(&release, "VERSION_CODENAME") else {
        return Ok(None);
    };
    let mut apt = PrivateApt::create(&home().join("apt"), Source::of_distribution()?)?;
    apt.update(&[&codename])?;
    let Some(offer) = apt.offers("criu")?.into_iter().find(|offer| {
        major_and_minor(offer.upstream()).is_some_and(|version| version >= OLDEST_WORTH_TRYING)
    }) else {
        return Ok(None);
    };
    unpack(&apt, &offer, &place).map(Some)
}

fn obtain(series: &str) -> Outcome<WorkingCriu> {
    let place = home().join(series);
    if let Some(cached) = cached(&place) {
        return Ok(cached);
    }
    let _lock = Lock::take(&home())?;
    // Another run may have obtained it while this one waited for the lock.
    if let Some(cached) = cached(&place) {
        return Ok(cached);
    }
    let (apt, offer) = find_package("criu", series)?;
    unpack(&apt, &offer, &place)
}

/// Looks a version of a package up in the newer suites of this distribution.
pub(crate) fn find_package(package: &str, series: &str) -> Outcome<(PrivateApt, Offer)> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let ubuntu = os_release_field(&release, "ID").is_some_and(|id| id == "ubuntu");
    // By version, not by name: a version wanders from suite to suite. The likely suites first, as lists are large.
    let stages: [&[&str]; 2] = if ubuntu {
        [&["devel"], &["devel", "resolute", "questing", "plucky"]]
    } else {
        [
            &["sid", "experimental"],
            &[
                "sid",
                "experimental",
                "testing",
                "stable",
                "stable-backports",
            ],
        ]
    };
    let mut apt = PrivateApt::create(&home().join("apt"), Source::of_distribution()?)?;
    let mut seen = Vec::new();
    for suites in stages {
        println!(
            "looking for {package} {series} in {} of this machine's own distribution",
            suites.join(", ")
        );
        apt.update(suites)?;
        let offers = apt.offers(package)?;
        if let Some(offer) = offers.iter().find(|offer| offer.is_of_series(series)) {
            return Ok((apt, offer.clone()));
        }
        seen = offers;
    }
    let seen: Vec<&str> = seen.iter().map(|offer| offer.version.as_str()).collect();
    Err(Failure::new(format!(
        "no suite of this distribution has {package} {series}; on offer: {}",
        seen.join(", ")
    ))
    .with_remedy("build that CRIU yourself and name it in $CRIU"))
}

/// Unpacks beside the final place and moves the whole there once it has passed its trial.
fn unpack(apt: &PrivateApt, offer: &Offer, place: &Path) -> Outcome<WorkingCriu> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let draft = home().join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_dir_all(&draft);
    let result = unpack_into(apt, offer, &draft, place);
    let _ = fs::remove_dir_all(&draft);
    result
}

fn unpack_into(
    apt: &PrivateApt,
    offer: &Offer,
    draft: &Path,
    place: &Path,
) -> Outcome<WorkingCriu> {
    println!(
        "unpacking CRIU {} and its libraries into {}",
        offer.upstream(),
        place.display()
    );
    let prefix = draft.join("prefix");
    fs::create_dir_all(&prefix).doing(format_args!("cannot create {}", prefix.display()))?;
    let version = &offer.version;
    apt.unpack_with_dependencies(
        &[format!("criu={version}"), format!("libcompel1={version}")],
        &prefix,
    )?;
    let _ = fs::remove_dir_all(prefix.join("usr/share"));
    let wrapper = draft.join("criu");
    write_wrapper(&wrapper, &prefix, &prefix)?;
    let version = trial::version(&wrapper)?;
    try_out(&wrapper).map_err(|failure| {
        failure.while_doing(format_args!("CRIU {version} does not work here"))
    })?;
    let final_prefix = place.join("prefix");
    write_wrapper(&wrapper, &prefix, &final_prefix)?;
    write(&draft.join("version"), &version)?;
    write(&draft.join("works-on"), &kernel())?;
    let _ = fs::remove_dir_all(place);
    fs::rename(draft, place).doing(format_args!(
        "cannot move {} to {}",
        draft.display(),
        place.display()
    ))?;
    Ok(WorkingCriu {
        path: place.join("criu"),
        version,
    })
}

/// A CRIU obtained earlier, tried again only if the kernel is another or the directory was moved.
fn cached(place: &Path) -> Option<WorkingCriu> {
    let wrapper = place.join("criu");
    let prefix = place.join("prefix");
    let version = fs::read_to_string(place.join("version")).ok()?;
    let text = fs::read_to_string(&wrapper).ok()?;
    if text != wrapper_text(&prefix, &prefix).ok()? {
        write_wrapper(&wrapper, &prefix, &prefix).ok()?;
    }
    if fs::read_to_string(place.join("works-on")).ok()? != kernel() {
        if let Err(failure) = try_out(&wrapper) {
            eprintln!(
                "{} worked on another kernel, not on this one: {failure}",
                wrapper.display()
            );
            return None;
        }
        write(&place.join("works-on"), &kernel()).ok()?;
    }
    Some(WorkingCriu {
        path: wrapper,
        version,
    })
}

fn try_out(criu: &Path) -> Outcome<()> {
    let home = home();
    fs::create_dir_all(&home).doing(format_args!("cannot create {}", home.display()))?;
    trial::run(criu, &home)
}

fn write_wrapper(wrapper: &Path, prefix: &Path, final_prefix: &Path) -> Outcome<()> {
    write(wrapper, &wrapper_text(prefix, final_prefix)?)?;
    fs::set_permissions(wrapper, fs::Permissions::from_mode(0o755))
        .doing(format_args!("cannot make {} executable", wrapper.display()))
}

/// A script that replaces itself with the loader: absolute paths, so that starting CRIU costs no further process.
fn wrapper_text(prefix: &Path, final_prefix: &Path) -> Outcome<String> {
    let place = |path: &Path| -> String {
        let inside = path.strip_prefix(prefix).unwrap_or(path);
        format!(
            "'{}'",
            final_prefix
                .join(inside)
                .display()
                .to_string()
                .replace('\'', r"'\''")
        )
    };
    let mut loader = None;
    let mut libraries = Vec::new();
    // /lib/TRIPLET and /usr/lib/TRIPLET: older packages still use both.
    for parent in ["usr/lib", "lib"] {
        for directory in subdirectories(&prefix.join(parent)) {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with("ld-linux") || name.starts_with("ld64.so") {
                    loader = Some(entry.path());
                }
                if name.contains(".so") && !libraries.contains(&directory) {
                    libraries.push(directory.clone());
                }
            }
        }
    }
    let missing = |what: &str| {
        Failure::new(format!(
            "the unpacked packages under {} have no {what}",
            prefix.display()
        ))
    };
    let loader = loader.ok_or_else(|| missing("dynamic loader"))?;
    let criu = ["usr/sbin/criu", "sbin/criu"].map(|path| prefix.join(path));
    let criu = criu
        .iter()
        .find(|path| path.exists())
        .ok_or_else(|| missing("criu"))?;
    libraries.sort();
    let libraries: Vec<String> = libraries.iter().map(|path| place(path)).collect();
    Ok(format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        place(&loader),
        libraries.join(":"),
        place(criu)
    ))
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).doing(format_args!("cannot write {}", path.display()))
}

fn kernel() -> String {
    let uname = rustix::system::uname();
    format!(
        "{} {}",
        uname.release().to_string_lossy(),
        uname.version().to_string_lossy()
    )
}

fn is_of_series(version: &str, series: &str) -> bool {
    Offer {
        version: version.to_owned(),
    }
    .is_of_series(series)
}

fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    Some((
        numbers.next()?.ok()?,
        numbers.next().and_then(Result::ok).unwrap_or(0),
    ))
}

/// Held while the private prefixes change, so that two runs at once do not meet.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(directory: &Path) -> Outcome<Self> {
        fs::create_dir_all(directory)
            .doing(format_args!("cannot create {}", directory.display()))?;
        let path = directory.join(".lock");
        let file = File::create(&path).doing(format_args!("cannot create {}", path.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .doing(format_args!("cannot lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(major_and_minor("3.17.1"), Some((3, 17)));
        assert_eq!(major_and_minor("4"), Some((4, 0)));
        assert_eq!(major_and_minor("next"), None);
        assert!(major_and_minor("3.17.1") < Some(OLDEST_WORTH_TRYING));
        assert!(major_and_minor("4.10") > Some((4, 3)));
    }

    #[test]
    fn the_wrapper_names_loader_libraries_and_criu_at_their_final_place() {
        let draft = std::env::temp_dir().join(format!("xtask-wrapper-{}", std::process::id()));
        let libraries = draft.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&libraries).expect("directory");
        fs::create_dir_all(draft.join("usr/sbin")).expect("directory");
        let before = wrapper_text(&draft, &draft)
            .expect_err("no loader yet")
            .to_string();
        for file in [
            "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "usr/sbin/criu",
        ] {
            fs::write(draft.join(file), "").expect("file");
        }
        let text = wrapper_text(&draft, Path::new("/it's/prefix")).expect("complete");
        fs::remove_dir_all(&draft).expect("removed");
        assert!(before.contains("no dynamic loader"), "{before}");
        assert_eq!(
            text,
            "#!/bin/sh\nexec '/it'\\''s/prefix/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2' --library-path \
             '/it'\\''s/prefix/usr/lib/x86_64-linux-gnu' '/it'\\''s/prefix/usr/sbin/criu' \"$@\"\n"
        );
    }
}
