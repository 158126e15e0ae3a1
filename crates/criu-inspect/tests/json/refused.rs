//! What `encode` refuses, and where it says the culprit is.

use criu_inspect::json::EncodeErrorKind;

use crate::encode;

#[track_caller]
fn check(text: &str, expected: &str) {
    match encode(text) {
        Ok(_) => panic!("it was taken: {text}"),
        Err(error) => assert_eq!(error.to_string(), expected),
    }
}

#[test]
fn errors_name_line_column_entry_and_field() {
    let error = encode(
        r#"{
    "magic": "MM",
    "entries": [
        {
            "vmas": [
                {
                    "start": 1,
                    "end": "0xzz"
                }
            ]
        }
    ]
}"#,
    )
    .expect_err("the number is none");
    assert_eq!(
        (error.line(), error.column(), error.entry()),
        (8, 28, Some(0))
    );
    assert_eq!(error.path(), "mm_entry.vmas.[0].end");
    assert!(matches!(error.kind(), EncodeErrorKind::UnknownWord { .. }));
    assert_eq!(
        error.to_string(),
        r#"line 8, column 28: entry 0: mm_entry.vmas.[0].end: unknown word or number "0xzz""#
    );
}

#[test]
fn what_is_no_json() {
    check("", "line 1, column 1: expected an object, found nothing");
    check(
        "\x19CVT",
        "line 1, column 1: expected an object, found byte 0x19",
    );
    check("[1]", "line 1, column 1: expected an object, found `[`");
    check(
        "{\"magic\"",
        "line 1, column 9: expected `:`, found the end of the text",
    );
    check(
        "{\"magic\": \"MM",
        "line 1, column 14: expected `\"`, found the end of the text",
    );
    check(
        r#"{"magic": "MM" "entries": []}"#,
        "line 1, column 16: expected `,` or `}`, found `\"`",
    );
    check(
        r#"{"magic": "MM", "entries": []} x"#,
        "line 1, column 32: expected the end of the text, found `x`",
    );
}

#[test]
fn what_is_no_image() {
    check(
        r#"{"entries": []}"#,
        "line 1, column 16: member `magic` is missing",
    );
    check(
        r#"{"magic": "MM"}"#,
        "line 1, column 15: member `entries` is missing",
    );
    check(
        r#"{"magic": "NONSENSE", "entries": []}"#,
        "line 1, column 11: unknown magic `NONSENSE`",
    );
    check(
        r#"{"magic": "PAGES", "entries": []}"#,
        "line 1, column 11: unknown magic `PAGES`",
    );
    check(
        r#"{"magic": "MM", "magic": "MM", "entries": []}"#,
        "line 1, column 26: member `magic` must come once, before `entries`",
    );
    check(
        r#"{"magic": "MM", "entries": {}}"#,
        "line 1, column 28: expected a list of entries, found an object",
    );
}

#[track_caller]
fn check_task(entry: &str, expected: &str) {
    let text = format!("{{\"magic\": \"PSTREE\", \"entries\": [\n{entry}]}}");
    check(&text, expected);
}

#[test]
fn what_does_not_fit_the_schema() {
    check_task(
        r#"{"pid": 1, "ppid": 0, "pgid": 1}"#,
        "line 2, column 32: entry 0: pstree_entry: required field `sid` is missing",
    );
    check_task(
        r#"{"pid": 1, "pids": 1}"#,
        "line 2, column 12: entry 0: pstree_entry: unknown field `pids` of `pstree_entry`",
    );
    check_task(
        r#"{"pid": 4294967296}"#,
        "line 2, column 9: entry 0: pstree_entry.pid: number does not fit into a field of type uint32",
    );
    check_task(
        r#"{"pid": -1}"#,
        "line 2, column 9: entry 0: pstree_entry.pid: number does not fit into a field of type uint32",
    );
    check_task(
        r#"{"pid": 99999999999999999999}"#,
        "line 2, column 9: entry 0: pstree_entry.pid: number does not fit into 64 bits",
    );
    check_task(
        r#"{"pid": 1.5}"#,
        "line 2, column 9: entry 0: pstree_entry.pid: expected an integer, found a fraction",
    );
    check_task(
        r#"{"pid": null}"#,
        "line 2, column 9: entry 0: pstree_entry.pid: expected a number, found `true`, `false` or `null`",
    );
    check_task(
        r#"{"threads": 1}"#,
        "line 2, column 13: entry 0: pstree_entry.threads: expected a list, found `1`",
    );
    check_task(
        r#"{"threads": [1, {}]}"#,
        "line 2, column 17: entry 0: pstree_entry.threads.[1]: expected a number, found an object",
    );
    check_task(
        "3",
        "line 2, column 1: entry 0: expected an object, found `3`",
    );
}

#[test]
fn what_does_not_fit_a_payload() {
    let pipe = |extra: &str| {
        format!(
            r#"{{"magic": "PIPES_DATA", "entries": [{{"pipe_id": 1, "bytes": 5, "extra": {extra}}}]}}"#
        )
    };
    check(
        &pipe("\"... <5B>\""),
        "line 1, column 73: entry 0: extra: payload was left out when this text was printed",
    );
    check(
        &pipe("\"a-b_\""),
        "line 1, column 73: entry 0: extra: invalid base64",
    );
    check(
        &pipe("5"),
        "line 1, column 73: entry 0: extra: expected base64 in quotes, found a number",
    );
    check(
        &pipe("\"AAAA\""),
        "line 1, column 79: entry 0: extra: payload of 3 bytes where the entry says 5",
    );
    check(
        r#"{"magic": "GHOST_FILE", "entries": [{"uid": 1, "gid": 0, "mode": 33188}]}"#,
        "line 1, column 71: entry 0: member `extra` is missing",
    );
    check(
        r#"{"magic": "PSTREE", "entries": [{"pid": 1, "extra": ""}]}"#,
        "line 1, column 44: entry 0: pstree_entry: unknown field `extra` of `pstree_entry`",
    );
}

#[test]
fn what_is_no_text() {
    check_task(
        "{\"a\nb\": 1}",
        "line 2, column 2: entry 0: pstree_entry: control character within a string",
    );
    check_task(
        r#"{"\q": 1}"#,
        "line 2, column 2: entry 0: pstree_entry: invalid escape in a string",
    );
    check_task(
        r#"{"\ud800": 1}"#,
        r"line 2, column 2: entry 0: pstree_entry: lone surrogate \ud800 in a string",
    );
}

#[test]
fn what_has_no_end() {
    let deep = "{\"children\": [".repeat(200);
    let text = format!(r#"{{"magic": "CGROUP", "entries": [{{"controllers": [{{"dirs": [{deep}"#);
    let error = encode(text).expect_err("it is too deep");
    assert!(
        matches!(error.kind(), EncodeErrorKind::TooDeep { limit: 100 }),
        "{error}"
    );
}
