//! Addresses and routes as `ip addr save` and `ip route save` write them.
//!
//! ```text
//! file      : u32 magic, message*
//! message   : u32 len, u16 type, u16 flags, u32 sequence, u32 port, body; to a multiple of 4
//! address   : u8 family, u8 prefix, u8 flags, u8 scope, u32 device, attribute*
//! route     : u8 family, u8 dst prefix, u8 src prefix, u8 tos,
//!             u8 table, u8 protocol, u8 scope, u8 type, u32 flags, attribute*
//! attribute : u16 len, u16 type, value; to a multiple of 4
//! ```
//!
//! The magics are those of iproute2, all else is the kernel's `rtnetlink.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criu_image::ByteOrder;
use serde::Serialize;

/// An address of the device with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) prefix_len: u8,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Route {
    /// Where to; `default` or a network as `address/bits`.
    pub destination: String,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// Address that packets are sent from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Priority: the least is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Number of the routing table; 254 is the main one.
    pub table: u32,
}

/// Where and how a file cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) offset: usize,
    pub(super) detail: &'static str,
}

/// Reads the output of `ip addr save`, as far as it can be understood.
pub(super) fn addresses(bytes: &[u8], order: ByteOrder) -> (Vec<Address>, Option<Malformed>) {
    let mut found = Vec::new();
    let read = messages(bytes, order, ADDRESS_MAGIC, |kind, body| {
        let (NEW_ADDRESS, Some((head, attributes))) = (kind, body.split_first_chunk::<8>()) else {
            return;
        };
        let [family, prefix_len, _, _, index @ ..] = *head;
        let mut address = None;
        for (kind, value) in Attributes::new(attributes, order) {
            // With a peer, the first is the peer's.
            match kind {
                IFA_ADDRESS if address.is_none() => address = ip(family, value),
                IFA_LOCAL => address = ip(family, value).or(address),
                _ => {}
            }
        }
        found.extend(address.map(|address| Address {
            index: order.u32(index),
            address,
            prefix_len,
        }));
    });
    (found, read.err())
}

/// Reads the output of `ip route save`, as far as it can be understood.
pub(super) fn routes(bytes: &[u8], order: ByteOrder) -> (Vec<Route>, Option<Malformed>) {
    let mut found = Vec::new();
    let read = messages(bytes, order, ROUTE_MAGIC, |kind, body| {
        let (NEW_ROUTE, Some((head, attributes))) = (kind, body.split_first_chunk::<12>()) else {
            return;
        };
        let [family, prefix_len, _, _, table, ..] = *head;
        let mut route = Route {
            destination: "default".to_owned(),
            gateway: None,
            device: None,
            source: None,
            metric: None,
            table: table.into(),
        };
        for (kind, value) in Attributes::new(attributes, order) {
            let number = || value.try_into().ok().map(|bytes| order.u32(bytes));
            match kind {
                RTA_DST => {
                    if let Some(address) = ip(family, value) {
                        route.destination = format!("{address}/{prefix_len}");
                    }
                }
                RTA_OIF => route.device = number(),
                RTA_GATEWAY => route.gateway = ip(family, value),
                RTA_PRIORITY => route.metric = number(),
                RTA_PREFSRC => route.source = ip(family, value),
                RTA_TABLE => route.table = number().unwrap_or(route.table),
                _ => {}
            }
        }
        found.push(route);
    });
    (found, read.err())
}

/// Calls `take` with the type and the body of each message.
fn messages(
    bytes: &[u8],
    order: ByteOrder,
    magic: u32,
    mut take: impl FnMut(u16, &[u8]),
) -> Result<(), Malformed> {
    let at = |rest: &[u8], detail| Malformed {
        offset: bytes.len() - rest.len(),
        detail,
    };
    if bytes.is_empty() {
        return Ok(());
    }
    let mut rest = match bytes.split_first_chunk::<4>() {
        Some((word, rest)) if order.u32(*word) == magic => rest,
        _ => return Err(at(bytes, "not the output of ip save")),
    };
    while !rest.is_empty() {
        let Some((head, _)) = rest.split_first_chunk::<16>() else {
            return Err(at(rest, "truncated header of a message"));
        };
        let [a, b, c, d, kind_a, kind_b, ..] = *head;
        let len = usize::try_from(order.u32([a, b, c, d])).unwrap_or(usize::MAX);
        let Some(body) = rest.get(head.len()..len) else {
            return Err(at(rest, "length of a message that cannot be"));
        };
        take(half(order, [kind_a, kind_b]), body);
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// Walks attributes up to the first that cannot be.
struct Attributes<'a> {
    rest: &'a [u8],
    order: ByteOrder,
}

impl<'a> Attributes<'a> {
    fn new(rest: &'a [u8], order: ByteOrder) -> Self {
        Self { rest, order }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[len_a, len_b, kind_a, kind_b] = self.rest.first_chunk::<4>()?;
        let len = usize::from(half(self.order, [len_a, len_b]));
        let value = self.rest.get(4..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((half(self.order, [kind_a, kind_b]), value))
    }
}

fn half(order: ByteOrder, [a, b]: [u8; 2]) -> u16 {
    match order {
        ByteOrder::Little => u16::from_le_bytes([a, b]),
        ByteOrder::Big => u16::from_be_bytes([a, b]),
    }
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

const ADDRESS_MAGIC: u32 = 0x4736_1222;
const ROUTE_MAGIC: u32 = 0x4531_1224;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend_from_slice(&u32::try_from(16 + body.len()).expect("short").to_le_bytes());
        message.extend_from_slice(&kind.to_le_bytes());
        message.extend_from_slice(&[0; 10]);
        message.extend_from_slice(body);
        message
    }

    fn file(magic: u32, messages: &[Vec<u8>]) -> Vec<u8> {
        [magic.to_le_bytes().to_vec(), messages.concat()].concat()
    }

    #[test]
    fn addresses_are_those_of_the_device() {
        let body = [
            2, 24, 0, 0, 7, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 9, 8, 0, 2, 0, 10, 0, 0, 5,
        ];
        let bytes = file(
            ADDRESS_MAGIC,
            &[message(NEW_ADDRESS, &body), message(3, &[])],
        );
        let (found, malformed) = addresses(&bytes, ByteOrder::Little);
        let address = Ipv4Addr::new(10, 0, 0, 5).into();
        assert_eq!(
            found,
            [Address {
                index: 7,
                address,
                prefix_len: 24
            }]
        );
        assert_eq!(malformed, None);
    }

    #[test]
    fn routes_lead_to_a_network_or_anywhere() {
        let default = [
            2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 5, 0, 10, 0, 0, 1, 8, 0, 4, 0, 2, 0, 0, 0,
        ];
        let network = [
            2, 8, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 0,
        ];
        let bytes = file(
            ROUTE_MAGIC,
            &[message(NEW_ROUTE, &default), message(NEW_ROUTE, &network)],
        );
        let (found, malformed) = routes(&bytes, ByteOrder::Little);
        assert_eq!(malformed, None);
        assert_eq!(found[0].destination, "default");
        assert_eq!(found[0].gateway, Some(Ipv4Addr::new(10, 0, 0, 1).into()));
        assert_eq!((found[0].device, found[0].table), (Some(2), 254));
        assert_eq!(found[1].destination, "10.0.0.0/8");
    }

    #[test]
    fn hostile_lengths_end_the_reading() {
        for len in [0u32, 15, 17, u32::MAX] {
            let bytes = [
                ADDRESS_MAGIC.to_le_bytes().to_vec(),
                len.to_le_bytes().to_vec(),
                vec![0; 12],
            ]
            .concat();
            let (found, malformed) = addresses(&bytes, ByteOrder::Little);
            assert!(found.is_empty());
            assert_eq!(
                malformed.map(|malformed| malformed.offset),
                Some(4),
                "{len}"
            );
        }
        assert!(addresses(b"abcdefgh", ByteOrder::Little).1.is_some());
        let mut broken = message(NEW_ADDRESS, &[2, 24, 0, 0, 7, 0, 0, 0, 1, 0, 1, 0]);
        assert!(
            addresses(&file(ADDRESS_MAGIC, &[broken.clone()]), ByteOrder::Little)
                .0
                .is_empty()
        );
        broken.truncate(10);
        assert!(
            addresses(&file(ADDRESS_MAGIC, &[broken]), ByteOrder::Little)
                .1
                .is_some()
        );
    }
}
