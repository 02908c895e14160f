//! `envi`: what the server runs on. Keys that only a Java virtual machine has say so.

use crate::admin::report::AdminView;
use crate::admin::version;

/// For keys about a Java virtual machine.
const NO_JVM: &str = "<NA>";

pub(super) fn envi(view: &AdminView) -> String {
    let p = &view.process;
    let megabytes = |bytes: u64| format!("{}MB", bytes >> 20);
    let entries = [
        ("zookeeper.version", version::zookeeper_build()),
        ("host.name", p.host_name.clone()),
        ("java.version", NO_JVM.to_owned()),
        ("java.vendor", NO_JVM.to_owned()),
        ("java.home", NO_JVM.to_owned()),
        ("java.class.path", p.program.clone()),
        ("java.library.path", NO_JVM.to_owned()),
        ("java.io.tmpdir", p.temp_dir.clone()),
        ("java.compiler", NO_JVM.to_owned()),
        ("os.name", p.os_name.clone()),
        ("os.arch", p.os_arch.clone()),
        ("os.version", p.os_version.clone()),
        ("user.name", p.user_name.clone()),
        ("user.home", p.user_home.clone()),
        ("user.dir", p.user_dir.clone()),
        ("os.memory.free", megabytes(p.memory_available_bytes)),
        ("os.memory.max", megabytes(p.memory_limit_bytes)),
        ("os.memory.total", megabytes(p.memory_used_bytes)),
    ];
    let lines: String = entries.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    format!("Environment:\n{lines}")
}
