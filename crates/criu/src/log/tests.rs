use std::time::Duration;

use super::*;

fn only(text: &str) -> Entry {
    let log = Log::parse(text.as_bytes());
    assert_eq!(log.entries().len(), 1, "{log:?}");
    log.entries()[0].clone()
}

#[test]
fn a_full_line_is_taken_apart() {
    let entry =
        only("(00.068123)      1: Error (criu/files.c:1216): mnt: Unable to open fd=38 id=0x47\n");
    assert_eq!(entry.time, Some(Duration::from_micros(68_123)));
    assert_eq!(entry.pid, Some(1));
    assert_eq!(entry.level, Level::Error);
    assert_eq!(
        entry.location.as_ref().unwrap().to_string(),
        "criu/files.c:1216"
    );
    assert_eq!(entry.module(), Some("mnt"));
    assert_eq!(entry.message(), "Unable to open fd=38 id=0x47");
    assert_eq!(entry.body(), "mnt: Unable to open fd=38 id=0x47");
}

#[test]
fn restorer_lines_carry_two_marks() {
    let entry = only(
        "(00.250351) pie: 14: Error (criu/pie/restorer.c:297): Unable to restore capabilities: -1",
    );
    assert_eq!(entry.pid, Some(14));
    assert_eq!(entry.location.unwrap().file_name(), "restorer.c");
}

#[test]
fn old_paths_missing_levels_and_missing_times_are_accepted() {
    let entry =
        only("Error (files-reg.c:702): Can't dump ghost file /tmp/x of 5 size, increase limit");
    assert_eq!((entry.level, entry.time), (Level::Error, None));
    assert!(entry.message().starts_with("Can't dump ghost file"));
    let entry = only("(criu/tty.c:1014): tty: Don't have tty to inherit session from, aborting");
    assert_eq!((entry.level, entry.module()), (Level::Error, Some("tty")));
    let entry = only("127514: Error (criu/tty.c:1453): tty: No task found with sid 124454");
    assert_eq!(entry.pid, Some(127_514));
    let entry = only("Error (/usr/src/debug/criu/3.19.0+git/criu/mount-v2.c:324): mnt-v2: Failed");
    assert_eq!(entry.location.unwrap().file_name(), "mount-v2.c");
}

#[test]
fn wrappings_are_removed_from_the_message_but_not_from_the_line() {
    let entry = only(
        "b\"(00.000806) Error (criu/namespaces.c:460): Can't dump nested time namespace for 51\"",
    );
    assert_eq!(entry.message(), "Can't dump nested time namespace for 51");
    assert!(entry.raw().starts_with(b"b\"(00"));
    let entry =
        only(r#"time="2024-01-01T00:00:00Z" level=error msg="criu failed: type NOTIFY errno 0""#);
    assert_eq!(
        (entry.level, entry.message()),
        (Level::Error, "criu failed: type NOTIFY errno 0")
    );
    let entry = only("Nov 11 10:00:00 host runc[12]: (00.1234) Error (criu/seize.c:1): x\r\n");
    assert_eq!((entry.level, entry.message()), (Level::Error, "x"));
    let entry =
        only(r#"{"log":"(00.1000) Error (criu/a.c:1): x: Bad address\n","stream":"stderr"}"#);
    assert_eq!(entry.message(), "x: Bad address");
    let entry = only("\x1b[31mError (criu/a.c:1): red\x1b[0m");
    assert_eq!(entry.message(), "red");
}

#[test]
fn glued_entries_come_apart() {
    let log = Log::parse(
        b"Write 4294967295 to /proc/self/loginuid failed: Operation not permittedWarn  (criu/net.c:2780): Unable",
    );
    let texts: Vec<_> = log.entries().iter().map(Entry::text).collect();
    assert_eq!(
        texts,
        [
            "Write 4294967295 to /proc/self/loginuid failed: Operation not permitted",
            "Warn  (criu/net.c:2780): Unable"
        ]
    );
    let log = Log::parse(b"(00.000001) one (00.000002) Error (criu/a.c:2): two\n(00.000003)      1: Error (a.c:3): three");
    let messages: Vec<_> = log
        .entries()
        .iter()
        .map(|entry| entry.message().trim_end())
        .collect();
    assert_eq!(messages, ["one", "two", "three"]);
    let log = Log::parse(br#"msg="criu failed\n(00.000001) Error (criu/a.c:2): two\n""#);
    assert_eq!(log.entries().len(), 2);
    assert_eq!(log.errors().count(), 1);
}

#[test]
fn binary_rubbish_and_empty_input_do_no_harm() {
    assert!(Log::parse(b"").is_empty());
    assert!(Log::parse(b"\n \r\n\0\0\n").is_empty());
    let log = Log::parse(b"\0\0\0(00.000001) Error (criu/a.c:2): \xff\xfe name\n");
    assert_eq!(log.entries()[0].message(), "\u{fffd}\u{fffd} name");
    assert!(log.entries()[0].raw().starts_with(b"\0\0\0(00"));
    for bytes in [
        &b"("[..],
        b"Error (",
        b"Error (a.c:",
        b"(99999999999999.1) ",
        b"(00.000001)",
        b"\\n",
        b"Error (a.c:99999999999999): x",
    ] {
        let _ = Log::parse(bytes);
    }
}

#[test]
fn a_log_of_any_length_stays_within_its_limits() {
    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Ok(0);
            }
            self.0 -= 1;
            let line: &[u8] = match self.0 {
                5_000 => b"(00.5) Error (criu/mount.c:1): mnt: in the middle\n",
                4_000 => &[b'x'; 4_000],
                _ => b"(00.000100) mnt: something dull\n",
            };
            let length = line.len().min(buffer.len());
            buffer[..length].copy_from_slice(&line[..length]);
            Ok(length)
        }
    }
    let limits = Limits {
        line_bytes: 100,
        entries: 50,
        bytes: 10_000,
        tail: 20,
    };
    let log = Log::read(Endless(10_000), limits).unwrap();
    assert!(log.entries().len() <= 120, "{}", log.entries().len());
    assert!(log.entries().iter().all(|entry| entry.raw().len() <= 100));
    assert_eq!(log.errors().count(), 1);
    assert_eq!(log.line_count(), 9_999);
    assert_eq!(log.omitted() + log.entries().len() as u64, log.line_count());
}

#[test]
fn bytes_may_arrive_in_any_portions() {
    let text = b"(00.000001) one\r\n(00.000002) Error (criu/a.c:2): two\nthree";
    let whole: Vec<_> = Log::parse(text).entries().to_vec();
    for portion in 1..text.len() {
        let mut reader = reader::Reader::new(Limits::default());
        text.chunks(portion).for_each(|chunk| reader.feed(chunk));
        assert_eq!(reader.finish().entries(), whole);
    }
}

#[test]
fn version_kernel_operation_and_outcome_are_found() {
    let log = Log::parse(
        b"(00.000081) Version: 3.16.1 (gitid 0)\n(00.000114) Running on host Linux 6.8.0 #43 x86_64\n\
          (00.000200) Dumping processes (pid: 1)\n(00.100000) Dumping finished successfully\n",
    );
    assert_eq!(log.version(), Some("3.16.1"));
    assert_eq!(log.kernel(), Some("host Linux 6.8.0 #43 x86_64"));
    assert_eq!(log.operation(), Some(Operation::Dump));
    assert_eq!(log.outcome(), Some((Operation::Dump, Outcome::Finished)));
    let log = Log::parse(b"  12: something\nError (criu/cr-restore.c:2300): Restoring FAILED.\n");
    assert_eq!(log.outcome(), Some((Operation::Restore, Outcome::Failed)));
    assert_eq!(log.tail(1).len(), 1);
    assert_eq!(log.tail(10).len(), 2);
}

#[test]
fn a_mark_without_file_name_is_known_behind_a_time_stamp() {
    let log = Log::parse(
        b"(00.018051)  33670: Error: tty: Don't have tty to inherit session from\nError: ipv4: Address already assigned.\n",
    );
    let [error, foreign] = log.entries() else {
        panic!("{} entries", log.entries().len());
    };
    assert_eq!(
        (error.level, error.pid, error.module()),
        (Level::Error, Some(33670), Some("tty"))
    );
    assert_eq!(foreign.level, Level::Untagged);
}
