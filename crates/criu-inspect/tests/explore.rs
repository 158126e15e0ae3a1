//! Answers about checkpoints that are damaged, incomplete or hostile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use criu_image::checkpoint::{OpenImage, RandomAccess, Source};
use criu_image::message::{
    CoreEntry, FdTypes, FdinfoEntry, FileEntry, FsEntry, PstreeEntry, RegFileEntry, TaskCoreEntry,
    TaskKobjIdsEntry,
};
use criu_image::wire::{Message, WireType, write_tag, write_varint};
use criu_image::{ByteOrder, Checkpoint, ErrorKind, Header, ImageKind, ImageWriter};
use criu_inspect::explore::{Explorer, Process, Warning};

/// Images in memory.
#[derive(Clone, Debug, Default)]
struct Images(BTreeMap<String, Vec<u8>>);

impl Source for Images {
    fn names(&self) -> criu_image::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> criu_image::Result<OpenImage> {
        let bytes = self.0.get(name).ok_or(ErrorKind::Missing)?.clone();
        Ok(OpenImage {
            len: Some(bytes.len() as u64),
            bytes: Box::new(std::io::Cursor::new(bytes)),
        })
    }

    fn open_pages(&self, name: &str) -> criu_image::Result<Arc<dyn RandomAccess>> {
        Ok(Arc::new(
            self.0.get(name).ok_or(ErrorKind::Missing)?.clone(),
        ))
    }

    fn parent(&self) -> criu_image::Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn location(&self) -> &Path {
        Path::new("memory")
    }
}

impl Images {
    fn read(directory: &Path) -> Self {
        let mut images = Self::default();
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("a name");
            if entry.metadata().expect("readable").len() < 1 << 20 {
                images
                    .0
                    .insert(name, std::fs::read(entry.path()).expect("readable"));
            }
        }
        images
    }

    fn put<T: Message>(mut self, kind: ImageKind, id: u64, entries: &[T]) -> Self {
        let mut writer =
            ImageWriter::new(Vec::new(), Header::new(kind), ByteOrder::Little).expect("memory");
        for entry in entries {
            writer.message(entry).expect("memory");
        }
        self.0
            .insert(kind.file(id), writer.finish().expect("memory"));
        self
    }

    fn tasks(pairs: &[(u32, u32)]) -> Self {
        let entry = |&(pid, ppid)| PstreeEntry {
            pid,
            ppid,
            ..PstreeEntry::default()
        };
        let entries: Vec<PstreeEntry> = pairs.iter().map(entry).collect();
        Self::default().put(ImageKind::Pstree, 0, &entries)
    }

    fn core(self, pid: u32, task_state: u32, comm: &str) -> Self {
        let task = TaskCoreEntry {
            task_state,
            comm: comm.into(),
            ..TaskCoreEntry::default()
        };
        let core = CoreEntry {
            tc: Some(Box::new(task)),
            ..CoreEntry::default()
        };
        self.put(ImageKind::Core, pid.into(), &[core])
    }

    fn explorer(&self) -> Explorer {
        Explorer::new(Checkpoint::new(Arc::new(self.clone())))
    }
}

fn pids(processes: &[Process]) -> Vec<u32> {
    processes.iter().map(|process| process.pid).collect()
}

#[test]
fn tasks_without_a_known_parent_are_shown_with_a_warning() {
    let images = Images::tasks(&[(1, 0), (2, 1), (7, 99)])
        .core(1, 1, "init")
        .core(2, 6, "gone")
        .core(7, 1, "lost");
    let tree = images.explorer().processes();
    assert_eq!(pids(&tree.value.roots), [1, 7]);
    assert_eq!(pids(&tree.value.roots[0].children), [2]);
    assert!(matches!(
        tree.warnings[..],
        [Warning::UnknownParent { pid: 7, ppid: 99 }]
    ));
    let json = serde_json::to_value(&tree.value).expect("serialises");
    assert_eq!(json["children"][0]["comm"], "gone");
    assert_eq!(json["others"][0]["pid"], 7);
    let mut text = Vec::new();
    tree.value.write_text(&mut text).expect("memory");
    let lines = String::from_utf8(text).expect("text");
    assert!(
        lines.contains("      2      0      0       gone\n"),
        "{lines}"
    );
}

#[test]
fn tasks_that_are_their_own_ancestors_come_once() {
    let tree = Images::tasks(&[(5, 6), (6, 5), (6, 5)])
        .explorer()
        .processes();
    assert_eq!(pids(&tree.value.roots), [5]);
    assert_eq!(pids(&tree.value.roots[0].children), [6, 6]);
    assert!(
        tree.warnings
            .iter()
            .any(|warning| matches!(warning, Warning::Cycle { pid: 5 }))
    );
    assert!(
        tree.warnings
            .iter()
            .any(|warning| matches!(warning, Warning::SamePid { pid: 6 }))
    );
}

#[test]
fn a_very_deep_tree_is_shown_in_bounded_space() {
    let pairs: Vec<(u32, u32)> = (1..=20_000).map(|pid| (pid, pid - 1)).collect();
    let tree = Images::tasks(&pairs).explorer().processes();
    assert!(
        tree.warnings
            .iter()
            .any(|warning| matches!(warning, Warning::TooDeep { .. }))
    );
    let mut text = Vec::new();
    tree.value.write_text(&mut text).expect("memory");
    assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 20_001);
    assert!(text.len() < 30 << 20, "{}", text.len());
    serde_json::to_vec(&tree.value).expect("no stack overflow");
    assert!(tree.value.find(20_000).is_some());
}

#[test]
fn a_root_that_is_not_first_still_is_the_root() {
    let tree = Images::tasks(&[(3, 99), (1, 0)])
        .core(1, 1, "a")
        .core(3, 1, "b")
        .explorer()
        .processes();
    assert_eq!(pids(&tree.value.roots), [1, 3]);
}

#[test]
fn without_a_tree_the_core_images_tell_the_tasks() {
    let images =
        Images::default()
            .core(4, 1, "four")
            .put(ImageKind::Core, 5, &[CoreEntry::default()]);
    let tree = images.explorer().processes();
    assert_eq!(pids(&tree.value.roots), [4]);
    assert!(
        tree.warnings
            .iter()
            .any(|warning| matches!(warning, Warning::NoTree))
    );
}

#[test]
fn ids_of_nested_namespaces_stand_in_for_absent_ones() {
    let mut bytes = Vec::new();
    for (number, id) in [
        (2, 0),
        (5, 12),
        (6, 12),
        (6, 1),
        (7, 12),
        (7, 1),
        (8, 11),
        (8, 0),
    ] {
        write_tag(number, WireType::Varint, &mut bytes);
        write_varint(id, &mut bytes);
    }
    let mut writer = ImageWriter::new(
        Vec::new(),
        Header::new(ImageKind::Pstree),
        ByteOrder::Little,
    )
    .expect("memory");
    writer.entry(&bytes).expect("memory");
    let mut images = Images::default().core(12, 1, "nested");
    images
        .0
        .insert("pstree.img".to_owned(), writer.finish().expect("memory"));
    let tree = images.explorer().processes();
    let root = &tree.value.roots[0];
    assert_eq!((root.pid, root.pgid, root.sid), (12, 12, 11));
    assert!(tree.warnings.is_empty(), "{:?}", tree.warnings);
}

fn with_files() -> Images {
    let file = |id, name: &str| FileEntry {
        r#type: FdTypes::Reg,
        id,
        reg: Some(Box::new(RegFileEntry {
            id,
            name: name.into(),
            ..RegFileEntry::default()
        })),
        ..FileEntry::default()
    };
    let fd = |fd, id, kind| FdinfoEntry {
        fd,
        id,
        r#type: kind,
        ..FdinfoEntry::default()
    };
    Images::tasks(&[(1, 0), (2, 1), (3, 1)])
        .core(1, 1, "init")
        .core(2, 6, "zombie")
        .core(3, 1, "bare")
        .put(
            ImageKind::Ids,
            1,
            &[TaskKobjIdsEntry {
                files_id: 9,
                ..TaskKobjIdsEntry::default()
            }],
        )
        .put(
            ImageKind::Fs,
            1,
            &[FsEntry {
                cwd_id: 1,
                root_id: 77,
                ..FsEntry::default()
            }],
        )
        .put(ImageKind::Files, 0, &[file(1, "/a"), file(2, "/b")])
        .put(
            ImageKind::Fdinfo,
            9,
            &[
                fd(0, 2, FdTypes::Reg),
                fd(1, 5, FdTypes::Pipe),
                fd(2, 6, FdTypes::Unrecognized(4711)),
            ],
        )
}

#[test]
fn files_are_named_as_far_as_the_images_go() {
    let files = with_files().explorer().open_files();
    let tables: Vec<_> = files.value.0.iter().map(|table| table.pid).collect();
    assert_eq!(tables, [1, 3], "a zombie has no files");
    let first: Vec<_> = files.value.0[0]
        .files
        .iter()
        .map(|file| (file.fd.as_str(), file.path.to_string()))
        .collect();
    let expected = [
        ("0", "/b"),
        ("1", "pipe[?]"),
        ("2", "4711.6"),
        ("cwd", "/a"),
        ("root", "unknown path"),
    ];
    assert_eq!(first, expected.map(|(fd, path)| (fd, path.to_owned())));
    let unknown = files
        .warnings
        .iter()
        .filter(|warning| matches!(warning, Warning::UnknownFile { pid: 1, .. }));
    assert_eq!(unknown.count(), 3);
    let missing = files
        .warnings
        .iter()
        .filter(|warning| matches!(warning, Warning::Image(error) if error.is_missing()));
    assert_eq!(
        missing.count(),
        2,
        "ids and fs of the bare task: {:?}",
        files.warnings
    );
    let json = serde_json::to_value(&files.value).expect("serialises");
    assert_eq!(
        json[0]["files"][0],
        serde_json::json!({ "fd": "0", "type": "REG", "path": "/b" })
    );
    assert_eq!(
        json[0]["files"][3],
        serde_json::json!({ "fd": "cwd", "path": "/a" })
    );
}

#[test]
fn a_single_task_can_be_asked_about() {
    let mut explorer = with_files().explorer().only(3);
    assert_eq!(explorer.open_files().value.0.len(), 1);
    assert_eq!(pids(&explorer.processes().value.roots), [3]);
}

fn ask_everything(images: &Images) -> usize {
    let mut explorer = images.explorer();
    let x = &mut explorer;
    let mut sink = Vec::new();
    let mut warnings = 0;
    macro_rules! ask {
        ($($question:ident),*) => {$(
            let answer = x.$question();
            warnings += answer.warnings.len();
            serde_json::to_writer(&mut sink, &answer.value).expect("serialises");
        )*};
    }
    ask!(
        processes, open_files, mappings, resident, sockets, threads, mounts, namespaces, networks
    );
    ask!(
        environment,
        arguments,
        credentials,
        signals,
        timers,
        cgroups
    );
    macro_rules! stream {
        ($($question:ident as $stream:ident),*) => {$(
            let whole = x.$question();
            let json = serde_json::to_string_pretty(&whole.value).expect("serialises");
            let stream = x.$stream();
            let streamed = serde_json::to_string_pretty(&stream).expect("serialises");
            assert_eq!(streamed, json, "an answer is the same when it is streamed");
            assert_eq!(stream.into_warnings().len(), whole.warnings.len());
            let (mut text, mut streamed) = (Vec::new(), Vec::new());
            whole.value.write_text(&mut text).expect("memory takes it");
            x.$stream().write_text(&mut streamed).expect("memory takes it");
            assert_eq!(streamed, text, "an answer is the same when it is streamed");
            x.tasks().warnings.clear();
        )*};
    }
    stream!(mappings as stream_mappings, resident as stream_resident);
    warnings
}

#[test]
fn every_question_has_an_answer_whatever_is_damaged() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    for set in ["4.3/container", "4.2/tcp", "4.3/kernel"] {
        let whole = Images::read(&fixtures.join(set));
        assert_eq!(
            ask_everything(&whole),
            0,
            "{set}: a sound checkpoint gives no warnings"
        );
        for (name, bytes) in &whole.0 {
            let mut damaged = whole.clone();
            let mut seed = 0x9e37_79b9u32;
            for _ in 0..4 {
                seed = seed.wrapping_mul(0x01000193) ^ 0x5bd1;
                let at = seed as usize % bytes.len().max(1);
                let mut bytes = bytes.clone();
                if seed & 1 == 0 {
                    bytes.truncate(at);
                } else if let Some(byte) = bytes.get_mut(at) {
                    *byte = (seed >> 16).to_le_bytes()[0];
                }
                damaged.0.insert(name.clone(), bytes);
                ask_everything(&damaged);
            }
            damaged.0.remove(name);
            ask_everything(&damaged);
        }
    }
}
