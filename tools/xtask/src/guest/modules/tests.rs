use super::*;

const DEP: &str = "\
kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/fs/netfs/netfs.ko.xz:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/net/9p/9pnet.ko.xz
kernel/drivers/virtio/virtio.ko.xz:
kernel/drivers/md/dm-mod.ko.xz:
kernel/drivers/md/dm-delay.ko.xz: kernel/drivers/md/dm-mod.ko.xz
";

fn paths(loads: &[Load]) -> Vec<String> {
    loads.iter().map(|load| module_name(&load.path)).collect()
}

#[test]
fn a_module_comes_after_everything_it_needs_and_only_once() {
    let order = load_order(DEP, "", &[must("9p"), must("9pnet_virtio"), must("dm_delay"), must("dm_mod")]).unwrap();
    assert_eq!(paths(&order), ["9pnet", "netfs", "9p", "virtio", "9pnet_virtio", "dm_mod", "dm_delay"]);
}

#[test]
fn parameters_stay_with_the_module_that_asked_for_them() {
    let wanted = Wanted { name: "dm_mod", parameters: "x=1", need: Need::Must };
    let order = load_order(DEP, "", &[must("dm_delay"), wanted]).unwrap();
    assert_eq!(order[0], Load { path: "kernel/drivers/md/dm-mod.ko.xz".into(), parameters: "x=1".into() });
    assert_eq!(order[1].parameters, "");
}

#[test]
fn a_module_that_must_be_there_is_named_when_it_is_not() {
    let error = load_order(DEP, "", &[must("ublk_drv")]).unwrap_err();
    assert!(error.to_string().contains("ublk_drv"), "{error}");
}

#[test]
fn a_module_built_into_the_kernel_needs_no_loading() {
    let order = load_order(DEP, "kernel/drivers/block/ublk_drv.ko\n", &[must("ublk_drv"), may("vfat")]).unwrap();
    assert_eq!(order, []);
}

#[test]
fn a_circle_is_refused() {
    let error = load_order("a.ko: b.ko\nb.ko: a.ko\n", "", &[must("a")]).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}
