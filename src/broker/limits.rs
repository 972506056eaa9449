//! What AMQP 0-9-1 can carry, checked before anything is sent, the same way for both brokers: so that what works
//! embedded works over RabbitMQ. Must not touch: any broker.

use super::{Error, Message, Queue, Route};

/// Names, routing keys and the short properties are "short strings", with one byte of length.
const SHORT_STRING_BYTES: usize = 255;
/// The longest [`Message::head`].
const HEAD_BYTES: usize = 64 * 1024;
/// Properties and headers travel in one frame of at most 128 KiB, head included.
const HEADER_BYTES: usize = 120 * 1024;

/// Refuses a message that does not fit the protocol.
pub(super) fn check_message(route: &Route, message: &Message) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::Operation { operation: publish_to(route), reason });
    let short = [
        ("exchange", Some(&route.exchange)),
        ("routing key", Some(&route.key)),
        ("content type", message.content_type.as_ref()),
        ("reply-to", message.reply_to.as_ref()),
        ("correlation id", message.correlation_id.as_ref()),
    ];
    let names = message.headers.iter().map(|(name, _)| ("header name", Some(name)));
    for (what, text) in short.into_iter().chain(names) {
        let bytes = text.map_or(0, String::len);
        if bytes > SHORT_STRING_BYTES {
            return refuse(format!("the {what} has {bytes} bytes, and AMQP takes {SHORT_STRING_BYTES}"));
        }
    }
    if message.head.len() > HEAD_BYTES {
        return refuse(format!("the head has {} bytes, more than {HEAD_BYTES}", message.head.len()));
    }
    // A table entry has a byte each for the name's length and the type, and four for the value's length.
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    if message.head.len() + headers > HEADER_BYTES {
        return refuse(format!(
            "head and headers have {} bytes, more than {HEADER_BYTES}",
            message.head.len() + headers
        ));
    }
    Ok(())
}

/// Refuses a queue that no broker would declare.
pub(super) fn check_queue(queue: &Queue) -> Result<(), Error> {
    let refuse = |reason: &str| {
        Err(Error::Operation { operation: format!("declare queue {:?}", queue.name), reason: reason.to_owned() })
    };
    if queue.name.is_empty() || queue.name.len() > SHORT_STRING_BYTES {
        return refuse("a queue name has 1 to 255 bytes");
    }
    if queue.dead_letter.iter().any(|to| to.exchange.len().max(to.key.len()) > SHORT_STRING_BYTES) {
        return refuse("its dead letters go to a name of more than 255 bytes");
    }
    if queue.quorum && (queue.exclusive || queue.max_priority.is_some()) {
        return refuse("a quorum queue can be neither exclusive nor have priorities; declare a classic one");
    }
    Ok(())
}

/// Refuses a name that does not fit into a short string.
pub(super) fn check_name(operation: &str, name: &str) -> Result<(), Error> {
    if name.len() <= SHORT_STRING_BYTES {
        return Ok(());
    }
    Err(Error::Operation { operation: operation.to_owned(), reason: format!("a name of {} bytes", name.len()) })
}

/// The operation of publishing, for messages.
pub(super) fn publish_to(route: &Route) -> String {
    if route.exchange.is_empty() {
        format!("publish to queue {:?}", route.key)
    } else {
        format!("publish to exchange {:?} with key {:?}", route.exchange, route.key)
    }
}
