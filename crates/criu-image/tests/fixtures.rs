//! Image sets that real CRIU wrote.

#[path = "schema/messages.rs"]
mod messages;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use criu_image::checkpoint::present;
use criu_image::memory::{Content, Memory, MemoryOptions, PageRange};
use criu_image::wire::{DecodeError, Message};
use criu_image::{Checkpoint, ImageKind, ImageReader, ImageWriter};

use self::messages::MESSAGES;

type Recode = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

fn recode<M: Message>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    M::decode(bytes).map(|message| message.encode())
}

/// Every directory with images below `fixtures/`.
fn sets() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut open = vec![root];
    let mut sets = Vec::new();
    while let Some(dir) = open.pop() {
        let mut has_images = false;
        for entry in fs::read_dir(&dir).expect("reads") {
            let entry = entry.expect("reads");
            if entry.file_type().expect("has a type").is_dir() {
                open.push(entry.path());
            }
            has_images |= entry
                .file_name()
                .to_str()
                .and_then(ImageKind::from_file_name)
                .is_some();
        }
        if has_images {
            sets.push(dir);
        }
    }
    sets.sort();
    assert!(sets.len() >= 10, "the fixtures are there");
    sets
}

#[test]
fn every_image_comes_back_byte_for_byte_and_every_entry_from_its_struct() {
    let mut kinds = BTreeSet::new();
    for set in sets() {
        for image in Checkpoint::open(&set)
            .expect("opens")
            .images()
            .expect("lists")
        {
            let path = set.join(&image.name);
            let about = path.display().to_string();
            let bytes = fs::read(&path).expect(&about);
            let mut reader = ImageReader::open(&path).expect(&about);
            let mut writer = ImageWriter::new(Vec::new(), reader.header(), reader.byte_order())
                .expect("writes to memory");
            reader.copy_to(&mut writer).expect(&about);
            assert!(
                writer.finish().expect("writes to memory") == bytes,
                "{about}"
            );
            let mut reader = ImageReader::open(&path).expect(&about);
            while let Some(entry) = reader.next_entry().expect(&about) {
                let name = entry.descriptor.name;
                let (_, recode) = MESSAGES
                    .iter()
                    .find(|(known, _)| *known == name)
                    .expect("listed");
                assert_eq!(recode(entry.bytes).expect(&about), entry.bytes, "{about}");
            }
            kinds.insert(image.kind.name());
        }
    }
    assert!(kinds.len() >= 30, "{kinds:?}");
}

#[test]
#[cfg_attr(not(feature = "lz4"), ignore = "expands compressed pages")]
fn every_task_and_object_has_an_address_space_that_reads() {
    let mut seen = 0;
    for set in sets() {
        let checkpoint = Checkpoint::open(&set).expect("opens");
        let memory = Memory::open(&checkpoint, MemoryOptions::default()).expect("opens");
        let tasks = present(checkpoint.tasks())
            .expect("reads")
            .unwrap_or_default();
        for task in tasks.iter() {
            let Some(space) = present(memory.task(task.pid)).expect("opens") else {
                continue;
            };
            assert_eq!(space.page_size().bytes(), 4096, "{}", set.display());
            let mut reader = space.reader();
            for span in space.all_spans() {
                let at = format!("{} task {} at {:#x}", set.display(), task.pid, span.start);
                assert_ne!(span.content, Content::Missing, "{at}");
                let mut out = vec![0; usize::try_from(span.byte_len().min(1 << 20)).expect("fits")];
                let count = reader.read_at(span.start, &mut out).expect(&at);
                assert_eq!(count > 0, span.content.is_known(), "{at}");
            }
            for (pages, path, wanted) in space.pages_lengths() {
                assert_eq!(pages.byte_len(), wanted, "{}", path.display());
            }
            seen += 1;
        }
        for id in memory.shared_ids().expect("lists") {
            memory.shared(id).expect("opens");
        }
    }
    assert!(seen >= 10, "{seen} tasks");
}

#[test]
#[cfg_attr(not(feature = "lz4"), ignore = "expands compressed pages")]
fn compressed_sets_hold_the_same_memory() {
    let mut compared = 0;
    for set in sets() {
        let name = set
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(plain) = name.strip_suffix("-compressed") else {
            continue;
        };
        let plain = set.with_file_name(plain);
        let spaces = [&plain, &set].map(|dir| {
            let checkpoint = Checkpoint::open(dir).expect("opens");
            let pid = checkpoint
                .tasks()
                .expect("reads")
                .root()
                .expect("a root")
                .pid;
            let memory = Memory::open(&checkpoint, MemoryOptions::default()).expect("opens");
            memory.task(pid).expect("opens")
        });
        for span in spaces[0].all_spans() {
            let len = usize::try_from(span.byte_len()).expect("fits");
            let [one, two] = spaces.each_ref().map(|space| {
                let mut out = vec![0; len];
                let count = space.read_at(span.start, &mut out).expect("reads");
                out.truncate(count);
                out
            });
            assert!(one == two, "{} at {:#x}", set.display(), span.start);
        }
        compared += 1;
    }
    assert!(compared > 0, "there are compressed sets");
}

#[test]
fn views_of_entries_say_what_the_entries_do() {
    let (mut ranges, mut areas) = (0, 0);
    for set in sets() {
        let checkpoint = Checkpoint::open(&set).expect("opens");
        for kind in [ImageKind::Pagemap, ImageKind::ShmemPagemap] {
            for id in checkpoint.ids_of(kind).expect("lists") {
                let (_, entries) = checkpoint.pagemap(kind, id).expect("a pagemap");
                let mut image = checkpoint.image(kind, id).expect("opens");
                image.next_entry().expect("reads").expect("a head");
                for entry in &entries {
                    let raw = image.next_entry().expect("reads").expect("an entry");
                    assert_eq!(
                        raw.page_range().expect("a range"),
                        PageRange::from(&**entry)
                    );
                    ranges += 1;
                }
            }
        }
        for id in checkpoint.ids_of(ImageKind::Mm).expect("lists") {
            let pid = u32::try_from(id).expect("a pid");
            let mm = checkpoint.mm(pid).expect("an address space");
            let map = checkpoint.memory_map(pid).expect("a map");
            assert_eq!(
                map.areas().collect::<Result<Vec<_>, _>>(),
                Ok(mm.vmas.clone())
            );
            areas += mm.vmas.len();
        }
    }
    assert!(
        ranges > 100 && areas > 100,
        "{ranges} ranges, {areas} areas"
    );
}
