//! One RabbitMQ node of the tests' own: started, stopped, killed and started again on the same port with the same data.
//!
//! It is on free ports of 127.0.0.1 with its files in a temporary folder, and shares no cookie, epmd or name with another
//! node of this machine. It ends with this process, however that ends: a small shell ([`LIFELINE`]) holds the other end of
//! a pipe, and kills the node and removes its files when the pipe breaks.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::MAX_MESSAGE_BYTES;
use super::install::Install;

const LIFELINE: &str = include_str!("lifeline.sh");
/// A start takes 3 to 10 s on two busy cores.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// With many messages in its queues it writes them down first.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What a node is to be.
pub struct Setup<'a> {
    pub install: Install,
    /// Virtual hosts `t0`, `t1`, ... beside `/`. Each costs a start some milliseconds.
    pub vhosts: usize,
    /// Further lines of `rabbitmq.conf`.
    pub config: &'a str,
    /// A node whose cluster it joins.
    pub join: Option<&'a Node>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup { install: Install::chosen(), vhosts: 1, config: "", join: None }
    }
}

/// A node; it ends when this is dropped. Its methods block.
pub struct Node {
    port: u16,
    name: String,
    folder: PathBuf,
    /// Of the cluster: where the cookie is.
    home: String,
    epmd_port: String,
    install: Install,
    environment: Vec<(&'static str, String)>,
    pid: u32,
    starts: usize,
    /// The end of its standard input is the node's end.
    lifeline: Child,
    pids: BufReader<ChildStdout>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Closes its standard input first. Nothing of the node is left then.
        let _ = self.lifeline.wait();
    }
}

impl Node {
    /// Starts a node of the chosen version and waits until it is complete.
    pub fn start() -> Node {
        Node::start_with(Setup::default())
    }

    pub fn start_with(setup: Setup<'_>) -> Node {
        let folder = tempfile::Builder::new().prefix("rabbitry-node-").tempdir().expect("a temporary folder").keep();
        let [port, dist_port, own_epmd_port] = free_ports();
        let epmd_port = setup.join.map_or(own_epmd_port.to_string(), |first| first.epmd_port.clone());
        let home = setup.join.map_or(folder.to_string_lossy().into_owned(), |first| first.home.clone());
        let name = format!("rabbitry{port}@localhost");
        write_configuration(&folder, port, &setup);
        let environment = environment(&folder, &home, &name, [dist_port.to_string(), epmd_port.clone()]);
        let (lifeline, pids) = supervise(&folder, &setup.install, &environment);
        let install = setup.install;
        let mut node =
            Node { port, name, folder, home, epmd_port, install, environment, pid: 0, starts: 0, lifeline, pids };
        node.begin();
        node.until_complete();
        if let Some(first) = setup.join {
            node.ctl_now(&["stop_app"]);
            node.ctl_now(&["join_cluster", &first.name]);
            node.ctl_now(&["start_app"]);
        }
        node
    }

    /// Three nodes in one cluster.
    pub fn cluster() -> [Node; 3] {
        let first = Node::start();
        let joining = || Node::start_with(Setup { join: Some(&first), ..Setup::default() });
        // One after another: two that join at once may refuse each other.
        let (second, third) = (joining(), joining());
        [first, second, third]
    }

    /// The address of a virtual host, for guest.
    pub fn url(&self, vhost: &str) -> String {
        self.url_through(self.port, vhost)
    }

    /// The same through another port, as that of a proxy.
    pub fn url_through(&self, port: u16, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/{vhost}")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As Erlang calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the virtual machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to stop, as a service is stopped, and waits for its end.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.until_ended();
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.until_ended();
    }

    /// Starts it again with its data and its port; gives the moment at which the port took connections.
    pub fn start_again(&mut self) -> Instant {
        self.begin();
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "RabbitMQ did not start again; it said:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
        Instant::now()
    }

    /// Runs rabbitmqctl on this node and gives what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(self.ctl_command(arguments));
        said(arguments, command.output().await.expect("rabbitmqctl runs"))
    }

    fn ctl_now(&self, arguments: &[&str]) -> String {
        said(arguments, self.ctl_command(arguments).output().expect("rabbitmqctl runs"))
    }

    fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut words = self.install.prefix(&self.folder);
        words.push(self.install.program("rabbitmqctl").into());
        words.extend(["-q", "--timeout", "60"].iter().chain(arguments).map(OsString::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).envs(self.environment.iter().cloned());
        command
    }

    fn signal(&mut self, word: &str) {
        let mut words = self.lifeline.stdin.as_ref().expect("piped");
        writeln!(words, "{word}").expect("the lifeline is alive");
    }

    fn begin(&mut self) {
        self.signal("start");
        let mut pid = String::new();
        self.pids.read_line(&mut pid).expect("the lifeline is alive");
        self.pid = pid.trim().parse().expect("a process id");
        self.starts += 1;
    }

    /// Looks into the log now and then: there is nothing of a starting node to wait on.
    fn until_complete(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        let complete = || {
            let logs = std::fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten();
            let logs = logs.filter_map(|log| std::fs::read_to_string(log.path()).ok());
            logs.map(|log| log.matches("Server startup complete").count()).max().unwrap_or_default() >= self.starts
        };
        while !complete() {
            assert!(Instant::now() < deadline, "RabbitMQ did not start; it said:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_ended(&self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        // Its parent need not have buried it.
        while std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "RabbitMQ did not stop; it said:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }
}

fn said(arguments: &[&str], output: std::process::Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn write_configuration(folder: &Path, port: u16, setup: &Setup<'_>) {
    let definitions_file = folder.join("definitions.json");
    std::fs::write(folder.join("plugins"), "[].").expect("plugins");
    std::fs::write(&definitions_file, definitions(setup.vhosts)).expect("definitions");
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\nmax_message_size = {MAX_MESSAGE_BYTES}\nload_definitions = {}\n{}\n",
        definitions_file.display(),
        setup.config
    );
    std::fs::write(folder.join("rabbitmq.conf"), config).expect("configuration");
}

fn environment(
    folder: &Path,
    home: &str,
    name: &str,
    [dist_port, epmd_port]: [String; 2],
) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    vec![
        // Own name, cookie and epmd: no other node on this machine is seen or disturbed.
        ("RABBITMQ_NODENAME", name.to_owned()),
        ("HOME", home.to_owned()),
        ("ERL_EPMD_PORT", epmd_port),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_DIST_PORT", dist_port),
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
    ]
}

/// The shell that ends all of it when its standard input does. It is in a process group of its own, out of reach of a
/// Ctrl-C for the tests.
fn supervise(
    folder: &Path,
    install: &Install,
    environment: &[(&'static str, String)],
) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new("sh");
    command.args(["-c", LIFELINE, "sh"]).arg(folder).arg(install.program("rabbitmq-server"));
    command.args(install.prefix(folder)).envs(environment.iter().cloned()).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shell = command.spawn().expect("a shell");
    let pids = BufReader::new(shell.stdout.take().expect("piped"));
    (shell, pids)
}

fn definitions(vhosts: usize) -> String {
    let vhosts: Vec<String> = std::iter::once("/".to_owned()).chain((0..vhosts).map(|i| format!("t{i}"))).collect();
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
