//! A directory of images as a whole.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use criu_image::checkpoint::{Directory, OpenImage, RandomAccess, Source, present};
use criu_image::message::{FdTypes, PstreeEntry};
use criu_image::{Checkpoint, Error, ErrorKind, ImageKind, Result};
use criu_testkit::TempDir;
use criu_testkit::synthetic::{Fill, Image, Order, Proto, filled, samples};

fn write(dir: &Path, name: &str, magic: u32, entries: &[Proto]) {
    let mut image = Image::common(magic);
    for entry in entries {
        image = image.entry(entry);
    }
    fs::write(dir.join(name), image.into_bytes()).expect("writes");
}

fn task(pid: u64, ppid: u64) -> Proto {
    Proto::new()
        .varint(1, pid)
        .varint(2, ppid)
        .varint(3, 1)
        .varint(4, 1)
        .varint(5, pid)
}

const PSTREE: u32 = 0x5027_3030;
const CORE: u32 = 0x5505_3847;
const CREDS: u32 = 0x5402_3547;
const REG_FILES: u32 = 0x5036_3636;
const PIPES: u32 = 0x5651_3555;
const FILES: u32 = 0x5630_3138;

#[test]
fn images_are_found_by_name_and_other_files_are_left_out() {
    let dir = TempDir::new();
    for name in [
        "core-12.img",
        "core-3.img",
        "dump.log",
        "pages-1.img",
        "stats-dump",
        "x.img",
    ] {
        fs::write(dir.path().join(name), "").expect("writes");
    }
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let names: Vec<_> = checkpoint
        .images()
        .expect("lists")
        .into_iter()
        .map(|image| image.name)
        .collect();
    assert_eq!(
        names,
        ["core-3.img", "core-12.img", "pages-1.img", "stats-dump"]
    );
    assert_eq!(checkpoint.ids_of(ImageKind::Core).expect("lists"), [3, 12]);
}

#[test]
fn every_kind_opens_by_kind_and_id() {
    for sample in samples(Order::Little) {
        if sample.about != "all fields" && sample.about != "raw" {
            continue;
        }
        let dir = TempDir::new();
        let (kind, id) =
            ImageKind::from_file_name(&sample.file_name).expect("every sample has a known name");
        fs::write(dir.path().join(&sample.file_name), &sample.bytes).expect("writes");
        let checkpoint = Checkpoint::open(dir.path()).expect("opens");
        let image = checkpoint
            .image_named(kind, &sample.file_name)
            .expect("opens");
        assert_eq!(image.kind(), kind, "{}", sample.file_name);
        if let Some(id) = id {
            checkpoint.image(kind, id).expect("opens");
        }
    }
}

#[test]
fn tasks_form_a_tree() {
    let dir = TempDir::new();
    write(
        dir.path(),
        "pstree.img",
        PSTREE,
        &[task(1, 0), task(5, 1), task(7, 1)],
    );
    let tasks = Checkpoint::open(dir.path())
        .expect("opens")
        .tasks()
        .expect("reads");
    let depths: Vec<_> = tasks
        .walk()
        .iter()
        .map(|(depth, task)| (*depth, task.pid))
        .collect();
    assert_eq!(depths, [(0, 1), (1, 5), (1, 7)]);
}

#[test]
fn what_is_missing_is_told_from_what_is_damaged() {
    let dir = TempDir::new();
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let error = checkpoint.core(5).expect_err("nothing there");
    assert!(error.is_missing());
    assert!(
        error
            .to_string()
            .ends_with("core-5.img (CORE): image is missing"),
        "{error}"
    );
    assert!(present(checkpoint.core(5)).expect("no error").is_none());
    fs::write(dir.path().join("core-5.img"), "short").expect("writes");
    let error = checkpoint.core(5).expect_err("damaged");
    assert!(
        matches!(error.reason(), ErrorKind::UnknownMagic { .. }),
        "{error}"
    );
    present::<()>(Err(error)).expect_err("still an error");
    assert!(
        Checkpoint::open(dir.path().join("none"))
            .expect_err("no directory")
            .is_missing()
    );
    Checkpoint::open(dir.path().join("core-5.img")).expect_err("no directory");
}

#[test]
fn images_of_another_kind_than_their_name_are_refused() {
    let dir = TempDir::new();
    write(dir.path(), "core-5.img", PSTREE, &[task(1, 0)]);
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let error = checkpoint.core(5).expect_err("a tree");
    assert!(
        matches!(
            error.reason(),
            ErrorKind::WrongKind {
                expected: ImageKind::Core,
                found: PSTREE
            }
        ),
        "{error}"
    );
    // So are entries of another type than was asked for.
    let error = checkpoint
        .one::<PstreeEntry>(ImageKind::Core, 5)
        .expect_err("a tree");
    assert!(
        matches!(error.reason(), ErrorKind::WrongKind { .. }),
        "{error}"
    );
    write(dir.path(), "pstree.img", PSTREE, &[task(1, 0), task(2, 1)]);
    let error = checkpoint
        .one::<PstreeEntry>(ImageKind::Pstree, 0)
        .expect_err("two");
    assert!(
        matches!(error.reason(), ErrorKind::EntryCount { found: 2, .. }),
        "{error}"
    );
}

#[test]
fn errors_name_the_file_the_entry_and_the_field() {
    let dir = TempDir::new();
    write(
        dir.path(),
        "pstree.img",
        PSTREE,
        &[task(1, 0), Proto::new().varint(1, 2)],
    );
    let error = Checkpoint::open(dir.path())
        .expect("opens")
        .tasks()
        .expect_err("damaged");
    let place = error.place();
    assert_eq!(
        (place.kind, place.entry, place.offset),
        (Some(ImageKind::Pstree), Some(1), Some(28))
    );
    assert!(
        place
            .path
            .as_ref()
            .is_some_and(|path| path.ends_with("pstree.img"))
    );
    let source = std::error::Error::source(&error)
        .expect("a source")
        .to_string();
    assert!(source.contains("`ppid` is missing"), "{source}");
}

#[test]
fn files_come_from_the_images_of_older_criu_too() {
    let dir = TempDir::new();
    let fown = filled("fown_entry", Fill::Required);
    let file = |id, name: &str| {
        Proto::new()
            .varint(1, id)
            .varint(2, 0)
            .varint(3, 0)
            .message(5, &fown)
            .bytes(6, name)
    };
    write(
        dir.path(),
        "reg-files.img",
        REG_FILES,
        &[file(1, "/a"), file(2, "/b")],
    );
    let pipe = Proto::new()
        .varint(1, 3)
        .varint(2, 44)
        .varint(3, 0)
        .message(4, &fown);
    write(dir.path(), "pipes.img", PIPES, std::slice::from_ref(&pipe));
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let files = checkpoint.files().expect("reads");
    assert_eq!(files.path(2).expect("known"), "/b");
    assert_eq!(files.path(3), None);
    let found = files.find(FdTypes::Pipe, 3).expect("known");
    assert_eq!(found.pipe.as_ref().expect("a pipe").pipe_id, 44);
    // Once there is a common image, the others do not count.
    let entry = Proto::new()
        .varint(1, 1)
        .varint(2, 1)
        .message(3, &file(1, "/new"));
    write(dir.path(), "files.img", FILES, &[entry]);
    let files = checkpoint.files().expect("reads");
    assert_eq!(files.path(1).expect("known"), "/new");
    assert_eq!((files.path(2), files.iter().len()), (None, 1));
}

#[test]
fn credentials_are_in_the_core_image_or_in_their_own() {
    let dir = TempDir::new();
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let creds = |uid| {
        let mut creds = Proto::new();
        for number in 1..=8 {
            creds = creds.varint(number, uid);
        }
        creds.varint(13, 0)
    };
    write(dir.path(), "creds-1.img", CREDS, &[creds(7)]);
    write(
        dir.path(),
        "core-1.img",
        CORE,
        &[filled("core_entry", Fill::Required)],
    );
    assert_eq!(checkpoint.creds(1).expect("reads").uid, 7);
    let thread = Proto::new()
        .varint(1, 0)
        .varint(2, 0)
        .message(10, &creds(8));
    let core = filled("core_entry", Fill::Required);
    let number = criu_image::schema::message("core_entry")
        .and_then(|message| message.field_named("thread_core"))
        .expect("known")
        .number;
    write(
        dir.path(),
        "core-1.img",
        CORE,
        &[core.message(number, &thread)],
    );
    assert_eq!(checkpoint.creds(1).expect("reads").uid, 8);
    assert!(checkpoint.creds(2).expect_err("nothing").is_missing());
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let dir = TempDir::new();
    fs::create_dir(dir.path().join("pstree.img")).expect("creates");
    symlink("/dev/zero", dir.path().join("inventory.img")).expect("links");
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let error = checkpoint.tasks().expect_err("a directory");
    assert!(
        matches!(error.reason(), ErrorKind::Unsupported { .. }),
        "{error}"
    );
    let error = checkpoint.inventory().expect_err("a device");
    assert!(
        matches!(error.reason(), ErrorKind::Unsupported { .. }),
        "{error}"
    );
}

/// Images out of a list, as an archive might give them.
#[derive(Debug)]
struct Listed(Vec<(&'static str, Vec<u8>)>);

impl Listed {
    fn find(&self, name: &str) -> Result<Vec<u8>> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| Error::from(ErrorKind::Missing))
    }
}

impl Source for Listed {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.iter().map(|(name, _)| (*name).to_owned()).collect())
    }

    fn open(&self, name: &str) -> Result<OpenImage> {
        let bytes = self.find(name)?;
        Ok(OpenImage {
            bytes: Box::new(std::io::Cursor::new(bytes)),
            len: None,
        })
    }

    fn open_pages(&self, name: &str) -> Result<Arc<dyn RandomAccess>> {
        Ok(Arc::new(self.find(name)?))
    }

    fn parent(&self) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn location(&self) -> &Path {
        Path::new("archive.tar")
    }
}

#[test]
fn images_come_from_any_source() {
    let tree = Image::common(PSTREE).entry(&task(1, 0)).into_bytes();
    let checkpoint = Checkpoint::new(Arc::new(Listed(vec![("pstree.img", tree)])));
    assert_eq!(
        checkpoint
            .tasks()
            .expect("reads")
            .root()
            .expect("a root")
            .pid,
        1
    );
    let error = checkpoint.inventory().expect_err("not there");
    assert_eq!(
        error.to_string(),
        "archive.tar/inventory.img (INVENTORY): image is missing"
    );
    assert!(checkpoint.parent().expect("none").is_none());
    let here = Directory::open(".").expect("opens");
    assert!(here.location().is_absolute());
}
