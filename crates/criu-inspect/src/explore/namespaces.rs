//! Namespaces.

use std::collections::BTreeMap;

use bstr::BString;
use criu_image::ImageKind;
use criu_image::message::{
    NetnsEntry, PidnsEntry, TaskKobjIdsEntry, TimensEntry, Timespec, UidGidExtent,
};
use serde::Serialize;

use super::{Explorer, Partial};

/// A namespace.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Namespace {
    /// `pid`, `net`, `ipc`, `uts`, `mnt`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Id in the images.
    pub id: u32,
    /// Whether it is the one that CRIU ran in, which is not part of the checkpoint.
    pub of_host: bool,
    /// The tasks in it, in the order of the tree.
    pub pids: Vec<u32>,
    /// Name of the first of them.
    #[serde(serialize_with = "super::text")]
    pub comm: BString,
    /// Host name, of a UTS namespace.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::optional_text"
    )]
    pub host_name: Option<BString>,
    /// Domain name, of a UTS namespace.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::optional_text"
    )]
    pub domain_name: Option<BString>,
    /// Users, of a user namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_map: Vec<IdRange>,
    /// Groups, of a user namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_map: Vec<IdRange>,
    /// Seconds that the monotonic clock is ahead, of a time namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monotonic_offset_s: Option<f64>,
    /// Seconds that the clock since boot is ahead, of a time namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boottime_offset_s: Option<f64>,
    /// The key under which it is to be given on restore, as it was left out of the dump.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::optional_text"
    )]
    pub external: Option<BString>,
}

/// Ids that follow each other, inside a user namespace and outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl Explorer {
    /// The namespaces that the tasks are in.
    pub fn namespaces(&mut self) -> Partial<Vec<Namespace>> {
        let host = self.wanted(self.checkpoint.inventory());
        let host = host.and_then(|inventory| inventory.into_value().root_ids);
        let mut found = BTreeMap::<(usize, u32), Namespace>::new();
        for pid in self.living() {
            let Some(ids) = self.wanted(self.checkpoint.ids(pid)) else {
                continue;
            };
            for (order, &(kind, id_of)) in KINDS.iter().enumerate() {
                let Some(id) = id_of(&ids) else { continue };
                let namespace = found.entry((order, id)).or_insert_with(|| Namespace {
                    kind,
                    id,
                    of_host: host.as_deref().and_then(id_of) == Some(id),
                    ..Namespace::default()
                });
                namespace.pids.push(pid);
            }
        }
        let mut namespaces: Vec<Namespace> = found.into_values().collect();
        for namespace in &mut namespaces {
            let core = namespace.pids.first().and_then(|&pid| self.core(pid));
            let task = core.and_then(|core| core.tc);
            namespace.comm = task.map(|task| task.comm).unwrap_or_default();
            if !namespace.of_host {
                self.describe_namespace(namespace);
            }
        }
        self.answer(namespaces)
    }

    fn describe_namespace(&mut self, namespace: &mut Namespace) {
        let id = namespace.id;
        match namespace.kind {
            "uts" => {
                if let Some(uts) = self.wanted(self.checkpoint.utsns(id)) {
                    namespace.host_name = Some(uts.nodename.clone());
                    namespace.domain_name = Some(uts.domainname.clone());
                }
            }
            "user" => {
                if let Some(user) = self.wanted(self.checkpoint.userns(id)) {
                    namespace.uid_map = user.uid_map.iter().map(IdRange::new).collect();
                    namespace.gid_map = user.gid_map.iter().map(IdRange::new).collect();
                }
            }
            "pid" => {
                let pid = self
                    .checkpoint
                    .one::<PidnsEntry>(ImageKind::Pidns, id.into());
                let pid = self.optional(pid);
                namespace.external = pid.and_then(|pid| pid.into_value().ext_key);
            }
            "net" => {
                let net = self
                    .checkpoint
                    .one::<NetnsEntry>(ImageKind::Netns, id.into());
                let net = self.optional(net);
                namespace.external = net.and_then(|net| net.into_value().ext_key);
            }
            "time" => {
                let time = self
                    .checkpoint
                    .one::<TimensEntry>(ImageKind::Timens, id.into());
                if let Some(time) = self.optional(time) {
                    namespace.monotonic_offset_s = Some(offset(&time.monotonic));
                    namespace.boottime_offset_s = Some(offset(&time.boottime));
                }
            }
            _ => {}
        }
    }
}

impl IdRange {
    fn new(extent: &UidGidExtent) -> Self {
        Self {
            inside: extent.first,
            outside: extent.lower_first,
            count: extent.count,
        }
    }
}

/// An offset in seconds; both numbers hold a signed one.
fn offset(time: &Timespec) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "nobody needs the offset of a clock to 2^-53"
    )]
    let [seconds, nanoseconds] =
        [time.tv_sec, time.tv_nsec].map(|number| number.cast_signed() as f64);
    seconds + nanoseconds / 1e9
}

type IdOf = fn(&TaskKobjIdsEntry) -> Option<u32>;

/// The kinds of namespaces, in the order in which they are listed.
const KINDS: [(&str, IdOf); 8] = [
    ("user", |ids| ids.user_ns_id),
    ("pid", |ids| ids.pid_ns_id),
    ("mnt", |ids| ids.mnt_ns_id),
    ("net", |ids| ids.net_ns_id),
    ("ipc", |ids| ids.ipc_ns_id),
    ("uts", |ids| ids.uts_ns_id),
    ("cgroup", |ids| ids.cgroup_ns_id),
    ("time", |ids| ids.time_ns_id),
];
