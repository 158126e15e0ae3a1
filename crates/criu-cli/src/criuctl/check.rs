//! `criuctl check`.

use std::fs;
use std::io::stdout;
use std::path::Path;
use std::process::ExitCode;

use criu::{Check, Criu, Error, Feature, OLDEST_SUPPORTED};
use rustix::thread::{CapabilitySet, capabilities};
use serde_json::{Value, json};

use super::Global;
use super::report::{Problem, result};
use crate::output::{Table, Tone, visible};

/// Check whether this host can checkpoint and restore processes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each line says what was looked at, whether it is there, and what to do if not.

Exit status: 0 dump and restore can work; 1 something they cannot do without is missing."
)]
pub(super) struct Arguments {}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is there.
    Good,
    /// Without it some things do not work.
    Limited,
    /// Without it nothing works.
    Missing,
}

/// One line of the check.
#[derive(Debug)]
struct Finding {
    subject: String,
    verdict: Verdict,
    found: String,
    remedy: String,
}

impl Finding {
    fn good(subject: impl Into<String>, found: impl Into<String>) -> Self {
        let (subject, found) = (subject.into(), found.into());
        Self {
            subject,
            verdict: Verdict::Good,
            found,
            remedy: String::new(),
        }
    }

    fn lacking(
        subject: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (subject, found, remedy) = (subject.into(), found.into(), remedy.into());
        Self {
            subject,
            verdict,
            found,
            remedy,
        }
    }
}

pub(super) fn run(global: &Global, _arguments: &Arguments) -> Result<ExitCode, Problem> {
    let mut findings = Vec::new();
    check_criu(global, &mut findings);
    findings.extend([check_capabilities()]);
    findings.extend(TOOLS.iter().map(check_tool));
    findings.extend(SETTINGS.iter().filter_map(check_setting));

    let able = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Missing);
    let value = json!({
        "able": able,
        "findings": findings.iter().map(as_json).collect::<Vec<_>>(),
    });
    result(global, &value, || {
        as_text(&findings, able, global.color.applies_to(&stdout()))
    })?;
    Ok(if able {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn check_criu(global: &Global, findings: &mut Vec<Finding>) {
    let criu = match global.criu() {
        Ok(criu) => criu,
        Err(problem) => {
            findings.push(Finding::lacking(
                "criu program",
                Verdict::Missing,
                "not found",
                problem.to_string(),
            ));
            return;
        }
    };
    let place = criu
        .binary()
        .map_or_else(|| "service".to_owned(), |path| path.display().to_string());
    findings.push(Finding::good("criu program", place));
    match criu.version() {
        Ok(version) if version < OLDEST_SUPPORTED => findings.push(Finding::lacking(
            "criu version",
            Verdict::Missing,
            version.to_string(),
            format!("upgrade CRIU to {OLDEST_SUPPORTED} or later"),
        )),
        Ok(version) => findings.push(Finding::good("criu version", version.to_string())),
        Err(error) => {
            findings.push(Finding::lacking(
                "criu version",
                Verdict::Missing,
                "no answer",
                error.to_string(),
            ));
            return;
        }
    }
    findings.push(check_kernel(&criu));
    match criu.features() {
        Ok(features) => findings.extend(Feature::ALL.into_iter().map(|feature| {
            let subject = format!("feature {feature}");
            if features.contains(feature) {
                Finding::good(subject, "yes")
            } else {
                Finding::lacking(subject, Verdict::Limited, "no", feature.remedy())
            }
        })),
        Err(error) => findings.push(Finding::lacking(
            "features",
            Verdict::Limited,
            "no answer",
            error.to_string(),
        )),
    }
}

/// Has CRIU check the kernel itself (`criu check`).
fn check_kernel(criu: &Criu) -> Finding {
    let subject = "criu check";
    match criu.check(&Check::default()) {
        Ok(()) => Finding::good(subject, "looks good"),
        Err(error) => {
            let found = match error
                .failure()
                .and_then(|failure| failure.message.as_deref())
            {
                Some(message) => message.trim().to_owned(),
                None => "failed".to_owned(),
            };
            let remedy = match &error {
                Error::NotPrivileged { .. } => error.to_string(),
                _ => "run `criu check --all` for the whole list".to_owned(),
            };
            Finding::lacking(subject, Verdict::Missing, found, remedy)
        }
    }
}

/// Capabilities CRIU uses, and what fails without them.
const CAPABILITIES: [(CapabilitySet, &str); 8] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE"),
    (CapabilitySet::SYS_RESOURCE, "CAP_SYS_RESOURCE"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
    (CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT"),
];

fn check_capabilities() -> Finding {
    let subject = "capabilities";
    let effective = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            return Finding::lacking(subject, Verdict::Limited, "unknown", error.to_string());
        }
    };
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return Finding::good(subject, "all that CRIU uses");
    }
    let essential = !effective.contains(CapabilitySet::SYS_ADMIN)
        && !effective.contains(CapabilitySet::CHECKPOINT_RESTORE);
    let verdict = if essential {
        Verdict::Missing
    } else {
        Verdict::Limited
    };
    let remedy = if essential {
        "run as root; or give the criu program CAP_CHECKPOINT_RESTORE and use --unprivileged"
    } else {
        "what needs them fails: resource limits, network, other users' processes (in a container: --cap-add)"
    };
    Finding::lacking(
        subject,
        verdict,
        format!("without {}", missing.join(", ")),
        remedy,
    )
}

/// A program CRIU calls, what for, and the Debian package it is in.
struct Tool {
    program: &'static str,
    purpose: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        program: "iptables",
        purpose: "locks the network (--network-lock=iptables, the default)",
        package: "iptables",
    },
    Tool {
        program: "ip6tables",
        purpose: "locks the network for IPv6",
        package: "iptables",
    },
    Tool {
        program: "nft",
        purpose: "saves nftables rules of network namespaces",
        package: "nftables",
    },
    Tool {
        program: "ip",
        purpose: "saves addresses and routes of network namespaces",
        package: "iproute2",
    },
    Tool {
        program: "tar",
        purpose: "saves tmpfs mounts",
        package: "tar",
    },
];

fn check_tool(tool: &Tool) -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(tool.program))
        .find(|candidate| candidate.is_file());
    let subject = format!("tool {}", tool.program);
    match found {
        Some(path) => Finding::good(subject, path.display().to_string()),
        None => Finding::lacking(
            subject,
            Verdict::Limited,
            "not found",
            format!("{}: install the package {}", tool.purpose, tool.package),
        ),
    }
}

/// A kernel setting, what it should be, and what fails otherwise.
struct Setting {
    path: &'static str,
    name: &'static str,
    at_least: u64,
    remedy: &'static str,
}

const SETTINGS: [Setting; 2] = [
    Setting {
        path: "/proc/sys/fs/pipe-max-size",
        name: "fs.pipe-max-size",
        at_least: 1 << 20,
        remedy: "pages over the network may fail without CAP_SYS_RESOURCE: sysctl fs.pipe-max-size=4194304",
    },
    Setting {
        path: "/proc/sys/kernel/pid_max",
        name: "kernel.pid_max",
        at_least: 32768,
        remedy: "restored process ids may not fit: sysctl kernel.pid_max=32768",
    },
];

fn check_setting(setting: &Setting) -> Option<Finding> {
    let text = fs::read_to_string(Path::new(setting.path)).ok()?;
    let value: u64 = text.trim().parse().ok()?;
    Some(if value >= setting.at_least {
        Finding::good(setting.name, value.to_string())
    } else {
        Finding::lacking(
            setting.name,
            Verdict::Limited,
            value.to_string(),
            setting.remedy,
        )
    })
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "subject": finding.subject,
        "verdict": match finding.verdict {
            Verdict::Good => "good",
            Verdict::Limited => "limited",
            Verdict::Missing => "missing",
        },
        "found": finding.found,
        "remedy": (!finding.remedy.is_empty()).then_some(&finding.remedy),
    })
}

fn as_text(findings: &[Finding], able: bool, colored: bool) -> String {
    let mut table = Table::default();
    for finding in findings {
        let (mark, tone) = match finding.verdict {
            Verdict::Good => ("ok", Tone::Good),
            Verdict::Limited => ("limited", Tone::Warning),
            Verdict::Missing => ("MISSING", Tone::Bad),
        };
        table.row([
            (finding.subject.clone(), Tone::Plain),
            (mark.to_owned(), tone),
            (visible(&finding.found), Tone::Plain),
            (visible(&finding.remedy), Tone::Plain),
        ]);
    }
    let conclusion = if able {
        Tone::Good.paint("dump and restore can work here", colored)
    } else {
        Tone::Bad.paint("dump and restore cannot work here", colored)
    };
    format!("{}\n{conclusion}\n", table.render(colored))
}
