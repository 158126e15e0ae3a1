//! Makes the image sets under `fixtures/`: `criu-testkit-fixtures [--guest] [--recode CRIT] DIRECTORY [SET...]`. Run by
//! `cargo xtask fixtures`; with `--guest`, which makes the sets that take more of the kernel and nothing else, in a
//! guest. With `--recode`, every image goes through JSON and back by that `crit` before anything
//! is restored from it.
//!
//! Each set is the dump of one test process by a real CRIU, which is then also restored and asked whether it survived,
//! so that no fixture shows a checkpoint that does not work.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use criu_testkit::{CriuUnderTest, TempDir, TestProcess, recode};

use sets::{After, Dump, Kernel, SETS, Set};

mod sets;

/// Files of a dump that are no images, or tell only of the run.
const LEFT_OUT: &[&str] = &[
    "dump.log",
    "pre-dump.log",
    "restore.log",
    "restored.pid",
    "server.log",
    "lazy.log",
    "server.pid",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut rest = arguments.as_slice();
    let (mut kernel, mut crit) = (Kernel::Any, None);
    loop {
        rest = match rest {
            [option, rest @ ..] if option == "--guest" => {
                kernel = Kernel::Guest;
                rest
            }
            [option, program, rest @ ..] if option == "--recode" => {
                crit = Some(Path::new(program));
                rest
            }
            _ => break,
        };
    }
    let Some((directory, wanted)) = rest.split_first() else {
        let _ = writeln!(
            io::stderr(),
            "usage: criu-testkit-fixtures [--guest] [--recode CRIT] DIRECTORY [SET...]"
        );
        return ExitCode::from(2);
    };
    let directory = PathBuf::from(directory);
    let mut failed = Vec::new();
    for criu in CriuUnderTest::all() {
        let (major, minor) = criu.series();
        let series = format!("{major}.{minor}");
        for set in SETS
            .iter()
            .filter(|set| wanted.is_empty() || wanted.iter().any(|name| name == set.name))
        {
            if !set.series.contains(&series.as_str()) || set.kernel != kernel {
                continue;
            }
            say(&format!("{series}/{}: {}", set.name, set.about));
            let place = directory.join(&series);
            // The testkit panics where something goes wrong; the other sets shall be made all the same.
            if std::panic::catch_unwind(|| make(&criu, set, &place, crit)).is_err() {
                failed.push(format!("{series}/{}", set.name));
                for name in set.directories() {
                    let _ = fs::remove_dir_all(place.join(name));
                }
            }
            (set.cleanup)();
        }
    }
    if let Err(error) = fs::write(directory.join("sets.md"), table(&directory)) {
        say(&format!("cannot write the list: {error}"));
        return ExitCode::FAILURE;
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    say(&format!("failed: {}", failed.join(", ")));
    ExitCode::FAILURE
}

/// Dumps, restores, asks, and keeps the images.
fn make(criu: &CriuUnderTest, set: &Set, place: &Path, crit: Option<&Path>) {
    let scratch = TempDir::new();
    // Beside each other, as the link from a dump to the one before it is relative.
    let rounds: Vec<PathBuf> = set
        .directories()
        .iter()
        .map(|name| scratch.make_dir(name))
        .collect();
    let images = scratch.join(set.name);
    let (mut process, _terminal) = if set.on_terminal {
        let (process, master) = TestProcess::on_terminal((set.scene)());
        (process, Some(master))
    } else {
        ((set.scene)().start(), None)
    };
    process.wait_for_count_above(1);
    let pid = (set.root)(process.pid());
    let mut options: Vec<String> = set
        .options
        .iter()
        .map(|option| (*option).to_owned())
        .collect();
    options.extend((set.own_options)(pid));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    match set.dump {
        Dump::Plain => criu.dump(pid, &images, &options),
        Dump::ToPageServer => dump_to_page_server(criu, pid, &images, &options),
        Dump::Lazy => dump_lazily(criu, pid, &images, &options, &place.join(set.name)),
        Dump::Chain(each) => {
            dump_in_rounds(criu, pid, &rounds, &[each, options.as_slice()].concat())
        }
    }
    if set.cpuinfo {
        let status = criu
            .command()
            .args(["cpuinfo", "dump", "-D"])
            .arg(&images)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "criu cpuinfo dump failed"
        );
    }
    if let Some(crit) = crit {
        for images in &rounds {
            recode(crit, images);
        }
    }
    if set.after == After::Restore {
        process.reap();
        let root = process.root().map(|root| root.display().to_string());
        let root: Vec<&str> = root
            .as_deref()
            .map(|root| vec!["--root", root])
            .unwrap_or_default();
        process.restored_as(criu.restore(
            &images,
            &[&options, root.as_slice(), set.restore_options].concat(),
        ));
        process.wait_for_count_above(0);
        assert_eq!(process.verify(), Ok(()), "the process did not survive");
    }
    if set.dump != Dump::Lazy {
        for (images, name) in rounds.iter().zip(set.directories()) {
            keep(images, &place.join(name));
        }
    }
}

/// With a pre-dump into every directory but the last.
fn dump_in_rounds(criu: &CriuUnderTest, pid: u32, rounds: &[PathBuf], options: &[&str]) {
    let mut earlier: Option<String> = None;
    for (index, images) in rounds.iter().enumerate() {
        if index + 1 < rounds.len() {
            criu.pre_dump(pid, images, earlier.as_deref(), options);
            // For pages to change.
            std::thread::sleep(Duration::from_millis(200));
        } else {
            let parent: Vec<&str> = earlier
                .as_deref()
                .map(|earlier| vec!["--prev-images-dir", earlier])
                .unwrap_or_default();
            criu.dump(pid, images, &[&["--track-mem"], options, &parent].concat());
        }
        earlier = images
            .file_name()
            .map(|name| format!("../{}", name.to_string_lossy()));
    }
}

/// With the pages sent over TCP to a server that writes them.
fn dump_to_page_server(criu: &CriuUnderTest, pid: u32, images: &Path, options: &[&str]) {
    let server_pid = images.join("server.pid");
    let port = free_port();
    let status = criu
        .command()
        .args([
            "page-server",
            "--daemon",
            "--address",
            "127.0.0.1",
            "--port",
            &port,
            "-o",
            "server.log",
            "-v4",
            "-D",
        ])
        .arg(images)
        .arg("--pidfile")
        .arg(&server_pid)
        .stdout(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the page server does not start"
    );
    criu.dump(
        pid,
        images,
        &[
            &["--page-server", "--address", "127.0.0.1", "--port", &port],
            options,
        ]
        .concat(),
    );
    let server = fs::read_to_string(server_pid)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let Some(server) = server else {
        panic!("the page server left no process id")
    };
    criu_testkit::Subreaper::reap(server);
}

/// With the pages left in the process for a lazy restore. The images are kept while CRIU serves; the process ends with
/// the server, unserved.
fn dump_lazily(criu: &CriuUnderTest, pid: u32, images: &Path, options: &[&str], place: &Path) {
    let port = free_port();
    let (mut status, writer) =
        io::pipe().unwrap_or_else(|error| panic!("cannot make a pipe: {error}"));
    let mut child = Running(
        Command::new("sh")
            // A descriptor by number: standard input's place is free to be one.
            .args(["-c", "exec 3>&1 >/dev/null; exec \"$@\"", "sh"])
            .arg(criu.path())
            .args([
                "dump",
                "--lazy-pages",
                "--address",
                "127.0.0.1",
                "--port",
                &port,
                "--status-fd",
                "3",
            ])
            .args(["-o", "dump.log", "-v4", "-t", &pid.to_string(), "-D"])
            .arg(images)
            .args(options)
            .stdin(Stdio::null())
            .stdout(writer)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run CRIU: {error}")),
    );
    let mut byte = [1];
    let ready = io::Read::read(&mut status, &mut byte);
    if !matches!(ready, Ok(1)) {
        let ended = child.0.wait();
        panic!(
            "the lazy dump ended with {ended:?}:\n{}",
            fs::read_to_string(images.join("dump.log")).unwrap_or_default()
        );
    }
    keep(images, place);
}

/// A child that is killed when it is of no use any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_or_else(
        |error| panic!("no free port: {error}"),
        |address| address.port().to_string(),
    )
}

/// Moves the images to their place in the repository, in exchange for those that were there.
fn keep(images: &Path, place: &Path) {
    let _ = fs::remove_dir_all(place);
    let copy = || -> io::Result<()> {
        fs::create_dir_all(place)?;
        for entry in fs::read_dir(images)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path())?, place.join(&name))?;
            }
            if entry.file_type()?.is_file() && !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                fs::write(place.join(name), anonymous(fs::read(entry.path())?))?;
            }
        }
        Ok(())
    };
    copy().unwrap_or_else(|error| panic!("cannot keep the images in {}: {error}", place.display()));
}

/// The image with the names of this machine's own control groups overwritten, letter by letter: CRIU notes those that
/// it runs in itself.
fn anonymous(mut image: Vec<u8>) -> Vec<u8> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for path in groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter(|path| path.len() > 1)
    {
        let mut from = 0;
        while let Some(at) = image[from..]
            .windows(path.len())
            .position(|window| window == path.as_bytes())
        {
            image[from + at + 1..from + at + path.len()].fill(b'x');
            from += at + path.len();
        }
    }
    image
}

/// What there is, as a Markdown table.
fn table(directory: &Path) -> String {
    let mut text =
        String::from("| set | holds | CRIU | options | images |\n|---|---|---|---|---|\n");
    for set in SETS {
        let mut series = Vec::new();
        let mut kinds = BTreeSet::new();
        for name in ["4.2", "4.3"] {
            for directory in set
                .directories()
                .iter()
                .map(|set| directory.join(name).join(set))
            {
                let Ok(entries) = fs::read_dir(directory) else {
                    continue;
                };
                if series.last() != Some(&name) {
                    series.push(name);
                }
                kinds.extend(
                    entries
                        .flatten()
                        .map(|entry| kind(&entry.file_name().to_string_lossy())),
                );
            }
        }
        kinds.remove("parent");
        let kinds: Vec<String> = kinds.into_iter().collect();
        let options = match set.dump {
            Dump::Chain(options) => options,
            _ => set.options,
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            set.name,
            set.about,
            series.join(", "),
            if options.is_empty() {
                String::new()
            } else {
                format!("`{}`", options.join(" "))
            },
            kinds.join(", ")
        );
    }
    text
}

/// The name of an image without its ids.
fn kind(file: &str) -> String {
    let stem = file.trim_end_matches(".img").trim_end_matches(".tar.gz");
    match stem.rsplit_once('-') {
        Some((kind, id)) if id.chars().all(|c| c.is_ascii_hexdigit()) && id != "dump" => {
            kind.to_owned()
        }
        _ => stem.to_owned(),
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
