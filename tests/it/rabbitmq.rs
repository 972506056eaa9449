//! A private RabbitMQ node for the tests: Debian's package, on free ports of 127.0.0.1, with its files in a temporary
//! folder. Started once per process, at the first need. It ends with the process, however that ends: a small shell
//! holds the other end of a pipe, and kills the node and removes its files when the pipe breaks.
//!
//! The node knows [`VHOSTS`] virtual hosts; each test takes one of its own, so names of queues need not differ between
//! tests and tests run in parallel. `max_message_size` is 16 MiB, as RabbitMQ 4 has it. Users: guest, and `nobody`
//! (password `nobody`), who may do nothing.
//!
//! `RABBITRY_TEST_AMQP=URL` names a running broker to use instead; then tests that use it run one at a time.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};

const BIN: &str = "/usr/lib/rabbitmq/bin";
const VHOSTS: usize = 220;
/// A start takes 3 to 10 s on two busy cores.
const START_TIMEOUT: Duration = Duration::from_secs(90);
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// A place on a broker that no other test uses.
pub struct TestBroker {
    pub url: String,
    _one_at_a_time: Option<OwnedMutexGuard<()>>,
}

/// An untouched virtual host on the shared node, or the broker named by `RABBITRY_TEST_AMQP`.
pub async fn vhost() -> TestBroker {
    if let Some(url) = given() {
        static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
        let turn = Arc::clone(TURN.get_or_init(Arc::default)).lock_owned().await;
        return TestBroker { url, _one_at_a_time: Some(turn) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let node = tokio::task::spawn_blocking(node).await.expect("the node starts");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < VHOSTS, "more tests than vhosts: raise VHOSTS in tests/it/rabbitmq.rs");
    TestBroker { url: node.url(&format!("t{number}")), _one_at_a_time: None }
}

/// The broker that the environment names.
pub fn given() -> Option<String> {
    std::env::var("RABBITRY_TEST_AMQP").ok().filter(|url| !url.is_empty())
}

/// The shared node. Blocks while it starts. Tests that stop it would disturb others: they start their own.
pub fn node() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(Node::start)
}

/// A running node; it ends when this is dropped.
pub struct Node {
    port: u16,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// The pipe whose end is the node's end.
    _lifeline: ChildStdin,
}

impl Node {
    /// Starts a node and waits until it takes connections.
    pub fn start() -> Node {
        assert!(
            Path::new(BIN).join("rabbitmq-server").exists(),
            "these tests need a RabbitMQ: apt-get install rabbitmq-server (it need not run), or name a running broker \
             with RABBITRY_TEST_AMQP=amqp://guest:guest@127.0.0.1:5672"
        );
        let folder = tempfile::Builder::new().prefix("rabbitry-node-").tempdir().expect("a temporary folder").keep();
        let [port, dist_port, epmd_port] = free_ports();
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        std::fs::write(path("plugins"), "[].").expect("plugins");
        std::fs::write(path("definitions.json"), definitions()).expect("definitions");
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nmax_message_size = {MAX_MESSAGE_BYTES}\nload_definitions = {}\n",
            path("definitions.json")
        );
        std::fs::write(path("rabbitmq.conf"), config).expect("configuration");
        let environment = vec![
            // Own name, cookie and epmd: no other node on this machine is seen or disturbed.
            ("RABBITMQ_NODENAME", format!("rabbitry{port}@localhost")),
            ("HOME", folder.to_string_lossy().into_owned()),
            ("ERL_EPMD_PORT", epmd_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_DIST_PORT", dist_port.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            // Makes the start script become the node, so that the supervisor has it as its child.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
            // Spinning schedulers would take the cores from what is tested.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none".to_owned(),
            ),
        ];
        let lifeline = supervise(&folder, &environment);
        let node = Node { port, folder, environment, _lifeline: lifeline };
        node.wait_until_started();
        node
    }

    /// The address of a virtual host, for guest.
    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.port)
    }

    /// Runs rabbitmqctl on this node and gives what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(Path::new(BIN).join("rabbitmqctl"));
        command.args(["-q", "--timeout", "60"]).args(arguments).stdin(Stdio::null());
        let output = command.envs(self.environment.iter().cloned()).output().await.expect("rabbitmqctl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Looks into the log now and then: there is nothing of a starting node to wait on.
    fn wait_until_started(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        let started = || {
            let logs = std::fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten();
            logs.filter_map(|log| std::fs::read_to_string(log.path()).ok())
                .any(|log| log.contains("Server startup complete"))
        };
        while !started() {
            assert!(Instant::now() < deadline, "RabbitMQ did not start; it said:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

/// Starts epmd and the node under a shell that ends them when its standard input does. The shell is in a process group
/// of its own, out of reach of a Ctrl-C for the tests, and the node in a session of its own, to be killed as a whole.
fn supervise(folder: &Path, environment: &[(&'static str, String)]) -> ChildStdin {
    let script = r#"
        trap '' HUP INT TERM
        cd "$1" || exit 1
        exec >output 2>&1
        epmd -port "$ERL_EPMD_PORT" </dev/null &
        epmd=$!
        setsid "$2/rabbitmq-server" </dev/null &
        node=$!
        while read -r line; do :; done
        kill -9 "-$node" "$epmd"
        wait
        cd / && rm -rf "$1"
    "#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(folder).arg(BIN).envs(environment.iter().cloned()).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a shell").stdin.take().expect("its standard input")
}

fn definitions() -> String {
    let vhosts: Vec<String> = std::iter::once("/".to_owned()).chain((0..VHOSTS).map(|i| format!("t{i}"))).collect();
    let permission = |vhost: &String| serde_json::json!({"user": "guest", "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"});
    serde_json::json!({
        "users": [
            {"name": "guest", "password": "guest", "tags": "administrator"},
            {"name": "nobody", "password": "nobody", "tags": ""},
        ],
        "vhosts": vhosts.iter().map(|name| serde_json::json!({"name": name})).collect::<Vec<_>>(),
        "permissions": vhosts.iter().map(permission).collect::<Vec<_>>(),
    })
    .to_string()
}

/// Free now; somebody may take one before the node does, but they are given out in turn, so not at once.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
