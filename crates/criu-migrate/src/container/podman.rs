//! The engine `podman`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_image::stats::DumpStats;
use serde_json::Value;

use super::ImageSeen;
use super::program::{ASKING, Program, again_if_unseizable};
use crate::error::{Error, Result};
use crate::message::Needs;

/// A container as `podman container inspect` tells it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) pid: i32,
    pub(super) is_running: bool,
    /// Where podman keeps what belongs to it.
    pub(super) storage: Option<PathBuf>,
    pub(super) image: ImageSeen,
}

/// Looks for a container; an error when there is none.
pub(super) fn state(program: &Program, id: &str) -> Result<State> {
    let doing = format!("look for container {id}");
    let text = program.run(&doing, ["container", "inspect", id], ASKING)?;
    let unreadable = || Error::Container {
        runtime: super::Runtime::Podman,
        doing: doing.clone(),
        said: "it says nothing this program understands".to_owned(),
    };
    let value: Value = serde_json::from_str(&text).map_err(|_| unreadable())?;
    let container = value.get(0).ok_or_else(unreadable)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(unreadable);
    let pid = container["State"]["Pid"].as_i64();
    Ok(State {
        id: text(&container["Id"])?,
        name: text(&container["Name"])?,
        pid: pid.and_then(|pid| pid.try_into().ok()).unwrap_or(0),
        storage: container["StaticDir"].as_str().map(PathBuf::from),
        is_running: container["State"]["Status"].as_str() == Some("running"),
        image: ImageSeen {
            name: text(&container["ImageName"])?,
            id: text(&container["Image"])?,
        },
    })
}

/// Whether there is a container of that id or name, in whatever state.
pub(super) fn exists(program: &Program, id: &str) -> Result<bool> {
    match program.run("look for a container", ["container", "exists", id], ASKING) {
        Ok(_) => Ok(true),
        // 1 says that there is none, 125 that podman failed.
        Err(Error::Container { said, .. }) if said == "it ended with exit status: 1" => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says why an image is not the one a container needs.
pub(super) fn image_obstacle(program: &Program, image: &ImageSeen) -> Option<String> {
    let words = ["image", "inspect", "--format", "{{.Id}}", "--", &image.name];
    let found = program.run("look for the image", words, ASKING);
    match found {
        Ok(id)
            if id.trim().trim_start_matches("sha256:")
                == image.id.trim_start_matches("sha256:") =>
        {
            None
        }
        Ok(id) => Some(format!(
            "image {} is {} here and {} on the source; bring the same one (podman save, podman load)",
            image.name,
            id.trim(),
            image.id
        )),
        Err(_) => Some(format!(
            "image {} is not here; bring it (podman pull, or podman save and podman load)",
            image.name
        )),
    }
}

/// Dumps the memory of the container into its own storage, and into an archive; the container goes on.
pub(super) fn pre_checkpoint(
    program: &Program,
    id: &str,
    archive: &Path,
    needs: &Needs,
    within: Duration,
) -> Result<DumpStats> {
    let archive = archive.display().to_string();
    let mut words = vec!["container", "checkpoint", "--pre-checkpoint"];
    words.extend(["--print-stats", "--export", &archive]);
    words.extend(options(needs));
    words.push(id);
    let doing = format!("dump the memory of container {id}");
    Ok(statistics(&dump(program, &doing, &words, within)?))
}

/// What `--print-stats` prints; what it does not say counts as none.
fn statistics(said: &str) -> DumpStats {
    let value: Value = serde_json::from_str(said).unwrap_or_default();
    let figures = &value["container_statistics"][0]["criu_statistics"];
    let count = |name: &str| figures[name].as_u64().unwrap_or_default();
    let mut statistics = DumpStats::default();
    statistics.freezing = Duration::from_micros(count("freezing_time"));
    statistics.frozen = Duration::from_micros(count("frozen_time"));
    statistics.pages_scanned = count("pages_scanned");
    statistics.pages_written = count("pages_written");
    statistics
}

/// Checkpoints the container: into its own storage, and into an archive. With `previous`, without the memory its
/// pre-checkpoint has.
pub(super) fn checkpoint(
    program: &Program,
    id: &str,
    archive: &Path,
    previous: bool,
    needs: &Needs,
    within: Duration,
) -> Result<()> {
    let archive = archive.display().to_string();
    let mut words = vec!["container", "checkpoint", "--keep", "--export", &archive];
    if previous {
        words.push("--with-previous");
    }
    words.extend(options(needs));
    words.push(id);
    let doing = format!("checkpoint container {id}");
    dump(program, &doing, &words, within).map(drop)
}

/// Has podman dump a container; a failure carries the cause in CRIU's log.
fn dump(program: &Program, doing: &str, words: &[&str], within: Duration) -> Result<String> {
    again_if_unseizable(|| {
        program.run(doing, words, within).map_err(|error| {
            let log = match &error {
                Error::Container { said, .. } => log_named_in(said),
                _ => None,
            };
            match log {
                Some(log) => program.explain(error, &log),
                None => error,
            }
        })
    })
}

/// Finds CRIU's log, which lies in podman's storage, by what runc says in podman's words.
fn log_named_in(said: &str) -> Option<PathBuf> {
    let (_, rest) = said.split_once("log file: ")?;
    let (path, _) = rest.split_once("dump.log")?;
    Some(format!("{path}dump.log").into())
}

/// Restores the container from what the checkpoint left in its storage.
pub(super) fn restore_kept(
    program: &Program,
    id: &str,
    needs: &Needs,
    within: Duration,
) -> Result<()> {
    let words = restore_words(id, needs);
    let doing = format!("restore container {id}");
    program.run(&doing, words, within).map(drop)
}

/// The arguments of that, for a person to use, too.
pub(super) fn restore_words(id: &str, needs: &Needs) -> Vec<String> {
    let mut words = vec!["container", "restore"];
    words.extend(options(needs));
    words.push(id);
    words.into_iter().map(str::to_owned).collect()
}

/// Restores a container from an archive, and that of its pre-checkpoint if there was one.
pub(super) fn import(
    program: &Program,
    archive: &Path,
    previous: Option<&Path>,
    needs: &Needs,
    within: Duration,
) -> Result<()> {
    let archive = archive.display().to_string();
    let previous = previous.map(|previous| previous.display().to_string());
    let mut words = vec!["container", "restore", "--import", &archive];
    if let Some(previous) = &previous {
        words.extend(["--import-previous", previous]);
    }
    words.extend(options(needs));
    program
        .run("restore the container", words, within)
        .map(drop)
}

/// Removes whatever there is of a container.
pub(super) fn remove(program: &Program, id: &str) -> Result<()> {
    let words = ["container", "rm", "--force", "--time", "0", id];
    let doing = format!("remove container {id}");
    program.run(&doing, words, ASKING).map(drop)
}

fn options(needs: &Needs) -> Vec<&'static str> {
    let mut words = Vec::new();
    if needs.tcp_established {
        words.push("--tcp-established");
    }
    if needs.file_locks {
        words.push("--file-locks");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_criu_is_where_runc_says() {
        let said = r#"level=error msg="criu failed: type NOTIFY errno 0\nlog file: /s/userdata/dump.log"; Error: x"#;
        assert_eq!(log_named_in(said), Some("/s/userdata/dump.log".into()));
        assert_eq!(log_named_in("no such container"), None);
    }

    #[test]
    fn statistics_are_read_as_podman_prints_them_and_may_be_missing() {
        let said = r#"{"podman_checkpoint_duration": 9, "container_statistics": [{"Id": "x",
            "runtime_checkpoint_duration": 5, "criu_statistics": {"freezing_time": 7, "frozen_time": 8,
            "memdump_time": 3, "memwrite_time": 1, "pages_scanned": 300, "pages_written": 20}}]}"#;
        let found = statistics(said);
        assert_eq!((found.pages_scanned, found.pages_written), (300, 20));
        assert_eq!(found.frozen, Duration::from_micros(8));
        assert_eq!(statistics("0a1b2c\n"), DumpStats::default());
    }
}
