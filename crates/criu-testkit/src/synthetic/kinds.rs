//! CRIU 4.3's image kinds, taken down from its `magic.h`, `image-desc.c` and `protobuf-desc.c`.

/// A kind of image.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Kind {
    /// CRIU's name.
    pub name: &'static str,
    /// The magic word, or 0 if there is none.
    pub magic: u32,
    /// The word in front of it.
    pub first: First,
    /// The file's name, with `#` for an id.
    pub file: &'static str,
    /// The message of the entries; empty if there are none.
    pub entry: &'static str,
    /// Whether there is only one.
    pub only_one: bool,
}

/// The word in front of the magic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// None.
    None,
    /// `IMG_COMMON`.
    Common,
    /// `IMG_SERVICE`.
    Service,
}

impl First {
    /// The word itself.
    #[must_use]
    pub fn word(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Common => Some(0x5456_4319),
            Self::Service => Some(0x5510_5940),
        }
    }
}

const fn kind(
    name: &'static str,
    magic: u32,
    first: First,
    file: &'static str,
    entry: &'static str,
    only_one: bool,
) -> Kind {
    Kind {
        name,
        magic,
        first,
        file,
        entry,
        only_one,
    }
}

/// Every kind.
#[rustfmt::skip] // one kind, one line
pub const KINDS: &[Kind] = &[
    kind("APPARMOR", 0x5942_3047, First::Common, "apparmor.img", "apparmor_entry", true),
    kind("AUTOFS", 0x4935_3943, First::Common, "autofs-#.img", "autofs_entry", true),
    kind("BINFMT_MISC", 0x6734_3323, First::Common, "binfmt-misc.img", "binfmt_misc_entry", false),
    kind("BINFMT_MISC_OLD", 0x6734_3323, First::Common, "binfmt-misc-#.img", "binfmt_misc_entry", false),
    kind("BPFMAP_DATA", 0x6432_4033, First::Common, "bpfmap-data.img", "bpfmap_data_entry", false),
    kind("BPFMAP_FILE", 0x5750_6142, First::Common, "bpfmap-file.img", "bpfmap_file_entry", false),
    kind("CGROUP", 0x5938_3330, First::Common, "cgroup.img", "cgroup_entry", true),
    kind("CORE", 0x5505_3847, First::Common, "core-#.img", "core_entry", true),
    kind("CPUINFO", 0x6140_4013, First::Common, "cpuinfo.img", "cpuinfo_entry", true),
    kind("CREDS", 0x5402_3547, First::Common, "creds-#.img", "creds_entry", true),
    kind("EVENTFD_FILE", 0x4452_3722, First::Common, "eventfd.img", "eventfd_file_entry", false),
    kind("EVENTPOLL_FILE", 0x4502_3858, First::Common, "eventpoll.img", "eventpoll_file_entry", false),
    kind("EVENTPOLL_TFD", 0x4443_3746, First::Common, "eventpoll-tfd.img", "eventpoll_tfd_entry", false),
    kind("EXT_FILES", 0x5925_5641, First::Common, "ext-files.img", "ext_file_entry", false),
    kind("FANOTIFY_FILE", 0x5509_6122, First::Common, "fanotify.img", "fanotify_file_entry", false),
    kind("FANOTIFY_MARK", 0x5650_6035, First::Common, "fanotify-mark.img", "fanotify_mark_entry", false),
    kind("FDINFO", 0x5621_3732, First::Common, "fdinfo-#.img", "fdinfo_entry", false),
    kind("FIFO", 0x5836_4939, First::Common, "fifo.img", "fifo_entry", false),
    kind("FIFO_DATA", 0x5933_3054, First::Common, "fifo-data.img", "pipe_data_entry", false),
    kind("FILES", 0x5630_3138, First::Common, "files.img", "file_entry", false),
    kind("FILE_LOCKS", 0x5432_3616, First::Common, "filelocks.img", "file_lock_entry", false),
    kind("FS", 0x5140_3912, First::Common, "fs-#.img", "fs_entry", true),
    kind("GHOST_FILE", 0x5258_3605, First::Common, "ghost-file-#.img", "ghost_file_entry", false),
    kind("IDS", 0x5443_2030, First::Common, "ids-#.img", "task_kobj_ids_entry", true),
    kind("IFADDR", 0, First::None, "ifaddr-#.img", "", false),
    kind("INETSK", 0x5644_3851, First::Common, "inetsk.img", "inet_sk_entry", false),
    kind("INOTIFY_FILE", 0x4842_4431, First::Common, "inotify.img", "inotify_file_entry", false),
    kind("INOTIFY_WD", 0x5456_2009, First::Common, "inotify-wd.img", "inotify_wd_entry", false),
    kind("INVENTORY", 0x5831_3116, First::None, "inventory.img", "inventory_entry", true),
    kind("IP6TABLES", 0, First::None, "ip6tables-#.img", "", false),
    kind("IPCNS_MSG", 0x5545_3737, First::Common, "ipcns-msg-#.img", "ipc_msg_entry", false),
    kind("IPCNS_SEM", 0x5957_3019, First::Common, "ipcns-sem-#.img", "ipc_sem_entry", false),
    kind("IPCNS_SHM", 0x4628_3044, First::Common, "ipcns-shm-#.img", "ipc_shm_entry", false),
    kind("IPC_VAR", 0x5311_5007, First::Common, "ipcns-var-#.img", "ipc_var_entry", true),
    kind("IPTABLES", 0, First::None, "iptables-#.img", "", false),
    kind("IRMAP_CACHE", 0x5700_4059, First::Service, "irmap-cache", "irmap_cache_entry", false),
    kind("ITIMERS", 0x5746_4056, First::Common, "itimers-#.img", "itimer_entry", false),
    kind("MEMFD_INODE", 0x4845_3499, First::Common, "memfd.img", "memfd_inode_entry", false),
    kind("MM", 0x5749_2820, First::Common, "mm-#.img", "mm_entry", true),
    kind("MNTS", 0x5556_3928, First::Common, "mountpoints-#.img", "mnt_entry", false),
    kind("NETDEV", 0x5737_3951, First::Common, "netdev-#.img", "net_device_entry", false),
    kind("NETLINK_SK", 0x5800_5614, First::Common, "netlinksk.img", "netlink_sk_entry", false),
    kind("NETNF_CT", 0, First::None, "netns-ct-#.img", "", false),
    kind("NETNF_EXP", 0, First::None, "netns-exp-#.img", "", false),
    kind("NETNS", 0x5593_3752, First::Common, "netns-#.img", "netns_entry", true),
    kind("NFTABLES", 0, First::None, "nftables-#.img", "", false),
    kind("NS_FILES", 0x6139_4011, First::Common, "ns-files.img", "ns_file_entry", false),
    kind("PACKETSK", 0x6045_4618, First::Common, "packetsk.img", "packet_sock_entry", false),
    kind("PAGEMAP", 0x5608_4025, First::Common, "pagemap-#.img", "pagemap_entry", false),
    kind("PAGES", 0, First::None, "pages-#.img", "", false),
    kind("PAGES_OLD", 0x5608_4025, First::Common, "pages-#.img", "", false),
    kind("PIDFD", 0x5443_5556, First::Common, "pidfd.img", "pidfd_entry", false),
    kind("PIDNS", 0x6115_7326, First::Common, "pidns-#.img", "pidns_entry", true),
    kind("PIPES", 0x5651_3555, First::Common, "pipes.img", "pipe_entry", false),
    kind("PIPES_DATA", 0x5645_3709, First::Common, "pipes-data.img", "pipe_data_entry", false),
    kind("POSIX_TIMERS", 0x5260_3957, First::Common, "posix-timers-#.img", "posix_timer_entry", false),
    kind("PSIGNAL", 0x5925_5647, First::Common, "signal-p-#.img", "siginfo_entry", false),
    kind("PSTREE", 0x5027_3030, First::Common, "pstree.img", "pstree_entry", false),
    kind("REG_FILES", 0x5036_3636, First::Common, "reg-files.img", "reg_file_entry", false),
    kind("REMAP_FPATH", 0x5913_3954, First::Common, "remap-fpath.img", "remap_file_path_entry", false),
    kind("RLIMIT", 0x5711_3925, First::Common, "rlimit-#.img", "rlimit_entry", false),
    kind("ROUTE", 0, First::None, "route-#.img", "", false),
    kind("ROUTE6", 0, First::None, "route6-#.img", "", false),
    kind("RULE", 0, First::None, "rule-#.img", "", false),
    kind("SECCOMP", 0x6441_3049, First::Common, "seccomp.img", "seccomp_entry", true),
    kind("SHMEM_PAGEMAP", 0x5608_4025, First::Common, "pagemap-shmem-#.img", "pagemap_entry", false),
    kind("SHM_PAGES_OLD", 0x5608_4025, First::Common, "pages-shmem-#.img", "", false),
    kind("SIGACT", 0x5534_4201, First::Common, "sigacts-#.img", "sa_entry", false),
    kind("SIGNAL", 0x5925_5647, First::Common, "signal-s-#.img", "siginfo_entry", false),
    kind("SIGNALFD", 0x5732_3820, First::Common, "signalfd.img", "signalfd_entry", false),
    kind("SK_QUEUES", 0x5626_4026, First::Common, "sk-queues.img", "sk_packet_entry", false),
    kind("STATS", 0x5709_3306, First::Service, "stats-dump", "stats_entry", true),
    kind("TCP_STREAM", 0x5146_5506, First::Common, "tcp-stream-#.img", "tcp_stream_entry", true),
    kind("TIMENS", 0x4311_4433, First::Common, "timens-#.img", "timens_entry", true),
    kind("TIMERFD", 0x5049_3712, First::Common, "timerfd.img", "timerfd_entry", false),
    kind("TMPFS_DEV", 0, First::None, "tmpfs-dev-#.tar.gz.img", "", false),
    kind("TMPFS_IMG", 0, First::None, "tmpfs-#.tar.gz.img", "", false),
    kind("TTY_DATA", 0x5941_3026, First::Common, "tty-data.img", "tty_data_entry", false),
    kind("TTY_FILES", 0x5943_3025, First::Common, "tty.img", "tty_file_entry", false),
    kind("TTY_INFO", 0x5945_3036, First::Common, "tty-info.img", "tty_info_entry", false),
    kind("TUNFILE", 0x5714_3751, First::Common, "tunfile.img", "tunfile_entry", false),
    kind("UNIXSK", 0x5437_3943, First::Common, "unixsk.img", "unix_sk_entry", false),
    kind("USERNS", 0x5547_4906, First::Common, "userns-#.img", "userns_entry", true),
    kind("UTSNS", 0x5447_3203, First::Common, "utsns-#.img", "utsns_entry", true),
    kind("VMAS", 0x5412_3737, First::Common, "vmas-#.img", "vma_entry", false),
];
