//! What `encode` takes beside our own texts: Python's, Go's, older ones, and any order.

use criu_inspect::json::{self, EncodeOptions, TaskStateWords, UnknownMembers};

use crate::{compact, encode};

#[track_caller]
fn check(text: &str, expected: &str) {
    match encode(text) {
        Ok(image) => assert_eq!(compact(&image), expected),
        Err(error) => panic!("{error}\n{text}"),
    }
}

#[track_caller]
fn check_entry(magic: &str, entry: &str, expected: &str) {
    let image = |entry| format!(r#"{{"magic": "{magic}", "entries": [{entry}]}}"#);
    check(&image(entry), &image(expected));
}

#[test]
fn members_in_any_order() {
    let expected = r#"{"magic": "PSTREE", "entries": [{"pid": 1, "ppid": 0, "pgid": 2, "sid": 3, "threads": [1]}]}"#;
    check(
        r#"{"entries":[{"threads":[1],"sid":3,"pgid":2,"ppid":0,"pid":1}],"magic":"PSTREE"}"#,
        expected,
    );
    check(
        r#"{"entries":[{"threads":[1],"sid":3,"pid":9,"pgid":2,"ppid":0,"pid":1}],"magic":"PSTREE"}"#,
        expected,
    );
    let many = r#"{"pid": 1, "ppid": 0, "pgid": 1, "sid": 1}"#;
    let many = vec![many; 20_000].join(", ");
    let text = format!(r#"{{"entries": [{many}], "magic": "PSTREE"}}"#);
    check(
        &text,
        &format!(r#"{{"magic": "PSTREE", "entries": [{many}]}}"#),
    );
}

#[test]
fn a_payload_before_the_fields_it_belongs_to() {
    check_entry(
        "PIPES_DATA",
        r#"{"extra": "aGVsbG8=", "bytes": 5, "pipe_id": 1}"#,
        r#"{"pipe_id": 1, "bytes": 5, "extra": "aGVsbG8=\n"}"#,
    );
    // Too large to wait in memory.
    let data = "AAAA".repeat(1 << 20);
    let text = format!(
        r#"{{"magic": "PIPES_DATA", "entries": [{{"extra": "{data}", "bytes": {}, "pipe_id": 1}}]}}"#,
        3 << 20
    );
    let image = encode(text).expect("it can be encoded");
    assert_eq!(image.len(), 12 + 7 + (3 << 20));
    assert!(image[19..].iter().all(|&byte| byte == 0));
    // With the fields in front it does not have to wait.
    let text = format!(
        r#"{{"magic": "PIPES_DATA", "entries": [{{"bytes": {}, "pipe_id": 1, "extra": "{data}"}}]}}"#,
        3 << 20
    );
    assert_eq!(encode(text).expect("it can be encoded"), image);
}

#[test]
fn numbers_of_go_in_quotes() {
    check_entry(
        "MEMFD_INODE",
        r#"{"name":"x","uid":1,"gid":2,"size":"18446744073709551615","shmid":3,"seals":0,"inode_id":"7"}"#,
        r#"{"name": "x", "uid": 1, "gid": 2, "size": 18446744073709551615, "shmid": 3, "seals": 0, "inode_id": 7}"#,
    );
}

#[test]
fn names_of_sockets_as_go_and_as_python_have_them() {
    let socket = |number: &str, name: &str| {
        format!(
            r#"{{"id": 1, "ino": 2, "type": 1, "state": 10, "flags": 2, "uflags": 0, "backlog": 1, "peer": 0, "fown": {{"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}}, "opts": {{"so_sndbuf": 1, "so_rcvbuf": 1, "so_snd_tmo_sec": {number}, "so_snd_tmo_usec": 0, "so_rcv_tmo_sec": 0, "so_rcv_tmo_usec": 0}}, "name": "{name}"}}"#
        )
    };
    let expected = socket("0", "/run/x");
    check_entry("UNIXSK", &socket("\"0\"", "L3J1bi94"), &expected);
    check_entry("UNIXSK", &socket("0", "/run/x"), &expected);
    check_entry("UNIXSK", &socket("0", "L3J1bi94"), &socket("0", "L3J1bi94"));
}

#[test]
fn readable_files_of_go() {
    let entry = r#"{"type":"INETSK","id":4,"isk":{"id":4,"ino":5,"family":"INET","type":"STREAM","proto":"TCP","state":"CLOSING","src_port":80,"dst_port":0,"flags":"0x2","backlog":1,"src_addr":["127.0.0.1"],"dst_addr":["::1"],"fown":{"uid":0,"euid":0,"signum":0,"pid_type":0,"pid":0},"opts":{"so_sndbuf":1,"so_rcvbuf":1,"so_snd_tmo_sec":"0","so_snd_tmo_usec":"0","so_rcv_tmo_sec":"0","so_rcv_tmo_usec":"0"}}}"#;
    let expected = r#"{"type": "INETSK", "id": 4, "isk": {"id": 4, "ino": 5, "family": 2, "type": 1, "proto": 6, "state": 11, "src_port": 80, "dst_port": 0, "flags": 2, "backlog": 1, "src_addr": [16777343], "dst_addr": [0, 0, 0, 16777216], "fown": {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}, "opts": {"so_sndbuf": 1, "so_rcvbuf": 1, "so_snd_tmo_sec": 0, "so_snd_tmo_usec": 0, "so_rcv_tmo_sec": 0, "so_rcv_tmo_usec": 0}}}"#;
    check_entry("FILES", entry, expected);
}

#[test]
fn payloads_of_go() {
    let set = r#"{"desc": {"key": 1, "uid": 0, "gid": 0, "cuid": 0, "cgid": 0, "mode": 384, "id": 1}, "nsems": 3, "extra": "#;
    check_entry(
        "IPCNS_SEM",
        &format!("{set}\"[1,2,3]\"}}"),
        &format!("{set}[1, 2, 3]}}"),
    );
    let queue = r#"{"desc": {"key": 1, "uid": 0, "gid": 0, "cuid": 0, "cgid": 0, "mode": 384, "id": 1}, "qbytes": 100, "qnum": 1, "extra": "#;
    check_entry(
        "IPCNS_MSG",
        &format!(r#"{queue}"[{{\"mtype\":1,\"msize\":3}},\"b25l\"]"}}"#),
        &format!(r#"{queue}[{{"mtype": 1, "msize": 3}}, "b25l\n"]}}"#),
    );
    let stream = r#"{"inq_len": 3, "inq_seq": 1, "outq_len": 2, "outq_seq": 1, "opt_mask": 0, "snd_wscale": 0, "mss_clamp": 0, "extra": "#;
    let expected = format!(r#"{stream}{{"inq": "b25l\n", "outq": "aGk=\n"}}}}"#);
    check_entry(
        "TCP_STREAM",
        &format!(r#"{stream}{{"in_q":"b25l","out_q":"aGk="}}}}"#),
        &expected,
    );
    check_entry(
        "TCP_STREAM",
        &format!(r#"{stream}{{"out_q":"aGk=","in_q":"b25l"}}}}"#),
        &expected,
    );
    check_entry(
        "TCP_STREAM",
        &format!(r#"{stream}"{{\"in_q\":\"b25l\",\"out_q\":\"aGk=\"}}"}}"#),
        &expected,
    );
}

#[test]
fn base64_with_and_without_line_breaks_and_padding() {
    let expected = r#"{"pipe_id": 1, "bytes": 5, "extra": "aGVsbG8=\n"}"#;
    for data in [
        "aGVsbG8=",
        "aGVs\\nbG8=\\n",
        "aGVs bG8",
        "a\\u0047VsbG8=\\r\\n",
    ] {
        check_entry(
            "PIPES_DATA",
            &format!(r#"{{"pipe_id": 1, "bytes": 5, "extra": "{data}"}}"#),
            expected,
        );
    }
}

#[test]
fn words_for_the_state_of_a_task() {
    let core = |state: &str| {
        format!(
            r#"{{"magic": "CORE", "entries": [{{"mtype": "X86_64", "tc": {{"task_state": {state}, "exit_code": 0, "personality": 0, "flags": 0, "blk_sigset": 0, "comm": "x"}}}}]}}"#
        )
    };
    check(&core("\"Zombie\""), &core("6"));
    check(&core("\"Stopped\""), &core("3"));
    let options = EncodeOptions::default().task_state_words(TaskStateWords::V4_2);
    for (word, number) in [("Zombie", "3"), ("Stopped", "6"), ("Alive", "1")] {
        let mut image = Vec::new();
        json::encode(core(&format!("\"{word}\"")).as_bytes(), &mut image, options)
            .expect("it can be encoded");
        assert_eq!(compact(&image), core(number));
    }
}

#[test]
fn unknown_members_if_asked_to() {
    let text = r#"{"version": 3, "magic": "PSTREE", "entries": [{"pid": 1, "colour": {"a": [1, "\"}"]}, "ppid": 0, "pgid": 1, "sid": 1}], "end": null}"#;
    let mut image = Vec::new();
    let options = EncodeOptions::default().unknown_members(UnknownMembers::Ignored);
    json::encode(text.as_bytes(), &mut image, options).expect("it can be encoded");
    assert_eq!(
        compact(&image),
        r#"{"magic": "PSTREE", "entries": [{"pid": 1, "ppid": 0, "pgid": 1, "sid": 1}]}"#
    );
}

#[test]
fn messages_alone() {
    let descriptor = criu_image::schema::message("vma_entry").expect("it exists");
    let text = br#"{"start": "0x1000", "end": 8192, "pgoff": 0, "shmid": 0, "prot": "PROT_READ", "flags": "MAP_PRIVATE | 0x10", "status": 1, "fd": -1}"#;
    let mut bytes = Vec::new();
    json::encode_message(descriptor, text, EncodeOptions::default(), &mut bytes)
        .expect("it can be encoded");
    let mut back = Vec::new();
    json::decode_message(descriptor, &bytes, json::Style::Compact, &mut back)
        .expect("it can be decoded");
    assert_eq!(
        String::from_utf8_lossy(&back),
        r#"{"start": 4096, "end": 8192, "pgoff": 0, "shmid": 0, "prot": 1, "flags": 18, "status": 1, "fd": -1}"#
    );
}
