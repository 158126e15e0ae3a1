//! Control messages: what the two sides say to each other.
//!
//! Each is one JSON object with its name under `say`. Fields unknown to the receiver are ignored, so that
//! a later version can add some.

use serde::{Deserialize, Serialize};

use crate::container::ContainerOffer;
use crate::preflight::{Check, Facts, Report};
use crate::sync::{Pass, SyncPath};

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Message {
    /// Source: here is a tree that wants to move.
    Offer(Box<Offer>),
    /// Source: would such a tree be taken? Nothing follows it.
    Inspect(Box<Offer>),
    /// Destination: what it found before it answers an offer; or its whole answer to `Inspect`.
    Findings(Box<Report>),
    /// Destination: it may come.
    Accept(Box<Host>),
    /// Destination: it may not, and nothing was touched.
    Refuse {
        /// Why not, and what to do about it.
        reason: String,
    },
    /// Source: start a page server for the pages channel.
    OpenPages,
    /// Destination: the page server is there.
    PagesReady,
    /// Source: those were all pages of a round of pre-copy, while the tree goes on.
    RoundDone,
    /// Destination: they are stored.
    RoundStored,
    /// Source: an rsync that sends this path follows on the files channel.
    OpenSync {
        /// One of the offer's paths.
        path: String,
        /// Whether the tree still runs.
        pass: Pass,
    },
    /// Destination: the rsync here has ended well.
    Synced,
    /// Source: the container is checkpointed; what follows belongs to that.
    Checkpointed {
        /// What a runc container's standard streams are, as runc wrote it down.
        #[serde(default)]
        descriptors: Vec<String>,
    },
    /// Destination: all of the container is here; it is restored when `Commit` comes in time.
    Ready,
    /// Source: the bytes of this image follow on the image channel.
    Image {
        /// The file's name.
        name: String,
        /// How many bytes follow, those of zero runs included.
        len_bytes: u64,
    },
    /// Source: those were all images; restore the tree, and hold it.
    Complete {
        /// How many images were sent.
        images: u64,
        /// Memory that was not copied stays on the source until the tree touches it here: the pages channel
        /// carries what `criu lazy-pages` asks, and the answers.
        #[serde(default)]
        pages_follow: bool,
    },
    /// Destination: the tree is restored and held; it runs when `Commit` comes in time.
    Restored {
        /// The root task, as the destination sees it.
        pid: i32,
    },
    /// Source: the tree is stopped here for good; let it run there.
    Commit,
    /// Destination: it runs.
    Committed {
        /// The root task, as the destination sees it.
        pid: i32,
        /// From when `Commit` was heard until the tree ran, in microseconds.
        #[serde(default)]
        resumed_after_us: u64,
        /// Memory still follows.
        #[serde(default)]
        pages_follow: bool,
    },
    /// Destination: all memory that followed is here.
    Filled,
    /// Either side, as long as it is its to say: everything goes back to how it was.
    Abort {
        /// Why.
        reason: String,
        /// Destination: nothing is left of the tree, but it was let go before and may have run.
        #[serde(default)]
        may_have_run: bool,
    },
}

/// What the source tells of the tree and of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Offer {
    /// The source's machine and CRIU.
    pub host: Host,
    /// What the restore has to be told because the dump was told so.
    pub needs: Needs,
    /// What the tree needs on the destination; not more than fits into a message.
    #[serde(flatten)]
    pub facts: Facts,
    /// What the source's user says need not be compared.
    #[serde(default)]
    pub ignore: Vec<Check>,
    /// Files the tree takes along.
    #[serde(default)]
    pub sync: Vec<SyncPath>,
    /// The container it is, if its runtime moves it.
    #[serde(default)]
    pub container: Option<ContainerOffer>,
}

impl Offer {
    /// Offers a tree that needs `facts`, from `host`.
    pub fn new(host: Host, facts: Facts) -> Self {
        Self {
            host,
            needs: Needs::default(),
            facts,
            ignore: Vec::new(),
            sync: Vec::new(),
            container: None,
        }
    }
}

/// A machine and its CRIU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Host {
    /// Host name, for messages only.
    pub name: String,
    /// Machine type, as `uname -m` has it.
    pub architecture: String,
    /// Kernel release.
    pub kernel: String,
    /// Bytes of a page of memory.
    pub page_size_bytes: u64,
    /// CRIU's version.
    pub criu: String,
    /// Whether CRIU and the kernel can tell which memory was written to.
    #[serde(default)]
    pub memory_tracking: bool,
    /// Whether CRIU and the kernel can fill memory when it is first touched.
    #[serde(default)]
    pub lazy_pages: bool,
}

/// Options of a dump that its restore has to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Needs {
    /// Established TCP connections were dumped.
    pub tcp_established: bool,
    /// TCP connections are to be restored as closed.
    pub tcp_close: bool,
    /// File locks were dumped.
    pub file_locks: bool,
    /// Nameless files were given names.
    pub link_remap: bool,
    /// Devices were found by any path.
    pub evasive_devices: bool,
    /// UNIX sockets are connected to the outside.
    pub external_unix_sockets: bool,
    /// The contents of the network namespace were left out.
    pub empty_network_namespace: bool,
}

impl Needs {
    /// Reads them off a dump.
    pub fn of_dump(dump: &criu::Dump) -> Self {
        use criu::request::ExternalUnixSockets;
        Self {
            tcp_established: dump.sockets.tcp_established,
            tcp_close: dump.sockets.tcp_close,
            file_locks: dump.file_locks,
            link_remap: dump.link_remap,
            evasive_devices: dump.evasive_devices,
            external_unix_sockets: dump.sockets.external_unix != ExternalUnixSockets::Refused,
            empty_network_namespace: dump.empty_network_namespace,
        }
    }

    /// Sets what is needed on a restore; what is set there already stays.
    pub fn apply_to(&self, restore: &mut criu::Restore) {
        use criu::request::ExternalUnixSockets;
        restore.sockets.tcp_established |= self.tcp_established;
        restore.sockets.tcp_close |= self.tcp_close;
        restore.file_locks |= self.file_locks;
        restore.link_remap |= self.link_remap;
        restore.evasive_devices |= self.evasive_devices;
        restore.empty_network_namespace |= self.empty_network_namespace;
        if self.external_unix_sockets
            && restore.sockets.external_unix == ExternalUnixSockets::Refused
        {
            restore.sockets.external_unix = ExternalUnixSockets::All;
        }
    }
}

impl Message {
    /// The message's name, as on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Inspect(_) => "inspect",
            Self::Findings(_) => "findings",
            Self::Accept(_) => "accept",
            Self::Refuse { .. } => "refuse",
            Self::OpenPages => "open-pages",
            Self::PagesReady => "pages-ready",
            Self::RoundDone => "round-done",
            Self::RoundStored => "round-stored",
            Self::OpenSync { .. } => "open-sync",
            Self::Synced => "synced",
            Self::Checkpointed { .. } => "checkpointed",
            Self::Ready => "ready",
            Self::Image { .. } => "image",
            Self::Complete { .. } => "complete",
            Self::Restored { .. } => "restored",
            Self::Commit => "commit",
            Self::Committed { .. } => "committed",
            Self::Filled => "filled",
            Self::Abort { .. } => "abort",
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// When the bytes are no message.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Writes the message. Text that would make it longer than a control frame may be is cut.
    pub fn encode(&self) -> Vec<u8> {
        let shortened = match self {
            Self::Refuse { reason } => Self::Refuse {
                reason: shorten(reason),
            },
            Self::Abort {
                reason,
                may_have_run,
            } => Self::Abort {
                reason: shorten(reason),
                may_have_run: *may_have_run,
            },
            other => other.clone(),
        };
        // Nothing in a message can fail to become JSON: no maps, no foreign serializers.
        serde_json::to_vec(&shortened).unwrap_or_default()
    }
}

/// Most characters of a reason: a peer's log must not flood ours.
const REASON_CHARS_MAX: usize = 4096;

fn shorten(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_what_the_documentation_shows() {
        let image = Message::Image {
            name: "core-1.img".into(),
            len_bytes: 7,
        };
        let text = r#"{"say":"image","name":"core-1.img","len_bytes":7}"#;
        assert_eq!(String::from_utf8_lossy(&image.encode()), text);
        assert_eq!(Message::decode(text.as_bytes()).unwrap(), image);
        assert_eq!(Message::Commit.encode(), br#"{"say":"commit"}"#);
    }

    #[test]
    fn fields_of_a_later_version_are_ignored_and_missing_needs_are_off() {
        let text = r#"{"say":"offer","host":{"name":"a","architecture":"x86_64","kernel":"6","page_size_bytes":4096,
            "criu":"4.3","colour":"red"},"needs":{"file_locks":true,"new":1},"pids":[5],"resident_bytes":1}"#;
        let Message::Offer(offer) = Message::decode(text.as_bytes()).unwrap() else {
            panic!("no offer");
        };
        assert!(offer.needs.file_locks && !offer.needs.tcp_established);
        assert_eq!(offer.facts.pids, [5]);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let reason = "é".repeat(1 << 20);
        let abort = Message::Abort {
            reason,
            may_have_run: true,
        };
        let bytes = abort.encode();
        assert!(bytes.len() < crate::frame::CONTROL_BYTES_MAX / 10);
        let Message::Abort {
            reason,
            may_have_run: true,
        } = Message::decode(&bytes).unwrap()
        else {
            panic!("no abort");
        };
        assert_eq!(reason.chars().count(), REASON_CHARS_MAX);
    }

    #[test]
    fn what_the_dump_was_told_the_restore_is_told() {
        let mut dump = criu::Dump::new(1, "/nowhere");
        dump.sockets.tcp_established = true;
        dump.file_locks = true;
        let mut restore = criu::Restore::new("/nowhere");
        restore.link_remap = true;
        Needs::of_dump(&dump).apply_to(&mut restore);
        assert!(restore.sockets.tcp_established && restore.file_locks && restore.link_remap);
        assert!(!restore.sockets.tcp_close && !restore.evasive_devices);
    }
}
