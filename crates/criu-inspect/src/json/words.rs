//! The words CRIT has for numbers: names of bits, and names of values.
//!
//! The tables are those of Python CRIT 4.3. Bits of open files have their x86 values on every
//! architecture, as there.

/// The name of a set of bits.
#[derive(Debug)]
pub(super) struct Bit {
    pub(super) name: &'static str,
    pub(super) value: u64,
}

/// The name of a number.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) value: u64,
}

/// Which CRIT's words for the state of a task are meant when JSON is read.
///
/// CRIT 4.2 called state 3 "Zombie" and state 6 "Stopped"; since 4.3 they are called "Stopped" and
/// "Zombie", which is what they mean to CRIU. No text says which of the two wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskStateWords {
    /// Those of CRIT 4.3: 2 is "Dead", 3 is "Stopped", 6 is "Zombie".
    #[default]
    V4_3,
    /// Those of CRIT 4.2 and earlier: 3 is "Zombie", 6 is "Stopped".
    V4_2,
}

/// The bits of the flag table with the given name, such as `mmap.prot`.
pub(super) fn bits(table: &str) -> Option<&'static [Bit]> {
    match table {
        "mmap.prot" => Some(MMAP_PROT),
        "mmap.flags" => Some(MMAP_FLAGS),
        "mmap.status" => Some(MMAP_STATUS),
        "rfile.flags" => Some(RFILE_FLAGS),
        "pmap.flags" => Some(PMAP_FLAGS),
        "seals.flags" => Some(SEALS_FLAGS),
        _ => None,
    }
}

/// The words of the given group for the field with the given name.
pub(super) fn words(group: &str, field: &str) -> &'static [Word] {
    match (group, field) {
        ("gen", "task_state") => TASK_STATE,
        ("sk", "family") => SK_FAMILY,
        ("sk", "type") => SK_TYPE,
        ("sk", "state") => SK_STATE,
        ("sk", "proto") => SK_PROTO,
        _ => &[],
    }
}

/// The word for a number.
pub(super) fn word_for(words: &[Word], value: u64) -> Option<&'static str> {
    words
        .iter()
        .find(|word| word.value == value)
        .map(|word| word.name)
}

/// The number that a word stands for.
pub(super) fn number_for(
    words: &'static [Word],
    name: &str,
    task_state: TaskStateWords,
) -> Option<u64> {
    let words = if std::ptr::eq(words, TASK_STATE) && task_state == TaskStateWords::V4_2 {
        TASK_STATE_4_2
    } else {
        words
    };
    let mut known = words.iter();
    if let Some(word) = known.find(|word| word.name == name) {
        return Some(word.value);
    }
    // Go's tool knows two states of sockets more.
    let more = if std::ptr::eq(words, SK_STATE) {
        SK_STATE_MORE
    } else {
        &[]
    };
    more.iter()
        .find(|word| word.name == name)
        .map(|word| word.value)
}

const fn bit(name: &'static str, value: u64) -> Bit {
    Bit { name, value }
}

const fn word(value: u64, name: &'static str) -> Word {
    Word { name, value }
}

static MMAP_PROT: &[Bit] = &[
    bit("PROT_READ", 0x1),
    bit("PROT_WRITE", 0x2),
    bit("PROT_EXEC", 0x4),
];

static MMAP_FLAGS: &[Bit] = &[
    bit("MAP_SHARED", 0x1),
    bit("MAP_PRIVATE", 0x2),
    bit("MAP_DROPPABLE", 0x8),
    bit("MAP_ANON", 0x20),
    bit("MAP_GROWSDOWN", 0x100),
];

static MMAP_STATUS: &[Bit] = &[
    // Never printed, since it has no bit, but understood.
    bit("VMA_AREA_NONE", 0),
    bit("VMA_AREA_REGULAR", 1 << 0),
    bit("VMA_AREA_STACK", 1 << 1),
    bit("VMA_AREA_VSYSCALL", 1 << 2),
    bit("VMA_AREA_VDSO", 1 << 3),
    bit("VMA_AREA_HEAP", 1 << 5),
    bit("VMA_FILE_PRIVATE", 1 << 6),
    bit("VMA_FILE_SHARED", 1 << 7),
    bit("VMA_ANON_SHARED", 1 << 8),
    bit("VMA_ANON_PRIVATE", 1 << 9),
    bit("VMA_AREA_SYSVIPC", 1 << 10),
    bit("VMA_AREA_SOCKET", 1 << 11),
    bit("VMA_AREA_VVAR", 1 << 12),
    bit("VMA_AREA_AIORING", 1 << 13),
    bit("VMA_AREA_MEMFD", 1 << 14),
    bit("VMA_AREA_SHSTK", 1 << 15),
    bit("VMA_AREA_UPROBES", 1 << 17),
    bit("VMA_AREA_NOT_ACCOUNTABLE", 1 << 18),
    bit("VMA_UNSUPP", 1 << 31),
];

static RFILE_FLAGS: &[Bit] = &[
    bit("O_WRONLY", 0o1),
    bit("O_RDWR", 0o2),
    bit("O_CREAT", 0o100),
    bit("O_EXCL", 0o200),
    bit("O_NOCTTY", 0o400),
    bit("O_TRUNC", 0o1000),
    bit("O_APPEND", 0o2000),
    bit("O_NONBLOCK", 0o4000),
    bit("O_DSYNC", 0o10000),
    bit("FASYNC", 0o20000),
    bit("O_DIRECT", 0o40000),
    bit("O_LARGEFILE", 0o10_0000),
    bit("O_DIRECTORY", 0o20_0000),
    bit("O_NOFOLLOW", 0o40_0000),
    bit("O_NOATIME", 0o100_0000),
    bit("O_CLOEXEC", 0o200_0000),
];

static PMAP_FLAGS: &[Bit] = &[
    bit("PE_PARENT", 1 << 0),
    bit("PE_LAZY", 1 << 1),
    bit("PE_PRESENT", 1 << 2),
    bit("PE_PAYLOAD_ALIGNED", 1 << 3),
];

static SEALS_FLAGS: &[Bit] = &[
    bit("F_SEAL_SEAL", 0x1),
    bit("F_SEAL_SHRINK", 0x2),
    bit("F_SEAL_GROW", 0x4),
    bit("F_SEAL_WRITE", 0x8),
    bit("F_SEAL_FUTURE_WRITE", 0x10),
];

static TASK_STATE: &[Word] = &[
    word(1, "Alive"),
    word(2, "Dead"),
    word(3, "Stopped"),
    word(6, "Zombie"),
];

static TASK_STATE_4_2: &[Word] = &[
    word(1, "Alive"),
    word(2, "Dead"),
    word(3, "Zombie"),
    word(6, "Stopped"),
];

static SK_FAMILY: &[Word] = &[
    word(1, "UNIX"),
    word(2, "INET"),
    word(10, "INET6"),
    word(16, "NETLINK"),
    word(17, "PACKET"),
];

static SK_TYPE: &[Word] = &[
    word(1, "STREAM"),
    word(2, "DGRAM"),
    word(3, "RAW"),
    word(5, "SEQPACKET"),
    word(10, "PACKET"),
];

static SK_STATE: &[Word] = &[
    word(1, "ESTABLISHED"),
    word(2, "SYN_SENT"),
    word(3, "SYN_RECV"),
    word(4, "FIN_WAIT1"),
    word(5, "FIN_WAIT2"),
    word(6, "TIME_WAIT"),
    word(7, "CLOSE"),
    word(8, "CLOSE_WAIT"),
    word(9, "LAST_ACK"),
    word(10, "LISTEN"),
];

static SK_STATE_MORE: &[Word] = &[word(11, "CLOSING"), word(12, "NEW_SYN_RECV")];

static SK_PROTO: &[Word] = &[
    word(0, "IP"),
    word(6, "TCP"),
    word(17, "UDP"),
    word(136, "UDPLITE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_sockets_go_both_ways() {
        for (field, table) in [
            ("family", SK_FAMILY),
            ("type", SK_TYPE),
            ("state", SK_STATE),
            ("proto", SK_PROTO),
        ] {
            assert!(std::ptr::eq(words("sk", field), table));
            for word in table {
                assert_eq!(word_for(table, word.value), Some(word.name));
                let back = number_for(table, word.name, TaskStateWords::default());
                assert_eq!(back, Some(word.value));
            }
        }
        assert_eq!(
            number_for(SK_STATE, "CLOSING", TaskStateWords::V4_3),
            Some(11)
        );
        assert_eq!(number_for(SK_STATE, "OPEN", TaskStateWords::V4_3), None);
    }

    #[test]
    fn a_zombie_is_6_today_and_was_3_before() {
        assert_eq!(word_for(TASK_STATE, 6), Some("Zombie"));
        assert_eq!(
            number_for(TASK_STATE, "Zombie", TaskStateWords::V4_3),
            Some(6)
        );
        assert_eq!(
            number_for(TASK_STATE, "Zombie", TaskStateWords::V4_2),
            Some(3)
        );
        assert_eq!(
            number_for(TASK_STATE, "Stopped", TaskStateWords::V4_2),
            Some(6)
        );
    }

    #[test]
    fn no_bit_of_a_table_is_named_twice() {
        for name in [
            "mmap.prot",
            "mmap.flags",
            "mmap.status",
            "rfile.flags",
            "pmap.flags",
            "seals.flags",
        ] {
            let table = bits(name).expect("the table exists");
            let all = table.iter().fold(0, |all, bit| {
                assert_eq!(all & bit.value, 0, "{}", bit.name);
                all | bit.value
            });
            assert_ne!(all, 0);
        }
        assert!(bits("mmap.colour").is_none());
    }
}
