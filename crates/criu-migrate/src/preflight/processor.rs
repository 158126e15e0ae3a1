//! The processor, as CRIU describes and compares it.

use std::fs;
use std::path::Path;

use criu::request::Settings;
use criu::{CpuInfo, Criu};

use crate::error::{Error, Result};
use crate::images_dir::ImageName;
use crate::staging::Staging;

/// The name CRIU gives the image with a processor's features.
pub(super) const CPUINFO: &str = "cpuinfo.img";
/// Longest such image that is sent and taken.
pub(super) const CPUINFO_BYTES_MAX: usize = 16 << 10;

/// Records this processor's features; empty where CRIU cannot.
pub(super) fn describe(criu: &Criu, work_dir: &Path) -> Result<Vec<u8>> {
    let staging = Staging::create(work_dir)?;
    let images = staging.images_of(1)?;
    let recorded = criu.cpuinfo_dump(&CpuInfo::new(images.open()?));
    if recorded.is_err() {
        return Ok(Vec::new());
    }
    let bytes = fs::read(images.path().join(CPUINFO)).map_err(Error::io("read cpuinfo.img"))?;
    Ok(if bytes.len() <= CPUINFO_BYTES_MAX {
        bytes
    } else {
        Vec::new()
    })
}

/// Compares the source's processor with this one; says what this one lacks, if anything.
pub(super) fn lacking(
    criu: &Criu,
    recorded: &[u8],
    settings: &Settings,
    work_dir: &Path,
) -> Result<Option<String>> {
    let Some(name) = ImageName::parse(CPUINFO).filter(|_| !recorded.is_empty()) else {
        return Ok(None);
    };
    let staging = Staging::create(work_dir)?;
    let images = staging.images_of(1)?;
    let written = images
        .create_image(&name)
        .and_then(|mut image| image.write(recorded));
    written.map_err(Error::io("write cpuinfo.img"))?;
    let mut cpuinfo = CpuInfo::new(images.open()?);
    cpuinfo.settings.cpu_capabilities = settings.cpu_capabilities;
    let Err(error) = criu.cpuinfo_check(&cpuinfo) else {
        return Ok(None);
    };
    let failure = error.failure();
    let said = failure.and_then(|failure| {
        let lines = failure
            .log
            .as_ref()?
            .log
            .errors()
            .map(|entry| entry.text().to_owned());
        // The line about our own limits stands in every log of a machine that lacks a capability.
        let lines: Vec<String> = lines
            .filter(|line| !line.contains("RLIMIT_NOFILE"))
            .collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    });
    let said = said.unwrap_or_else(|| error.to_string());
    Ok(Some(said.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::TempDir;

    #[test]
    fn a_processor_matches_itself_and_nonsense_matches_none() {
        for criu in criu_testkit::CriuUnderTest::all() {
            let work_dir = TempDir::new();
            let criu = Criu::with_binary(criu.path()).unwrap();
            let recorded = describe(&criu, work_dir.path()).unwrap();
            assert!(!recorded.is_empty());
            let compare = |recorded: &[u8]| {
                lacking(&criu, recorded, &Settings::default(), work_dir.path()).unwrap()
            };
            assert_eq!(compare(&recorded), None);
            assert_eq!(compare(&[]), None);
            assert!(compare(&recorded[..recorded.len() / 2]).is_some());
            assert_eq!(fs::read_dir(work_dir.path()).unwrap().count(), 0);
        }
    }
}
