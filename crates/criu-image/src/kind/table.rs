//! The one table of image kinds.
//!
//! Names, magic words and file names are those of CRIU 4.3 (`magic.h`, `image-desc.c`). A new kind
//! is a row here, at most one file in [`payload`](crate::payload), and a fixture.

use super::{FileName, Row};
use crate::message::{
    ApparmorEntry, AutofsEntry, BinfmtMiscEntry, BpfmapDataEntry, BpfmapFileEntry, CgroupEntry,
    CoreEntry, CpuinfoEntry, CredsEntry, EventfdFileEntry, EventpollFileEntry, EventpollTfdEntry,
    ExtFileEntry, FanotifyFileEntry, FanotifyMarkEntry, FdinfoEntry, FifoEntry, FileEntry,
    FileLockEntry, FsEntry, GhostChunkEntry, GhostFileEntry, InetSkEntry, InotifyFileEntry,
    InotifyWdEntry, InventoryEntry, IpcMsgEntry, IpcSemEntry, IpcShmEntry, IpcVarEntry,
    IrmapCacheEntry, ItimerEntry, MemfdInodeEntry, MmEntry, MntEntry, NetDeviceEntry,
    NetlinkSkEntry, NetnsEntry, NsFileEntry, PacketSockEntry, PagemapEntry, PagemapHead,
    PidfdEntry, PidnsEntry, PipeDataEntry, PipeEntry, PosixTimerEntry, PstreeEntry, RegFileEntry,
    RemapFilePathEntry, RlimitEntry, SaEntry, SeccompEntry, SiginfoEntry, SignalfdEntry,
    SkPacketEntry, StatsEntry, TaskKobjIdsEntry, TcpStreamEntry, TimensEntry, TimerfdEntry,
    TtyDataEntry, TtyFileEntry, TtyInfoEntry, TunfileEntry, UnixSkEntry, UsernsEntry, UtsnsEntry,
    VmaEntry,
};
use crate::payload::PayloadKind;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $row:expr;)*) => {
        /// A kind of image.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ImageKind {
            $($(#[$doc])* $kind,)*
        }

        impl ImageKind {
            /// Every kind, in the order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            pub(super) fn row(self) -> &'static Row {
                static ROWS: &[Row] = &[$($row),*];
                &ROWS[self as usize]
            }
        }
    };
}

kinds! {
    /// AppArmor namespaces and policies of the tasks.
    Apparmor = Row::image("APPARMOR", 0x5942_3047, FileName::Fixed("apparmor.img")).one::<ApparmorEntry>();
    /// An autofs mount; by device number.
    Autofs = Row::image("AUTOFS", 0x4935_3943, FileName::Decimal("autofs-", ".img")).one::<AutofsEntry>();
    /// Registered binary formats.
    BinfmtMisc = Row::image("BINFMT_MISC", 0x6734_3323, FileName::Fixed("binfmt-misc.img")).many::<BinfmtMiscEntry>();
    /// Registered binary formats of one mount; by device number. Legacy.
    BinfmtMiscOld = Row::image("BINFMT_MISC_OLD", 0x6734_3323, FileName::Decimal("binfmt-misc-", ".img")).many::<BinfmtMiscEntry>().alias_of(ImageKind::BinfmtMisc);
    /// Keys and values of BPF maps.
    BpfmapData = Row::image("BPFMAP_DATA", 0x6432_4033, FileName::Fixed("bpfmap-data.img")).many::<BpfmapDataEntry>().payload(PayloadKind::BpfMap);
    /// BPF maps as open files. Legacy: now in [`Files`](Self::Files).
    BpfmapFile = Row::image("BPFMAP_FILE", 0x5750_6142, FileName::Fixed("bpfmap-file.img")).many::<BpfmapFileEntry>();
    /// Control groups: hierarchies, sets and properties.
    Cgroup = Row::image("CGROUP", 0x5938_3330, FileName::Fixed("cgroup.img")).one::<CgroupEntry>();
    /// A task or thread: registers, state, signals, timers; by thread id in the namespace.
    Core = Row::image("CORE", 0x5505_3847, FileName::Decimal("core-", ".img")).one::<CoreEntry>();
    /// Features of the CPU of the dumping machine.
    Cpuinfo = Row::image("CPUINFO", 0x6140_4013, FileName::Fixed("cpuinfo.img")).one::<CpuinfoEntry>();
    /// User, groups, capabilities and security labels of a task; by pid. Older sets only.
    Creds = Row::image("CREDS", 0x5402_3547, FileName::Decimal("creds-", ".img")).one::<CredsEntry>();
    /// Eventfds. Legacy: now in [`Files`](Self::Files).
    EventfdFile = Row::image("EVENTFD_FILE", 0x4452_3722, FileName::Fixed("eventfd.img")).many::<EventfdFileEntry>();
    /// Epoll files. Legacy: now in [`Files`](Self::Files).
    EventpollFile = Row::image("EVENTPOLL_FILE", 0x4502_3858, FileName::Fixed("eventpoll.img")).many::<EventpollFileEntry>();
    /// Files watched by epoll files. Legacy: now within the epoll file.
    EventpollTfd = Row::image("EVENTPOLL_TFD", 0x4443_3746, FileName::Fixed("eventpoll-tfd.img")).many::<EventpollTfdEntry>();
    /// Files provided by plugins. Legacy: now in [`Files`](Self::Files).
    ExtFiles = Row::image("EXT_FILES", 0x5925_5641, FileName::Fixed("ext-files.img")).many::<ExtFileEntry>();
    /// Fanotify groups. Legacy: now in [`Files`](Self::Files).
    FanotifyFile = Row::image("FANOTIFY_FILE", 0x5509_6122, FileName::Fixed("fanotify.img")).many::<FanotifyFileEntry>();
    /// Marks of fanotify groups. Legacy: now within the group.
    FanotifyMark = Row::image("FANOTIFY_MARK", 0x5650_6035, FileName::Fixed("fanotify-mark.img")).many::<FanotifyMarkEntry>();
    /// The file descriptors of a table; by table id.
    Fdinfo = Row::image("FDINFO", 0x5621_3732, FileName::Decimal("fdinfo-", ".img")).many::<FdinfoEntry>();
    /// Named pipes as open files. Legacy: now in [`Files`](Self::Files).
    Fifo = Row::image("FIFO", 0x5836_4939, FileName::Fixed("fifo.img")).many::<FifoEntry>();
    /// Bytes queued in named pipes.
    FifoData = Row::image("FIFO_DATA", 0x5933_3054, FileName::Fixed("fifo-data.img")).many::<PipeDataEntry>().payload(PayloadKind::Pipe);
    /// Every open file, of any type.
    Files = Row::image("FILES", 0x5630_3138, FileName::Fixed("files.img")).many::<FileEntry>();
    /// File locks and leases.
    FileLocks = Row::image("FILE_LOCKS", 0x5432_3616, FileName::Fixed("filelocks.img")).many::<FileLockEntry>();
    /// Working directory, root and umask of a task; by pid.
    Fs = Row::image("FS", 0x5140_3912, FileName::Decimal("fs-", ".img")).one::<FsEntry>();
    /// The content of an unlinked file that is still open; by ghost id.
    GhostFile = Row::image("GHOST_FILE", 0x5258_3605, FileName::Hexadecimal("ghost-file-", ".img")).headed::<GhostFileEntry, GhostChunkEntry>().payload(PayloadKind::GhostFile);
    /// Ids of the kernel objects that a task uses; by pid.
    Ids = Row::image("IDS", 0x5443_2030, FileName::Decimal("ids-", ".img")).one::<TaskKobjIdsEntry>();
    /// Addresses of a network namespace, as `ip addr save` printed them; by namespace id.
    Ifaddr = Row::raw("IFADDR", FileName::Decimal("ifaddr-", ".img"));
    /// Internet sockets. Legacy: now in [`Files`](Self::Files).
    Inetsk = Row::image("INETSK", 0x5644_3851, FileName::Fixed("inetsk.img")).many::<InetSkEntry>();
    /// Inotify instances. Legacy: now in [`Files`](Self::Files).
    InotifyFile = Row::image("INOTIFY_FILE", 0x4842_4431, FileName::Fixed("inotify.img")).many::<InotifyFileEntry>();
    /// Watches of inotify instances. Legacy: now within the instance.
    InotifyWd = Row::image("INOTIFY_WD", 0x5456_2009, FileName::Fixed("inotify-wd.img")).many::<InotifyWdEntry>();
    /// What the checkpoint as a whole is: version, options, ids of the root task.
    Inventory = Row::image("INVENTORY", 0x5831_3116, FileName::Fixed("inventory.img")).one::<InventoryEntry>().bare();
    /// IPv6 packet filter as text; by namespace id.
    Ip6tables = Row::raw("IP6TABLES", FileName::Decimal("ip6tables-", ".img"));
    /// System V message queues with their messages; by namespace id.
    IpcnsMsg = Row::image("IPCNS_MSG", 0x5545_3737, FileName::Decimal("ipcns-msg-", ".img")).many::<IpcMsgEntry>().payload(PayloadKind::IpcMessages);
    /// System V semaphore sets with their values; by namespace id.
    IpcnsSem = Row::image("IPCNS_SEM", 0x5957_3019, FileName::Decimal("ipcns-sem-", ".img")).many::<IpcSemEntry>().payload(PayloadKind::IpcSemaphores);
    /// System V shared memory segments; by namespace id.
    IpcnsShm = Row::image("IPCNS_SHM", 0x4628_3044, FileName::Decimal("ipcns-shm-", ".img")).many::<IpcShmEntry>().payload(PayloadKind::IpcSharedMemory);
    /// Limits of an IPC namespace; by namespace id.
    IpcVar = Row::image("IPC_VAR", 0x5311_5007, FileName::Decimal("ipcns-var-", ".img")).one::<IpcVarEntry>();
    /// IPv4 packet filter as text; by namespace id.
    Iptables = Row::raw("IPTABLES", FileName::Decimal("iptables-", ".img"));
    /// Paths by inode, for watches; kept in the work directory.
    IrmapCache = Row::image("IRMAP_CACHE", 0x5700_4059, FileName::Fixed("irmap-cache")).many::<IrmapCacheEntry>().service();
    /// Interval timers of a task; by pid. Legacy: now in [`Core`](Self::Core).
    Itimers = Row::image("ITIMERS", 0x5746_4056, FileName::Decimal("itimers-", ".img")).many::<ItimerEntry>();
    /// Memory files: name, seals, and the shared memory object that holds the content.
    MemfdInode = Row::image("MEMFD_INODE", 0x4845_3499, FileName::Fixed("memfd.img")).many::<MemfdInodeEntry>();
    /// The address space of a task: areas, auxiliary vector, executable; by pid.
    Mm = Row::image("MM", 0x5749_2820, FileName::Decimal("mm-", ".img")).one::<MmEntry>();
    /// Mounts of a mount namespace; by namespace id.
    Mnts = Row::image("MNTS", 0x5556_3928, FileName::Decimal("mountpoints-", ".img")).many::<MntEntry>();
    /// Network devices of a network namespace; by namespace id.
    Netdev = Row::image("NETDEV", 0x5737_3951, FileName::Decimal("netdev-", ".img")).many::<NetDeviceEntry>();
    /// Netlink sockets. Legacy: now in [`Files`](Self::Files).
    NetlinkSk = Row::image("NETLINK_SK", 0x5800_5614, FileName::Fixed("netlinksk.img")).many::<NetlinkSkEntry>();
    /// Tracked connections as netlink messages; by namespace id.
    NetnfCt = Row::raw("NETNF_CT", FileName::Decimal("netns-ct-", ".img"));
    /// Expected connections as netlink messages; by namespace id.
    NetnfExp = Row::raw("NETNF_EXP", FileName::Decimal("netns-exp-", ".img"));
    /// Settings of a network namespace; by namespace id.
    Netns = Row::image("NETNS", 0x5593_3752, FileName::Decimal("netns-", ".img")).one::<NetnsEntry>();
    /// Packet filter of nft as text; by namespace id.
    Nftables = Row::raw("NFTABLES", FileName::Decimal("nftables-", ".img"));
    /// Open namespace files. Legacy: now in [`Files`](Self::Files).
    NsFiles = Row::image("NS_FILES", 0x6139_4011, FileName::Fixed("ns-files.img")).many::<NsFileEntry>();
    /// Packet sockets. Legacy: now in [`Files`](Self::Files).
    Packetsk = Row::image("PACKETSK", 0x6045_4618, FileName::Fixed("packetsk.img")).many::<PacketSockEntry>();
    /// Which pages of a task were dumped; by pid.
    Pagemap = Row::image("PAGEMAP", 0x5608_4025, FileName::Decimal("pagemap-", ".img")).headed::<PagemapHead, PagemapEntry>();
    /// Page contents, in the order of a pagemap; by the id that the pagemap names.
    Pages = Row::raw("PAGES", FileName::Decimal("pages-", ".img"));
    /// Page contents of a task, behind a magic word. Legacy.
    PagesOld = Row::image("PAGES_OLD", 0x5608_4025, FileName::Decimal("pages-", ".img")).alias_of(ImageKind::Pagemap);
    /// Process file descriptors. Legacy: now in [`Files`](Self::Files).
    Pidfd = Row::image("PIDFD", 0x5443_5556, FileName::Fixed("pidfd.img")).many::<PidfdEntry>();
    /// An external pid namespace; by namespace id.
    Pidns = Row::image("PIDNS", 0x6115_7326, FileName::Decimal("pidns-", ".img")).one::<PidnsEntry>();
    /// Pipes as open files. Legacy: now in [`Files`](Self::Files).
    Pipes = Row::image("PIPES", 0x5651_3555, FileName::Fixed("pipes.img")).many::<PipeEntry>();
    /// Bytes queued in pipes.
    PipesData = Row::image("PIPES_DATA", 0x5645_3709, FileName::Fixed("pipes-data.img")).many::<PipeDataEntry>().payload(PayloadKind::Pipe);
    /// POSIX timers of a task; by pid. Legacy: now in [`Core`](Self::Core).
    PosixTimers = Row::image("POSIX_TIMERS", 0x5260_3957, FileName::Decimal("posix-timers-", ".img")).many::<PosixTimerEntry>();
    /// Signals pending for a whole task; by pid. Legacy: now in [`Core`](Self::Core).
    Psignal = Row::image("PSIGNAL", 0x5925_5647, FileName::Decimal("signal-p-", ".img")).many::<SiginfoEntry>().alias_of(ImageKind::Signal);
    /// The tree of tasks, with their threads.
    Pstree = Row::image("PSTREE", 0x5027_3030, FileName::Fixed("pstree.img")).many::<PstreeEntry>();
    /// Regular files. Legacy: now in [`Files`](Self::Files).
    RegFiles = Row::image("REG_FILES", 0x5036_3636, FileName::Fixed("reg-files.img")).many::<RegFileEntry>();
    /// Which ghost or linked file stands for an unlinked path.
    RemapFpath = Row::image("REMAP_FPATH", 0x5913_3954, FileName::Fixed("remap-fpath.img")).many::<RemapFilePathEntry>();
    /// Resource limits of a task; by pid. Legacy: now in [`Core`](Self::Core).
    Rlimit = Row::image("RLIMIT", 0x5711_3925, FileName::Decimal("rlimit-", ".img")).many::<RlimitEntry>();
    /// IPv4 routes, as `ip route save` printed them; by namespace id.
    Route = Row::raw("ROUTE", FileName::Decimal("route-", ".img"));
    /// IPv6 routes, as `ip -6 route save` printed them; by namespace id.
    Route6 = Row::raw("ROUTE6", FileName::Decimal("route6-", ".img"));
    /// Routing rules, as `ip rule save` printed them; by namespace id.
    Rule = Row::raw("RULE", FileName::Decimal("rule-", ".img"));
    /// Seccomp filters of the tasks.
    Seccomp = Row::image("SECCOMP", 0x6441_3049, FileName::Fixed("seccomp.img")).one::<SeccompEntry>();
    /// Which pages of a shared memory object were dumped; by object id.
    ShmemPagemap = Row::image("SHMEM_PAGEMAP", 0x5608_4025, FileName::Decimal("pagemap-shmem-", ".img")).headed::<PagemapHead, PagemapEntry>().alias_of(ImageKind::Pagemap);
    /// Page contents of a shared memory object, behind a magic word. Legacy.
    ShmPagesOld = Row::image("SHM_PAGES_OLD", 0x5608_4025, FileName::Decimal("pages-shmem-", ".img")).alias_of(ImageKind::Pagemap);
    /// Signal handlers of a task; by pid. Legacy: now in [`Core`](Self::Core).
    Sigact = Row::image("SIGACT", 0x5534_4201, FileName::Decimal("sigacts-", ".img")).many::<SaEntry>();
    /// Signals pending for a thread; by thread id. Legacy: now in [`Core`](Self::Core).
    Signal = Row::image("SIGNAL", 0x5925_5647, FileName::Decimal("signal-s-", ".img")).many::<SiginfoEntry>();
    /// Signalfds. Legacy: now in [`Files`](Self::Files).
    Signalfd = Row::image("SIGNALFD", 0x5732_3820, FileName::Fixed("signalfd.img")).many::<SignalfdEntry>();
    /// Packets queued in sockets.
    SkQueues = Row::image("SK_QUEUES", 0x5626_4026, FileName::Fixed("sk-queues.img")).many::<SkPacketEntry>().payload(PayloadKind::SocketPacket);
    /// What a dump or a restore took: times and pages; kept in the work directory.
    Stats = Row::image("STATS", 0x5709_3306, FileName::OneOf(&["stats-dump", "stats-restore"])).one::<StatsEntry>().service();
    /// State and queues of a TCP connection; by socket inode.
    TcpStream = Row::image("TCP_STREAM", 0x5146_5506, FileName::Hexadecimal("tcp-stream-", ".img")).one::<TcpStreamEntry>().payload(PayloadKind::TcpStream);
    /// Clock offsets of a time namespace; by namespace id.
    Timens = Row::image("TIMENS", 0x4311_4433, FileName::Decimal("timens-", ".img")).one::<TimensEntry>();
    /// Timer files. Legacy: now in [`Files`](Self::Files).
    Timerfd = Row::image("TIMERFD", 0x5049_3712, FileName::Fixed("timerfd.img")).many::<TimerfdEntry>();
    /// The files of a tmpfs as an archive; by device number.
    TmpfsDev = Row::raw("TMPFS_DEV", FileName::Decimal("tmpfs-dev-", ".tar.gz.img"));
    /// The files of a tmpfs as an archive; by mount id. Legacy.
    TmpfsImg = Row::raw("TMPFS_IMG", FileName::Decimal("tmpfs-", ".tar.gz.img"));
    /// Bytes queued in terminals.
    TtyData = Row::image("TTY_DATA", 0x5941_3026, FileName::Fixed("tty-data.img")).many::<TtyDataEntry>();
    /// Terminals as open files. Legacy: now in [`Files`](Self::Files).
    TtyFiles = Row::image("TTY_FILES", 0x5943_3025, FileName::Fixed("tty.img")).many::<TtyFileEntry>();
    /// Terminals: type, size, settings.
    TtyInfo = Row::image("TTY_INFO", 0x5945_3036, FileName::Fixed("tty-info.img")).many::<TtyInfoEntry>();
    /// Tun files. Legacy: now in [`Files`](Self::Files).
    Tunfile = Row::image("TUNFILE", 0x5714_3751, FileName::Fixed("tunfile.img")).many::<TunfileEntry>();
    /// Unix sockets. Legacy: now in [`Files`](Self::Files).
    Unixsk = Row::image("UNIXSK", 0x5437_3943, FileName::Fixed("unixsk.img")).many::<UnixSkEntry>();
    /// Id maps of the user namespace; by namespace id.
    Userns = Row::image("USERNS", 0x5547_4906, FileName::Decimal("userns-", ".img")).one::<UsernsEntry>();
    /// Host and domain name of a UTS namespace; by namespace id.
    Utsns = Row::image("UTSNS", 0x5447_3203, FileName::Decimal("utsns-", ".img")).one::<UtsnsEntry>();
    /// Memory areas of a task; by pid. Legacy: now in [`Mm`](Self::Mm).
    Vmas = Row::image("VMAS", 0x5412_3737, FileName::Decimal("vmas-", ".img")).many::<VmaEntry>();
}
