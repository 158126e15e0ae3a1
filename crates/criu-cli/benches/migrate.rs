//! A migration by `criuctl` against what people script today, in the same run: `criu page-server`, `criu dump`, the
//! other images by `tar`, `criu restore`.
//!
//! ```text
//! cargo bench -p criu-cli --bench migrate [MIB [RATE [RUNS [DIRTY [WAY...]]]]]
//! ```
//!
//! 256 MiB, 1gbit and 3 runs unless said; DIRTY is how many KiB the process writes to in a second, over five times as
//! much memory, which comes on top. Ways are those whose names contain one of the words, all of them without any; modes
//! that track memory are measured where the kernel can. Two network namespaces are the hosts; the link between them is
//! as fast as RATE says (tc-tbf(8)). The process counts every 5 ms; its downtime is the longest time it did not count.
//! Half its memory is like text, half like noise.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and has no better answer than to stop"
)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criu_testkit::{
    CriuUnderTest, Namespace, NetworkNamespace, Scene, Subreaper, TempDir, TestProcess,
};

const THERE: &str = "10.78.2.2";

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let number = |at: usize, usual: u32| words.get(at).map_or(usual, |word| word.parse().unwrap());
    let (mib, runs, dirty_kib) = (number(0, 256), number(2, 3), number(3, 0));
    let rate = words.get(1).map_or("1gbit", String::as_str);
    let Some(criu) = CriuUnderTest::newest() else {
        println!("there is no CRIU to measure; set $CRIU_TEST_4_3");
        return;
    };
    Subreaper::enable();
    println!("{mib} MiB over {rate}, {dirty_kib} KiB/s written, medians of {runs} runs");
    println!(
        "{:<28} {:>12} {:>12} {:>16} {:>9}",
        "", "downtime ms", "wire MiB", "own CPU s/GiB", "peak MiB"
    );
    let mut ways: Vec<(&str, Option<&[&str]>)> = vec![
        ("script", None),
        ("stop-and-copy", Some(&["--mode", "stop-and-copy"])),
        (
            "stop-and-copy, uncompressed",
            Some(&["--mode", "stop-and-copy", "--compress", "off"]),
        ),
        ("post-copy", Some(&["--mode", "post-copy"])),
        (
            "post-copy, uncompressed",
            Some(&["--mode", "post-copy", "--compress", "off"]),
        ),
    ];
    let features = criu::Criu::with_binary(criu.path()).unwrap().features();
    if features.unwrap().contains(criu::Feature::MemoryTracking) {
        ways.push(("pre-copy", Some(&["--mode", "pre-copy"])));
        ways.push(("hybrid", Some(&["--mode", "hybrid"])));
    }
    let chosen = words.get(4..).unwrap_or_default();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|word| name.contains(word));
    ways.retain(|(name, _)| is_chosen(name));
    let load = Load { mib, dirty_kib };
    for (name, options) in ways {
        let runs: Vec<Run> = (0..runs).map(|_| run(&criu, load, rate, options)).collect();
        let of = |figure: fn(&Run) -> f64| {
            let mut all: Vec<f64> = runs.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{name:<28} {:>12.0} {:>12.1} {:>16.2} {:>9.0}",
            of(|run| run.downtime.as_secs_f64() * 1e3),
            of(|run| run.wire_mib),
            of(|run| run.own_cpu_seconds) * 1024.0 / load.mib(),
            of(|run| run.own_peak_mib),
        );
    }
}

/// What the process is like.
#[derive(Clone, Copy)]
struct Load {
    /// Memory that stays as it is.
    mib: u32,
    /// What is written to in a second.
    dirty_kib: u32,
}

impl Load {
    /// All its memory.
    fn mib(self) -> f64 {
        f64::from(self.mib) + f64::from(self.dirty_kib) * 5.0 / 1024.0
    }
}

/// What one migration came to.
struct Run {
    downtime: Duration,
    wire_mib: f64,
    own_cpu_seconds: f64,
    own_peak_mib: f64,
}

struct Hosts {
    here: NetworkNamespace,
    there: NetworkNamespace,
}

impl Hosts {
    fn new(rate: &str) -> Self {
        let (here, there) = (NetworkNamespace::new(), NetworkNamespace::new());
        let path = there.path().display().to_string();
        let holder = path.split('/').nth(2).unwrap();
        let on = |host: &NetworkNamespace, words: &str| {
            let mut words = words.split(' ');
            let mut command = host.command(words.next().unwrap());
            assert!(command.args(words).status().unwrap().success());
        };
        on(
            &here,
            &format!("ip link add wire type veth peer name wire netns {holder}"),
        );
        for (host, address) in [(&here, "10.78.2.1"), (&there, THERE)] {
            on(host, &format!("ip addr add {address}/24 dev wire"));
            on(host, "ip link set wire up");
            on(
                host,
                &format!("tc qdisc add dev wire root tbf rate {rate} burst 1mb latency 50ms"),
            );
        }
        Self { here, there }
    }

    /// Bytes that went over the link, both ways.
    fn wire_bytes(&self) -> u64 {
        let output = self.here.command("cat").arg("/proc/net/dev").output();
        let table = String::from_utf8(output.unwrap().stdout).unwrap();
        let line = table
            .lines()
            .find_map(|line| line.trim().strip_prefix("wire:"));
        let words: Vec<u64> = line
            .unwrap()
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        words[0] + words[8]
    }
}

fn run(criu: &CriuUnderTest, load: Load, rate: &str, options: Option<&[&str]>) -> Run {
    let hosts = Hosts::new(rate);
    let place = TempDir::new();
    let on_source = format!("--net={}", hosts.here.path().display());
    let mut scene = Scene::new()
        .prelude(&["nsenter", &on_source, "--"])
        .memory_kib(load.mib * 512)
        .part(format!("text={}", load.mib * 512));
    if load.dirty_kib > 0 {
        scene = scene.part(format!("dirty={}", load.dirty_kib));
    }
    let mut process = scene
        .namespaces(&[Namespace::Pid, Namespace::Mount])
        .start();
    process.wait_for_count_above(2);
    let before = hosts.wire_bytes();
    let over = AtomicBool::new(false);
    let (downtime, used) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| longest_pause(&process.directory().join("count"), &over));
        let used = match options {
            None => script(criu, &hosts, &process, place.path()),
            Some(options) => ours(criu, &hosts, &process, place.path(), options),
        };
        over.store(true, Ordering::Relaxed);
        (watching.join().unwrap(), used)
    });
    let wire_bytes = hosts.wire_bytes() - before;
    process.reap();
    process.restored_as(used.pid);
    process.wait_for_count_above(process.count());
    assert_eq!(process.verify(), Ok(()));
    #[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
    Run {
        downtime,
        wire_mib: wire_bytes as f64 / f64::from(1 << 20),
        own_cpu_seconds: used.cpu_seconds,
        own_peak_mib: used.peak_mib,
    }
}

/// The longest time the count stood still, until it is over and counts again.
fn longest_pause(count: &Path, over: &AtomicBool) -> Duration {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    let mut longest = Duration::ZERO;
    loop {
        let now = fs::read(count).unwrap_or_default();
        if now != last {
            longest = longest.max(since.elapsed());
            (last, since) = (now, Instant::now());
            if over.load(Ordering::Relaxed) {
                return longest;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What it took, and who has arrived.
struct Used {
    pid: u32,
    cpu_seconds: f64,
    peak_mib: f64,
}

fn ours(
    criu: &CriuUnderTest,
    hosts: &Hosts,
    process: &TestProcess,
    place: &Path,
    options: &[&str],
) -> Used {
    let criuctl = |host: &NetworkNamespace| {
        let mut command = host.command(env!("CARGO_BIN_EXE_criuctl"));
        command.env("CRIU", criu.path()).stderr(Stdio::null());
        command.args(["--json", "migrate"]);
        command
    };
    let directory = |name: &str| {
        let path = place.join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let mut receive = criuctl(&hosts.there);
    receive.args([
        "receive",
        "--insecure",
        "--listen",
        &format!("{THERE}:7077"),
    ]);
    receive.arg("-D").arg(directory("there"));
    receive.arg("--root").arg(process.root().unwrap());
    let receiver = receive.stdout(Stdio::null()).spawn().unwrap();
    // It says so, but to nobody here.
    std::thread::sleep(Duration::from_millis(500));
    let mut send = criuctl(&hosts.here);
    send.args(["send", &process.pid().to_string(), &format!("{THERE}:7077")]);
    send.arg("--insecure").args(options);
    send.arg("-D").arg(directory("here"));
    let told = fs::File::create(place.join("told")).unwrap();
    let sender = send.stdout(told).spawn().unwrap();
    let used = watch_both(sender, receiver);
    let told = fs::read_to_string(place.join("told")).unwrap();
    let result: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    let pid = result["result"]["pid"].as_u64();
    Used {
        pid: u32::try_from(pid.expect(&told)).unwrap(),
        ..used
    }
}

/// Waits for both, and adds up what they used themselves, without the CRIUs they start.
fn watch_both(mut sender: Child, mut receiver: Child) -> Used {
    let (mut cpu, mut peak) = ([0.0; 2], [0.0; 2]);
    loop {
        for (index, id) in [sender.id(), receiver.id()].into_iter().enumerate() {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let words: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
            if let (Some(user), Some(system)) = (words.get(11), words.get(12)) {
                let ticks = user.parse::<f64>().unwrap_or(0.0) + system.parse().unwrap_or(0.0);
                cpu[index] = f64::max(cpu[index], ticks / 100.0);
            }
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            peak[index] = f64::max(peak[index], kib.unwrap_or(0.0) / 1024.0);
        }
        let over = (sender.try_wait().unwrap(), receiver.try_wait().unwrap());
        if let (Some(sent), Some(received)) = over {
            assert!(sent.success() && received.success(), "{sent} {received}");
            return Used {
                pid: 0,
                cpu_seconds: cpu.iter().sum(),
                peak_mib: f64::max(peak[0], peak[1]),
            };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn script(criu: &CriuUnderTest, hosts: &Hosts, process: &TestProcess, place: &Path) -> Used {
    let (here, there) = (place.join("here"), place.join("there"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    let program = criu.path().display().to_string();
    let quiet = |mut command: Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut server = quiet(hosts.there.command(&program));
    server.args(["page-server", "--address", THERE, "--port", "9000", "-D"]);
    let mut server = server.arg(&there).spawn().unwrap();
    let unpack = format!(
        "import socket, subprocess\nserver = socket.create_server(('{THERE}', 9001))\n\
         subprocess.run(['tar', '-C', '{}', '-xf', '-'], stdin=server.accept()[0].makefile('rb'))",
        there.display()
    );
    let mut unpacking = hosts.there.command("python3");
    let mut unpacking = unpacking.args(["-c", &unpack]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));

    let mut dump = quiet(hosts.here.command(&program));
    dump.args([
        "dump",
        "--page-server",
        "--address",
        THERE,
        "--port",
        "9000",
    ]);
    dump.args(["-t", &process.pid().to_string(), "-D"])
        .arg(&here);
    assert!(dump.status().unwrap().success());
    assert!(server.wait().unwrap().success());
    let pack = format!("tar -C {} -cf - . > /dev/tcp/{THERE}/9001", here.display());
    let mut packing = hosts.here.command("bash");
    assert!(packing.args(["-c", &pack]).status().unwrap().success());
    assert!(unpacking.wait().unwrap().success());
    let mut restore = quiet(hosts.there.command(&program));
    restore
        .args(["restore", "-d", "--pidfile"])
        .arg(place.join("pid"));
    restore.arg("--root").arg(process.root().unwrap());
    assert!(restore.arg("-D").arg(&there).status().unwrap().success());
    let pid = fs::read_to_string(place.join("pid")).unwrap();
    Used {
        pid: pid.trim().parse().unwrap(),
        cpu_seconds: 0.0,
        peak_mib: 0.0,
    }
}
