//! What is sound is called sound, and what is not is found and named.

use std::fs;
use std::path::{Path, PathBuf};

use criu_image::message::{
    CgroupEntry, CoreEntry, FdinfoEntry, FileEntry, FsEntry, MmEntry, PagemapEntry, PagemapHead,
    PstreeEntry, RemapFilePathEntry, SeccompEntry, SeccompFilter, SeccompMode, SkPacketEntry,
};
use criu_image::wire::Message;
use criu_image::{ByteOrder, Checkpoint, Entry, Header, ImageKind, ImageWriter};
use criu_inspect::verify::{Fault, verify};
use criu_testkit::TempDir;

fn fixture(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(set)
}

fn faults(directory: &Path) -> Vec<Fault> {
    let checkpoint = Checkpoint::open(directory).expect("a directory");
    let verification = verify(&checkpoint, &());
    let checkpoints = verification.checkpoints.into_iter();
    checkpoints
        .flat_map(|checkpoint| checkpoint.faults)
        .collect()
}

#[test]
fn all_fixtures_are_sound() {
    let mut sets = 0;
    for series in ["4.2", "4.3"] {
        for set in fs::read_dir(fixture(series)).expect("the fixtures are there") {
            let set = set.expect("readable").path();
            assert_eq!(faults(&set), [], "{}", set.display());
            sets += 1;
        }
    }
    assert!(sets >= 20, "{sets}");
}

/// A copy of a fixture, to be damaged.
struct Copy(TempDir);

impl Copy {
    fn of(set: &str) -> Self {
        let copy = TempDir::new();
        for entry in fs::read_dir(fixture(set)).expect("the fixture is there") {
            let entry = entry.expect("readable");
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
        }
        Self(copy)
    }

    fn image<T: Message>(&self, kind: ImageKind, id: u64, change: impl FnOnce(&mut Vec<Entry<T>>)) {
        let checkpoint = Checkpoint::open(self.0.path()).expect("a directory");
        let mut entries = checkpoint.many(kind, id).expect("readable");
        change(&mut entries);
        let mut writer =
            ImageWriter::new(Vec::new(), Header::new(kind), ByteOrder::Little).expect("memory");
        for entry in entries {
            writer.entry(&entry.bytes()).expect("memory");
        }
        fs::write(self.0.join(kind.file(id)), writer.finish().expect("memory")).expect("written");
    }

    fn pagemap(&self, id: u64, change: impl FnOnce(&mut Vec<Entry<PagemapEntry>>)) {
        let checkpoint = Checkpoint::open(self.0.path()).expect("a directory");
        let (head, mut entries): (PagemapHead, _) = checkpoint
            .pagemap(ImageKind::Pagemap, id)
            .expect("readable");
        change(&mut entries);
        let header = Header::new(ImageKind::Pagemap);
        let mut writer = ImageWriter::new(Vec::new(), header, ByteOrder::Little).expect("memory");
        writer.message(&head).expect("memory");
        for entry in entries {
            writer.entry(&entry.bytes()).expect("memory");
        }
        let bytes = writer.finish().expect("memory");
        fs::write(self.0.join(ImageKind::Pagemap.file(id)), bytes).expect("written");
    }

    fn pid(&self) -> u64 {
        let checkpoint = Checkpoint::open(self.0.path()).expect("a directory");
        u64::from(
            checkpoint
                .tasks()
                .expect("readable")
                .root()
                .expect("a root")
                .pid,
        )
    }

    #[track_caller]
    fn finds(&self, file: &str, entry: impl Into<Option<u64>>, problem: &str) {
        let faults = faults(self.0.path());
        let entry = entry.into();
        let found = faults.iter().any(|fault| {
            fault.file.as_deref() == Some(file)
                && fault.entry == entry
                && fault.problem.contains(problem)
        });
        assert!(
            found,
            "{file} {entry:?} {problem:?} is not among {faults:#?}"
        );
    }
}

#[test]
fn images_that_cannot_be_read_are_named_with_their_place() {
    let copy = Copy::of("4.3/unix");
    let path = copy.0.join("files.img");
    let bytes = fs::read(&path).expect("readable");
    fs::write(&path, &bytes[..bytes.len() - 3]).expect("written");
    let faults = faults(copy.0.path());
    let fault = faults
        .iter()
        .find(|fault| fault.file.as_deref() == Some("files.img"));
    let fault = fault.expect("found");
    assert!(fault.problem.contains("exceeds"), "{fault}");
    assert!(fault.entry > Some(10) && fault.offset.is_some(), "{fault}");
    fs::write(&path, b"no image").expect("written");
    copy.finds("files.img", None, "magic");
}

#[test]
fn an_entry_that_is_no_message_is_named() {
    let copy = Copy::of("4.3/plain");
    let header = Header::new(ImageKind::Fs);
    let mut writer = ImageWriter::new(Vec::new(), header, ByteOrder::Little).expect("memory");
    writer.entry(b"\x08").expect("memory");
    let name = ImageKind::Fs.file(copy.pid());
    fs::write(copy.0.join(&name), writer.finish().expect("memory")).expect("written");
    copy.finds(&name, 0, "truncated");
}

#[test]
fn pages_that_do_not_fit_their_map_are_found() {
    let copy = Copy::of("4.3/plain");
    let file = fs::File::options()
        .write(true)
        .open(copy.0.join("pages-1.img"))
        .expect("there");
    let len = file.metadata().expect("known").len();
    file.set_len(len + 4096).expect("longer");
    copy.finds("pages-1.img", None, "bytes, but pagemap-");
    file.set_len(len - 4096).expect("shorter");
    let name = ImageKind::Pagemap.file(copy.pid());
    let last = {
        let checkpoint = Checkpoint::open(copy.0.path()).expect("a directory");
        checkpoint
            .pagemap(ImageKind::Pagemap, copy.pid())
            .expect("readable")
            .1
            .len() as u64
    };
    copy.finds(&name, last, "of pages-1.img, which has");
    fs::remove_file(copy.0.join("pages-1.img")).expect("removed");
    copy.finds(&name, 0, "the pages file pages-1.img is missing");
}

#[test]
fn entries_of_pagemaps_are_checked() {
    let copy = Copy::of("4.3/plain");
    let (pid, name) = (copy.pid(), ImageKind::Pagemap.file(copy.pid()));
    copy.pagemap(pid, |entries| entries[1].edit().vaddr += 17);
    copy.finds(&name, 2, "is not where a page begins");
    let copy = Copy::of("4.3/plain");
    let name = ImageKind::Pagemap.file(copy.pid());
    copy.pagemap(copy.pid(), |entries| entries.swap(0, 1));
    copy.finds(&name, 2, "is within or before the entry before");
    let copy = Copy::of("4.3/plain");
    copy.pagemap(copy.pid(), |entries| entries[0].edit().flags = Some(1));
    let name = ImageKind::Mm.file(copy.pid());
    copy.finds(&name, None, "memory that no image has");
}

#[test]
fn compressed_blocks_are_expanded() {
    let copy = Copy::of("4.3/plain-compressed");
    let name = ImageKind::Pagemap.file(copy.pid());
    let mut at = None;
    copy.pagemap(copy.pid(), |entries| {
        let mut position = 0u64;
        for (entry, index) in entries.iter().zip(1..) {
            if entry.effective_flags() & 8 != 0 {
                position = position.next_multiple_of(4096);
            }
            match &entry.blocks {
                Some(blocks) if at.is_none() => {
                    let stored = blocks
                        .block_sizes
                        .iter()
                        .position(|size| (1..4096).contains(size));
                    if stored == Some(0) {
                        at = Some((index, position));
                    }
                    position += blocks.total_payload_size;
                }
                Some(blocks) => position += blocks.total_payload_size,
                None => position += entry.effective_pages() * 4096,
            }
        }
    });
    let (index, position): (u64, u64) = at.expect("a compressed block");
    let path = copy.0.join("pages-1.img");
    let mut bytes = fs::read(&path).expect("readable");
    let position = usize::try_from(position).expect("small");
    bytes[position..position + 16].fill(0xff);
    fs::write(&path, bytes).expect("written");
    copy.finds(&name, index, "block 0 of");
}

#[test]
fn references_that_lead_nowhere_are_found() {
    let copy = Copy::of("4.3/descriptors");
    let pid = copy.pid();
    copy.image::<FdinfoEntry>(ImageKind::Fdinfo, 2, |fds| fds[3].edit().id = 999);
    copy.finds("fdinfo-2.img", 3, "file has the id 999");
    copy.image::<FsEntry>(ImageKind::Fs, pid, |fs| fs[0].edit().cwd_id = 998);
    copy.finds(&ImageKind::Fs.file(pid), 0, "no REG file has the id 998");
    copy.image::<MmEntry>(ImageKind::Mm, pid, |mm| {
        let vmas = &mut mm[0].edit().vmas;
        let mapped = vmas
            .iter_mut()
            .find(|vma| vma.status & 1 << 6 != 0)
            .expect("one");
        mapped.shmid = 997;
    });
    copy.finds(&ImageKind::Mm.file(pid), 0, "no REG file has the id 997");
    copy.image::<FileEntry>(ImageKind::Files, 0, |files| {
        let terminal = files
            .iter_mut()
            .find(|file| file.tty.is_some())
            .expect("one");
        if let Some(terminal) = &mut terminal.edit().tty {
            terminal.tty_info_id = 55;
        }
    });
    let all = faults(copy.0.path());
    assert!(
        all.iter()
            .any(|fault| fault.problem.contains("refers to terminal 55")),
        "{all:#?}"
    );
    fs::remove_file(copy.0.join("memfd.img")).expect("removed");
    let all = faults(copy.0.path());
    assert!(
        all.iter()
            .any(|fault| fault.problem.contains("refers to memory file 1")),
        "{all:#?}"
    );
}

#[test]
fn sockets_and_ghosts_that_lead_nowhere_are_found() {
    let copy = Copy::of("4.3/ghosts");
    fs::remove_file(copy.0.join("ghost-file-2.img")).expect("removed");
    copy.finds("remap-fpath.img", 1, "ghost-file-2.img is missing");
    copy.image::<RemapFilePathEntry>(ImageKind::RemapFpath, 0, |remaps| {
        remaps[3].edit().remap_id = 990
    });
    copy.finds("remap-fpath.img", 3, "no regular file has the id 990");
    let copy = Copy::of("4.3/unix");
    copy.image::<FileEntry>(ImageKind::Files, 0, |files| {
        let socket = files
            .iter_mut()
            .find(|file| file.usk.is_some())
            .expect("one");
        if let Some(socket) = &mut socket.edit().usk {
            socket.peer = 1;
        }
    });
    let all = faults(copy.0.path());
    assert!(
        all.iter()
            .any(|fault| fault.problem.contains("refers to peer socket 1,")),
        "{all:#?}"
    );
    let name = ImageKind::SkQueues.file(0);
    // The payloads are lost, too; only the head of the image is of interest.
    copy.image::<SkPacketEntry>(ImageKind::SkQueues, 0, |packets| {
        packets.truncate(1);
        packets[0].edit().id_for = 991;
        packets[0].edit().length = 0;
    });
    copy.finds(&name, 0, "no socket has the id 991");
}

/// As runc leaves it out of every container.
#[test]
fn what_is_in_a_network_namespace_may_be_left_out_but_only_all_of_it() {
    let copy = Copy::of("4.3/container");
    fs::remove_file(copy.0.join("netns-10.img")).expect("removed");
    copy.finds("ids-1.img", 0, "netns-10.img is missing");
    for name in ["ifaddr", "netdev", "route", "route6"] {
        fs::remove_file(copy.0.join(format!("{name}-10.img"))).expect("removed");
    }
    assert_eq!(faults(copy.0.path()), []);
}

#[test]
fn tasks_that_lead_nowhere_are_found() {
    let copy = Copy::of("4.3/container");
    fs::remove_file(copy.0.join("utsns-12.img")).expect("removed");
    copy.finds("ids-1.img", 0, "UTS namespace 12: utsns-12.img is missing");
    copy.image::<PstreeEntry>(ImageKind::Pstree, 0, |tasks| {
        tasks[1].edit().ppid = 77;
        tasks[0].edit().threads.push(78);
    });
    copy.finds("pstree.img", None, "task 3 has the parent 77");
    copy.finds("pstree.img", 0, "thread 78 has no core-78.img");
    fs::remove_file(copy.0.join("core-3.img")).expect("removed");
    copy.finds("core-3.img", None, "image is missing");
    fs::remove_file(copy.0.join("fdinfo-2.img")).expect("removed");
    copy.finds("fdinfo-2.img", None, "image is missing");
    fs::remove_file(copy.0.join("pagemap-shmem-1.img")).expect("removed");
    copy.finds("ipcns-shm-11.img", 1, "pagemap-shmem-1.img is missing");
}

#[test]
fn groups_and_filters_that_lead_nowhere_are_found() {
    let copy = Copy::of("4.3/cgroup");
    let name = ImageKind::Core.file(copy.pid());
    copy.image::<CgroupEntry>(ImageKind::Cgroup, 0, |image| image[0].edit().sets.clear());
    copy.finds(&name, 0, "no set of control groups has the id 2");
    let copy = Copy::of("4.3/plain");
    let name = ImageKind::Core.file(copy.pid());
    copy.image::<CoreEntry>(ImageKind::Core, copy.pid(), |core| {
        let thread = core[0].edit().thread_core.as_mut().expect("there");
        thread.seccomp_mode = Some(SeccompMode::Filter);
        thread.seccomp_filter = Some(4);
    });
    copy.finds(&name, 0, "seccomp filter 4 of 0");
    copy.image::<SeccompEntry>(ImageKind::Seccomp, 0, |image| {
        let filter = SeccompFilter {
            prev: Some(0),
            ..SeccompFilter::default()
        };
        image[0].edit().seccomp_filters.push(filter);
    });
    copy.finds("seccomp.img", 0, "filter 0 comes after filter 0");
}

#[test]
fn the_chain_of_parents_is_followed() {
    let (child, parent) = (Copy::of("4.3/plain"), Copy::of("4.3/plain"));
    std::os::unix::fs::symlink(parent.0.path(), child.0.join("parent")).expect("linked");
    assert_eq!(faults(child.0.path()), []);
    fs::write(parent.0.join("pages-1.img"), b"short").expect("written");
    assert!(!faults(child.0.path()).is_empty());
    fs::remove_file(child.0.join("parent")).expect("removed");
    std::os::unix::fs::symlink("nowhere", child.0.join("parent")).expect("linked");
    let all = faults(child.0.path());
    assert!(
        all.iter()
            .any(|fault| fault.problem.contains("leads nowhere")),
        "{all:#?}"
    );
}

#[test]
fn a_directory_without_images_is_no_checkpoint() {
    let all = faults(TempDir::new().path());
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].to_string(), "no images of a checkpoint here");
}
