//! Packages of other suites of this machine's own distribution, fetched by apt into a private place.
//!
//! No archive is named here. The machine's own package sources say where its distribution lives and by which keys it
//! is signed; only the suite is changed. apt runs with its state, cache, lists and package database all in one
//! directory of ours, so nothing of the machine changes, no root is needed, and apt still checks every signature.
//! As its package database is empty, apt resolves the whole closure of dependencies, the C library included.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Doing, Failure, Outcome};
use crate::tool;

/// Where one distribution's packages come from: a stanza of apt's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Fields as in the deb822 format, without `Types`, `Suites` and `Components`.
    fields: Vec<(String, String)>,
    suites: Vec<String>,
    components: Vec<String>,
}

impl Source {
    /// The source this machine's distribution itself comes from.
    pub(crate) fn of_distribution() -> Outcome<Self> {
        if tool::find("apt-get").is_none() || tool::find("dpkg-deb").is_none() {
            return Err(Failure::new("this machine has no apt, from which CRIU could be obtained").with_remedy(
                "install CRIU 4.2 or newer by its own means and put it on PATH, or name it in $CRIU",
            ));
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = os_release_field(&release, "VERSION_CODENAME").unwrap_or_default();
        let sources = configured()?;
        sources
            .iter()
            .find(|source| source.suites.contains(&codename))
            .or_else(|| {
                let rolling = ["stable", "testing", "unstable", "sid", "devel"];
                sources.iter().find(|source| source.suites.iter().any(|suite| rolling.contains(&suite.as_str())))
            })
            .cloned()
            .ok_or_else(|| {
                Failure::new(format!(
                    "none of the package sources configured under /etc/apt has the suite `{codename}` of this machine"
                ))
                .with_remedy("configure the distribution's own package source, or name a CRIU in $CRIU")
            })
    }

    /// The stanza for other suites of the same archive.
    fn stanza(&self, suites: &[&str]) -> String {
        let mut components = self.components.clone();
        // Ubuntu keeps criu in universe, which a minimal machine may not have switched on.
        if components.iter().any(|component| component == "restricted")
            && !components.contains(&"universe".into())
        {
            components.push("universe".into());
        }
        let mut text = format!(
            "Types: deb\nSuites: {}\nComponents: {}\n",
            suites.join(" "),
            components.join(" ")
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }

    fn with_key(&self, keyring: &Path) -> Self {
        let mut source = self.clone();
        source
            .fields
            .retain(|(name, _)| !name.eq_ignore_ascii_case("Signed-By"));
        source
            .fields
            .push(("Signed-By".into(), keyring.display().to_string()));
        source
    }
}

/// One version of a package on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The full Debian version, such as `4.2.1-1`.
    pub(crate) version: String,
}

impl Offer {
    /// The version its authors gave it: no epoch, no Debian revision.
    pub(crate) fn upstream(&self) -> &str {
        let version = self
            .version
            .split_once(':')
            .map_or(self.version.as_str(), |(_, rest)| rest);
        version
            .rsplit_once('-')
            .map_or(version, |(upstream, _)| upstream)
    }

    /// Whether it is a release of the series: `4.2` and `4.2.1` are of 4.2, `4.20` and `4.2~rc1` are not.
    pub(crate) fn is_of_series(&self, series: &str) -> bool {
        self.upstream().strip_prefix(series).is_some_and(|rest| {
            !rest.contains('~') && !rest.starts_with(|c: char| c.is_ascii_digit())
        })
    }
}

/// An apt of our own: lists, cache and package database in one directory.
#[derive(Debug)]
pub(crate) struct PrivateApt {
    root: PathBuf,
    source: Source,
}

impl PrivateApt {
    /// Makes the directories and the configuration; fetches nothing yet.
    pub(crate) fn create(root: &Path, source: Source) -> Outcome<Self> {
        for directory in [
            "state/lists/partial",
            "cache/archives/partial",
            "etc/preferences.d",
            "etc/auth.conf.d",
        ] {
            fs::create_dir_all(root.join(directory))
                .doing(format_args!("cannot create {}", root.display()))?;
        }
        let status = root.join("state/status");
        fs::write(&status, "").doing(format_args!("cannot write {}", status.display()))?;
        let apt = PrivateApt {
            root: root.to_path_buf(),
            source,
        };
        let configuration = apt.configuration()?;
        fs::write(apt.configuration_file(), configuration).doing(format_args!(
            "cannot write {}",
            apt.configuration_file().display()
        ))?;
        Ok(apt)
    }

    /// Fetches the package lists of these suites; the ones the archive does not have are left out with a note.
    pub(crate) fn update(&mut self, suites: &[&str]) -> Outcome<()> {
        let failure = match self.try_update(suites) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let text = failure.to_string();
        if text.contains("NO_PUBKEY") || text.contains("not signed") {
            // The machine is older than the archive's newest keys; its own distribution hands them out, signed by
            // the keys the machine has.
            println!(
                "the archive has newer keys than this machine: fetching the distribution's own keyring"
            );
            let keyring = self
                .newer_keyring()
                .map_err(|inner| inner.while_doing(&text))?;
            self.source = self.source.with_key(&keyring);
            return self.try_update(suites);
        }
        if text.contains("is expired") {
            return Err(failure.with_remedy(
                "this machine's clock is wrong, or its archive is an old copy; of a copy you trust, say so to apt: \
                 Acquire::Check-Valid-Until \"false\";",
            ));
        }
        // One suite that the archive lacks fails them all; find out which ones there are.
        let present: Vec<&str> = suites
            .iter()
            .copied()
            .filter(|suite| self.try_update(&[suite]).is_ok())
            .collect();
        if present.is_empty() {
            return Err(failure.with_remedy(
                "the distribution's archive must be reachable once; afterwards everything works without network",
            ));
        }
        self.try_update(&present)
    }

    /// The versions of a package, in the order apt lists them: newest first.
    pub(crate) fn offers(&self, package: &str) -> Outcome<Vec<Offer>> {
        Ok(madison(&tool::output(
            self.command("apt-cache").args(["madison", package]),
        )?))
    }

    /// What a package depends on, by name, alternatives left out.
    pub(crate) fn dependencies(&self, package: &str) -> Outcome<Vec<String>> {
        let text = tool::output(self.command("apt-cache").args(["depends", package]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("Depends: "))
            .map(str::to_owned)
            .collect())
    }

    /// Downloads packages with all they depend on, checked against the signed lists, and unpacks them.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[String], into: &Path) -> Outcome<()> {
        let archives = self.root.join("cache/archives");
        remove_packages(&archives)?;
        tool::output(
            self.command("apt-get")
                .args([
                    "install",
                    "-y",
                    "-qq",
                    "--download-only",
                    "--no-install-recommends",
                ])
                .args(packages),
        )
        .map_err(|failure| failure.while_doing("cannot download"))?;
        self.unpack_all(&archives, into)
    }

    /// Downloads just this package and unpacks it.
    pub(crate) fn unpack_alone(&self, package: &str, into: &Path) -> Outcome<()> {
        let place = self.root.join("cache/alone");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).doing(format_args!("cannot create {}", place.display()))?;
        tool::output(
            self.command("apt-get")
                .args(["download", "-qq", package])
                .current_dir(&place),
        )
        .map_err(|failure| failure.while_doing("cannot download"))?;
        self.unpack_all(&place, into)
    }

    fn unpack_all(&self, archives: &Path, into: &Path) -> Outcome<()> {
        let packages = packages_in(archives)?;
        if packages.is_empty() {
            return Err(Failure::new(format!(
                "apt downloaded nothing into {}",
                archives.display()
            )));
        }
        for package in packages {
            tool::output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(into))?;
        }
        remove_packages(archives)
    }

    fn try_update(&self, suites: &[&str]) -> Outcome<()> {
        let sources = self.root.join("etc/private.sources");
        fs::write(&sources, self.source.stanza(suites))
            .doing(format_args!("cannot write {}", sources.display()))?;
        tool::output(self.command("apt-get").args([
            "update",
            "-q",
            "-o",
            "APT::Update::Error-Mode=any",
        ]))
        .map(drop)
        .map_err(|failure| failure.while_doing("cannot fetch the package lists"))
    }

    fn newer_keyring(&self) -> Outcome<PathBuf> {
        let into = self.root.join("keyring");
        for package in ["debian-archive-keyring", "ubuntu-keyring"] {
            let place = self.root.join("cache/keyring");
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(&place).doing(format_args!("cannot create {}", place.display()))?;
            // By the machine's own apt configuration and keys: that is what makes the new keys trustworthy.
            let fetched = tool::output(
                Command::new("apt-get")
                    .args(["download", "-qq", package])
                    .current_dir(&place),
            );
            if fetched.is_ok() {
                self.unpack_all(&place, &into)?;
                for name in ["debian-archive-keyring", "ubuntu-archive-keyring"] {
                    for ending in ["pgp", "gpg"] {
                        let keyring = into.join(format!("usr/share/keyrings/{name}.{ending}"));
                        if keyring.exists() {
                            return Ok(keyring);
                        }
                    }
                }
            }
        }
        Err(Failure::new("no newer keyring package was found")
            .with_remedy("apt-get update && apt-get upgrade"))
    }

    fn configuration_file(&self) -> PathBuf {
        self.root.join("etc/apt.conf")
    }

    /// The machine's configuration (proxies, certificates, time-outs) less its hooks and places, plus our places.
    fn configuration(&self) -> Outcome<String> {
        let own = [
            "Dir",
            "DPkg",
            "APT::Update",
            "APT::NeverAutoRemove",
            "Acquire::IndexTargets",
            "APT::Default-Release",
        ];
        let machine = tool::output(
            Command::new("apt-config")
                .arg("dump")
                .env_remove("APT_CONFIG"),
        )?;
        let mut text = String::new();
        for line in machine.lines() {
            let key = line.split_whitespace().next().unwrap_or_default();
            let ours = own.iter().any(|prefix| {
                key.get(..prefix.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
                    && matches!(key.as_bytes().get(prefix.len()), None | Some(b':'))
            });
            if !ours {
                text.push_str(line);
                text.push('\n');
            }
        }
        let root = self.root.display();
        text.push_str(&format!(
            "Dir::State \"{root}/state\";\n\
             Dir::State::status \"{root}/state/status\";\n\
             Dir::Cache \"{root}/cache\";\n\
             Dir::Etc \"{root}/etc\";\n\
             Dir::Etc::parts \"/dev/null\";\n\
             Dir::Etc::sourcelist \"{root}/etc/private.sources\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::trustedparts \"/etc/apt/trusted.gpg.d/\";\n\
             Dir::Etc::netrc \"/etc/apt/auth.conf\";\n\
             Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n\
             Debug::NoLocking \"1\";\n"
        ));
        // The old single key file; apt warns where it is named in vain.
        if Path::new("/etc/apt/trusted.gpg").exists() {
            text.push_str("Dir::Etc::trusted \"/etc/apt/trusted.gpg\";\n");
        }
        // apt's download user cannot enter a directory below /root; apt would warn and go on as root anyway.
        text.push_str("APT::Sandbox::User \"root\";\n");
        Ok(text)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.configuration_file())
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// The package sources configured on this machine, both formats.
fn configured() -> Outcome<Vec<Source>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(parse_deb822(&text)),
            Some("list") => sources.extend(parse_one_line(&text)),
            _ => {}
        }
    }
    if sources.is_empty() {
        return Err(
            Failure::new("no package source is configured under /etc/apt").with_remedy(
                "configure the distribution's own package source, or name a CRIU in $CRIU",
            ),
        );
    }
    Ok(sources)
}

/// Stanzas of `Name: value` lines; a line that starts with a blank continues the one before.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source_of_fields(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sources
}

fn source_of_fields(fields: Vec<(String, String)>) -> Option<Source> {
    let mut source = Source {
        fields: Vec::new(),
        suites: Vec::new(),
        components: Vec::new(),
    };
    let split = |value: &str| {
        value
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut binary = false;
    for (name, value) in fields {
        match name.to_ascii_lowercase().as_str() {
            "types" => binary = split(&value).iter().any(|kind| kind == "deb"),
            "suites" => source.suites = split(&value),
            "components" => source.components = split(&value),
            "enabled" if matches!(value.to_ascii_lowercase().as_str(), "no" | "false" | "0") => {
                return None;
            }
            "enabled" => {}
            _ => source.fields.push((name, value)),
        }
    }
    binary.then_some(source)
}

/// Lines such as `deb [signed-by=KEYRING arch=amd64] URI SUITE COMPONENT...`.
fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracket) => bracket.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?;
    let suite = words.next()?;
    let mut fields = vec![("URIs".to_owned(), uri.to_owned())];
    for option in options.split_whitespace() {
        let (name, value) = option.split_once('=')?;
        let name = match name {
            "arch" => "Architectures",
            "signed-by" => "Signed-By",
            "trusted" => "Trusted",
            "check-valid-until" => "Check-Valid-Until",
            // The rest (languages, diffs, times) does not change what is fetched or trusted.
            _ => continue,
        };
        fields.push((name.to_owned(), value.replace(',', " ")));
    }
    Some(Source {
        fields,
        suites: vec![suite.to_owned()],
        components: words.map(str::to_owned).collect(),
    })
}

/// Lines of `apt-cache madison`: `package | version | source`.
fn madison(text: &str) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for line in text.lines() {
        if let Some(version) = line.split('|').nth(1) {
            let offer = Offer {
                version: version.trim().to_owned(),
            };
            if !offers.contains(&offer) {
                offers.push(offer);
            }
        }
    }
    offers
}

pub(crate) fn os_release_field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key == name).then(|| value.trim_matches('"').to_owned())
    })
}

fn packages_in(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).doing(format_args!("cannot read {}", directory.display()))?;
    let mut packages: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages.sort();
    Ok(packages)
}

fn remove_packages(directory: &Path) -> Outcome<()> {
    for package in packages_in(directory)? {
        fs::remove_file(&package).doing(format_args!("cannot remove {}", package.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_deb822_file_gives_its_enabled_binary_stanzas() {
        let text = "Types: deb deb-src\n# a comment\nURIs: mirror://archive\nSuites: bookworm bookworm-updates\n\
                    Components: main\nSigned-By:\n -----BEGIN KEY-----\n .\n abc\n\n\
                    Types: deb-src\nURIs: x\nSuites: bookworm\n\n\
                    Enabled: no\nTypes: deb\nURIs: y\nSuites: bookworm\n";
        let sources = parse_deb822(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, words(&["bookworm", "bookworm-updates"]));
        assert_eq!(sources[0].fields[1].1, "\n -----BEGIN KEY-----\n .\n abc");
        assert_eq!(
            sources[0].stanza(&["sid"]),
            "Types: deb\nSuites: sid\nComponents: main\nURIs: mirror://archive\n\
             Signed-By: \n -----BEGIN KEY-----\n .\n abc\n"
        );
    }

    #[test]
    fn a_one_line_file_gives_its_binary_lines() {
        let text = "# deb x y main\ndeb-src mirror://archive noble main\n\
                    deb [arch=amd64,arm64 signed-by=/k.gpg lang=de] mirror://archive noble main restricted # note\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(
            sources[0].stanza(&["devel"]),
            "Types: deb\nSuites: devel\nComponents: main restricted universe\nURIs: mirror://archive\n\
             Architectures: amd64 arm64\nSigned-By: /k.gpg\n"
        );
    }

    #[test]
    fn offers_are_matched_by_upstream_series() {
        let offers = madison(
            " criu | 4.3-1~exp2 | somewhere\n criu | 1:4.2.1-1 | here\n criu | 4.2.1-2 | x\n criu | 4.2.1-2 | y\n",
        );
        assert_eq!(offers.len(), 3);
        assert!(offers[0].is_of_series("4.3") && !offers[0].is_of_series("4.2"));
        assert_eq!(offers[1].upstream(), "4.2.1");
        assert!(offers[1].is_of_series("4.2"));
        let version = |version: &str| Offer {
            version: version.to_owned(),
        };
        assert!(!version("4.20-1").is_of_series("4.2"));
        assert!(!version("4.2~rc1-1").is_of_series("4.2"));
        assert!(version("4.2+dfsg-1").is_of_series("4.2"));
    }

    #[test]
    fn the_code_name_is_read_with_or_without_quotes() {
        assert_eq!(
            os_release_field("ID=debian\nVERSION_CODENAME=sid\n", "VERSION_CODENAME").as_deref(),
            Some("sid")
        );
        assert_eq!(
            os_release_field("ID=\"ubuntu\"\n", "ID").as_deref(),
            Some("ubuntu")
        );
    }
}
