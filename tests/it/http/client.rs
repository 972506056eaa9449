//! An HTTP client as small as can be: it sends what it is told, and shows all that comes back.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pool::soon;

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        let method = method.parse().expect("a method");
        Ask { method, target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    pub fn post(target: impl Into<String>, content_type: &str, body: impl Into<Bytes>) -> Self {
        Ask { body: body.into(), ..Self::new("POST", target) }.with(CONTENT_TYPE.as_str(), content_type)
    }

    pub fn json(target: impl Into<String>, body: &Value) -> Self {
        Self::post(target, "application/json", body.to_string())
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a value"));
        self
    }

    pub fn accept(self, form: &str) -> Self {
        self.with("accept", form)
    }

    fn request(self, host: &str, absolute: bool) -> Request<Full<Bytes>> {
        let target = if absolute { format!("http://{host}{}", self.target) } else { self.target };
        let mut request = Request::builder().method(self.method).uri(target).body(Full::new(self.body)).expect("legal");
        *request.headers_mut() = self.headers;
        if !absolute {
            request.headers_mut().insert("host", HeaderValue::from_str(host).expect("a host"));
        }
        request
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// A header's text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The JSON of a good answer with this status.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The problem document of a refusal with this status and code; checks that it is a right one.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text());
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{problem}");
        assert_eq!(problem["type"], format!("urn:rabbitry:problem:{code}"));
        for told in ["title", "detail"] {
            assert!(problem[told].as_str().is_some_and(|text| !text.is_empty()), "{told}: {problem}");
        }
        assert_eq!(status == 503, !self.header("retry-after").is_empty(), "503 says when to come again: {problem}");
        problem
    }

    /// The same, about this field.
    #[track_caller]
    pub fn problem_at(&self, status: u16, code: &str, field: &str) -> Value {
        let problem = self.problem(status, code);
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }

    /// The task that a 202 names.
    #[track_caller]
    pub fn accepted(&self) -> String {
        let view = self.is(202);
        let location = self.header("location");
        assert_eq!(location, format!("/v1/tasks/{}", view["task"].as_str().expect("an id")));
        location.to_owned()
    }
}

/// One connection.
pub enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub async fn one(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connected"), false).await
    }

    pub async fn two(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connected"), true).await
    }

    /// TLS, trusting this certificate; the version of HTTP is what both like best of `protocols`.
    pub async fn tls(address: SocketAddr, trusted: CertificateDer<'static>, protocols: &[&str]) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = soon("a handshake", connector.connect(name, stream)).await.expect("a handshake");
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Self::over(stream, two).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, two: bool) -> Self {
        let stream = TokioIo::new(stream);
        if two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
            tokio::spawn(connection);
            Connection::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.expect("HTTP/1");
            tokio::spawn(connection);
            Connection::One(sender)
        }
    }

    pub async fn ask(&mut self, ask: Ask) -> Result<Reply, hyper::Error> {
        let response = match self {
            Connection::One(sender) => {
                sender.ready().await?;
                sender.send_request(ask.request("localhost", false)).await?
            }
            Connection::Two(sender) => {
                sender.ready().await?;
                sender.send_request(ask.request("localhost", true)).await?
            }
        };
        let (head, body) = response.into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }
}

/// Sends bytes as they are and no more, then reads until the bridge has said all it will.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // The bridge may have refused and closed before all is sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    until_closed(&mut stream).await
}

/// The same, but the client would go on: who leaves gets no answer.
pub async fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let _ = stream.write_all(bytes).await;
    until_closed(&mut stream).await
}

/// All that comes until the other side closes, or breaks, the connection.
pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = soon("the end of a connection", tokio::io::AsyncReadExt::read_to_end(stream, &mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}
