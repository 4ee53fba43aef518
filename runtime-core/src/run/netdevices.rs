//! `linux.netDevices`: devices of the host that become the container's.
//!
//! See rtnetlink(7) and network_namespaces(7). A device keeps its hardware address, MTU and
//! the like when it moves; its addresses it loses, so the permanent ones of global scope are
//! given to it again (RFC 3549, 2.3.3.2). It is not taken back from a container that ends:
//! the kernel returns what is hardware, and the specification forbids more. Only from a
//! creation that fails.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::netlink::{Link, Refusal, Request, attribute, number};
use crate::sys::{file, netlink};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_CREATE: u16 = 0x400;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NEW_IFINDEX: u16 = 49;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_F_PERMANENT: u32 = 0x80;
/// What somebody has asked for and not the kernel found out: nodad, home address, managed
/// temporary addresses, no prefix route, automatic join.
const IFA_F_ASKED: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Bytes of struct ifinfomsg and of struct ifaddrmsg.
const LINK_PART: usize = 16;
const ADDRESS_PART: usize = 8;

/// The two namespaces between which devices move, and those that have.
#[derive(Debug)]
pub(crate) struct NetDevices {
    host: Side,
    container: Side,
    moved: Vec<Moved>,
}

#[derive(Debug)]
struct Side {
    link: Link,
    namespace: OwnedFd,
}

/// How a device was on the host.
#[derive(Debug)]
struct Moved {
    name: String,
    up: bool,
    /// Its number in the container.
    index: u32,
    addresses: Vec<Address>,
}

/// An address as it can be given again: the fixed part without the device's number, and the
/// attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl NetDevices {
    /// Between the calling thread's network namespace and this one.
    pub(crate) fn new(container: OwnedFd) -> Result<NetDevices, Errno> {
        let own = Path::new("/proc/thread-self/ns/net");
        Ok(NetDevices {
            host: Side {
                link: Link(netlink::socket()?),
                namespace: file::open_at(rustix::fs::CWD, own, OFlags::RDONLY)?,
            },
            container: Side {
                link: Link(netlink::socket_in(container.as_fd())?),
                namespace: container,
            },
            moved: Vec::new(),
        })
    }

    /// Moves a device into the container and sets it up.
    pub(crate) fn take(&mut self, name: &str, new_name: &str) -> Result<(), Refusal> {
        let (index, up) = self.host.find(name)?;
        let addresses = self.host.addresses(index)?;
        let (index, sent) = self.host.send(index, new_name, &self.container);
        // A device moves, and only then it is found that its new name is taken.
        if sent.is_ok() || self.host.find(name).is_err() {
            self.moved.push(Moved {
                name: name.to_owned(),
                up,
                index,
                addresses: addresses.clone(),
            });
        }
        sent?;
        self.container.give(index, &addresses)?;
        self.container.set_up(index)
    }

    /// Gives all back that have moved, as far as that is possible.
    pub(crate) fn give_back(mut self) {
        while let Some(device) = self.moved.pop() {
            if let Err(refusal) = self.give_one_back(&device) {
                log::warn!("network device {}: not returned: {refusal}", device.name);
            }
        }
    }

    fn give_one_back(&self, device: &Moved) -> Result<(), Refusal> {
        let (index, sent) = self.container.send(device.index, &device.name, &self.host);
        sent?;
        self.host.give(index, &device.addresses)?;
        if device.up {
            self.host.set_up(index)?;
        }
        Ok(())
    }
}

impl Side {
    /// A device's number, and whether it is up.
    fn find(&self, name: &str) -> Result<(u32, bool), Refusal> {
        let request = Request::new(RTM_GETLINK, 0, &[0; LINK_PART]);
        let answers = self.link.ask(request.with(IFLA_IFNAME, &text(name)))?;
        // struct ifinfomsg: family, type, and at 4 the number, at 8 the flags.
        let answer = answers.first().ok_or(Errno::NODEV)?;
        let field = |at| number(answer, at).ok_or(Errno::PROTO);
        Ok((field(4)?, field(8)? & IFF_UP != 0))
    }

    /// The addresses that a device is to keep.
    fn addresses(&self, index: u32) -> Result<Vec<Address>, Refusal> {
        let answers = self
            .link
            .ask(Request::list(RTM_GETADDR, &[0; ADDRESS_PART]))?;
        let of_device = answers
            .iter()
            .filter(|answer| number(answer, 4) == Some(index));
        Ok(of_device
            .filter_map(|answer| Address::lasting(answer))
            .collect())
    }

    /// Moves a device to the other side; the number that it has there if it is there.
    ///
    /// The kernel keeps the number if it can, and does not tell it. So it is asked for, and
    /// another one if it is taken.
    fn send(&self, index: u32, name: &str, to: &Side) -> (u32, Result<(), Refusal>) {
        const ATTEMPTS: u32 = 64;
        let namespace = to.namespace.as_raw_fd();
        let mut result = Ok(());
        for wanted in index..index.saturating_add(ATTEMPTS) {
            let request = Request::new(RTM_NEWLINK, 0, &link_part(index, 0))
                .with(IFLA_NET_NS_FD, &namespace.to_ne_bytes())
                .with(IFLA_NEW_IFINDEX, &wanted.to_ne_bytes())
                .with(IFLA_IFNAME, &text(name));
            result = self.link.ask(request).map(drop);
            if !matches!(&result, Err(refusal) if refusal.errno == Errno::BUSY) {
                return (wanted, result);
            }
        }
        (index, result)
    }

    fn give(&self, index: u32, addresses: &[Address]) -> Result<(), Refusal> {
        for address in addresses {
            self.link.ask(address.request(index))?;
        }
        Ok(())
    }

    fn set_up(&self, index: u32) -> Result<(), Refusal> {
        let request = Request::new(RTM_NEWLINK, 0, &link_part(index, IFF_UP));
        self.link.ask(request).map(drop)
    }
}

impl Address {
    /// From struct ifaddrmsg (family, prefix, flags, scope, number) and what follows it; none
    /// if the address is not permanent and of global scope.
    fn lasting(answer: &[u8]) -> Option<Address> {
        let [family, prefix, flags, scope] = number(answer, 0)?.to_ne_bytes();
        let attributes = answer.get(ADDRESS_PART..)?;
        // All flags are in the attribute; the field has room for eight.
        let wide = attribute(attributes, IFA_FLAGS).and_then(|value| number(value, 0));
        let flags = wide.unwrap_or(u32::from(flags));
        if flags & IFA_F_PERMANENT == 0 || scope != RT_SCOPE_UNIVERSE {
            return None;
        }
        let kept = [IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST, IFA_RT_PRIORITY];
        let kept = kept.iter().filter_map(|kind| {
            let value = attribute(attributes, *kind)?;
            Some((*kind, value.to_vec()))
        });
        Some(Address {
            family,
            prefix,
            flags: flags & IFA_F_ASKED,
            attributes: kept.collect(),
        })
    }

    fn request(&self, index: u32) -> Request {
        let mut fixed = vec![self.family, self.prefix, 0, RT_SCOPE_UNIVERSE];
        fixed.extend(index.to_ne_bytes());
        let request = Request::new(RTM_NEWADDR, NLM_F_CREATE, &fixed);
        let request = request.with(IFA_FLAGS, &self.flags.to_ne_bytes());
        let attributes = self.attributes.iter();
        attributes.fold(request, |request, (kind, value)| request.with(*kind, value))
    }
}

/// struct ifinfomsg that sets these flags and leaves all others.
fn link_part(index: u32, flags: u32) -> [u8; LINK_PART] {
    let words = [0, index, flags, flags];
    let mut bytes = [0; LINK_PART];
    for (cell, byte) in bytes
        .iter_mut()
        .zip(words.iter().flat_map(|w: &u32| w.to_ne_bytes()))
    {
        *cell = byte;
    }
    bytes
}

/// With a NUL behind it.
fn text(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel tells of 10.0.0.2/24 with a broadcast address.
    fn answer(flags: u8, wide: u32, scope: u8) -> Vec<u8> {
        let mut bytes = vec![2, 24, flags, scope, 9, 0, 0, 0];
        for (kind, value) in [
            (IFA_ADDRESS, [10, 0, 0, 2]),
            (IFA_LOCAL, [10, 0, 0, 2]),
            (IFA_BROADCAST, [10, 0, 0, 255]),
            // The label, which names the device.
            (3, *b"eth\0"),
            (IFA_FLAGS, wide.to_ne_bytes()),
        ] {
            bytes.extend(8u16.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn a_permanent_address_of_global_scope_is_kept_without_its_label() {
        let address = Address::lasting(&answer(0x80, 0x280, 0)).unwrap();
        assert_eq!(
            (address.family, address.prefix, address.flags),
            (2, 24, 0x200)
        );
        let kinds: Vec<u16> = address.attributes.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST]);
    }

    #[test]
    fn what_is_not_permanent_or_of_this_machine_only_is_left_behind() {
        assert_eq!(Address::lasting(&answer(0, 0, 0)), None);
        // The field says permanent, the attribute knows better.
        assert_eq!(Address::lasting(&answer(0x80, 0x200, 0)), None);
        const RT_SCOPE_LINK: u8 = 253;
        assert_eq!(Address::lasting(&answer(0x80, 0x80, RT_SCOPE_LINK)), None);
        assert_eq!(Address::lasting(&[2, 24]), None);
    }

    #[test]
    fn a_link_is_named_by_its_number_and_only_given_flags_change() {
        assert_eq!(
            link_part(0x0102, 1),
            [0, 0, 0, 0, 2, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
        );
    }
}
