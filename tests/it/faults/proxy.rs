//! A stretch of network between a program and a port: it can stop carrying without closing anything, be slow, and break.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What is read before it is carried on.
const BUFFER_BYTES: usize = 256 << 10;

/// A direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From whoever connected to the port behind.
    Out,
    /// From the port behind.
    Back,
}

/// How one direction is at the moment.
#[derive(Clone, Copy, Default)]
struct Road {
    held: bool,
    delay: Duration,
}

struct Roads {
    out: watch::Sender<Road>,
    back: watch::Sender<Road>,
    carried_back: watch::Sender<u64>,
    /// Grows with each cut.
    cuts: watch::Sender<u64>,
}

impl Roads {
    fn of(&self, way: Way) -> &watch::Sender<Road> {
        match way {
            Way::Out => &self.out,
            Way::Back => &self.back,
        }
    }
}

/// Carries bytes between its own port and another one of this machine, until it is dropped.
pub struct Proxy {
    port: u16,
    roads: Arc<Roads>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy before this port.
    pub async fn before(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("its address").port();
        let roads = Arc::new(Roads {
            out: watch::Sender::default(),
            back: watch::Sender::default(),
            carried_back: watch::Sender::default(),
            cuts: watch::Sender::default(),
        });
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, port, roads.clone())));
        Proxy { port: own, roads, _accepting: accepting }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Carries nothing this way any more; nobody is told. The end of a connection is not carried either, and new ones are
    /// taken and lead nowhere.
    pub fn hold(&self, way: Way) {
        self.roads.of(way).send_modify(|road| road.held = true);
    }

    /// Nothing passes in either direction.
    pub fn hold_both(&self) {
        self.hold(Way::Out);
        self.hold(Way::Back);
    }

    /// Carries what was held, and all that follows.
    pub fn release(&self) {
        for way in [Way::Out, Way::Back] {
            self.roads.of(way).send_modify(|road| road.held = false);
        }
    }

    /// Every piece that goes this way is late by so much.
    pub fn delay(&self, way: Way, delay: Duration) {
        self.roads.of(way).send_modify(|road| road.delay = delay);
    }

    /// Breaks every connection there is. New ones are carried.
    pub fn cut(&self) {
        self.roads.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Bytes carried back so far, over all connections.
    pub fn carried_back(&self) -> watch::Receiver<u64> {
        self.roads.carried_back.subscribe()
    }
}

async fn accept(listener: TcpListener, port: u16, roads: Arc<Roads>) {
    // Dropped with the proxy, which ends them.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let roads = roads.clone();
        let mut cuts = roads.cuts.subscribe();
        connections.spawn(async move {
            tokio::select! {
                () = carry(client, port, &roads) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn carry(client: TcpStream, port: u16, roads: &Roads) {
    let _ = client.set_nodelay(true);
    // Nobody behind: the client's connection ends, as if it had been refused.
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = server.set_nodelay(true);
    let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
    // An end of one direction need not be the end of the other; an error is.
    let _ = tokio::try_join!(
        pump(client_in, server_out, roads.out.subscribe(), None),
        pump(server_in, client_out, roads.back.subscribe(), Some(&roads.carried_back)),
    );
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut road: watch::Receiver<Road>,
    carried: Option<&watch::Sender<u64>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await;
        let delay = road.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // The proxy is alive as long as this is.
        let _ = road.wait_for(|road| !road.held).await;
        let read = read?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        if let Some(carried) = carried {
            carried.send_modify(|bytes| *bytes += read as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::soon;

    /// Both ends of a connection through a new proxy.
    async fn ends() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Proxy::before(listener.local_addr().expect("an address").port()).await;
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("connected");
        let (server, _) = soon("the connection", listener.accept()).await.expect("accepted");
        (proxy, client, server)
    }

    #[tokio::test]
    async fn what_is_held_comes_after_the_release_and_the_other_direction_at_once() {
        let (proxy, mut client, mut server) = ends().await;
        proxy.hold(Way::Out);
        client.write_all(b"out").await.expect("taken");
        server.write_all(b"back").await.expect("taken");
        let mut four = [0; 4];
        soon("the free direction", client.read_exact(&mut four)).await.expect("read");
        assert_eq!((&four, *proxy.carried_back().borrow()), (b"back", 4));
        assert!(server.try_read(&mut four).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        proxy.release();
        let mut three = [0; 3];
        soon("the released direction", server.read_exact(&mut three)).await.expect("read");
        assert_eq!(&three, b"out");
    }

    #[tokio::test]
    async fn an_end_is_held_like_everything_else() {
        let (proxy, client, mut server) = ends().await;
        proxy.hold_both();
        drop(client);
        let mut one = [0; 1];
        let mut reading = std::pin::pin!(server.read(&mut one));
        tokio::select! {
            biased;
            _ = &mut reading => panic!("nothing passes"),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        proxy.release();
        assert_eq!(soon("the end", reading).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn a_cut_breaks_both_ends_and_a_delay_is_kept() {
        let (proxy, mut client, mut server) = ends().await;
        proxy.delay(Way::Back, Duration::from_millis(30));
        let started = std::time::Instant::now();
        server.write_all(b"x").await.expect("taken");
        assert_eq!(soon("a byte", client.read_u8()).await.expect("read"), b'x');
        assert!(started.elapsed() >= Duration::from_millis(30), "{:?}", started.elapsed());
        proxy.cut();
        assert!(!matches!(soon("an end", client.read(&mut [0])).await, Ok(1..)));
        assert!(!matches!(soon("an end", server.read(&mut [0])).await, Ok(1..)));
    }
}
