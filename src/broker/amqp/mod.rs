//! RabbitMQ, through lapin. The only module that names lapin.
//!
//! A [`Connection`] here is two AMQP connections: one publishes, the other does everything else. RabbitMQ stops reading
//! from a publishing connection while it has a memory or disk alarm, and lapin stops writing to it, so acks and
//! declarations must not go through it. The death of either is the death of both.
//!
//! Must not touch: what the bytes mean. Does not reconnect, and does not let lapin do it (`enable_auto_recover` hangs
//! now and then when a broker restarts). Traps in lapin that shaped this are told where they are dodged.

mod acks;
mod address;
mod connection;
mod consumer;
mod convert;
mod product;
mod publisher;
mod topology;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::{ConnectionProperties, ErrorKind};

use self::address::Address;
use self::connection::AmqpConnection;
use super::life::Life;
use super::{Broker, Connection, Error};

/// How long the cause of an end is waited for when its echo came first.
const CAUSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest message worth sending in one piece. RabbitMQ refuses more than 16 MiB by default since 4.0, and above
/// about 8 MiB one message is slower than parts: 8 MiB and some room for what goes with them.
const INLINE_MAX: usize = 9 * 1024 * 1024;

/// Connecting takes no longer, unless the address says so (`connection_timeout`, in ms).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A RabbitMQ (or any AMQP 0-9-1 broker with its extensions: confirms, `basic.nack`, consumer cancel), of one node or several.
#[derive(Clone)]
pub struct AmqpBroker {
    /// Nodes of one cluster, at least one.
    nodes: Arc<[Address]>,
    /// The node that the last connection went to.
    last: Arc<AtomicUsize>,
}

impl AmqpBroker {
    /// Reads an address, `amqp://user:password@host:port/vhost`, or those of several nodes of a cluster with commas between
    /// them; connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(url: &str) -> Result<Self, Error> {
        let nodes: Vec<Address> = nodes(url).into_iter().map(Address::new).collect::<Result<_, _>>()?;
        Ok(AmqpBroker { nodes: nodes.into(), last: Arc::default() })
    }
}

/// The addresses in a list. A comma that no address follows belongs to the one before it, to its password, say.
fn nodes(list: &str) -> Vec<&str> {
    let (mut nodes, mut start) = (Vec::new(), 0);
    for (at, _) in list.match_indices(',') {
        let next = list[at + 1..].trim_start();
        if next.starts_with("amqp://") || next.starts_with("amqps://") {
            nodes.push(list[start..at].trim());
            start = at + 1;
        }
    }
    nodes.push(list[start..].trim());
    nodes
}

/// Both connections go to the same node: exclusive queues live there.
async fn connect(node: &Address) -> Result<Arc<dyn Connection>, Error> {
    let (publishing, consuming) = tokio::try_join!(open(node, "publishes"), open(node, "consumes"))?;
    Ok(Arc::new(AmqpConnection::start(publishing, consuming).await?))
}

async fn open(node: &Address, purpose: &str) -> Result<lapin::Connection, Error> {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_stem()).unwrap_or_default();
    let name = format!("{} pid {} ({purpose})", program.to_string_lossy(), std::process::id());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let limit = node.uri.query.connection_timeout.map_or(CONNECT_TIMEOUT, Duration::from_millis);
    match tokio::time::timeout(limit, lapin::Connection::connect_uri(node.uri.clone(), properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(node.connect_error(&error)),
        Err(_) => Err(Error::Unreachable {
            address: node.shown(),
            reason: format!("no answer for {} s", limit.as_secs_f64()),
        }),
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    /// To the node of the last connection, or to the next one that takes us.
    async fn connect(&self) -> Result<Arc<dyn Connection>, Error> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failed: Option<Error> = None;
        for offset in 0..self.nodes.len() {
            let index = (first + offset) % self.nodes.len();
            match connect(&self.nodes[index]).await {
                Ok(connection) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(connection);
                }
                // What may heal is the reason to try again, whatever the other nodes say.
                Err(error) if failed.as_ref().is_some_and(Error::is_transient) => drop(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::Lost("there is no node to connect to".into())))
    }

    fn address(&self) -> String {
        self.nodes.iter().map(Address::shown).collect::<Vec<_>>().join(",")
    }

    fn local_address(&self) -> String {
        self.nodes.iter().find_map(Address::local).unwrap_or_else(|| "unknown".to_owned())
    }

    async fn product(&self) -> Option<String> {
        for node in self.nodes.iter() {
            if let Some(product) = product::of(&node.uri).await {
                return Some(product);
            }
        }
        None
    }
}

/// Whether this error is the end of the connection, not only of a channel. The status alone does not say: lapin fails
/// what was being written a moment before it calls the connection dead.
fn is_fatal(connection: &lapin::ConnectionStatus, error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(_) => error.is_amqp_hard_error(),
        ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) | ErrorKind::ChannelsLimitReached => {
            !connection.connected()
        }
        _ => true,
    }
}

/// Ends a life after a fatal error, and says why it ended. An error that only says that a channel or a connection is dead
/// is an echo: what killed it is an event on its way.
async fn end_by(life: &Life, error: &lapin::Error) -> Error {
    let echo = matches!(
        error.kind(),
        ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_)
    );
    if echo && let Ok(cause) = tokio::time::timeout(CAUSE_TIMEOUT, life.ended()).await {
        return cause;
    }
    life.end(reason(error));
    life.ended().await
}

/// What an error says, without the layers around it.
fn reason(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        ErrorKind::IOError(io) => io.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_apart_and_a_comma_in_a_password_is_none_between_them() {
        assert_eq!(nodes("amqp://a, amqps://b,amqp://c"), ["amqp://a", "amqps://b", "amqp://c"]);
        assert_eq!(nodes("amqp://me:s,3@a,amqp://b"), ["amqp://me:s,3@a", "amqp://b"]);
        assert_eq!(
            AmqpBroker::new("amqp://a,amqp://me:s3@b:1/v").expect("legal").address(),
            "amqp://guest@a:5672,amqp://me@b:1/v"
        );
        let wrong = AmqpBroker::new("amqp://a,amqp://me:s,3cret@host:x").map(drop).expect_err("no port");
        assert!(!wrong.to_string().contains("cret"), "{wrong}");
    }
}
