//! What the source knows of the pages it sent.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use twox_hash::XxHash3_64;

use crate::delta::{PIECE_BYTES, PIECES, Pieces};
use crate::page_stream::{PAGE_BYTES, PagePlace};

/// Hashes of the pages sent, in a file: 136 bytes of it for each page.
#[derive(Debug)]
pub(crate) struct SentPages {
    file: File,
    secret: [u8; SECRET_BYTES],
    /// The present stream; the first is 1.
    stream: u64,
    /// Whether pages of the present stream are remembered.
    remembers: bool,
    /// Where the records of a region are: its number in the file.
    regions: HashMap<Region, u64>,
    records: Vec<u8>,
    changes: Vec<Option<Pieces>>,
    /// The file could not be read or written, and nothing is known any more: pages are sent whole.
    is_broken: bool,
}

/// A task's or shared memory, and a stretch of its addresses.
type Region = (u64, u64);

/// The length that is hashed with at its fastest.
const SECRET_BYTES: usize = 192;
/// The stream a page was sent in, and the hashes of its pieces.
const RECORD_BYTES: usize = size_of::<u64>() * (1 + PIECES);
/// Pages whose records lie together.
const REGION_PAGES: u64 = 512;

impl SentPages {
    /// Begins with no page sent; the file is in `directory`, and goes with it.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(directory.join("sent-pages"))?;
        let mut secret = [0; SECRET_BYTES];
        rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self {
            file,
            secret,
            stream: 0,
            remembers: false,
            regions: HashMap::new(),
            records: Vec::new(),
            changes: Vec::new(),
            is_broken: false,
        })
    }

    /// What follows is the next round: its pages are remembered, and compared with those of the rounds before.
    pub(crate) fn begin_round(&mut self) {
        self.stream += 1;
        self.remembers = true;
    }

    /// What follows is compared with all rounds, and not remembered: the destination keeps no more of them.
    pub(crate) fn end_rounds(&mut self) {
        self.stream += 1;
        self.remembers = false;
    }

    /// What changed in each of these pages since a round before, where they were sent in one.
    pub(crate) fn changes(&mut self, place: PagePlace, pages: &[u8]) -> &[Option<Pieces>] {
        self.changes.clear();
        if self.is_broken || self.find_changes(place, pages).is_err() {
            self.is_broken = true;
            self.changes.clear();
        }
        &self.changes
    }

    /// A page was sent that is not known here.
    pub(crate) fn forget(&mut self, place: PagePlace) {
        let number = place.address / PAGE_BYTES as u64;
        let region = self.regions.get(&(place.owner, number / REGION_PAGES));
        if let Some(region) = region
            && self.remembers
        {
            let at = record_at(*region, number % REGION_PAGES);
            self.is_broken |= self.file.write_all_at(&[0; 8], at).is_err();
        }
    }

    fn find_changes(&mut self, place: PagePlace, pages: &[u8]) -> io::Result<()> {
        let (mut address, mut rest) = (place.address, pages);
        while !rest.is_empty() {
            let number = address / PAGE_BYTES as u64;
            let within = number % REGION_PAGES;
            let room = usize::try_from(REGION_PAGES - within).unwrap_or(1) * PAGE_BYTES;
            let (now, later) = rest.split_at(rest.len().min(room));
            self.changes_in_region((place.owner, number / REGION_PAGES), within, now)?;
            address = address.wrapping_add(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn changes_in_region(&mut self, region: Region, first: u64, pages: &[u8]) -> io::Result<()> {
        let known = self.regions.get(&region).copied();
        let unknown = |count| std::iter::repeat_n(None, count);
        if known.is_none() && !self.remembers {
            self.changes.extend(unknown(pages.len() / PAGE_BYTES));
            return Ok(());
        }
        self.records.clear();
        self.records
            .resize(pages.len() / PAGE_BYTES * RECORD_BYTES, 0);
        let number = match known {
            Some(number) => {
                let at = record_at(number, first);
                read_at_most(&self.file, &mut self.records, at)?;
                number
            }
            None => {
                let number = self.regions.len() as u64;
                self.regions.insert(region, number);
                number
            }
        };
        let (records, _) = self.records.as_chunks_mut::<RECORD_BYTES>();
        let (pages, _) = pages.as_chunks::<PAGE_BYTES>();
        for (record, page) in records.iter_mut().zip(pages) {
            let (words, _) = record.as_chunks_mut::<8>();
            let [stream, hashes @ ..] = words else {
                continue;
            };
            let was = u64::from_le_bytes(*stream);
            *stream = self.stream.to_le_bytes();
            let mut changed = 0;
            let (pieces, _) = page.as_chunks::<PIECE_BYTES>();
            for (bit, (hash, piece)) in hashes.iter_mut().zip(pieces).enumerate() {
                let now = XxHash3_64::oneshot_with_secret(&self.secret, piece);
                let now = now.map_err(io::Error::other)?.to_le_bytes();
                changed |= u16::from(*hash != now) << bit;
                *hash = now;
            }
            // What was sent in this stream the destination cannot look up yet.
            let is_base = (1..self.stream).contains(&was);
            self.changes.push(is_base.then_some(Pieces(changed)));
        }
        match self.remembers {
            true => self
                .file
                .write_all_at(&self.records, record_at(number, first)),
            false => Ok(()),
        }
    }
}

fn record_at(region: u64, page: u64) -> u64 {
    (region * REGION_PAGES + page) * RECORD_BYTES as u64
}

/// Reads what there is; the rest stays zero.
fn read_at_most(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    while !out.is_empty() {
        match file.read_at(out, at) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                out = &mut out[count..];
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: u64) -> PagePlace {
        PagePlace {
            owner: 7 << 8 | 1,
            address,
        }
    }

    #[test]
    fn a_page_is_compared_with_the_last_round_it_was_sent_in() {
        let directory = criu_testkit::TempDir::new();
        let mut sent = SentPages::create(directory.path()).unwrap();
        let mut page = vec![3; 2 * PAGE_BYTES];
        sent.begin_round();
        // Around the end of a region.
        let at = place(0x7fff_0000_0000 + (REGION_PAGES - 1) * PAGE_BYTES as u64);
        assert_eq!(sent.changes(at, &page), [None, None]);
        page[300] = 9;
        // The destination has nothing of this round yet.
        assert_eq!(sent.changes(at, &page), [None, None]);
        sent.begin_round();
        page[PAGE_BYTES - 1] = 9;
        page[PAGE_BYTES] = 9;
        let changes = sent.changes(at, &page);
        assert_eq!(changes, [Some(Pieces(1 << 15)), Some(Pieces(1))]);
        let elsewhere = PagePlace { owner: 1, ..at };
        assert_eq!(sent.changes(elsewhere, &page), [None, None]);
        sent.begin_round();
        sent.forget(at);
        let unchanged = Some(Pieces(0));
        assert_eq!(sent.changes(at, &page), [None, unchanged]);
        sent.end_rounds();
        for _ in 0..2 {
            page[0] += 1;
            let changes = sent.changes(at, &page);
            assert_eq!(changes, [Some(Pieces(1)), unchanged]);
        }
        assert_eq!(sent.changes(place(0), &page), [None, None]);
    }

    #[test]
    fn without_its_file_nothing_is_known_of_any_page() {
        let directory = criu_testkit::TempDir::new();
        let mut sent = SentPages::create(directory.path()).unwrap();
        let page = vec![3; PAGE_BYTES];
        sent.begin_round();
        assert_eq!(sent.changes(place(0), &page), [None]);
        sent.begin_round();
        assert_eq!(sent.changes(place(0), &page), [Some(Pieces(0))]);
        let writable = std::mem::replace(
            &mut sent.file,
            File::open(directory.path().join("sent-pages")).unwrap(),
        );
        assert_eq!(sent.changes(place(0), &page), []);
        sent.file = writable;
        // Not even when it could be written again: what was sent meanwhile is not in it.
        assert_eq!(sent.changes(place(0), &page), []);
    }
}
