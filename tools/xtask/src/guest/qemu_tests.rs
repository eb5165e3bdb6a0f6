use super::*;
use crate::guest::Disk;

fn line(guest: &Guest) -> String {
    let kernel = Kernel { release: "6.12".into(), image: "/k/vmlinuz".into(), modules: "/k/modules".into() };
    let command = command(guest, &kernel, Path::new("/run-1"), Path::new("/results,1"));
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

#[test]
fn the_hosts_root_can_only_be_read_and_the_result_folder_written() {
    let line = line(&Guest::default());
    assert!(line.contains("path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on"), "{line}");
    assert!(line.contains("path=/results,,1,mount_tag=out,security_model=none,multidevs=remap"), "{line}");
}

#[test]
fn disks_come_in_the_order_given_and_carry_their_number() {
    let disks = vec![Disk::Nbd { socket: "/s".into() }, "/b.img".parse().unwrap()];
    let line = line(&Guest { disks, ..Guest::default() });
    let first = line.find("drive=disk0,serial=undisk0").unwrap();
    let second = line.find("drive=disk1,serial=undisk1").unwrap();
    assert!(first < second);
    assert!(line.contains("file=nbd:unix:/s"));
}

#[test]
fn an_instruction_clock_means_one_cpu_and_no_kvm() {
    let guest = Guest { clock: Clock::Instructions, cpus: 4, ..Guest::default() };
    let words = processor(&guest, true).join(" ");
    assert!(
        words.contains("-icount shift=0,sleep=off") && words.contains("-smp 1") && !words.contains("kvm"),
        "{words}"
    );
}
