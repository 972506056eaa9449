//! Addresses: reading them, showing them without the password, and what a failed connect means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use lapin::uri::{AMQPScheme, AMQPUri};

use crate::broker::Error;

/// What [`Address::new`] sets when the address does not: seconds.
const HEARTBEAT_SECS: u16 = 10;
/// lapin reserves 64 x this per connection before the first byte, and larger frames are slower, too.
const FRAME_MAX: u32 = 131_072;
/// Heads up to 64 KiB and their headers travel in one frame; far below that nothing would work.
const FRAME_MIN: u32 = 16_384;

/// A broker's address.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    shown: String,
}

impl Address {
    /// Reads `amqp://user:password@host:port/vhost?heartbeat=..&frame_max=..`; all but the scheme may be left out.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        // The parser's reason may quote the whole of it.
        let address = without_password(url);
        let wrong = |reason: String| Error::Address { reason: reason.replace(url, &address), address: address.clone() };
        let mut uri: AMQPUri = url.parse().map_err(wrong)?;
        // The parser takes an IPv6 address for no host at all, and no host for localhost.
        if let Some(v6) = url.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
            uri.authority.host = v6.0.to_owned();
        }
        // By the letter `amqp://host/` is the vhost with the empty name. There is none; people mean the default one.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        if uri.vhost.len() > 255 {
            return Err(wrong("the vhost is longer than 255 bytes".to_owned()));
        }
        let frame_max = uri.query.frame_max.filter(|&bytes| bytes != 0).unwrap_or(FRAME_MAX);
        uri.query.frame_max = Some(frame_max.clamp(FRAME_MIN, FRAME_MAX));
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECS);
        let shown = shown(&uri);
        Ok(Address { uri, shown })
    }

    /// Without the password and the parameters.
    pub(super) fn shown(&self) -> String {
        self.shown.clone()
    }

    /// The address of this machine on the way to the broker. Connecting a UDP socket sends nothing; the system only
    /// picks the interface.
    pub(super) fn local(&self) -> Option<String> {
        let to = (self.uri.authority.host.as_str(), self.uri.authority.port);
        let connected = |to: SocketAddr| {
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(to).ok()?;
            socket.local_addr().ok()
        };
        to.to_socket_addrs().ok()?.find_map(connected).map(|local| local.ip().to_string())
    }

    /// What it means that connecting failed with this.
    pub(super) fn connect_error(&self, error: &lapin::Error) -> Error {
        let address = self.shown();
        match error.kind() {
            lapin::ErrorKind::ProtocolError(said) => {
                let reason = said.get_message().to_string();
                // A broker that is going down (320) or still coming up can be there in a moment.
                if said.get_id() == 320 || said.get_id() == 541 || reason.ends_with("is down") {
                    Error::Unreachable { address, reason }
                } else {
                    Error::Refused { address, reason }
                }
            }
            lapin::ErrorKind::IOError(io) => Error::Unreachable { address, reason: io.to_string() },
            lapin::ErrorKind::AuthProviderError(reason) => Error::Refused { address, reason: reason.clone() },
            _ => Error::Unreachable { address, reason: error.to_string() },
        }
    }
}

fn shown(uri: &AMQPUri) -> String {
    let scheme = match uri.scheme {
        AMQPScheme::AMQP => "amqp",
        AMQPScheme::AMQPS => "amqps",
    };
    let vhost = if uri.vhost == "/" { String::new() } else { format!("/{}", uri.vhost) };
    let host = &uri.authority.host;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    format!("{scheme}://{}@{host}:{}{vhost}", uri.authority.userinfo.username, uri.authority.port)
}

/// An address that may be malformed, with whatever may be its password hidden.
fn without_password(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else { return url.to_owned() };
    let start = before.find("://").map_or(0, |at| at + 3);
    match before[start..].find(':') {
        Some(colon) => format!("{}:***@{after}", &before[..start + colon]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        for url in ["amqp://me:s3cret@host:1/v", "amqp://me:s3:cr@et@host/", "http://me:s3cret@host", "me:s3cret@host"]
        {
            let shown = match Address::new(url) {
                Ok(address) => address.shown(),
                Err(error) => error.to_string(),
            };
            assert!(!shown.contains("s3") && !shown.contains("cr"), "{shown}");
            assert!(shown.contains("me"), "{shown}");
        }
    }

    #[test]
    fn what_is_left_out_gets_a_sane_value() {
        let address = Address::new("amqp://host").expect("a legal address");
        assert_eq!(address.shown(), "amqp://guest@host:5672");
        assert_eq!(address.uri.query.heartbeat, Some(10));
        assert_eq!(address.uri.query.frame_max, Some(FRAME_MAX));
        assert_eq!(Address::new("amqp://host/").expect("legal").uri.vhost, "/");
        let given = Address::new("amqp://host/v%2f?heartbeat=3&frame_max=0").expect("legal");
        assert_eq!((given.uri.vhost.as_str(), given.uri.query.heartbeat), ("v/", Some(3)));
        assert_eq!(given.uri.query.frame_max, Some(FRAME_MAX));
        assert_eq!(Address::new("amqp://h?frame_max=99999999").expect("legal").uri.query.frame_max, Some(FRAME_MAX));
        assert_eq!(Address::new("amqp://h?frame_max=1").expect("legal").uri.query.frame_max, Some(FRAME_MIN));
    }

    #[test]
    fn an_ipv6_host_is_not_taken_for_localhost() {
        assert_eq!(Address::new("amqp://[fe80::1]:5673/x").expect("legal").shown(), "amqp://guest@[fe80::1]:5673/x");
    }

    #[test]
    fn nonsense_is_an_address_error() {
        for url in ["", "localhost", "http://localhost", "amqp:localhost", "amqp://h?heartbeat=x"] {
            assert!(matches!(Address::new(url), Err(Error::Address { .. })), "{url:?}");
        }
    }
}
