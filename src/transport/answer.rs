//! The worker's half of answering: outcomes in as few messages as they fit, large ones in parts before their head.

use std::collections::VecDeque;

use bytes::Bytes;

use super::assembly::Cut;
use super::{HEADS_MAX_BYTES, in_process, part_bytes};
use crate::broker::{Confirm, Connection, Error, Message, Published, Route};
use crate::task::{Format, TaskError};
use crate::wire::{self, OutcomeHead, Part};

/// Parts of one answer that the broker has not confirmed, at most.
const UNCONFIRMED_PARTS: usize = 8;

/// Where the answers go, and how.
#[derive(Clone, Debug)]
pub struct Return {
    /// The boss's results queue.
    pub reply_to: String,
    /// Given back as it came, for clients that match answers by it.
    pub correlation_id: Option<String>,
    /// As the task was.
    pub persistent: bool,
}

/// Sends outcomes and waits until the broker has them all. [`Published::Unroutable`]: nobody reads them any more.
///
/// # Errors
/// The broker's; some may have been sent, which the boss's rule of the first outcome makes harmless.
pub async fn send(
    connection: &dyn Connection,
    to: &Return,
    outcomes: Vec<(OutcomeHead, Vec<Bytes>)>,
) -> Result<Published, Error> {
    let route = Route::queue(&to.reply_to);
    let mut confirms = Vec::new();
    let mut packet = Packet::default();
    for (mut head, mut payload) in outcomes {
        if let (Format::Json, Some(error)) = (head.format, &head.error) {
            payload = vec![error_json(error)];
        }
        head.payload_bytes = payload.iter().map(|piece| piece.len() as u64).sum();
        if head.payload_bytes > connection.inline_max_bytes() as u64 {
            head.in_parts = true;
            if send_parts(connection, &route, &head, &payload).await? == Published::Unroutable {
                return Ok(Published::Unroutable);
            }
            payload.clear();
        } else if !in_process(connection) {
            head.checksum = Some(wire::checksum(&payload));
        }
        let bytes = wire::encode(&head);
        if !packet.has_room(bytes.len(), &payload, connection.inline_max_bytes()) {
            confirms.push(connection.publish(&route, std::mem::take(&mut packet).seal(to)).await?);
        }
        packet.push(&bytes, payload, head.format);
    }
    if !packet.heads.is_empty() {
        confirms.push(connection.publish(&route, packet.seal(to)).await?);
    }
    let mut all = Published::Routed;
    for confirm in confirms {
        if confirm.0.await? == Published::Unroutable {
            all = Published::Unroutable;
        }
    }
    Ok(all)
}

/// Outcomes that go as one message.
#[derive(Default)]
struct Packet {
    heads: Vec<u8>,
    body: Vec<Bytes>,
    body_bytes: usize,
    format: Format,
}

impl Packet {
    fn has_room(&self, head: usize, payload: &[Bytes], inline_max: usize) -> bool {
        let bytes: usize = payload.iter().map(Bytes::len).sum();
        self.heads.is_empty()
            || (self.heads.len() + head <= HEADS_MAX_BYTES && self.body_bytes.saturating_add(bytes) <= inline_max)
    }

    fn push(&mut self, head: &[u8], payload: Vec<Bytes>, format: Format) {
        self.heads.extend_from_slice(head);
        self.body_bytes += payload.iter().map(Bytes::len).sum::<usize>();
        self.body.extend(payload);
        self.format = format;
    }

    fn seal(self, to: &Return) -> Message {
        Message {
            head: self.heads.into(),
            body: self.body,
            content_type: Some(self.format.content_type().into()),
            correlation_id: to.correlation_id.clone(),
            persistent: to.persistent,
            ..Message::default()
        }
    }
}

/// Sends a payload in parts, at most [`UNCONFIRMED_PARTS`] ahead of the broker.
async fn send_parts(
    connection: &dyn Connection,
    route: &Route,
    head: &OutcomeHead,
    payload: &[Bytes],
) -> Result<Published, Error> {
    let part_bytes = part_bytes(connection);
    // Only zero or absurd lengths are refused, and this one is above `inline_max_bytes` and in memory.
    let Ok(cut) = Cut::new(head.payload_bytes, part_bytes) else { return Ok(Published::Unroutable) };
    let mut unconfirmed: VecDeque<Confirm> = VecDeque::new();
    for index in 0..cut.count() {
        if unconfirmed.len() == UNCONFIRMED_PARTS
            && let Some(oldest) = unconfirmed.pop_front()
            && oldest.0.await? == Published::Unroutable
        {
            return Ok(Published::Unroutable);
        }
        let body = super::outgoing::slice(payload, cut.range(index));
        let part = Part {
            id: head.id,
            run: head.run,
            index,
            part_bytes,
            total_bytes: head.payload_bytes,
            checksum: wire::checksum(&body),
        };
        let message = Message { head: wire::encode(&part).into(), body, ..Message::default() };
        unconfirmed.push_back(connection.publish(route, message).await?);
    }
    for confirm in unconfirmed {
        if confirm.0.await? == Published::Unroutable {
            return Ok(Published::Unroutable);
        }
    }
    Ok(Published::Routed)
}

/// What a JSON client reads of a failed task.
fn error_json(error: &TaskError) -> Bytes {
    let document = serde_json::json!({ "error": { "code": error.code(), "message": error.to_string() } });
    document.to_string().into()
}
