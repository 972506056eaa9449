//! As little of an HTTP/1.1 client as the bench needs, so that what it costs is small and known: a body is written as it
//! lies there, an answer is read by its Content-Length.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub struct Client(TcpStream);

/// A request but for its path.
#[derive(Clone)]
pub struct Body {
    /// Lines of the head.
    pub headers: String,
    /// In pieces.
    pub pieces: Vec<Bytes>,
}

impl Body {
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// An answer.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(400)]).into_owned()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client(stream))
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask("GET", path, &Body { headers: String::new(), pieces: Vec::new() }).await
    }

    pub async fn post(&mut self, path: &str, body: &Body) -> io::Result<Answer> {
        self.ask("POST", path, body).await
    }

    async fn ask(&mut self, method: &str, path: &str, body: &Body) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: bridge\r\n{}", body.headers);
        if method != "GET" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.0.write_all(head.as_bytes()).await?;
        for piece in &body.pieces {
            self.0.write_all(piece).await?;
        }
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        let mut buffer = Vec::with_capacity(16 << 10);
        let end = loop {
            if self.0.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let body = buffer.split_off(end);
        let head = String::from_utf8_lossy(&buffer).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {head}")))?;
        let mut answer = Answer { status, head, body };
        let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
        answer.body.reserve_exact(length.saturating_sub(answer.body.len()));
        while answer.body.len() < length {
            if self.0.read_buf(&mut answer.body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(answer)
    }
}

/// Requests a second: `count` of them, the bodies in turn, over `connections` that are open before.
pub async fn rate(address: SocketAddr, connections: usize, bodies: &[Body], count: u64) -> Result<f64, String> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(address).await.map_err(|error| error.to_string())?);
    }
    let next = std::sync::Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let running = clients.into_iter().map(|mut client| {
        let (next, bodies) = (next.clone(), bodies.to_vec());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok(());
                }
                let body = &bodies[number as usize % bodies.len()];
                let answer = client.post("/v1/solve?wait=600", body).await.map_err(|error| error.to_string())?;
                if answer.status != 200 {
                    return Err(format!("status {}: {}", answer.status, answer.text()));
                }
            }
        })
    });
    for running in running.collect::<Vec<_>>() {
        running.await.expect("no panic")?;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}
