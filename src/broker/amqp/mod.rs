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
use std::time::Duration;

use async_trait::async_trait;
use lapin::{ConnectionProperties, ErrorKind};

use self::address::Address;
use self::connection::AmqpConnection;
use super::{Broker, Connection, Error};

/// The longest message worth sending in one piece. RabbitMQ refuses more than 16 MiB by default since 4.0, and above
/// about 8 MiB one message is slower than parts: 8 MiB and some room for what goes with them.
const INLINE_MAX: usize = 9 * 1024 * 1024;

/// Connecting takes no longer, unless the address says so (`connection_timeout`, in ms).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A RabbitMQ (or any AMQP 0-9-1 broker with its extensions: confirms, `basic.nack`, consumer cancel).
#[derive(Clone)]
pub struct AmqpBroker {
    address: Address,
}

impl AmqpBroker {
    /// Reads an address, `amqp://user:password@host:port/vhost`; connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(AmqpBroker { address: Address::new(url)? })
    }

    async fn open(&self, purpose: &str) -> Result<lapin::Connection, Error> {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(|path| path.file_stem()).unwrap_or_default();
        let name = format!("{} pid {} ({purpose})", program.to_string_lossy(), std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let limit = self.address.uri.query.connection_timeout.map_or(CONNECT_TIMEOUT, Duration::from_millis);
        match tokio::time::timeout(limit, lapin::Connection::connect_uri(self.address.uri.clone(), properties)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(self.address.connect_error(&error)),
            Err(_) => Err(Error::Unreachable {
                address: self.address.shown(),
                reason: format!("no answer for {} s", limit.as_secs_f64()),
            }),
        }
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn connect(&self) -> Result<Arc<dyn Connection>, Error> {
        let (publishing, consuming) = tokio::try_join!(self.open("publishes"), self.open("consumes"))?;
        Ok(Arc::new(AmqpConnection::start(publishing, consuming).await?))
    }

    fn address(&self) -> String {
        self.address.shown()
    }

    fn local_address(&self) -> String {
        self.address.local().unwrap_or_else(|| "unknown".to_owned())
    }

    async fn product(&self) -> Option<String> {
        product::of(&self.address.uri).await
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

/// What an error says, without the layers around it.
fn reason(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        ErrorKind::IOError(io) => io.to_string(),
        _ => error.to_string(),
    }
}
