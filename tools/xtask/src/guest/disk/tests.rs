use super::*;

fn file(path: &str, size: Option<u64>) -> Disk {
    Disk::File { path: path.into(), size }
}

#[test]
fn a_disk_is_a_file_a_file_with_a_size_or_an_nbd_socket() {
    assert_eq!("a.img".parse::<Disk>().unwrap(), file("a.img", None));
    assert_eq!("/d/a.img:2G".parse::<Disk>().unwrap(), file("/d/a.img", Some(2 << 30)));
    assert_eq!("a:b:512M".parse::<Disk>().unwrap(), file("a:b", Some(512 << 20)));
    assert_eq!("a:b".parse::<Disk>().unwrap(), file("a:b", None));
    assert_eq!("nbd:unix:/run/s".parse::<Disk>().unwrap(), Disk::Nbd { socket: "/run/s".into() });
}

#[test]
fn a_wrong_disk_says_what_would_be_right() {
    for (text, hint) in
        [("", "FILE:SIZE"), (":2G", "FILE:SIZE"), ("a:2Q", "512M"), ("a:0", "can have"), ("nbd:unix:", "socket")]
    {
        let error = text.parse::<Disk>().unwrap_err().to_string();
        assert!(error.contains(hint), "{text:?}: {error}");
    }
}

#[test]
fn sizes_are_powers_of_1024_and_whole_sectors() {
    assert_eq!(parse_size("512").unwrap(), 512);
    assert_eq!(parse_size("4K").unwrap(), 4096);
    assert_eq!(parse_size("4KiB").unwrap(), 4096);
    assert_eq!(parse_size("1T").unwrap(), 1 << 40);
    for wrong in ["", "G", "1X", "-1", "1000", "99999999T"] {
        assert!(parse_size(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_missing_file_is_made_sparse_and_a_file_of_another_size_is_left_alone() {
    let folder = std::env::temp_dir().join(format!("xtask-disk-{}", std::process::id()));
    let path = folder.join("deep/a.img");
    let disk = Disk::File { path: path.clone(), size: Some(1 << 20) };
    disk.prepare().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    disk.prepare().unwrap();
    let error = Disk::File { path: path.clone(), size: Some(2 << 20) }.prepare().unwrap_err();
    assert!(error.to_string().contains("1048576"), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    Disk::File { path, size: None }.prepare().unwrap();
    assert!(Disk::File { path: folder.join("none"), size: None }.prepare().is_err());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn qemu_gets_commas_doubled() {
    assert!(file("/a,b.img", None).drive("disk0").ends_with("file=/a,,b.img"));
    assert!(Disk::Nbd { socket: "/s".into() }.drive("disk1").ends_with("file=nbd:unix:/s"));
}
