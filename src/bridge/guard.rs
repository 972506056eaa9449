//! Who may speak to the bridge: bearer tokens from a file.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// The shortest token that is worth the name.
const TOKEN_BYTES_MIN: usize = 16;

/// The tokens of a file.
#[derive(Clone)]
pub struct Tokens {
    tokens: Arc<[String]>,
}

impl Tokens {
    /// Reads a file of tokens, one a line; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines =
            text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut tokens = Vec::new();
        for (number, line) in lines {
            if line.len() < TOKEN_BYTES_MIN || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                let line = number + 1;
                return Err(format!(
                    "line {line} is no token: write {TOKEN_BYTES_MIN} or more visible ASCII characters, for instance those of \
                     `openssl rand -hex 24`"
                ));
            }
            tokens.push(line.to_owned());
        }
        if tokens.is_empty() {
            return Err("there is no token in it: write one a line".into());
        }
        Ok(Tokens { tokens: tokens.into() })
    }

    /// Whether it is one of them. Takes as long for a token that is nearly right as for any other of its length.
    fn holds(&self, token: &str) -> bool {
        self.tokens.iter().fold(false, |found, known| found | bool::from(known.as_bytes().ct_eq(token.as_bytes())))
    }
}

/// Lets a request through that has a token.
pub(super) async fn check(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let detail = match token {
        Some((_, token)) if tokens.holds(token.trim()) => return next.run(request).await,
        Some(_) => "the token is none of those in the bridge's --token-file",
        None => "this bridge wants a token: send the header `Authorization: Bearer TOKEN`",
    };
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "No token, or a wrong one", detail)
        .at("Authorization")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens_is_read_with_its_comments() {
        let tokens = Tokens::parse("# who\n0123456789abcdef\n\n  fedcba9876543210  \n").unwrap();
        assert!(tokens.holds("0123456789abcdef") && tokens.holds("fedcba9876543210"));
        assert!(!tokens.holds("0123456789abcdeg") && !tokens.holds("") && !tokens.holds("# who"));
        for (wrong, why) in
            [("", "no token"), ("# only\n", "no token"), ("short", "line 1"), ("a\n0123 456789abcdef", "line 1")]
        {
            assert!(Tokens::parse(wrong).err().unwrap().contains(why), "{wrong:?}");
        }
    }
}
