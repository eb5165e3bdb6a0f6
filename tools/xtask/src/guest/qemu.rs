//! QEMU's command line.

use std::path::Path;
use std::process::{Command, Stdio};

use super::kernel::Kernel;
use super::{Guest, begin};

/// What drives the guest's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Time passes as on the host.
    Host,
    /// One instruction is one nanosecond (`-icount shift=0,sleep=off`): what is measured repeats, whatever the host does.
    Instructions,
}

/// Environment variable that chooses the accelerator: `tcg` (the default) or `kvm`. The mere presence of /dev/kvm says
/// little: on nested machines an unmodified kernel may die or crawl under it.
const ACCELERATOR: &str = "UNDISK_VM_ACCEL";

/// QEMU for this guest, to be run in `run` (names of sockets and files are relative to it).
pub fn command(guest: &Guest, kernel: &Kernel, run: &Path, out: &Path) -> Command {
    // setpriv has QEMU killed when we die, whatever kills us.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]);
    command.args(processor(guest, std::env::var(ACCELERATOR).is_ok_and(|wish| wish == "kvm")));
    if let Some(plugin) = &guest.plugin {
        command.args(["-plugin", plugin]);
    }
    command.args(["-m", &guest.memory_mib.to_string(), "-rtc", "base=utc"]);
    command.arg("-kernel").arg(&kernel.image);
    command.args(["-initrd", "initramfs", "-append", &kernel_arguments(guest)]);
    command.args(["-serial", "file:console", "-device", "virtio-rng-pci"]);
    command.args(["-chardev", &format!("file,id=begin,path={}", begin::MARK)]);
    command.args(["-device", &format!("isa-debugcon,chardev=begin,iobase={}", begin::PORT)]);
    command.args(["-device", "virtio-serial-pci"]);
    for name in ["out", "err"] {
        command.args(["-chardev", &format!("file,id={name},path=std{name}")]);
        command.args(["-device", &format!("virtserialport,chardev={name},name={name}")]);
    }
    for (tag, path, mode) in [("host", Path::new("/"), ",readonly=on"), ("ctl", &run.join("ctl"), ""), ("out", out, "")]
    {
        let path = path.to_string_lossy().replace(',', ",,");
        let share = format!("local,path={path},mount_tag={tag},security_model=none,multidevs=remap{mode}");
        command.args(["-virtfs", &share]);
    }
    for (number, disk) in guest.disks.iter().enumerate() {
        command.args(["-drive", &disk.drive(&format!("disk{number}"))]);
        command.args(["-device", &format!("virtio-blk-pci,drive=disk{number},serial=undisk{number}")]);
    }
    command.current_dir(run).stdin(Stdio::null());
    command
}

fn processor(guest: &Guest, kvm: bool) -> Vec<String> {
    let mut arguments: Vec<&str> = Vec::new();
    let cpus = guest.cpus.to_string();
    match guest.clock {
        Clock::Instructions => {
            arguments.extend([
                "-accel",
                "tcg,thread=single,tb-size=256",
                "-icount",
                "shift=0,sleep=off",
                "-cpu",
                "max",
                "-smp",
                "1",
            ]);
        }
        Clock::Host if kvm => arguments.extend(["-accel", "kvm", "-cpu", "host", "-smp", &cpus]),
        Clock::Host => arguments.extend(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-smp", &cpus]),
    }
    arguments.into_iter().map(str::to_owned).collect()
}

fn kernel_arguments(guest: &Guest) -> String {
    // The watchdogs would take a busy host for a hanging guest.
    let quiet = if guest.kernel_log { "loglevel=7" } else { "quiet" };
    format!(
        "console=ttyS0 {quiet} panic=-1 mitigations=off nokaslr no_timer_check nowatchdog workqueue.watchdog_thresh=0 rcupdate.rcu_cpu_stall_suppress=1 random.trust_cpu=on audit=0 apparmor=0"
    )
}

#[cfg(test)]
#[path = "qemu_tests.rs"]
mod tests;
