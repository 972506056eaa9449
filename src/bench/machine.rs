//! Where a run takes place.

use std::fs;

use super::model::Machine;
use crate::directory::Node;

/// This machine now; what is known of broker, kernel and workers is passed in.
pub(super) fn look(kernel: String, broker: Option<String>, nodes: &[Node]) -> Machine {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.refresh_cpu_all();
    let cpu = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty());
    let worker =
        |node: &Node| format!("{}, {} slots, {:.0} GFLOP/s a core, {}", node.id, node.slots, node.gflops, node.version);
    Machine {
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: system.total_memory(),
        os: sysinfo::System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|governor| governor.trim().to_owned()),
        load: sysinfo::System::load_average().one,
        rabbitry: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        broker,
        workers: nodes.iter().map(worker).collect(),
    }
}
