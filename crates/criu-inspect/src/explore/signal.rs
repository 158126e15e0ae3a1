//! Names of signals.

/// The name of a signal, as `kill -l` has it, with `SIG` in front; numbers are those of x86 and
/// most other architectures.
#[must_use]
pub fn signal_name(number: u32) -> String {
    let standard = usize::try_from(number)
        .ok()
        .and_then(|number| STANDARD.get(number.checked_sub(1)?));
    match standard {
        Some(name) => format!("SIG{name}"),
        None if number == RTMIN => "SIGRTMIN".to_owned(),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

/// The names of the signals in a mask: bit 0 is signal 1.
pub(super) fn signal_names(mask: u64) -> Vec<String> {
    (1..=RTMAX)
        .filter(|number| mask >> (number - 1) & 1 != 0)
        .map(signal_name)
        .collect()
}

/// The names from signal 1 on, from the kernel's `asm-generic/signal.h`.
const STANDARD: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// First of the real-time signals that programs get; the two before are the C library's.
const RTMIN: u32 = 34;
/// Last of the real-time signals.
const RTMAX: u32 = 64;
