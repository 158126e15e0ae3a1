//! What carrying pages costs, and what is left of them.
//!
//! `cargo bench -p criu-migrate --bench pages [MIB [KIND [FILE]]]`: so many MiB of each kind of page go from a socket
//! through the source's side, a TCP connection over loopback and the destination's side to a socket, as CRIU's
//! do. Of KIND only, if given; FILE
//! may be the memory of a process, pages as they are. CPU time is that of both sides together; what feeds
//! and drains the sockets is not counted. With a link the bytes pass a thread that lets so many through.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at what goes wrong")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criu_migrate::carrier::Carrier;
use criu_migrate::transport::{Stream, Transport};
use criu_migrate::{Compression, Traffic};
use rustix::time::{ClockId, clock_gettime};

const PAGE: usize = 4096;
/// Pages behind one head, as many as CRIU likes to send.
const RUN: usize = 256;
const DEFAULT_MIB: usize = 512;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let mib = arguments
        .next()
        .map_or(DEFAULT_MIB, |text| text.parse().unwrap());
    let pages = mib << 8;
    let only = arguments.next().unwrap_or_default();
    let mut kinds = vec![
        ("zeros", stream(pages, |_, _| {})),
        ("one page", stream(pages, |_, page| page.fill(7))),
        (
            "duplicates",
            stream(pages, |number, page| noise(number as u64 % 1000, page)),
        ),
        (
            "noise",
            stream(pages, |number, page| noise(number as u64, page)),
        ),
        ("text", stream(pages, text)),
        ("mixed", stream(pages, mixed)),
    ];
    if let Some(path) = arguments.next() {
        let memory = std::fs::read(path).unwrap();
        let memory: Vec<&[u8]> = memory.chunks_exact(PAGE).collect();
        let fill = |number: usize, page: &mut [u8]| {
            page.copy_from_slice(memory[number % memory.len()]);
        };
        kinds.push(("file", stream(pages.min(memory.len()), fill)));
    }
    kinds.retain(|(kind, _)| kind.contains(&only));
    println!(
        "{:<12} {:<9} {:>10} {:>8} {:>10} {:>7} {:>7} {:>7} {:>7}",
        "pages", "compress", "link", "GB/s", "CPU s/GiB", "wire", "zeros", "dupl.", "packed"
    );
    for (name, stream) in &kinds {
        for (link, megabytes) in [
            ("none", None),
            ("10 Gbit/s", Some(1250)),
            ("1 Gbit/s", Some(125)),
        ] {
            for (word, compression) in [
                ("off", Compression::Off),
                ("auto", Compression::Adaptive),
                ("always", Compression::Always),
            ] {
                let run = carry(stream, compression, megabytes);
                let bytes = stream.len() as f64;
                let share = |part: u64| part as f64 / bytes;
                println!(
                    "{name:<12} {word:<9} {link:>10} {:>8.2} {:>10.3} {:>7.3} {:>7.3} {:>7.3} {:>7.3}",
                    bytes / run.elapsed.as_secs_f64() / 1e9,
                    run.cpu.as_secs_f64() / bytes * f64::from(1 << 30),
                    share(run.traffic.wire_bytes),
                    share(run.traffic.zero_bytes),
                    share(run.traffic.duplicate_bytes),
                    share(run.traffic.packed_bytes),
                );
            }
        }
    }
    println!("resident at most: {} MiB", peak_mib());
}

/// Pages as CRIU sends them.
fn stream(pages: usize, fill: impl Fn(usize, &mut [u8])) -> Vec<u8> {
    let mut stream = Vec::with_capacity(pages * PAGE + pages / RUN * 32 + 64);
    for first in (0..pages).step_by(RUN) {
        let count = RUN.min(pages - first);
        let mut head = [0; 32];
        // Pages with flags: present.
        head[..4].copy_from_slice(&(4_u32 << 16 | 6).to_ne_bytes());
        head[8..16].copy_from_slice(&(count as u64).to_ne_bytes());
        stream.extend_from_slice(&head);
        for number in first..first + count {
            let at = stream.len();
            stream.resize(at + PAGE, 0);
            fill(number, &mut stream[at..]);
        }
    }
    stream
}

fn noise(seed: u64, page: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for word in page.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
}

fn text(number: usize, page: &mut [u8]) {
    let mut rest = page;
    for line in 0.. {
        if writeln!(
            rest,
            "{{\"id\": {}, \"name\": \"user {line}\", \"seen\": {}}}",
            number * 64 + line,
            number ^ line
        )
        .is_err()
        {
            return;
        }
    }
}

/// A third of zeros, some of the rest twice, half text.
fn mixed(number: usize, page: &mut [u8]) {
    match number % 6 {
        0 | 1 => {}
        2 => noise(number as u64 / 60, page),
        3 => noise(number as u64, page),
        _ => text(number, page),
    }
}

struct Run {
    elapsed: Duration,
    cpu: Duration,
    traffic: Traffic,
}

fn carry(stream: &[u8], compression: Compression, megabytes: Option<u64>) -> Run {
    let cpu_before = cpu(ClockId::ProcessCPUTime);
    let mut foreign = Duration::ZERO;
    let (near, far, relay) = connect(megabytes);
    let (carrier, dumping, serving) = Carrier::start(near, far, compression).unwrap();
    let began = Instant::now();
    let elapsed = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || {
            UnixStream::from(dumping).write_all(stream).unwrap();
            cpu(ClockId::ThreadCPUTime)
        });
        let drain = scope.spawn(move || {
            let mut serving = UnixStream::from(serving);
            let mut buffer = vec![0; 1 << 20];
            let mut left = stream;
            while !left.is_empty() {
                let count = serving.read(&mut buffer).unwrap();
                assert!(count > 0 && left[..count] == buffer[..count]);
                left = &left[count..];
            }
            (cpu(ClockId::ThreadCPUTime), began.elapsed())
        });
        let (draining, elapsed) = drain.join().unwrap();
        foreign += draining + feeder.join().unwrap();
        elapsed
    });
    let traffic = carrier.traffic();
    drop(carrier);
    for thread in relay {
        foreign += thread.join().unwrap();
    }
    Run {
        elapsed,
        cpu: cpu(ClockId::ProcessCPUTime) - cpu_before - foreign,
        traffic,
    }
}

type Relay = Vec<std::thread::JoinHandle<Duration>>;

/// Two ends of a TCP connection; with a limit, of two with a thread for each direction between.
fn connect(megabytes: Option<u64>) -> (Box<dyn Transport>, Box<dyn Transport>, Relay) {
    let pair = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    };
    let end = |stream: TcpStream| Box::new(Stream::tcp(stream).unwrap());
    let (near, middle) = pair();
    let Some(megabytes) = megabytes else {
        return (end(near), end(middle), Vec::new());
    };
    let (other_middle, far) = pair();
    let relay = [(&middle, &other_middle), (&other_middle, &middle)].map(|(from, to)| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let mut free_at = Instant::now();
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                free_at = free_at.max(Instant::now());
                free_at += Duration::from_nanos(count as u64 * 1000 / megabytes);
                let early = free_at.saturating_duration_since(Instant::now());
                if early > Duration::from_millis(1) {
                    std::thread::sleep(early);
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Write);
            cpu(ClockId::ThreadCPUTime)
        })
    });
    (end(near), end(far), relay.into())
}

fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        >> 10
}
