//! Networks: devices, addresses, routes.

use std::collections::HashSet;
use std::net::IpAddr;

use bstr::BString;
use criu_image::message::{NdType, NetDeviceEntry};
use criu_image::wire::slot::OpenEnum;
use criu_image::{ByteOrder, ImageKind};
use serde::Serialize;

use super::netlink::{self, Address, Route};
use super::{Explorer, Partial, Warning};

/// A network namespace that was dumped.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Network {
    /// Id of the namespace in the images.
    pub namespace: u64,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Its routes, IPv4 first.
    pub routes: Vec<Route>,
}

/// A network device.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Device {
    /// Index.
    pub index: u32,
    /// Name.
    #[serde(serialize_with = "super::text")]
    pub name: BString,
    /// Type, such as `veth`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `IFF_*` flags, by name.
    pub flags: Vec<&'static str>,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_address: Option<String>,
    /// Index of the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// Index of the bridge that it is a port of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// Addresses.
    pub addresses: Vec<DeviceAddress>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits that name the network.
    pub prefix_len: u8,
}

impl Explorer {
    /// Devices, addresses and routes of each network namespace that was dumped.
    pub fn networks(&mut self) -> Partial<Vec<Network>> {
        let mut namespaces: Vec<u64> = self.namespace_images(ImageKind::Netdev);
        namespaces.extend(self.namespace_images(ImageKind::Ifaddr));
        namespaces.sort_unstable();
        namespaces.dedup();
        if self.only.is_some() {
            let mut wanted = HashSet::new();
            for pid in self.living() {
                let ids = self.wanted(self.checkpoint.ids(pid));
                wanted.extend(ids.and_then(|ids| ids.net_ns_id).map(u64::from));
            }
            namespaces.retain(|namespace| wanted.contains(namespace));
        }
        let order = self.byte_order();
        let mut networks = Vec::new();
        for namespace in namespaces {
            networks.push(self.network(namespace, order));
        }
        self.answer(networks)
    }

    fn network(&mut self, namespace: u64, order: ByteOrder) -> Network {
        let devices = self.entries::<NetDeviceEntry>(ImageKind::Netdev, namespace);
        let mut devices: Vec<Device> = devices.into_iter().map(Device::new).collect();
        let addresses: Vec<Address> = self.foreign(ImageKind::Ifaddr, namespace, |bytes| {
            netlink::addresses(bytes, order)
        });
        for Address {
            index,
            address,
            prefix_len,
        } in addresses
        {
            let device = match devices.iter_mut().find(|device| device.index == index) {
                Some(device) => device,
                None => {
                    devices.push(Device {
                        index,
                        ..Device::default()
                    });
                    match devices.last_mut() {
                        Some(device) => device,
                        None => continue,
                    }
                }
            };
            device.addresses.push(DeviceAddress {
                address,
                prefix_len,
            });
        }
        let mut routes = Vec::new();
        for kind in [ImageKind::Route, ImageKind::Route6] {
            routes.extend(self.foreign(kind, namespace, |bytes| netlink::routes(bytes, order)));
        }
        Network {
            namespace,
            devices,
            routes,
        }
    }

    /// Reads what another program wrote, as far as it can be understood.
    fn foreign<T>(
        &mut self,
        kind: ImageKind,
        id: u64,
        parse: impl FnOnce(&[u8]) -> (Vec<T>, Option<netlink::Malformed>),
    ) -> Vec<T> {
        let Some(mut image) = self.optional(self.checkpoint.image(kind, id)) else {
            return Vec::new();
        };
        let bytes = image.body().map(|mut body| -> criu_image::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            while let Some(mut part) = body.next_part()? {
                while bytes.len() < FOREIGN_LIMIT
                    && let Some(chunk) = part.next_chunk()?
                {
                    bytes.extend_from_slice(chunk);
                }
                if bytes.len() >= FOREIGN_LIMIT {
                    break;
                }
            }
            Ok(bytes)
        });
        let Some(bytes) = bytes.and_then(|bytes| self.wanted(bytes)) else {
            return Vec::new();
        };
        let (items, malformed) = parse(&bytes);
        if let Some(netlink::Malformed { offset, detail }) = malformed {
            self.warn(Warning::Foreign {
                kind,
                id,
                offset,
                detail,
            });
        }
        items
    }
}

impl Device {
    fn new(entry: NetDeviceEntry) -> Self {
        let kind = NdType::DESCRIPTOR.name_of(entry.r#type.number());
        let flags = DEVICE_FLAGS
            .iter()
            .filter(|(bit, _)| entry.flags & bit != 0);
        let bytes = |address: &Vec<u8>| {
            let bytes: Vec<String> = address.iter().map(|byte| format!("{byte:02x}")).collect();
            bytes.join(":")
        };
        Self {
            index: entry.ifindex,
            name: entry.name,
            kind: match kind {
                Some(name) => name.to_ascii_lowercase(),
                None => entry.r#type.number().to_string(),
            },
            mtu: entry.mtu,
            flags: flags.map(|(_, name)| *name).collect(),
            hardware_address: entry.address.as_ref().map(bytes),
            peer: entry.peer_ifindex,
            master: entry.master,
            addresses: Vec::new(),
        }
    }
}

/// `IFF_*` flags, from the kernel's `linux/if.h`.
const DEVICE_FLAGS: [(u32, &str); 10] = [
    (1 << 0, "UP"),
    (1 << 1, "BROADCAST"),
    (1 << 3, "LOOPBACK"),
    (1 << 4, "POINTOPOINT"),
    (1 << 6, "RUNNING"),
    (1 << 7, "NOARP"),
    (1 << 8, "PROMISC"),
    (1 << 9, "ALLMULTI"),
    (1 << 12, "MULTICAST"),
    (1 << 16, "LOWER_UP"),
];

/// Most bytes of another program's output that are looked at: some 200,000 addresses or routes.
const FOREIGN_LIMIT: usize = 16 << 20;
