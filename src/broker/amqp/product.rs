//! What the broker calls itself: read from its greeting, which lapin keeps to itself.

use std::time::Duration;

use lapin::protocol::{self, AMQPClass, connection};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nobody waits longer for a name.
const PATIENCE: Duration = Duration::from_secs(2);
/// RabbitMQ's greeting has some 500 bytes.
const GREETING_MAX_BYTES: u32 = 16 << 10;

/// Product and version, as in `RabbitMQ 3.10.8`; `None` if it does not say, or speaks TLS.
pub(super) async fn of(uri: &AMQPUri) -> Option<String> {
    if uri.scheme == AMQPScheme::AMQPS {
        return None;
    }
    let greeting = tokio::time::timeout(PATIENCE, greeting(uri)).await.ok()?.ok()?;
    name(&greeting)
}

/// The payload of the first frame that a broker sends.
async fn greeting(uri: &AMQPUri) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    socket.write_all(b"AMQP\x00\x00\x09\x01").await?;
    // Type and channel, then the length.
    let mut head = [0; 7];
    socket.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut payload = Vec::new();
    socket.take(u64::from(length.min(GREETING_MAX_BYTES))).read_to_end(&mut payload).await?;
    Ok(payload)
}

/// Bytes from outside.
fn name(greeting: &[u8]) -> Option<String> {
    let Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) = protocol::parse_class(greeting) else {
        return None;
    };
    let product = text(&start.server_properties, "product")?;
    Some(match text(&start.server_properties, "version") {
        Some(version) => format!("{product} {version}"),
        None => product,
    })
}

fn text(table: &FieldTable, key: &str) -> Option<String> {
    let text = match table.inner().get(key)? {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::ShortString(text) => text.to_string(),
        _ => return None,
    };
    // It is shown on terminals.
    Some(text.chars().filter(|c| !c.is_control()).take(100).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_greeting_is_no_name_and_not_a_panic(tail: Vec<u8>) {
            name(&tail);
            prop_assert_eq!(name(&[&[0, 10, 0, 10, 0, 9], tail.as_slice()].concat()), None);
        }
    }
}
