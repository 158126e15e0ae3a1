//! What memory `crit` takes of checkpoints that are much larger.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use criu_image::memory::{PE_LAZY, PE_PRESENT};
use criu_image::message::{
    CoreEntry, CoreEntryMarch, FdTypes, FdinfoEntry, FileEntry, FsEntry, InventoryEntry, MmEntry,
    PagemapEntry, PagemapHead, PstreeEntry, RegFileEntry, TaskCoreEntry, TaskKobjIdsEntry,
    VmaEntry,
};
use criu_image::wire::Message;
use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};
use criu_testkit::TempDir;

fn put<T: Message>(directory: &Path, kind: ImageKind, id: u64, entries: impl Iterator<Item = T>) {
    let file = File::create(directory.join(kind.file(id))).expect("a file");
    let file = std::io::BufWriter::new(file);
    let mut image = ImageWriter::new(file, Header::new(kind), ByteOrder::Little).expect("a head");
    for entry in entries {
        image.message(&entry).expect("an entry");
    }
    image.finish().expect("an image");
}

/// A task with 60,000 areas, of which every other maps one of 20,000 files, and a pagemap of
/// 200,000 entries: one page in each area, and others that are still to come.
fn large(directory: &Path) {
    const AREAS: u64 = 60_000;
    const ENTRIES: u64 = 200_000;
    let one = |kind, id, entry| put(directory, kind, id, std::iter::once::<PstreeEntry>(entry));
    one(
        ImageKind::Pstree,
        0,
        PstreeEntry {
            pid: 1,
            threads: vec![1],
            ..PstreeEntry::default()
        },
    );
    let core = CoreEntry {
        mtype: CoreEntryMarch::X86_64,
        tc: Some(Box::new(TaskCoreEntry {
            task_state: 1,
            comm: "large".into(),
            ..TaskCoreEntry::default()
        })),
        ..CoreEntry::default()
    };
    put(directory, ImageKind::Core, 1, std::iter::once(core));
    let inventory = InventoryEntry {
        img_version: 2,
        ..InventoryEntry::default()
    };
    put(
        directory,
        ImageKind::Inventory,
        0,
        std::iter::once(inventory),
    );
    let ids = TaskKobjIdsEntry {
        files_id: 1,
        ..TaskKobjIdsEntry::default()
    };
    put(directory, ImageKind::Ids, 1, std::iter::once(ids));
    let fs = FsEntry {
        cwd_id: 1,
        root_id: 1,
        ..FsEntry::default()
    };
    put(directory, ImageKind::Fs, 1, std::iter::once(fs));
    let fds = (0..2000).map(|fd| FdinfoEntry {
        id: fd + 1,
        fd,
        r#type: FdTypes::Reg,
        ..FdinfoEntry::default()
    });
    put(directory, ImageKind::Fdinfo, 1, fds);
    let files = (1..=20_000).map(|id| FileEntry {
        r#type: FdTypes::Reg,
        id,
        reg: Some(Box::new(RegFileEntry {
            id,
            name: format!("/srv/data/part-{id:05}/table.bin").into(),
            ..RegFileEntry::default()
        })),
        ..FileEntry::default()
    });
    put(directory, ImageKind::Files, 0, files);
    let area = |index: u64| {
        let (shmid, status) = match index.is_multiple_of(2) {
            true => (0, 0x201),
            false => (index % 20_000 + 1, 0x41),
        };
        VmaEntry {
            start: 0x7f00_0000_0000 + index * 0x4000,
            end: 0x7f00_0000_2000 + index * 0x4000,
            shmid,
            prot: 3,
            flags: 2,
            status,
            fd: -1,
            ..VmaEntry::default()
        }
    };
    let mm = MmEntry {
        exe_file_id: 1,
        vmas: (0..AREAS).map(area).collect(),
        ..MmEntry::default()
    };
    put(directory, ImageKind::Mm, 1, std::iter::once(mm));
    put(
        directory,
        ImageKind::Pagemap,
        1,
        std::iter::once(PagemapHead {
            pages_id: 1,
            ..PagemapHead::default()
        }),
    );
    let file = File::options()
        .append(true)
        .open(directory.join(ImageKind::Pagemap.file(1)))
        .expect("a file");
    let mut image = std::io::BufWriter::new(file);
    for index in 0..ENTRIES {
        let entry = PagemapEntry {
            vaddr: 0x7f00_0000_0000 + index * 0x4000,
            nr_pages: Some(1),
            flags: Some(if index < AREAS { PE_PRESENT } else { PE_LAZY }),
            ..PagemapEntry::default()
        }
        .encode();
        let len = u32::try_from(entry.len()).expect("a short entry");
        std::io::Write::write_all(&mut image, &len.to_le_bytes()).expect("writes");
        std::io::Write::write_all(&mut image, &entry).expect("writes");
    }
    // A hole takes no room on the disk.
    File::create(directory.join(ImageKind::Pages.file(1)))
        .and_then(|file| file.set_len(AREAS * 4096))
        .expect("pages");
}

#[test]
fn answers_about_large_tasks_take_little_memory() {
    let set = TempDir::new();
    large(set.path());
    let path = set.path().to_str().expect("UTF-8");
    let mm = set.path().join(ImageKind::Mm.file(1));
    let mm = mm.to_str().expect("UTF-8");
    for arguments in [
        &["x", path, "ps"][..],
        &["x", path, "fds"],
        &["x", path, "mems"],
        &["x", path, "mems", "--json"],
        &["x", path, "rss"],
        &["x", path, "rss", "--json"],
        &["mem", path],
        &["mem", path, "--json", "--spans"],
        &["verify", path],
        &["search", path, "--count", "needle"],
        &["decode", "-i", mm],
        &["info", mm],
    ] {
        // Data of 16 MiB, stacks of threads included; what does not fit ends the program.
        let output = Command::new("sh")
            .args(["-c", "ulimit -d 16384 && exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_crit"))
            .args(arguments)
            .stdout(Stdio::null())
            .output()
            .expect("sh runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Code 1 is that of a search that finds nothing.
        let is_fine = output.status.success() || arguments[0] == "search" && stderr.is_empty();
        assert!(is_fine, "{arguments:?}: {stderr}");
    }
}
