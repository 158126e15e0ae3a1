//! Chains of incremental checkpoints, restored.
//!
//! Real incremental dumps take a kernel with memory tracking. The chain here is a real dump whose
//! pages are dealt out over three directories, as such dumps would leave them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use criu_image::{Checkpoint, ImageKind};
use criu_inspect::rewrite::{FlattenOptions, flatten, flatten_into};
use criu_testkit::synthetic::Pagemap;
use criu_testkit::{CriuUnderTest, Scene, TempDir};

use crate::set::{PAGE, PARENT, PRESENT, copy};

/// A pagemap under construction, which joins pages that follow each other into one entry.
struct Pages {
    map: Option<Pagemap>,
    /// First address, pages, flags, bytes.
    run: (u64, u64, u32, Vec<u8>),
}

impl Pages {
    fn new(pages_id: u32) -> Self {
        Self {
            map: Some(Pagemap::new(pages_id)),
            run: (0, 0, 0, Vec::new()),
        }
    }

    fn page(&mut self, address: u64, flags: u32, bytes: &[u8]) {
        let (start, count, last, _) = &self.run;
        if *count > 0 && (*start + count * PAGE as u64 != address || *last != flags) {
            self.close();
        }
        let run = &mut self.run;
        if run.1 == 0 {
            (run.0, run.2) = (address, flags);
        }
        run.1 += 1;
        run.3.extend_from_slice(bytes);
    }

    fn close(&mut self) {
        let (start, count, flags, bytes) = std::mem::take(&mut self.run);
        if count > 0 {
            let map = self.map.take().expect("there");
            self.map = Some(map.entry(start, count, flags).bytes(bytes));
        }
    }

    fn write(mut self, dir: &Path, name: &str, pages_name: &str) {
        self.close();
        let (map, pages) = self.map.expect("there").into_images();
        fs::write(dir.join(name), map).expect("written");
        fs::write(dir.join(pages_name), pages).expect("written");
    }
}

/// Deals the pages of a dump out: every third stays, the others go to two ancestors. In the place
/// of what an ancestor no longer has to tell stands what was there before.
fn deal(dump: &Path, chain: &TempDir) {
    let last = chain.make_dir("3");
    copy(dump, &last);
    let (old, middle) = (chain.make_dir("1"), chain.make_dir("2"));
    symlink("../1", middle.join("parent")).expect("linked");
    symlink("../2", last.join("parent")).expect("linked");
    for dir in [&old, &middle] {
        fs::copy(dump.join("inventory.img"), dir.join("inventory.img")).expect("copied");
    }
    let checkpoint = Checkpoint::open(dump).expect("opens");
    let mut dealt = 0;
    for image in checkpoint.images().expect("reads") {
        let (ImageKind::Pagemap | ImageKind::ShmemPagemap, Some(id)) = (image.kind, image.id)
        else {
            continue;
        };
        let (head, entries) = checkpoint.pagemap(image.kind, id).expect("reads");
        let pages_name = ImageKind::Pages.file(head.pages_id.into());
        let bytes = fs::read(dump.join(&pages_name)).expect("read");
        let mut bytes = bytes.chunks(PAGE);
        let mut parts = [(); 3].map(|()| Pages::new(head.pages_id));
        let stale = vec![0x5a; PAGE];
        for entry in &entries {
            let present = entry.effective_flags();
            assert!(
                present & PRESENT != 0,
                "pages elsewhere in an ordinary dump"
            );
            for index in 0..entry.effective_pages() {
                let address = entry.vaddr + index * PAGE as u64;
                let page = bytes.next().expect("a page");
                let [old, middle, last] = &mut parts;
                match address / PAGE as u64 % 3 {
                    0 => {
                        old.page(address, present, &stale);
                        last.page(address, present, page);
                    }
                    1 => {
                        old.page(address, present, &stale);
                        middle.page(address, present, page);
                        last.page(address, PARENT, &[]);
                    }
                    _ => {
                        old.page(address, present, page);
                        middle.page(address, PARENT, &[]);
                        last.page(address, PARENT, &[]);
                    }
                }
                dealt += 1;
            }
        }
        assert!(bytes.next().is_none());
        for (part, dir) in parts.into_iter().zip([&old, &middle, &last]) {
            part.write(dir, &image.name, &pages_name);
        }
    }
    assert!(dealt > 100, "a dump has more than {dealt} pages");
}

#[test]
fn a_flattened_chain_is_restored_with_all_its_memory() {
    for criu in CriuUnderTest::all() {
        let (dump, chain) = (TempDir::new(), TempDir::new());
        let mut process = Scene::new()
            .memory_kib(1024)
            .children(1)
            .event_files()
            .start();
        process.wait_for_count_above(2);
        criu.dump(process.pid(), dump.path(), &[]);
        process.reap();
        deal(dump.path(), &chain);

        let flat = chain.join("flat");
        let options = FlattenOptions::default();
        flatten_into(&chain.join("3"), &flat, options, &()).expect("flattens");
        flatten(&chain.join("3"), options, &()).expect("flattens");
        // The same pages as before they were dealt out, at the same addresses.
        for dir in [&flat, &chain.join("3")] {
            for entry in fs::read_dir(dump.path()).expect("a directory") {
                let name = entry.expect("an entry").file_name();
                if name.to_string_lossy().starts_with("pages-") {
                    let (one, other) = (dump.join(&name), dir.join(&name));
                    assert!(fs::read(one).expect("read") == fs::read(other).expect("read"));
                }
            }
        }
        fs::remove_dir_all(chain.join("1")).expect("removed");
        fs::remove_dir_all(chain.join("2")).expect("removed");
        let count = process.count();
        process.restored_as(criu.restore(&flat, &[]));
        process.wait_for_count_above(count);
        assert_eq!(process.verify(), Ok(()), "CRIU {:?}", criu.series());
    }
}

#[test]
fn the_chain_itself_is_one_that_criu_restores() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let (dump, chain) = (TempDir::new(), TempDir::new());
    let mut process = Scene::new().memory_kib(256).start();
    process.wait_for_count_above(2);
    criu.dump(process.pid(), dump.path(), &[]);
    process.reap();
    deal(dump.path(), &chain);
    let count = process.count();
    process.restored_as(criu.restore(&chain.join("3"), &[]));
    process.wait_for_count_above(count);
    assert_eq!(process.verify(), Ok(()));
}

/// The pages that a checkpoint has of a task, or has in its parent.
fn pages_of(dir: &Path, id: u64) -> BTreeMap<u64, Option<Vec<u8>>> {
    let checkpoint = Checkpoint::open(dir).expect("opens");
    let (head, entries) = checkpoint.pagemap(ImageKind::Pagemap, id).expect("reads");
    let bytes = fs::read(dir.join(ImageKind::Pages.file(head.pages_id.into()))).expect("read");
    let mut bytes = bytes.chunks(PAGE);
    let mut pages = BTreeMap::new();
    for entry in &entries {
        for index in 0..entry.effective_pages() {
            let flags = entry.effective_flags();
            let page = (flags & PRESENT != 0).then(|| bytes.next().expect("a page").to_vec());
            if page.is_some() || flags & PARENT != 0 {
                pages.insert(entry.vaddr + index * PAGE as u64, page);
            }
        }
    }
    pages
}

#[test]
fn real_chains_have_the_same_pages_when_flat() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut from_parents = 0;
    for version in ["4.2", "4.3"] {
        for name in ["incremental", "deduplicated"] {
            let of = |suffix: &str| fixtures.join(version).join(format!("{name}{suffix}"));
            let flat = TempDir::new();
            let flat = flat.join("flat");
            flatten_into(&of(""), &flat, FlattenOptions::default(), &()).expect("flattens");
            let checkpoint = Checkpoint::open(&flat).expect("opens");
            assert!(checkpoint.parent().expect("looks").is_none());
            let ids = checkpoint.ids_of(ImageKind::Pagemap).expect("reads");
            assert!(!ids.is_empty());
            for id in ids {
                let levels = [of(""), of("-2"), of("-1")].map(|dir| pages_of(&dir, id));
                let found = pages_of(&flat, id);
                assert!(found.keys().eq(levels[0].keys()), "{version} {name} {id}");
                for (address, page) in &found {
                    let mut depth = 0;
                    while levels[depth][address].is_none() {
                        depth += 1;
                    }
                    from_parents += usize::from(depth > 0);
                    assert!(*page == levels[depth][address], "{name} {address:#x}");
                }
            }
        }
    }
    assert!(
        from_parents > 50,
        "only {from_parents} pages came from parents"
    );
}
