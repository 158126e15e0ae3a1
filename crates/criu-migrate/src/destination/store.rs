//! Takes in what the tree is made of: pages, round by round, and images.

use std::path::Path;
use std::time::Duration;

use criu::{Criu, PageServer};

use crate::arrival::{Arrival, Chunk};
use crate::connection::Connection;
use crate::conversation::Party;
use crate::delta::bases::Bases;
use crate::destination::SYNC;
use crate::error::{Error, ImageProblem, Result};
use crate::images_dir::ImagesDir;
use crate::intake::{Intake, IntakeError};
use crate::message::Message;
use crate::page_stream::StreamKind;
use crate::staging::Staging;
use crate::sync::Landing;
use crate::timing::Timing;
use crate::tunnel::{Inbound, Plan, Tunnel};
use crate::watch::{Happening, Watch};

/// What the tree is made of, whole.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The last images; the others are their parents.
    pub(crate) directory: ImagesDir,
    pub(crate) images: u64,
    /// Rounds before them.
    pub(crate) rounds: u32,
    /// More memory follows when the tree runs.
    pub(crate) pages_follow: bool,
}

/// Where it is put.
pub(crate) struct Store<'a> {
    pub(crate) criu: &'a Criu,
    pub(crate) staging: &'a Staging,
    pub(crate) timing: &'a Timing,
    /// The room for all of it.
    pub(crate) room_bytes: u64,
    pub(crate) watch: &'a Watch,
    /// Files that come along.
    pub(crate) landing: &'a mut Landing,
}

/// How much of it there is so far.
#[derive(Debug, Default)]
struct Taken {
    rounds: u32,
    bytes: u64,
}

impl Store<'_> {
    /// Takes rounds until images come, and those.
    pub(crate) fn take(&mut self, connection: &mut Connection) -> Result<Stored> {
        let mut taken = Taken::default();
        loop {
            let step = connection.hear("its next step", self.timing.answer, self.watch)?;
            match step {
                Message::OpenPages => {
                    let directory = self.begin(&mut taken)?;
                    let tunnel = self.serve(connection, &directory, &taken)?;
                    match self.pages(connection, &tunnel)? {
                        Message::RoundDone => {
                            taken.bytes += tunnel.received_bytes();
                            self.end(connection, tunnel)?;
                            connection.say(&Message::RoundStored)?;
                            self.watch.tell(Happening::RoundStored {
                                round: taken.rounds,
                                bytes: taken.bytes,
                            });
                        }
                        first => {
                            let stored = self.images(connection, directory, first, &taken)?;
                            // The source has CRIU's word that every page arrived; what is left is to write
                            // and to exit.
                            self.end(connection, tunnel)?;
                            return Ok(stored);
                        }
                    }
                }
                Message::OpenSync { path, pass } => {
                    let place = self.staging.path();
                    self.landing.receive(connection, &path, pass, place, SYNC)?;
                }
                first @ Message::Image { .. } => {
                    let directory = self.begin(&mut taken)?;
                    return self.images(connection, directory, first, &taken);
                }
                message => return Err(connection.unexpected(&message)),
            }
        }
    }

    fn begin(&self, taken: &mut Taken) -> Result<ImagesDir> {
        taken.rounds = taken.rounds.saturating_add(1);
        self.staging.images_of(taken.rounds)
    }

    fn left_bytes(&self, taken: &Taken) -> u64 {
        self.room_bytes.saturating_sub(taken.bytes)
    }

    /// Starts a page server for the pages channel.
    fn serve(
        &self,
        connection: &mut Connection,
        directory: &ImagesDir,
        taken: &Taken,
    ) -> Result<Tunnel> {
        let plan = Plan {
            inbound: Inbound::Bytes(self.left_bytes(taken)),
            note_pages: false,
            // It only has to write them.
            patience: Some(self.timing.answer),
        };
        let pages = connection.take_pages()?;
        let (tunnel, theirs) = Tunnel::start(connection.outgoing(), pages, self.watch, plan)?;
        let mut server = PageServer::new(directory.open()?);
        server.socket = Some(theirs);
        server.settings.log_to = criu::request::LogTo::File("page-server.log".into());
        self.criu.page_server(&server)?;
        // Its copy is the only one now: when it ends, so does the stream.
        drop(server);
        let before = (1..taken.rounds).rev();
        let before = before.map(|round| self.staging.path_of(round));
        connection.build_pages_upon(Bases::new(StreamKind::Dump, before));
        connection.say(&Message::PagesReady)?;
        Ok(tunnel)
    }

    /// Waits while pages come, which may take as long as they do; returns what is said then.
    fn pages(&self, connection: &mut Connection, tunnel: &Tunnel) -> Result<Message> {
        let mut seen_bytes = 0;
        loop {
            match connection.hear("the pages", self.timing.restore, self.watch) {
                Err(Error::TooSlow { .. }) if tunnel.received_bytes() > seen_bytes => {
                    seen_bytes = tunnel.received_bytes();
                }
                Err(_) if tunnel.is_over_budget() => return Err(self.too_large()),
                heard => return heard,
            }
        }
    }

    /// Waits until the page server has stored everything and ended.
    fn end(&self, connection: &mut Connection, tunnel: Tunnel) -> Result<()> {
        let is_over_budget = tunnel.is_over_budget();
        let finished = tunnel.finish(self.timing.answer);
        if is_over_budget {
            return Err(self.too_large());
        }
        let storing = "store the memory: the page server does not end";
        let finished = finished.map_err(Error::io(storing))?;
        connection.return_pages(finished.pages);
        Ok(())
    }

    fn too_large(&self) -> Error {
        Error::Image {
            peer: Party::Source,
            problem: ImageProblem::TooLarge {
                limit_bytes: self.room_bytes,
            },
        }
    }

    fn images(
        &mut self,
        connection: &mut Connection,
        directory: ImagesDir,
        first: Message,
        taken: &Taken,
    ) -> Result<Stored> {
        let taking = Taking {
            directory: &directory,
            limit_bytes: self.left_bytes(taken),
            place: self.staging.path(),
            within: self.timing.restore,
            watch: self.watch,
        };
        let (images, pages_follow) = taking.all(connection, self.landing, first)?;
        Ok(Stored {
            directory,
            images,
            rounds: taken.rounds.saturating_sub(1),
            pages_follow,
        })
    }
}

/// What ended a row of images.
enum Said {
    Complete { images: u64, pages_follow: bool },
    RoundDone { bytes: u64 },
}

/// How images are taken in.
pub(crate) struct Taking<'a> {
    pub(crate) directory: &'a ImagesDir,
    /// Most bytes they may take.
    pub(crate) limit_bytes: u64,
    /// For what rsync needs.
    pub(crate) place: &'a Path,
    /// The longest wait for the next piece.
    pub(crate) within: Duration,
    pub(crate) watch: &'a Watch,
}

impl Taking<'_> {
    /// Takes images from the `first` message on, until they are complete: how many they are, and whether pages
    /// follow. Files that come along may come between them.
    pub(crate) fn all(
        &self,
        connection: &mut Connection,
        landing: &mut Landing,
        first: Message,
    ) -> Result<(u64, bool)> {
        match self.until_said(connection, landing, first)? {
            Said::Complete {
                images,
                pages_follow,
            } => Ok((images, pages_follow)),
            Said::RoundDone { .. } => Err(connection.unexpected(&Message::RoundDone)),
        }
    }

    /// Takes the images of a round of a container: their bytes.
    pub(crate) fn round(
        &self,
        connection: &mut Connection,
        landing: &mut Landing,
        first: Message,
    ) -> Result<u64> {
        match self.until_said(connection, landing, first)? {
            Said::RoundDone { bytes } => Ok(bytes),
            Said::Complete {
                images,
                pages_follow,
            } => {
                let message = Message::Complete {
                    images,
                    pages_follow,
                };
                Err(connection.unexpected(&message))
            }
        }
    }

    fn until_said(
        &self,
        connection: &mut Connection,
        landing: &mut Landing,
        first: Message,
    ) -> Result<Said> {
        let failed = |error| match error {
            IntakeError::Problem(problem) => Error::Image {
                peer: Party::Source,
                problem,
            },
            IntakeError::Io(source) => Error::Io {
                doing: "write an image".to_owned(),
                source,
            },
        };
        let mut intake = Intake::new(self.directory, self.limit_bytes);
        let mut arrival = Arrival::Message(first);
        loop {
            let taken = match arrival {
                Arrival::Message(Message::Image { name, len_bytes }) => {
                    intake.begin(&name, len_bytes)
                }
                Arrival::Message(Message::Complete {
                    images,
                    pages_follow,
                }) => {
                    intake.complete(images).map_err(failed)?;
                    return Ok(Said::Complete {
                        images,
                        pages_follow,
                    });
                }
                Arrival::Message(Message::RoundDone) => {
                    let bytes = intake.round_done().map_err(failed)?;
                    return Ok(Said::RoundDone { bytes });
                }
                Arrival::Message(Message::OpenSync { path, pass }) => {
                    landing.receive(connection, &path, pass, self.place, SYNC)?;
                    Ok(())
                }
                Arrival::Message(message) => return Err(connection.unexpected(&message)),
                Arrival::Image(Chunk::Data(bytes)) => intake.add(&bytes),
                Arrival::Image(Chunk::Zeros(count)) => intake.add_zeros(count),
                Arrival::Image(Chunk::End) => intake.end(),
            };
            taken.map_err(failed)?;
            arrival = connection.next("the images", self.within, self.watch)?;
        }
    }
}
