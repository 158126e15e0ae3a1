//! The files the tree uses.

use crate::preflight::check::Check;
use crate::preflight::facts::{Facts, FileKind, FileSeen};
use crate::preflight::finding::{Finding, Report};
use crate::preflight::here::{FileHere, Here};

pub(super) fn compare(facts: &Facts, here: &Here, report: &mut Report) {
    for file in &facts.files {
        match here.files.get(&file.path) {
            Some(found) => compare_file(facts, here, file, found, report),
            None => report.skip(Check::Files, format!("{} was not looked for", file.path)),
        }
    }
}

fn compare_file(
    facts: &Facts,
    here: &Here,
    wanted: &FileSeen,
    found: &FileHere,
    report: &mut Report,
) {
    let block = || Finding::blocks(Check::Files, &wanted.path);
    let found = match found {
        FileHere::Found(found) => found,
        FileHere::Missing => {
            let finding = block().values("there", "missing");
            report
                .findings
                .push(finding.remedy("copy it from the source"));
            return;
        }
        FileHere::Failed(why) => {
            let finding = block().values("there", why);
            report
                .findings
                .push(finding.remedy("make it readable for CRIU"));
            return;
        }
    };
    let kinds = [wanted.mode, found.mode].map(|mode| mode.map(FileKind::of_mode));
    if let [Some(kind), Some(other)] = kinds
        && kind != other
    {
        let finding = block().values(kind.name(), other.name());
        report
            .findings
            .push(finding.remedy("put the source's in its place"));
        return;
    }
    let is_file = kinds[1].is_none_or(|kind| kind == FileKind::Regular);
    let mut same = true;
    if let (Some(len), Some(other)) = (wanted.len_bytes.filter(|_| is_file), found.len_bytes)
        && len != other
    {
        same = false;
        let finding = block().values(format!("{len} bytes"), format!("{other} bytes"));
        report
            .findings
            .push(finding.remedy("install the same version, or copy it from the source"));
    }
    if let Some(id) = wanted.build_id.as_ref().filter(|_| same)
        && found.build_id.as_ref() != Some(id)
    {
        same = false;
        let other = found.build_id.as_deref().unwrap_or("none");
        let finding = block().values(format!("build id {id}"), format!("build id {other}"));
        report
            .findings
            .push(finding.remedy("install the same build, or copy it from the source"));
    }
    if let (Some(mode), Some(other)) = (wanted.mode, found.mode)
        && mode != other
        && !here.skip_permissions
    {
        let bits = |mode: u32| mode & 0o7777;
        let finding = block().values(
            format!("permissions {:04o}", bits(mode)),
            format!("permissions {:04o}", bits(other)),
        );
        let remedy = format!(
            "chmod {:04o}, or restore with --skip-file-rwx-check",
            bits(mode)
        );
        report.findings.push(finding.remedy(remedy));
    }
    if !same {
        return;
    }
    // When and by whom it was written is no proof that its content is another.
    let warn = || Finding::warns(Check::Files, &wanted.path);
    let remedy = "make sure that its content is the same";
    if let (Some(time), Some(other)) = (wanted.modified_s, found.modified_s)
        && time != other
    {
        let finding = warn().values(
            format!("modified at {time} s"),
            format!("modified at {other} s"),
        );
        report.findings.push(finding.remedy(remedy));
    }
    if let (Some(made), Some(time)) = (facts.made_s, found.modified_s)
        && time > made
        && wanted.build_id.is_none()
        && is_file
    {
        let wanted = format!("as it was when the checkpoint was made, at {made} s");
        let finding = warn().values(wanted, format!("modified at {time} s"));
        report.findings.push(finding.remedy(remedy));
    }
}
