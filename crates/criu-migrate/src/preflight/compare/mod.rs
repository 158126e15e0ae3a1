//! The comparison itself: no look at anything but its two arguments.

mod files;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use criu::{Feature, OLDEST_SUPPORTED, Version};

use super::check::Check;
use super::facts::{Facts, MountRole};
use super::finding::{Finding, Report, Severity};
use super::here::Here;
use crate::host::kernel_release;

/// Compares what a tree needs with what a host has.
pub fn compare(facts: &Facts, here: &Here) -> Report {
    let mut report = Report::default();
    criu(facts, here, &mut report);
    image_version(facts, here, &mut report);
    machine(facts, here, &mut report);
    kernel(facts, here, &mut report);
    processor(facts, here, &mut report);
    session(facts, &mut report);
    pids(facts, here, &mut report);
    files::compare(facts, here, &mut report);
    mounts(facts, here, &mut report);
    sockets::compare(facts, here, &mut report);
    cgroups(facts, here, &mut report);
    lsm(facts, here, &mut report);
    credentials(facts, here, &mut report);
    memory(facts, here, &mut report);
    for left in &facts.left_out {
        let why = format!(
            "{} more did not fit into the message, or cannot be named for sure",
            left.count
        );
        report.skip(left.check, why);
    }
    report.sort();
    report
}

fn criu(facts: &Facts, here: &Here, report: &mut Report) {
    let Ok(ours) = here.criu.parse::<Version>() else {
        report.skip(Check::Criu, "this host's CRIU tells no version");
        return;
    };
    if ours < OLDEST_SUPPORTED {
        let finding = Finding::blocks(Check::Criu, "version of CRIU");
        let wanted = format!("{OLDEST_SUPPORTED} or later");
        let finding = finding.values(wanted, &here.criu);
        report
            .findings
            .push(finding.remedy("upgrade CRIU on the destination"));
        return;
    }
    let Some(theirs) = &facts.criu else { return };
    let series = |version: &Version| (version.major, version.minor);
    match theirs.parse::<Version>() {
        Ok(version) if series(&version) > series(&ours) => {
            let finding = Finding::warns(Check::Criu, "version of CRIU").values(theirs, &here.criu);
            report.findings.push(finding.remedy(
                "images of a later CRIU may hold what an earlier one cannot restore: use the same CRIU on both sides",
            ));
        }
        Ok(_) => {}
        Err(_) => report.skip(Check::Criu, "the source's CRIU tells no version"),
    }
}

/// Versions of images that every supported CRIU reads, and the one that came with compressed pages.
const IMAGES_OF_ALL: std::ops::RangeInclusive<u32> = 1..=2;
const IMAGES_COMPRESSED: u32 = 3;
const COMPRESSING: Version = Version::new(4, 3, 0);

fn image_version(facts: &Facts, here: &Here, report: &mut Report) {
    let Some(version) = facts.image_version else {
        return;
    };
    let ours = here.criu.parse::<Version>();
    let takes_compressed = ours.is_ok_and(|ours| ours.satisfies(&COMPRESSING));
    let can = match version {
        version if IMAGES_OF_ALL.contains(&version) => true,
        IMAGES_COMPRESSED => takes_compressed,
        _ => false,
    };
    if can {
        return;
    }
    let found = match takes_compressed {
        true => format!("CRIU {}, which reads up to {IMAGES_COMPRESSED}", here.criu),
        false => format!(
            "CRIU {}, which reads up to {}",
            here.criu,
            IMAGES_OF_ALL.end()
        ),
    };
    let finding = Finding::blocks(Check::ImageVersion, "version of the images");
    let remedy = match version {
        IMAGES_COMPRESSED => {
            "use CRIU 4.3 or later on the destination, or `crit decompress` the images"
        }
        _ => "use the CRIU that made them, or a later one",
    };
    report
        .findings
        .push(finding.values(version.to_string(), found).remedy(remedy));
}

fn machine(facts: &Facts, here: &Here, report: &mut Report) {
    if let Some(wanted) = &facts.architecture
        && !is_architecture(wanted, &here.architecture)
    {
        let finding = Finding::blocks(Check::Architecture, "machine type");
        let finding = finding.values(wanted, &here.architecture);
        report
            .findings
            .push(finding.remedy("use a destination of the same architecture"));
    }
    if let Some(wanted) = facts.page_size_bytes
        && wanted != here.page_size_bytes
    {
        let finding = Finding::blocks(Check::PageSize, "bytes of a page of memory");
        let finding = finding.values(wanted.to_string(), here.page_size_bytes.to_string());
        report
            .findings
            .push(finding.remedy("boot a kernel with the same page size"));
    }
}

/// Images name families of machines, `uname` their members.
fn is_architecture(wanted: &str, here: &str) -> bool {
    wanted == here
        || match wanted {
            "arm" => here.starts_with("armv"),
            "ppc64" => here == "ppc64le",
            "s390" => here == "s390x",
            "mips" => here.starts_with("mips"),
            _ => false,
        }
}

fn kernel(facts: &Facts, here: &Here, report: &mut Report) {
    for kind in facts
        .namespaces
        .iter()
        .filter(|kind| !here.namespaces.contains(*kind))
    {
        let finding = Finding::blocks(Check::Kernel, format!("{kind} namespaces"));
        let finding = finding.values("a kernel that has them", format!("{} without", here.kernel));
        report.findings.push(finding.remedy(
            "use a kernel built with this kind of namespace on the destination, and allow some (sysctl \
             user.max_*_namespaces)",
        ));
    }
    let remedy = |name: &str| {
        let known = Feature::ALL
            .into_iter()
            .find(|feature| feature.name() == name);
        known.map_or(
            "use a kernel that has it on the destination",
            Feature::remedy,
        )
    };
    for name in facts
        .features
        .iter()
        .filter(|name| !here.features.contains(*name))
    {
        let finding = Finding::blocks(Check::Kernel, format!("feature {name}"));
        let finding = finding.values("there, since the tree uses it", "not there");
        report.findings.push(finding.remedy(remedy(name)));
    }
    let lacking = facts
        .source_features
        .iter()
        .filter(|name| !here.features.contains(*name) && !facts.features.contains(name));
    for name in lacking {
        let finding = Finding::warns(Check::Kernel, format!("feature {name}"));
        let finding = finding.values("there, as on the source", "not there");
        let remedy = format!(
            "nothing now; later migrations from the destination lack it: {}",
            remedy(name)
        );
        report.findings.push(finding.remedy(remedy));
    }
    if let Some(theirs) = &facts.kernel
        && let (Some(wanted), Some(found)) = (kernel_release(theirs), kernel_release(&here.kernel))
        && found < wanted
    {
        let finding =
            Finding::warns(Check::Kernel, "release of the kernel").values(theirs, &here.kernel);
        report.findings.push(finding.remedy(
            "programs may use what the earlier kernel lacks: use the same kernel, or a later one",
        ));
    }
}

fn processor(facts: &Facts, here: &Here, report: &mut Report) {
    if let Some(lacks) = &here.processor_lacks {
        let finding = Finding::blocks(Check::Processor, "features of the processor");
        let finding = finding.values("those of the source's", lacks);
        report.findings.push(
            finding
                .remedy("use a destination with the same processor, or compare less (--cpu-cap)"),
        );
    }
    if facts.processor.is_empty() {
        report.skip(
            Check::Processor,
            "the source's processor is not described (`criuctl cpuinfo dump` into the images directory does)",
        );
    }
}

fn session(facts: &Facts, report: &mut Report) {
    if let Some(session) = facts.foreign_session {
        let (severity, remedy) = match session.accepted {
            false => (
                Severity::Blocks,
                "start the program with `setsid`, or move the tree of the session's leader",
            ),
            true => (
                Severity::Warns,
                "restore it from a terminal with --shell-job: it joins the session there",
            ),
        };
        let object = format!("session of process {}", session.pid);
        let finding = Finding::new(severity, Check::Session, object);
        let found = format!("leader {} is not in the tree", session.leader);
        report
            .findings
            .push(finding.values("a leader in the tree", found).remedy(remedy));
    } else if facts.has_terminal {
        let finding = Finding::warns(Check::Session, "controlling terminal");
        let finding = finding.values(
            "a terminal whose other end is in the tree",
            "one that may stay behind",
        );
        report.findings.push(finding.remedy(
            "start the program without a terminal (`setsid`, standard streams redirected) unless the tree holds both \
             ends",
        ));
    }
}

fn pids(facts: &Facts, here: &Here, report: &mut Report) {
    let wanted: BTreeSet<i32> = facts.pids.iter().copied().collect();
    for pid in wanted {
        if let Some(program) = here.pids.get(&pid) {
            let finding = Finding::blocks(Check::Pids, format!("process id {pid}"));
            let finding = finding.values("free", format!("in use by {program}"));
            report.findings.push(
                finding.remedy("end that process, or start the tree in a pid namespace of its own"),
            );
        }
    }
    if let (Some(largest), Some(max)) = (facts.largest_pid, here.pid_max)
        && largest >= max
    {
        let finding = Finding::blocks(Check::Pids, "kernel.pid_max");
        let finding = finding.values(format!("more than {largest}"), max.to_string());
        let remedy = format!("sysctl kernel.pid_max={}", i64::from(largest) + 1);
        report.findings.push(finding.remedy(remedy));
    }
}

/// What CRIU calls the mounts it found to be external by itself.
const AUTOMATIC: &str = "CRIU:AUTOGENERATED";

fn mounts(facts: &Facts, here: &Here, report: &mut Report) {
    let mut types = BTreeSet::new();
    for mount in &facts.mounts {
        let point = &mount.mountpoint;
        if here.skipped_mounts.contains(point) {
            continue;
        }
        match &mount.role {
            MountRole::External(key) => {
                let object = format!("external mount {key} at {point}");
                let finding = Finding::blocks(Check::Mounts, object);
                let finding = match here.externals.get(key) {
                    Some((_, true)) => continue,
                    Some((path, false)) => finding
                        .values(
                            "something to mount",
                            format!("{} is not there", path.display()),
                        )
                        .remedy("make it there, or name another path"),
                    None if key == AUTOMATIC && here.automatic_externals => continue,
                    None if key == AUTOMATIC => finding
                        .values("found by CRIU itself", "not looked for")
                        .remedy("restore with --external 'mnt[]'"),
                    None => finding
                        .values("something to mount", "none is named")
                        .remedy(format!("restore with --external 'mnt[{key}]:PATH'")),
                };
                report.findings.push(finding);
            }
            MountRole::Own => {
                let fstype = mount.fstype.as_str();
                if fstype.is_empty() || here.filesystems.contains(fstype) || !types.insert(fstype) {
                    continue;
                }
                let finding =
                    Finding::warns(Check::Mounts, format!("file system {fstype} at {point}"));
                let finding = finding.values("known to the kernel", "not loaded");
                let remedy = format!("modprobe {fstype}, unless the kernel loads it by itself");
                report.findings.push(finding.remedy(remedy));
            }
            MountRole::Shared => {
                let found = here.mount_points.get(point);
                if found.is_some_and(|fstype| *fstype == mount.fstype) {
                    continue;
                }
                let finding = Finding::warns(Check::Mounts, format!("mount point {point}"));
                let found = found.map_or("nothing mounted", String::as_str);
                let finding = finding.values(&mount.fstype, found);
                report.findings.push(finding.remedy(
                    "mount the same file system there, or make sure that the files on it are the same",
                ));
            }
        }
    }
}

fn cgroups(facts: &Facts, here: &Here, report: &mut Report) {
    if here.cgroups_ignored {
        return;
    }
    let mut missing = BTreeSet::new();
    for group in &facts.cgroups {
        let Some(found) = here.cgroups.get(group) else {
            continue;
        };
        let hierarchy = group.hierarchy.as_str();
        if !found.hierarchy {
            if !missing.insert(hierarchy) {
                continue;
            }
            let object = match hierarchy {
                "" => "control groups of version 2".to_owned(),
                name => format!("control group hierarchy {name}"),
            };
            let (severity, there) = match (hierarchy.strip_prefix("name="), found.in_version_2) {
                // CRIU can mount one that is only a name.
                (Some(_), _) => (Severity::Warns, "not mounted"),
                (None, true) => (Severity::Blocks, "its controllers in version 2 only"),
                (None, false) => (Severity::Blocks, "none"),
            };
            let finding = Finding::new(severity, Check::Cgroups, object);
            report.findings.push(finding.values("there", there).remedy(
                "boot the destination with the same version of control groups, or restore with --manage-cgroups=ignore",
            ));
        } else if found.group == Some(false) && !here.cgroups_moved {
            let object = format!("control group {hierarchy}:{}", group.path);
            let finding = Finding::warns(Check::Cgroups, object).values("there", "missing");
            report.findings.push(finding.remedy(
                "nothing, if the restore makes groups (--manage-cgroups=soft); else make it, or give --cgroup-root",
            ));
        }
    }
}

fn lsm(facts: &Facts, here: &Here, report: &mut Report) {
    let Some(lsm) = facts.lsm.as_ref().filter(|_| !here.replaces_profile) else {
        return;
    };
    if here.security_module.as_ref() != Some(&lsm.module) {
        let found = here.security_module.as_deref().unwrap_or("none");
        let finding = Finding::blocks(Check::Lsm, "security module").values(&lsm.module, found);
        report.findings.push(finding.remedy(
            "use a destination with the same module, start the tree unconfined, or restore with --lsm-profile",
        ));
        return;
    }
    match &here.profiles {
        Some(loaded) => {
            for profile in lsm
                .profiles
                .iter()
                .filter(|profile| !loaded.contains(*profile))
            {
                let finding =
                    Finding::blocks(Check::Lsm, format!("{} profile {profile}", lsm.module));
                let finding = finding.values("loaded", "not loaded");
                report.findings.push(
                    finding.remedy(
                        "load the profile (apparmor_parser), or restore with --lsm-profile",
                    ),
                );
            }
        }
        None => report.skip(
            Check::Lsm,
            format!("which {} profiles are loaded cannot be seen", lsm.module),
        ),
    }
}

fn credentials(facts: &Facts, here: &Here, report: &mut Report) {
    let lacking = facts.capabilities & !here.capabilities;
    if lacking == 0 {
        return;
    }
    let finding = Finding::blocks(Check::Credentials, "capabilities of the tasks");
    let finding = finding.values(
        format!("{:#x}", facts.capabilities),
        format!("{:#x}", here.capabilities),
    );
    report.findings.push(finding.remedy(format!(
        "restore with those capabilities too (missing are the bits {lacking:#x}; in a container: --cap-add, or \
         --privileged)"
    )));
}

fn memory(facts: &Facts, here: &Here, report: &mut Report) {
    let wanted = facts.memory_bytes;
    if let Some(room) = here.room_bytes.filter(|room| wanted > *room) {
        let finding = Finding::blocks(Check::Memory, "room in the working directory");
        let finding = finding.values(format!("{wanted} bytes"), format!("{room} bytes"));
        report
            .findings
            .push(finding.remedy("make room, or name another working directory"));
    }
    if let Some(available) = here.available_bytes.filter(|available| wanted > *available) {
        let finding = Finding::warns(Check::Memory, "memory");
        let finding = finding.values(
            format!("{wanted} bytes"),
            format!("{available} bytes available"),
        );
        report
            .findings
            .push(finding.remedy("free memory, or add swap"));
    }
}
