//! The outcome of a task as a response, in the form that the client accepts.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::budget::Reservation;
use super::problem::Problem;

/// The forms that answers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accept {
    Json,
    Npy,
    Raw,
}

impl Accept {
    const ALL: [Accept; 3] = [Accept::Json, Accept::Npy, Accept::Raw];

    fn media_type(self) -> &'static str {
        match self {
            Accept::Json => "application/json",
            Accept::Npy => "application/x-npy",
            Accept::Raw => "application/octet-stream",
        }
    }

    /// The form that the client likes best; JSON if it says nothing, or likes all the same.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<&str> =
            ranges.flat_map(|value| value.split(',')).map(str::trim).filter(|r| !r.is_empty()).collect();
        if ranges.is_empty() {
            return Ok(Accept::Json);
        }
        let liked = Self::ALL
            .into_iter()
            .map(|form| (form, ranges.iter().fold((0, 0), |best, range| best.max(fit(range, form)))));
        // Of equals the first.
        let best = liked.rev().max_by_key(|(_, (_, quality))| *quality);
        match best {
            Some((form, (_, quality))) if quality > 0 => Ok(form),
            _ => {
                let detail = format!(
                    "answers are application/json, application/x-npy or application/octet-stream, not {:?}",
                    ranges.join(", ")
                );
                Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "No such form of answer", detail)
                    .at("Accept"))
            }
        }
    }
}

/// How exactly a media range names a form, and how well it is liked, in thousandths. The most exact one counts.
fn fit(range: &str, form: Accept) -> (u8, u16) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let exactness = match name.as_str() {
        "*/*" => 1,
        "application/*" => 2,
        name if name == form.media_type() => 3,
        _ => return (0, 0),
    };
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0));
    (exactness, (quality.clamp(0.0, 1.0) * 1000.0) as u16)
}

/// As [`bytes`], in a form that the client accepts.
pub(super) fn binary(
    accept: Accept,
    pieces: Vec<Bytes>,
    said: Vec<(&'static str, String)>,
    reservation: Arc<Reservation>,
) -> Response {
    bytes(accept.media_type(), pieces, said, reservation)
}

/// A response with a binary body and what is said beside it. It has its memory until it is sent.
pub(super) fn bytes(
    media_type: &'static str,
    pieces: Vec<Bytes>,
    said: Vec<(&'static str, String)>,
    reservation: Arc<Reservation>,
) -> Response {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let pieces = pieces.into_iter().map(move |piece| {
        let _ = &reservation;
        Ok::<_, std::io::Error>(piece)
    });
    let mut response = Body::from_stream(futures_util::stream::iter(pieces)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_LENGTH, length.into());
    for (name, value) in said {
        // Ours, or checked ids.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// A response with this JSON text.
pub(super) fn json_text(status: StatusCode, text: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, Accept::Json.media_type())], text).into_response()
}

/// A JSON object of these members, each a JSON text.
pub(super) fn object(members: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Vec<u8> {
    let mut text = vec![b'{'];
    for (name, value) in members {
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(format!("\"{name}\":").as_bytes());
        if text.len() < 64 {
            // The first is the long one, as a rule: no copy of it.
            text.reserve_exact(value.len() + 1024);
        }
        text.extend_from_slice(&value);
    }
    text.push(b'}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_liked_best() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(text).unwrap());
            Accept::of(&headers).map_err(|problem| problem.status())
        };
        for (text, expected) in [
            ("*/*", Accept::Json),
            ("application/*", Accept::Json),
            ("", Accept::Json),
            ("application/x-npy", Accept::Npy),
            ("Application/X-NPY;q=0.5, text/html", Accept::Npy),
            ("application/octet-stream, */*;q=0.1", Accept::Raw),
            ("application/json;q=0.5, application/x-npy;q=0.7", Accept::Npy),
            ("application/json;q=0, */*", Accept::Npy),
        ] {
            assert_eq!(of(text), Ok(expected), "{text}");
        }
        for text in ["text/html", "application/json;q=0", "nonsense", "application/json;q=x"] {
            assert_eq!(of(text), Err(StatusCode::NOT_ACCEPTABLE), "{text}");
        }
    }
}
