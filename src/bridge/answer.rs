//! The outcome of a task as a response, in the form that the client accepts.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

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

/// A response with a binary body and what is said beside it.
pub(super) fn binary(accept: Accept, pieces: Vec<Bytes>, said: Vec<(&'static str, String)>) -> Response {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(accept.media_type()));
    headers.insert(header::CONTENT_LENGTH, length.into());
    for (name, value) in said {
        // Ours, or checked ids.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// A response with a JSON object of these members.
pub(super) fn json(status: StatusCode, members: Vec<(&str, Vec<u8>)>) -> Response {
    let mut text =
        Vec::with_capacity(members.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + 2);
    text.push(b'{');
    for (at, (name, value)) in members.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(format!("\"{name}\":").as_bytes());
        text.extend_from_slice(&value);
    }
    text.push(b'}');
    (status, [(header::CONTENT_TYPE, Accept::Json.media_type())], text).into_response()
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
