//! Who a worker says it is, in its heartbeats and on its outcomes.

use crate::task::{WorkerRef, ambient};
use crate::transport::names;

/// The longest text of an identity, in bytes; all of them travel in one heartbeat.
const TEXT_MAX: usize = 64;

/// What a worker that computes for somebody else says of that somebody; without one it speaks for its own process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Id and host name, as outcomes carry them.
    pub(super) worker: WorkerRef,
    pub(super) address: String,
    pub(super) pid: u32,
    pub(super) cores: u32,
    pub(super) version: String,
}

/// An [`Identity`] as somebody outside states it. Nothing of it is taken at its word but that it names them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Claim {
    /// A name of its own choice.
    pub name: String,
    /// Host name.
    pub host: String,
    /// The address it comes from.
    pub address: String,
    /// Process id; 0 if it has none to tell.
    pub pid: u32,
    /// Cores of its machine.
    pub cores: u32,
    /// Version of its program.
    pub version: String,
}

impl Identity {
    /// Makes a claim fit to be shown and sent: no text above 64 bytes and none that a terminal would obey, and the id
    /// `<name>-<8 hexadecimal digits>`, of characters that are legal in a queue's name. It is new with each call: a broker
    /// may still have the queues of the last one.
    pub fn outside(claim: &Claim) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let name: String = claim.name.chars().filter(plain).take(TEXT_MAX).collect();
        let name = if name.is_empty() { "worker" } else { &name };
        let shown = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let text = |text: &str| text.chars().filter(shown).take(TEXT_MAX).collect();
        let host = claim.host.chars().filter(plain).take(TEXT_MAX).collect();
        Identity {
            worker: WorkerRef { id: format!("{name}-{:08x}", ambient::random::<u32>()), host },
            address: text(&claim.address),
            pid: claim.pid,
            cores: claim.cores,
            version: text(&claim.version),
        }
    }

    /// This process, which reaches the broker from `address`.
    pub(super) fn own(address: String) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Identity {
            worker: WorkerRef { id: names::process_id(), host: names::host() },
            address,
            pid: std::process::id(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The id, as in the directory and on outcomes.
    pub fn id(&self) -> &str {
        &self.worker.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_outside_worker_claims_is_made_legal_and_short() {
        let long = "x".repeat(1000);
        let claim = Claim {
            name: "gpu \u{1b}[31m#7/*é".into(),
            host: long.clone(),
            address: "[::1]:80\n".into(),
            pid: 7,
            cores: 8,
            version: long,
        };
        let identity = Identity::outside(&claim);
        let (name, digits) = identity.id().rsplit_once('-').unwrap();
        assert_eq!((name, digits.len()), ("gpu31m7", 8));
        assert!(digits.bytes().all(|c| c.is_ascii_hexdigit()));
        assert_eq!((identity.worker.host.len(), identity.version.len(), &*identity.address), (64, 64, "[::1]:80"));
        assert!(Identity::outside(&Claim::default()).id().starts_with("worker-"));
    }
}
