//! What the destination has of the pages it was sent in rounds before.

use std::collections::HashMap;
use std::path::PathBuf;

use criu_image::memory::{AddressSpace, Content, Memory, MemoryOptions, PageSize};
use criu_image::{Checkpoint, ImageKind};

use crate::block::BlockProblem;
use crate::delta::{PIECE_BYTES, Pieces, check};
use crate::page_stream::{
    PAGE_BYTES, PagePlace, PageStream, SHARED_MEMORY, StreamKind, TASK_MEMORY,
};

/// The images of the rounds before, and where the present stream is.
#[derive(Debug)]
pub(crate) struct Bases {
    stream: PageStream,
    /// The newest first.
    rounds: Vec<Round>,
}

#[derive(Debug)]
struct Round {
    path: PathBuf,
    memory: Option<Memory>,
    /// Those looked at so far; none where the round has no such memory.
    spaces: HashMap<u64, Option<AddressSpace>>,
}

impl Bases {
    /// The images of rounds, the newest first, for pages that come in a stream of this kind.
    pub(crate) fn new(kind: StreamKind, rounds: impl Iterator<Item = PathBuf>) -> Self {
        let round = |path| Round {
            path,
            memory: None,
            spaces: HashMap::new(),
        };
        Self {
            stream: PageStream::new(kind),
            rounds: rounds.map(round).collect(),
        }
    }

    /// Takes bytes of the stream.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        self.stream.skip(bytes);
    }

    /// Makes the page that comes next of the stream out of what changed in it.
    pub(crate) fn patch(
        &mut self,
        changed: Pieces,
        pieces: &[u8],
        expected: u32,
    ) -> Result<[u8; PAGE_BYTES], BlockProblem> {
        let place = self.stream.page_begins();
        let place = place.ok_or(BlockProblem::Base("no page begins there"))?;
        let page = self.read(place);
        let page = page.map_err(|error| BlockProblem::Unreadable(error.to_string()))?;
        let mut page = page.ok_or(BlockProblem::Base("that one was never sent"))?;
        let (places, _) = page.as_chunks_mut::<PIECE_BYTES>();
        let places = places.iter_mut().zip(changed.each());
        let changes = places.filter_map(|(place, is_changed)| is_changed.then_some(place));
        let (pieces, _) = pieces.as_chunks::<PIECE_BYTES>();
        for (place, piece) in changes.zip(pieces) {
            *place = *piece;
        }
        if check(&page) != expected {
            return Err(BlockProblem::Check {
                owner: place.owner >> 8,
                address: place.address,
            });
        }
        Ok(page)
    }

    /// Reads a page as it was sent last; none if it never was.
    fn read(&mut self, place: PagePlace) -> criu_image::Result<Option<[u8; PAGE_BYTES]>> {
        for round in &mut self.rounds {
            // A page that was not there in one round may have been sent in the round before.
            if let Some(page) = round.read(place)? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}

impl Round {
    fn read(&mut self, place: PagePlace) -> criu_image::Result<Option<[u8; PAGE_BYTES]>> {
        let space = match self.spaces.get(&place.owner) {
            Some(space) => space,
            None => {
                let space = self.open(place.owner)?;
                self.spaces.entry(place.owner).or_insert(space)
            }
        };
        let Some(space) = space else {
            return Ok(None);
        };
        let is_stored = space
            .span_at(place.address)
            .is_some_and(|span| matches!(span.content, Content::Stored { .. }));
        let mut page = [0; PAGE_BYTES];
        let is_whole = is_stored && space.read_at(place.address, &mut page)? == PAGE_BYTES;
        Ok(is_whole.then_some(page))
    }

    fn open(&mut self, owner: u64) -> criu_image::Result<Option<AddressSpace>> {
        let kind = match owner & 0xff {
            TASK_MEMORY => ImageKind::Pagemap,
            SHARED_MEMORY => ImageKind::ShmemPagemap,
            _ => return Ok(None),
        };
        let memory = match &self.memory {
            Some(memory) => memory,
            None => {
                let mut options = MemoryOptions::default();
                options.page_size = PageSize::new(rustix::param::page_size() as u64);
                let memory = Memory::open(&Checkpoint::open(&self.path)?, options)?;
                self.memory.insert(memory)
            }
        };
        match memory.pagemap(kind, owner >> 8) {
            Ok(space) => Ok(Some(space)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
