//! Ports, addresses and names of sockets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::preflight::check::Check;
use crate::preflight::facts::{Facts, Protocol, SocketSeen};
use crate::preflight::finding::{Finding, Report, Severity};
use crate::preflight::here::{Here, Taken};

pub(super) fn compare(facts: &Facts, here: &Here, report: &mut Report) {
    let mut foreign = BTreeSet::new();
    for wanted in &facts.sockets {
        let conflict = here
            .taken
            .iter()
            .filter_map(|taken| Some((conflict(wanted, &taken.socket)?, taken)))
            .min_by_key(|(severity, _)| *severity);
        if let Some((severity, taken)) = conflict {
            report.findings.push(taken_finding(severity, wanted, taken));
        }
        match wanted {
            SocketSeen::Inet { local, .. } => {
                let address = local.ip();
                if here.foreign_addresses.contains(&address) && foreign.insert(address) {
                    // A hook before the restore may bring it along.
                    let finding = Finding::warns(Check::Sockets, format!("address {address}"));
                    let finding =
                        finding.values("an address of this host", "none of its addresses");
                    report.findings.push(finding.remedy(
                        "have it move along before the restore (--action-script), or start the tree in a network \
                         namespace of its own",
                    ));
                }
            }
            SocketSeen::Unix { name } => {
                let Some(place) = here.socket_paths.get(name) else {
                    continue;
                };
                let finding = Finding::blocks(Check::Sockets, format!("socket {name}"));
                if !place.directory {
                    let finding = finding.values("its directory", "no such directory");
                    report.findings.push(finding.remedy("make the directory"));
                } else if place.occupied {
                    let finding = finding.values("a free name", "something that is no socket");
                    report
                        .findings
                        .push(finding.remedy("move it out of the way"));
                }
            }
        }
    }
}

/// Whether a socket that is to be bound is in conflict with one that is.
fn conflict(wanted: &SocketSeen, taken: &SocketSeen) -> Option<Severity> {
    let (protocol, local, remote, v6_only, shares) = match (wanted, taken) {
        (SocketSeen::Unix { name }, SocketSeen::Unix { name: other }) => {
            return (name == other).then_some(Severity::Blocks);
        }
        (
            SocketSeen::Inet {
                protocol,
                local,
                remote,
                v6_only,
                shares,
            },
            SocketSeen::Inet {
                protocol: other, ..
            },
        ) if protocol == other => (*protocol, local, remote, *v6_only, *shares),
        _ => return None,
    };
    let SocketSeen::Inet {
        local: other_local,
        remote: other_remote,
        ..
    } = taken
    else {
        return None;
    };
    if local.port() != other_local.port() {
        return None;
    }
    if protocol == Protocol::Tcp && (remote.is_some() || other_remote.is_some()) {
        // Connections share a port; only the same one cannot be there twice.
        let same = same_address(local, other_local)
            && match (remote, other_remote) {
                (Some(remote), Some(other)) => same_address(remote, other),
                _ => false,
            };
        return same.then_some(Severity::Blocks);
    }
    let (one, other) = (local.ip().to_canonical(), other_local.ip().to_canonical());
    let overlap = one == other || one.is_unspecified() || other.is_unspecified();
    if !overlap {
        return None;
    }
    let crosses = one.is_ipv4() != other.is_ipv4();
    if crosses {
        let six_is_any = match (one, other) {
            (IpAddr::V6(six), _) | (_, IpAddr::V6(six)) => six.is_unspecified(),
            _ => false,
        };
        // An IPv6 socket covers IPv4 only as the wildcard, and only if it wants to.
        if !six_is_any || (v6_only == Some(true) && one.is_ipv6()) {
            return None;
        }
        return Some(Severity::Warns);
    }
    Some(if shares {
        Severity::Warns
    } else {
        Severity::Blocks
    })
}

fn same_address(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

fn taken_finding(severity: Severity, wanted: &SocketSeen, taken: &Taken) -> Finding {
    let owner = taken.owner.as_deref().unwrap_or("another socket");
    let place = match &taken.socket {
        SocketSeen::Inet { local, .. } => format!("at {local} "),
        SocketSeen::Unix { .. } => String::new(),
    };
    let object = match wanted {
        SocketSeen::Inet {
            protocol,
            local,
            remote: Some(remote),
            ..
        } => format!("{} connection {local} to {remote}", protocol.name()),
        SocketSeen::Inet {
            protocol, local, ..
        } => format!(
            "{} port {} at {}",
            protocol.name(),
            local.port(),
            local.ip()
        ),
        SocketSeen::Unix { name } => format!("socket {name}"),
    };
    let remedy = match (severity, wanted) {
        (Severity::Warns, _) => "make sure that both may have it, or end that process",
        (Severity::Blocks, SocketSeen::Unix { .. }) => {
            "end that process, or have it use another name"
        }
        (Severity::Blocks, SocketSeen::Inet { .. }) => {
            "end that process or move it to another port, or start the tree in a network namespace of its own"
        }
    };
    Finding::new(severity, Check::Sockets, object)
        .values("free", format!("taken {place}by {owner}"))
        .remedy(remedy)
}
