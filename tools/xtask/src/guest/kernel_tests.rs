use super::*;

#[test]
fn the_newest_plain_image_comes_first() {
    let search = "\
linux-image-6.12-amd64-dbg - Debugging symbols
linux-image-6.12.9+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.117+deb12-cloud-amd64 - cloud
linux-image-6.12.117+deb12-rt-amd64 - rt
linux-image-6.12.117+deb12-amd64-unsigned - unsigned
linux-image-6.12.117+deb12-amd64-dbg - debug
linux-image-6.12.117+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.48+deb13-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.48+deb13.1-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.1.0-30-amd64 - old
";
    assert_eq!(
        newest_first(search),
        [
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12.48+deb13.1-amd64",
            "linux-image-6.12.48+deb13-amd64",
            "linux-image-6.12.9+deb12-amd64"
        ]
    );
}
