//! The mounts of a process, from its `mountinfo`.

/// A line of `/proc/PID/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountLine {
    pub(super) id: u32,
    /// `MAJOR:MINOR` of what is mounted.
    pub(super) device: String,
    /// Where in its file system the mounted directory is.
    pub(super) root: String,
    pub(super) mountpoint: String,
    pub(super) fstype: String,
    /// The file system's own options: for control groups, the controllers.
    pub(super) options: String,
}

/// Reads the lines, see proc_pid_mountinfo(5); what is malformed is passed over.
pub(super) fn mount_lines(text: &str) -> Vec<MountLine> {
    let line = |line: &str| {
        let (fixed, rest) = line.split_once(" - ")?;
        let mut fixed = fixed.split(' ');
        let id = fixed.next()?.parse().ok()?;
        let device = fixed.nth(1)?.to_owned();
        let root = unescape(fixed.next()?);
        let mountpoint = unescape(fixed.next()?);
        let mut rest = rest.split(' ');
        let fstype = rest.next()?.to_owned();
        let options = rest.nth(1).unwrap_or_default().to_owned();
        Some(MountLine {
            id,
            device,
            root,
            mountpoint,
            fstype,
            options,
        })
    };
    text.lines().filter_map(line).collect()
}

/// The mount that a path lies on: the last with the longest mount point above it.
pub(super) fn mount_of<'a>(path: &str, mounts: &'a [MountLine]) -> Option<&'a MountLine> {
    mounts
        .iter()
        .filter(|mount| below(path, &mount.mountpoint).is_some())
        .max_by_key(|mount| mount.mountpoint.len())
}

/// The rest of a path behind a directory that it is, or lies in; without leading slashes.
pub(super) fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(directory.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// Undoes the kernel's `\ooo` for blanks, line ends and backslashes.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let value = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match value.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                out.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_paths_find_their_mount() {
        let text = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
                    30 22 0:25 /sub /mnt/a\\040b rw master:2 propagate_from:1 - tmpfs none rw,size=4k\n\
                    nonsense\n\
                    31 22 0:26 / /mnt/a\\040b rw - cgroup none rw,cpu\n";
        let mounts = mount_lines(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(
            mounts[1],
            MountLine {
                id: 30,
                device: "0:25".into(),
                root: "/sub".into(),
                mountpoint: "/mnt/a b".into(),
                fstype: "tmpfs".into(),
                options: "rw,size=4k".into()
            }
        );
        let id = |path| mount_of(path, &mounts).map(|mount| mount.id);
        assert_eq!(id("/mnt/a b/c"), Some(31));
        assert_eq!(id("/mnt/a b"), Some(31));
        assert_eq!(id("/mnt/a bc"), Some(22));
        assert_eq!(id("/"), Some(22));
        assert_eq!(mount_of("/", &[]), None);
        assert_eq!(below("/a/b/c", "/a/b/"), Some("c"));
        assert_eq!((below("/a", "/a"), below("/ab", "/a")), (Some(""), None));
        assert_eq!(unescape("a\\134b\\9"), "a\\b\\9");
    }
}
