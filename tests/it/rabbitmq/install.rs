//! Which RabbitMQ a node is: Debian's package of this machine, or one of those that `deploy/setup-test-brokers.sh` has
//! put into folders, to be entered by chroot. Whatever it is, it is run by the same command behind a prefix.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

const BIN: &str = "/usr/lib/rabbitmq/bin";

/// Enters a root, with this machine's processes in `/proc` and one folder of this machine at its own path. Nobody else sees
/// the mounts, and they end with the last process in there.
const ENTER: &str = r#"
    root=$1 shared=$2
    shift 2
    mkdir -p "$root$shared" && mount --bind "$shared" "$root$shared" && mount --rbind /proc "$root/proc" &&
        exec chroot "$root" "$@"
"#;

/// An installed RabbitMQ.
#[derive(Clone, Debug)]
pub struct Install {
    /// `None` for the system's.
    root: Option<PathBuf>,
    /// As in `4.0.5`.
    pub version: String,
}

impl Install {
    /// The one that `RABBITRY_TEST_RABBITMQ` names (`4.0`), or the system's.
    pub fn chosen() -> Install {
        let wanted = std::env::var("RABBITRY_TEST_RABBITMQ").ok().filter(|version| !version.is_empty());
        let system = version_below(Path::new("/"));
        match (wanted, system) {
            (None, Some(version)) => Install { root: None, version },
            (Some(wanted), Some(version)) if version.starts_with(&format!("{wanted}.")) => {
                Install { root: None, version }
            }
            (None, None) => panic!(
                "these tests need a RabbitMQ: apt-get install rabbitmq-server (it need not run), or name a running broker \
                 with RABBITRY_TEST_AMQP=amqp://guest:guest@127.0.0.1:5672"
            ),
            (Some(wanted), _) => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/brokers").join(&wanted);
                let Some(version) = version_below(&root).filter(|_| root.join(".complete").exists()) else {
                    panic!(
                        "RABBITRY_TEST_RABBITMQ={wanted} is not the system's RabbitMQ, nor is it in {}: run \
                         deploy/setup-test-brokers.sh, which knows 4.0 and 4.3",
                        root.display()
                    )
                };
                Install { root: Some(root), version }
            }
        }
    }

    /// A program of the package.
    pub fn program(&self, name: &str) -> PathBuf {
        Path::new(BIN).join(name)
    }

    /// The command that runs a command where this RabbitMQ is; empty for the system's. `folder` is seen in there, too.
    pub fn prefix(&self, folder: &Path) -> Vec<OsString> {
        let Some(root) = &self.root else { return Vec::new() };
        let shared = folder.parent().expect("a folder in a folder");
        let mut prefix: Vec<OsString> = ["unshare", "--mount", "sh", "-c", ENTER, "sh"].map(OsString::from).to_vec();
        prefix.extend([root.into(), shared.into()]);
        prefix
    }
}

/// The version of the package below this root, by the name of its folder.
fn version_below(root: &Path) -> Option<String> {
    let folders = std::fs::read_dir(root.join("usr/lib/rabbitmq/lib")).ok()?.flatten();
    folders.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("rabbitmq_server-")?.to_owned())).next()
}
