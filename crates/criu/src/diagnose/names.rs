//! Fills cause and remedy texts: what a pattern's holes took, and the names behind its numbers.

use super::pattern::Captures;

/// Replaces every `{name}` in `text`.
///
/// Besides the holes themselves there are `{device}` (the name of the device whose numbers the hole
/// `rdev` took) and `{protocol}` (of the hole `proto`).
pub(super) fn fill(text: &str, captures: &Captures<'_>) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        filled.push_str(&value(name, captures));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// Names that are not holes but follow from one: `(name, hole)`.
pub(super) const DERIVED: &[(&str, &str)] = &[("device", "rdev"), ("protocol", "proto")];

fn value(name: &str, captures: &Captures<'_>) -> String {
    let captured = |name: &str| {
        captures
            .iter()
            .find(|(hole, _)| *hole == name)
            .map(|&(_, text)| text)
    };
    if let Some((_, hole)) = DERIVED.iter().find(|(derived, _)| *derived == name) {
        let number = captured(hole).unwrap_or_default();
        return match name {
            "device" => device(number),
            _ => protocol(number),
        };
    }
    captured(name).unwrap_or("?").to_owned()
}

fn device(numbers: &str) -> String {
    let numbers = numbers.trim_end_matches([')', ' ']);
    let name = DEVICES
        .iter()
        .find(|(known, _)| *known == numbers)
        .map(|&(_, name)| name)
        .or_else(|| {
            let (major, _) = numbers.split_once(':')?;
            MAJORS
                .iter()
                .find(|(known, _)| *known == major)
                .map(|&(_, name)| name)
        });
    match name {
        Some(name) => format!("{name} (device {numbers})"),
        None => format!("the device {numbers} (see /proc/devices for its driver)"),
    }
}

fn protocol(number: &str) -> String {
    let known = PROTOCOLS.iter().find(|(known, _)| *known == number);
    known.map_or_else(
        || format!("protocol {number}"),
        |(_, name)| format!("{name} (protocol {number})"),
    )
}

/// Character devices by number: Linux' `Documentation/admin-guide/devices.txt` and `misc` minors.
const DEVICES: &[(&str, &str)] = &[
    ("1:1", "/dev/mem"),
    ("1:11", "/dev/kmsg"),
    ("10:200", "/dev/net/tun"),
    (
        "10:229",
        "/dev/fuse, a FUSE file system server's connection",
    ),
    ("10:232", "/dev/kvm, a virtual machine"),
    ("10:237", "/dev/loop-control"),
    ("10:238", "/dev/vhost-net"),
    ("10:241", "/dev/vhost-vsock"),
    ("10:223", "/dev/uinput"),
    ("10:228", "/dev/hpet"),
    ("10:130", "/dev/watchdog"),
    ("10:196", "/dev/vfio/vfio"),
    ("10:235", "/dev/autofs"),
];

const MAJORS: &[(&str, &str)] = &[
    ("13", "an input device (/dev/input)"),
    ("29", "a frame buffer (/dev/fb)"),
    ("81", "a video device (/dev/video, V4L)"),
    ("116", "a sound device (/dev/snd, ALSA)"),
    ("14", "a sound device (OSS)"),
    ("189", "a USB device (/dev/bus/usb)"),
    ("188", "a USB serial device (/dev/ttyUSB)"),
    ("195", "an NVIDIA GPU (/dev/nvidia*)"),
    ("226", "a GPU (/dev/dri, DRM)"),
    ("231", "an InfiniBand/RDMA device (/dev/infiniband)"),
    ("108", "/dev/ppp"),
    ("8", "a disk (/dev/sd*)"),
    ("202", "a CPU register device (/dev/cpu/*/msr)"),
    ("10", "a misc device"),
];

/// IP protocols as CRIU prints them: by number.
const PROTOCOLS: &[(&str, &str)] = &[
    ("1", "ICMP (ping)"),
    ("2", "IGMP"),
    ("58", "ICMPv6 (ping)"),
    ("89", "OSPF"),
    ("103", "PIM"),
    ("112", "VRRP"),
    ("132", "SCTP"),
    ("136", "UDP-Lite"),
    ("255", "raw IP"),
    ("262", "MPTCP (multipath TCP)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_derived_names_are_filled() {
        assert_eq!(fill("pid {pid}.", &vec![("pid", "12")]), "pid 12.");
        assert!(fill("{device}", &vec![("rdev", "10:229")]).starts_with("/dev/fuse"));
        assert!(fill("{device}", &vec![("rdev", "195:255")]).contains("NVIDIA"));
        assert_eq!(
            fill("{protocol}", &vec![("proto", "58")]),
            "ICMPv6 (ping) (protocol 58)"
        );
        assert_eq!(fill("{protocol}", &vec![("proto", "7")]), "protocol 7");
    }
}
