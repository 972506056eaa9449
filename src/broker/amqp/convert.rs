//! Messages as AMQP properties and back. The body is not touched here: it moves by itself, uncopied.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, FieldTable, LongString, ShortString};

use crate::broker::{HEAD_HEADER, Message};

/// A name that [`crate::broker::limits`] let pass: it fits. What does not would be a bug, and is cut to nothing rather
/// than panicking as lapin's own conversion does.
pub(super) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

/// The properties of a message. `id` comes back with it if nobody wants it.
pub(super) fn properties(message: &Message, id: u64) -> BasicProperties {
    let mut headers = BTreeMap::new();
    for (name, value) in &message.headers {
        headers.insert(short(name), AMQPValue::LongString(LongString::from(value.as_bytes())));
    }
    if !message.head.is_empty() {
        headers.insert(short(HEAD_HEADER), AMQPValue::ByteArray(ByteArray::from(&message.head[..])));
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(if message.persistent { 2 } else { 1 })
        .with_priority(message.priority)
        .with_message_id(short(&id.to_string()));
    if !headers.is_empty() {
        properties = properties.with_headers(FieldTable::from(headers));
    }
    if let Some(content_type) = &message.content_type {
        properties = properties.with_content_type(short(content_type));
    }
    if let Some(reply_to) = &message.reply_to {
        properties = properties.with_reply_to(short(reply_to));
    }
    if let Some(correlation_id) = &message.correlation_id {
        properties = properties.with_correlation_id(short(correlation_id));
    }
    properties
}

/// A message as it came. Headers that are no text (`x-death` and the like) are left out.
pub(super) fn message(properties: &BasicProperties, data: Vec<u8>) -> Message {
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let mut message = Message {
        body: if data.is_empty() { Vec::new() } else { vec![Bytes::from(data)] },
        content_type: text(properties.content_type()),
        reply_to: text(properties.reply_to()),
        correlation_id: text(properties.correlation_id()),
        priority: properties.priority().unwrap_or(0),
        persistent: *properties.delivery_mode() == Some(2),
        ..Message::default()
    };
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        match value {
            AMQPValue::ByteArray(head) if name.as_str() == HEAD_HEADER => {
                message.head = Bytes::copy_from_slice(head.as_slice());
            }
            AMQPValue::LongString(head) if name.as_str() == HEAD_HEADER => {
                message.head = Bytes::copy_from_slice(head.as_bytes());
            }
            AMQPValue::LongString(value) => {
                if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
                    message.headers.push((name.as_str().to_owned(), value.to_owned()));
                }
            }
            _ => {}
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_its_properties() {
        let sent = Message {
            head: Bytes::from_static(&[0, 255, 7]),
            body: vec![Bytes::from_static(b"body")],
            content_type: Some("application/json".into()),
            reply_to: Some("answers".into()),
            correlation_id: Some("17".into()),
            priority: 5,
            persistent: true,
            headers: vec![("reason".into(), "ünfit".into())],
        };
        assert_eq!(message(&properties(&sent, 1), b"body".to_vec()), sent);
        assert_eq!(message(&properties(&Message::default(), 1), Vec::new()), Message::default());
    }

    #[test]
    fn a_text_head_is_a_head_and_tables_are_left_out() {
        let mut headers = BTreeMap::new();
        headers.insert(short(HEAD_HEADER), AMQPValue::LongString(LongString::from(&b"text"[..])));
        headers.insert(short("x-death"), AMQPValue::FieldTable(FieldTable::default()));
        headers.insert(short("broken"), AMQPValue::LongString(LongString::from(&[0xff_u8][..])));
        let properties = BasicProperties::default().with_headers(FieldTable::from(headers));
        let got = message(&properties, Vec::new());
        assert_eq!((&got.head[..], got.headers.len()), (&b"text"[..], 0));
    }
}
