//! Makes images as large as checkpoints of large processes have, for measuring: `large_images DIRECTORY 4`.
//!
//! `cargo run --release -p criu-inspect --example large_images DIRECTORY [GHOST_MIB]`
//!
//! Writes a page map of 200,000 entries with empty pages, a memory map of 60,000 areas, 50,000 files, and an
//! unlinked file of 1 GiB (or as many MiB as asked for); and the task that they are of, which has
//! 2,000 of the files open, so that `crit x` can be asked.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use criu_image::message::{
    CoreEntry, CoreEntryMarch, FdTypes, FdinfoEntry, FileEntry, FownEntry, FsEntry, GhostFileEntry,
    MmEntry, PagemapEntry, PagemapHead, PstreeEntry, RegFileEntry, TaskCoreEntry, TaskKobjIdsEntry,
    VmaEntry,
};
use criu_image::wire::Message;
use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(directory) = arguments.next() else {
        return Err("usage: large_images DIRECTORY [GHOST_MIB]".into());
    };
    let directory = Path::new(&directory);
    let ghost_mib: u64 = match arguments.next() {
        Some(size) => size.to_string_lossy().parse()?,
        None => 1024,
    };
    std::fs::create_dir_all(directory)?;
    page_map(directory)?;
    memory_map(directory)?;
    files(directory)?;
    ghost_file(directory, ghost_mib)?;
    task(directory)?;
    Ok(())
}

fn image(directory: &Path, kind: ImageKind, id: u64) -> Result<ImageWriter<File>, Box<dyn Error>> {
    let file = File::create(directory.join(kind.file(id)))?;
    Ok(ImageWriter::new(
        file,
        Header::new(kind),
        ByteOrder::Little,
    )?)
}

fn page_map(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut image = image(directory, ImageKind::Pagemap, 1)?;
    image.message(&PagemapHead {
        pages_id: 1,
        ..PagemapHead::default()
    })?;
    for index in 0..200_000 {
        image.message(&PagemapEntry {
            vaddr: 0x7f00_0000_0000 + index * 0x4000,
            nr_pages: Some(index % 3 + 1),
            flags: Some(4),
            ..PagemapEntry::default()
        })?;
    }
    image.finish()?;
    // Their content is a hole, which takes no room.
    let pages: u64 = (0..200_000).map(|index| index % 3 + 1).sum();
    File::create(directory.join(ImageKind::Pages.file(1)))?.set_len(pages * 4096)?;
    Ok(())
}

fn memory_map(directory: &Path) -> Result<(), Box<dyn Error>> {
    let area = |index: u64| VmaEntry {
        start: 0x7f00_0000_0000 + index * 0x4000,
        end: 0x7f00_0000_3000 + index * 0x4000,
        pgoff: index % 2 * 0x1000,
        shmid: index % 7,
        prot: 3,
        flags: 0x22,
        status: 0x201,
        fd: if index.is_multiple_of(2) { -1 } else { 5 },
        fdflags: Some(0x8000),
        ..VmaEntry::default()
    };
    let mut image = image(directory, ImageKind::Mm, 1)?;
    image.message(&MmEntry {
        mm_start_code: 0x40_0000,
        mm_end_code: 0x50_0000,
        mm_start_stack: 0x7ffd_0000_0000,
        exe_file_id: 1,
        vmas: (0..60_000).map(area).collect(),
        mm_saved_auxv: (0..40).collect(),
        ..MmEntry::default()
    })?;
    image.finish()?;
    Ok(())
}

fn files(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut image = image(directory, ImageKind::Files, 0)?;
    for id in 0..50_000 {
        image.message(&FileEntry {
            r#type: FdTypes::Reg,
            id,
            reg: Some(Box::new(RegFileEntry {
                id,
                flags: 0o10_0002,
                pos: u64::from(id) * 17,
                fown: FownEntry::default(),
                name: format!("/srv/data/part-{id:05}/table.bin").into(),
                size: Some(4096),
                mode: Some(0o10_0644),
                ..RegFileEntry::default()
            })),
            ..FileEntry::default()
        })?;
    }
    image.finish()?;
    Ok(())
}

fn task(directory: &Path) -> Result<(), Box<dyn Error>> {
    one(
        directory,
        ImageKind::Pstree,
        0,
        &PstreeEntry {
            pid: 1,
            pgid: 1,
            sid: 1,
            threads: vec![1],
            ..PstreeEntry::default()
        },
    )?;
    one(
        directory,
        ImageKind::Core,
        1,
        &CoreEntry {
            mtype: CoreEntryMarch::X86_64,
            tc: Some(Box::new(TaskCoreEntry {
                task_state: 1,
                comm: "large".into(),
                ..TaskCoreEntry::default()
            })),
            ..CoreEntry::default()
        },
    )?;
    one(
        directory,
        ImageKind::Ids,
        1,
        &TaskKobjIdsEntry {
            files_id: 1,
            ..TaskKobjIdsEntry::default()
        },
    )?;
    one(
        directory,
        ImageKind::Fs,
        1,
        &FsEntry {
            cwd_id: 1,
            root_id: 2,
            ..FsEntry::default()
        },
    )?;
    let mut image = image(directory, ImageKind::Fdinfo, 1)?;
    for fd in 0..2000 {
        image.message(&FdinfoEntry {
            id: 1 + fd * 24,
            r#type: FdTypes::Reg,
            fd,
            ..FdinfoEntry::default()
        })?;
    }
    image.finish()?;
    Ok(())
}

fn one<T: Message>(
    directory: &Path,
    kind: ImageKind,
    id: u64,
    entry: &T,
) -> Result<(), Box<dyn Error>> {
    let mut image = image(directory, kind, id)?;
    image.message(entry)?;
    image.finish()?;
    Ok(())
}

fn ghost_file(directory: &Path, mib: u64) -> Result<(), Box<dyn Error>> {
    let mut image = image(directory, ImageKind::GhostFile, 1)?;
    image.message(&GhostFileEntry {
        mode: 0o10_0644,
        ..GhostFileEntry::default()
    })?;
    let mut state = 1u64;
    let mut block = vec![0u8; 1 << 20];
    for _ in 0..mib {
        for word in block.chunks_exact_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes());
        }
        image.data(&block)?;
    }
    image.finish()?.flush()?;
    Ok(())
}
