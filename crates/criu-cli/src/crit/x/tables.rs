//! Answers as tables.

use std::fmt::Display;
use std::io::{self, Write, stdout};

use criu_inspect::explore::{
    Capabilities, Credentials, Mount, MountNamespace, Namespace, Network, PendingSignal, Socket,
    Sockets, TaskCgroups, TaskSignals, TaskStrings, TaskThreads, TaskTimers,
};

use crate::output::{Color, Table, Tone, visible};

type Out<'a> = &'a mut Vec<u8>;

pub(super) fn sockets(sockets: &Sockets, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&[
        "PID", "FD", "NETID", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "PEER",
    ]);
    for task in &sockets.0 {
        for socket in &task.sockets {
            let queued = socket.send_queue.or(socket.backlog.map(u64::from));
            let (local, peer) = ends(socket);
            row(
                &mut table,
                [
                    task.pid.to_string(),
                    socket.fd.to_string(),
                    netid(socket),
                    or_dash(&socket.state),
                    socket.recv_queue.unwrap_or(0).to_string(),
                    queued.unwrap_or(0).to_string(),
                    local,
                    peer,
                ],
            );
        }
    }
    finish(&table, out)
}

/// What `ss` calls the kind of socket.
fn netid(socket: &Socket) -> String {
    match (socket.fd_type.as_str(), socket.kind.as_str()) {
        ("INETSK", "RAW") => "raw".to_owned(),
        ("INETSK", _) => socket.protocol.to_lowercase(),
        ("UNIXSK", "STREAM") => "u_str".to_owned(),
        ("UNIXSK", "DGRAM") => "u_dgr".to_owned(),
        ("UNIXSK", "SEQPACKET") => "u_seq".to_owned(),
        ("PACKETSK", "DGRAM") => "p_dgr".to_owned(),
        ("PACKETSK", _) => "p_raw".to_owned(),
        ("NETLINKSK", _) => "nl".to_owned(),
        (other, _) => other.to_lowercase(),
    }
}

fn ends(socket: &Socket) -> (String, String) {
    let named = |name: &str, inode: Option<u32>| match (name, inode) {
        ("", None) => "*".to_owned(),
        ("", Some(inode)) => format!("* {inode}"),
        (name, None) => name.to_owned(),
        (name, Some(inode)) => format!("{name} {inode}"),
    };
    match socket.fd_type.as_str() {
        "INETSK" => (
            end(&socket.src_addr, socket.src_port),
            end(&socket.dest_addr, socket.dest_port),
        ),
        "UNIXSK" => (named(&socket.src_addr, socket.ino), named("", socket.peer)),
        _ => (
            named(
                &socket.protocol,
                (socket.src_port != 0).then_some(socket.src_port),
            ),
            "*".to_owned(),
        ),
    }
}

fn end(address: &str, port: u32) -> String {
    let port = match port {
        0 => "*".to_owned(),
        port => port.to_string(),
    };
    match address {
        "" => format!("*:{port}"),
        v6 if v6.contains(':') => format!("[{v6}]:{port}"),
        v4 => format!("{v4}:{port}"),
    }
}

pub(super) fn threads(tasks: &Vec<TaskThreads>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&[
        "PID", "TID", "POLICY", "PRI", "NI", "SECCOMP", "IP", "SP", "COMM",
    ]);
    for task in tasks {
        for thread in &task.threads {
            row(
                &mut table,
                [
                    task.pid.to_string(),
                    thread.tid.to_string(),
                    optional(&thread.policy),
                    optional(&thread.priority),
                    optional(&thread.nice),
                    optional(&thread.seccomp),
                    optional(&thread.instruction_pointer),
                    optional(&thread.stack_pointer),
                    thread.comm.to_string(),
                ],
            );
        }
    }
    finish(&table, out)
}

pub(super) fn mounts(namespaces: &Vec<MountNamespace>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&["NS", "TARGET", "SOURCE", "FSTYPE", "OPTIONS", "PROPAGATION"]);
    for MountNamespace {
        namespace, mounts, ..
    } in namespaces
    {
        for mount in mounts {
            // Deeper nesting than any screen shows, in hostile images.
            let indent = "  ".repeat(mount.depth.saturating_sub(1).min(60));
            let branch = if mount.depth > 0 { "└─" } else { "" };
            let root = match mount.root.is_empty() {
                true => String::new(),
                false => format!("[{}]", mount.root),
            };
            row(
                &mut table,
                [
                    namespace.to_string(),
                    format!("{indent}{branch}{}", mount.target),
                    format!("{}{root}", mount.source),
                    mount.fstype.to_string(),
                    mount.options.to_string(),
                    propagation(mount),
                ],
            );
        }
    }
    finish(&table, out)
}

fn propagation(mount: &Mount) -> String {
    let shared = mount.shared.map(|group| format!("shared:{group}"));
    let master = mount.master.map(|group| format!("slave:{group}"));
    let external = mount.external.as_ref().map(|key| format!("external:{key}"));
    let words: Vec<String> = [shared, master, external].into_iter().flatten().collect();
    match words.is_empty() {
        true => "private".to_owned(),
        false => words.join(","),
    }
}

pub(super) fn namespaces(namespaces: &Vec<Namespace>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&["TYPE", "ID", "NPROCS", "PID", "COMMAND", "DETAILS"]);
    for namespace in namespaces {
        row(
            &mut table,
            [
                namespace.kind.to_owned(),
                namespace.id.to_string(),
                namespace.pids.len().to_string(),
                optional(&namespace.pids.first()),
                namespace.comm.to_string(),
                namespace_details(namespace),
            ],
        );
    }
    finish(&table, out)
}

fn namespace_details(namespace: &Namespace) -> String {
    let mut details = Vec::new();
    if namespace.of_host {
        details.push("of the host, not dumped".to_owned());
    }
    if let Some(name) = &namespace.host_name {
        details.push(format!("host name {name}"));
    }
    for (what, map) in [("uid", &namespace.uid_map), ("gid", &namespace.gid_map)] {
        for range in map {
            details.push(format!(
                "{what} {}={}+{}",
                range.inside, range.outside, range.count
            ));
        }
    }
    if let Some(seconds) = namespace.monotonic_offset_s {
        details.push(format!("monotonic {seconds:+.3} s"));
    }
    if let Some(seconds) = namespace.boottime_offset_s {
        details.push(format!("boottime {seconds:+.3} s"));
    }
    if let Some(key) = &namespace.external {
        details.push(format!("external {key}"));
    }
    details.join(", ")
}

pub(super) fn networks(networks: &Vec<Network>, out: Out<'_>) -> io::Result<()> {
    let mut devices = titled(&[
        "NS",
        "INDEX",
        "NAME",
        "TYPE",
        "MTU",
        "HARDWARE",
        "FLAGS",
        "ADDRESSES",
    ]);
    let mut routes = titled(&[
        "NS",
        "DESTINATION",
        "GATEWAY",
        "DEVICE",
        "SOURCE",
        "METRIC",
        "TABLE",
    ]);
    let mut has_routes = false;
    for network in networks {
        let name_of = |index: u32| {
            let device = network.devices.iter().find(|device| device.index == index);
            device.map_or_else(|| index.to_string(), |device| device.name.to_string())
        };
        for device in &network.devices {
            let addresses = device
                .addresses
                .iter()
                .map(|address| format!("{}/{}", address.address, address.prefix_len));
            row(
                &mut devices,
                [
                    network.namespace.to_string(),
                    device.index.to_string(),
                    device.name.to_string(),
                    device.kind.clone(),
                    device.mtu.to_string(),
                    optional(&device.hardware_address),
                    or_dash(&device.flags.join(",")),
                    addresses.collect::<Vec<_>>().join(" "),
                ],
            );
        }
        for route in &network.routes {
            has_routes = true;
            row(
                &mut routes,
                [
                    network.namespace.to_string(),
                    route.destination.clone(),
                    optional(&route.gateway),
                    route.device.map_or_else(|| "-".to_owned(), name_of),
                    optional(&route.source),
                    optional(&route.metric),
                    route.table.to_string(),
                ],
            );
        }
    }
    finish(&devices, out)?;
    if has_routes {
        out.push(b'\n');
        finish(&routes, out)?;
    }
    Ok(())
}

pub(super) fn environment(tasks: &Vec<TaskStrings>, out: &mut impl Write) -> io::Result<()> {
    for task in tasks {
        writeln!(out, "{}", task.pid)?;
        for variable in task.iter() {
            out.write_all(b"\t")?;
            out.write_all(variable)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

pub(super) fn arguments(tasks: &Vec<TaskStrings>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&["PID", "ARGS"]);
    for task in tasks {
        let strings: Vec<String> = task.iter().map(ToString::to_string).collect();
        row(&mut table, [task.pid.to_string(), strings.join(" ")]);
    }
    finish(&table, out)
}

pub(super) fn credentials(tasks: &Vec<Credentials>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&[
        "PID",
        "UID",
        "EUID",
        "GID",
        "EGID",
        "GROUPS",
        "SECCOMP",
        "NNP",
        "LSM",
        "COMM",
        "CAPABILITIES",
    ]);
    for task in tasks {
        let groups: Vec<String> = task.groups.iter().map(ToString::to_string).collect();
        row(
            &mut table,
            [
                task.pid.to_string(),
                task.uid.real.to_string(),
                task.uid.effective.to_string(),
                task.gid.real.to_string(),
                task.gid.effective.to_string(),
                or_dash(&groups.join(",")),
                optional(&task.seccomp),
                if task.no_new_privileges { "yes" } else { "no" }.to_owned(),
                optional(&task.lsm_profile),
                task.comm.to_string(),
                match task.capabilities.effective.len() {
                    0 => "none".to_owned(),
                    Capabilities::COUNT => "all".to_owned(),
                    _ => task.capabilities.effective.join(","),
                },
            ],
        );
    }
    finish(&table, out)
}

pub(super) fn signals(tasks: &Vec<TaskSignals>, out: Out<'_>) -> io::Result<()> {
    for task in tasks {
        out.extend_from_slice(format!("{}\n", task.pid).as_bytes());
        let mut table = Table::default();
        let mut line = |what: String, rest: String| {
            if !rest.is_empty() {
                row(&mut table, [String::new(), what, rest]);
            }
        };
        line("pending".to_owned(), pending(&task.pending));
        line("ignored".to_owned(), task.ignored.join(" "));
        for handler in &task.handled {
            let blocked = match handler.blocked.is_empty() {
                true => String::new(),
                false => format!(", blocks {}", handler.blocked.join(" ")),
            };
            let flags = handler.flags.join("|");
            line(
                handler.signal.clone(),
                format!("handler {} {flags}{blocked}", handler.handler),
            );
        }
        for thread in &task.threads {
            let tid = thread.tid;
            line(format!("thread {tid} pending"), pending(&thread.pending));
            line(format!("thread {tid} blocked"), thread.blocked.join(" "));
            let death = thread.parent_death_signal.clone();
            line(
                format!("thread {tid} when its parent dies"),
                death.unwrap_or_default(),
            );
        }
        finish(&table, out)?;
    }
    Ok(())
}

fn pending(signals: &[PendingSignal]) -> String {
    let words = signals.iter().map(|signal| match signal.sender {
        Some(pid) => format!("{} from {pid}", signal.signal),
        None => signal.signal.clone(),
    });
    words.collect::<Vec<_>>().join(", ")
}

pub(super) fn timers(tasks: &Vec<TaskTimers>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&[
        "PID",
        "KIND",
        "ID",
        "CLOCK",
        "EXPIRES-IN",
        "INTERVAL",
        "SIGNAL",
        "OVERRUN",
    ]);
    for task in tasks {
        for timer in &task.timers {
            let time = |time: std::time::Duration| match time.is_zero() {
                true => "-".to_owned(),
                false => format!("{time:?}"),
            };
            row(
                &mut table,
                [
                    task.pid.to_string(),
                    timer.kind.to_owned(),
                    optional(&timer.id),
                    optional(&timer.clock),
                    time(timer.value),
                    time(timer.interval),
                    optional(&timer.signal),
                    optional(&timer.overrun),
                ],
            );
        }
    }
    finish(&table, out)
}

pub(super) fn cgroups(tasks: &Vec<TaskCgroups>, out: Out<'_>) -> io::Result<()> {
    let mut table = titled(&["PID", "COMM", "SET", "HIERARCHY", "PATH"]);
    for task in tasks {
        let start = [
            task.pid.to_string(),
            task.comm.to_string(),
            optional(&task.set),
        ];
        if task.groups.is_empty() {
            row(
                &mut table,
                start
                    .clone()
                    .into_iter()
                    .chain(["-".to_owned(), "-".to_owned()]),
            );
        }
        for group in &task.groups {
            let end = [
                or_dash(&group.hierarchy.to_string()),
                group.path.to_string(),
            ];
            row(&mut table, start.clone().into_iter().chain(end));
        }
    }
    finish(&table, out)
}

fn titled(titles: &[&str]) -> Table {
    let mut table = Table::default();
    table.row(
        titles
            .iter()
            .map(|title| ((*title).to_owned(), Tone::Strong)),
    );
    table
}

fn row(table: &mut Table, cells: impl IntoIterator<Item = String>) {
    table.row(cells.into_iter().map(|cell| (visible(&cell), Tone::Plain)));
}

fn finish(table: &Table, out: Out<'_>) -> io::Result<()> {
    let colored = Color::default().applies_to(&stdout());
    out.extend_from_slice(table.render(colored).as_bytes());
    Ok(())
}

fn or_dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

fn optional(value: &Option<impl Display>) -> String {
    value
        .as_ref()
        .map_or_else(|| "-".to_owned(), ToString::to_string)
}
