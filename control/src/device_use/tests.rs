//! Uses of a device, on made-up `/proc` and `/sys` trees, and on this machine's own.

use super::*;
use std::os::unix::fs::symlink;

/// A made-up machine with `/dev/ublkb3` (259:4) and its partition `ublkb3p1` (259:5).
struct Machine {
    temp: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { temp: tempfile::tempdir().unwrap() };
        machine.write("sys/block/ublkb3/dev", "259:4\n");
        machine.write("sys/block/ublkb3/queue/rotational", "0\n");
        machine.write("sys/block/ublkb3/ublkb3p1/partition", "1\n");
        machine.write("sys/block/ublkb3/ublkb3p1/dev", "259:5\n");
        machine.write("proc/swaps", "Filename Type Size Used Priority\n");
        machine.process(1, "systemd", "mnt:[1]", "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        machine
    }

    fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn process(&self, pid: u32, command: &str, namespace: &str, mountinfo: &str) {
        self.write(&format!("proc/{pid}/comm"), &format!("{command}\n"));
        self.write(&format!("proc/{pid}/mountinfo"), mountinfo);
        fs::create_dir_all(self.path(&format!("proc/{pid}/ns"))).unwrap();
        fs::create_dir_all(self.path(&format!("proc/{pid}/fd"))).unwrap();
        symlink(namespace, self.path(&format!("proc/{pid}/ns/mnt"))).unwrap();
    }

    fn uses(&self) -> Vec<String> {
        let uses = Scan::at(self.path("proc"), self.path("sys")).uses_of(Path::new("/dev/ublkb3")).unwrap();
        uses.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_device_that_nobody_uses_has_no_uses() {
    assert_eq!(Machine::new().uses(), Vec::<String>::new());
}

#[test]
fn a_device_that_is_not_there_has_no_uses() {
    let machine = Machine::new();
    let scan = Scan::at(machine.path("proc"), machine.path("sys"));
    assert!(scan.uses_of(Path::new("/dev/ublkb9")).unwrap().is_empty());
}

#[test]
fn mounts_are_found_in_every_namespace_and_on_partitions() {
    let machine = Machine::new();
    machine.process(50, "bash", "mnt:[1]", "30 24 259:4 / /ignored rw - ext4 /dev/ublkb3 rw\n");
    machine.process(
        77,
        "container",
        "mnt:[2]",
        "30 24 259:5 /sub /mnt/a\\040b rw shared:1 - ext4 /dev/ublkb3p1 rw\n31 24 259:40 / /no rw - ext4 /dev/x rw\n",
    );
    assert_eq!(machine.uses(), ["/dev/ublkb3p1 is mounted at /mnt/a b (as process 77 sees it)"]);
}

#[test]
fn a_file_system_with_a_number_of_its_own_is_found_by_its_source() {
    let machine = Machine::new();
    machine.process(77, "x", "mnt:[2]", "30 24 0:44 / /b rw - btrfs /dev/ublkb3 rw\n");
    assert_eq!(machine.uses(), ["/dev/ublkb3 is mounted at /b (as process 77 sees it)"]);
}

#[test]
fn swap_holders_loops_and_open_files_are_found() {
    let machine = Machine::new();
    machine.write("proc/swaps", "Filename Type Size Used Priority\n/dev/ublkb3p1 partition 1024 0 -2\n");
    machine.write("sys/block/ublkb3/holders/dm-0", "");
    machine.write("sys/block/loop7/loop/backing_file", "/dev/ublkb3p1\n");
    machine.write("sys/block/loop8/loop/backing_file", "/dev/ublkb33\n");
    machine.process(90, "dd", "mnt:[1]", "");
    symlink("/dev/ublkb3", machine.path("proc/90/fd/5")).unwrap();
    symlink("/dev/ublkb33", machine.path("proc/90/fd/6")).unwrap();
    symlink("socket:[12]", machine.path("proc/90/fd/7")).unwrap();
    assert_eq!(
        machine.uses(),
        [
            "/dev/ublkb3p1 is swap space",
            "/dev/ublkb3 is held by /dev/dm-0",
            "/dev/ublkb3p1 is held by /dev/loop7",
            "/dev/ublkb3 is open in process 90 (dd)",
        ]
    );
}

#[test]
fn a_lazily_unmounted_file_system_is_still_a_use() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("sys/fs/ext4/ublkb3")).unwrap();
    fs::create_dir_all(machine.path("sys/fs/btrfs/some-uuid/devices/ublkb3p1")).unwrap();
    assert_eq!(
        machine.uses(),
        [
            "a file system (ext4) on /dev/ublkb3 is still in use",
            "a file system (btrfs) on /dev/ublkb3p1 is still in use",
        ]
    );
}

#[test]
fn a_mounted_file_system_is_told_once() {
    let machine = Machine::new();
    machine.process(77, "x", "mnt:[2]", "30 24 259:4 / /b rw - ext4 /dev/ublkb3 rw\n");
    fs::create_dir_all(machine.path("sys/fs/ext4/ublkb3")).unwrap();
    assert_eq!(machine.uses(), ["/dev/ublkb3 is mounted at /b (as process 77 sees it)"]);
}

#[test]
fn the_description_stays_short() {
    let uses: Vec<_> = (0..6).map(|pid| DeviceUse::Open { node: "/dev/x".into(), pid, command: "a".into() }).collect();
    let text = describe(&uses);
    assert!(text.ends_with("; and 2 more"), "{text}");
    assert_eq!(text.matches("is open").count(), 4);
}

#[test]
fn this_machine_can_be_looked_at() {
    for name in entries(Path::new("/sys/block")).unwrap() {
        uses_of(&Path::new("/dev").join(name)).unwrap();
    }
}
