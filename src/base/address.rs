//! Addresses as ZooKeeper writes them, because ACLs and tools compare the text: IPv6 in eight groups, nothing compressed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `0:0:0:0:0:0:0:1`.
#[must_use]
pub fn ipv6_text(address: Ipv6Addr) -> String {
    address.segments().map(|s| format!("{s:x}")).join(":")
}

/// An address without a port; IPv4 in IPv6 is IPv4.
#[must_use]
pub fn ip_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => ipv6_text(v6),
    }
}

/// An address with its port, IPv6 in brackets.
#[must_use]
pub fn socket_text(address: SocketAddr) -> String {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    if ip.is_ipv6() { format!("[{}]:{port}", ip_text(ip)) } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_canonical_and_uncompressed() {
        for (address, ip, socket) in [
            ("[::ffff:10.0.0.1]:5", "10.0.0.1", "10.0.0.1:5"),
            ("127.0.0.1:2181", "127.0.0.1", "127.0.0.1:2181"),
            ("[::1]:2181", "0:0:0:0:0:0:0:1", "[0:0:0:0:0:0:0:1]:2181"),
            ("[2001:DB8::2]:1", "2001:db8:0:0:0:0:0:2", "[2001:db8:0:0:0:0:0:2]:1"),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!((ip_text(address.ip()).as_str(), socket_text(address).as_str()), (ip, socket));
        }
    }
}
