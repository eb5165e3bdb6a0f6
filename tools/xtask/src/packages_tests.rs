use super::*;

#[test]
fn a_package_counts_only_when_dpkg_calls_it_installed() {
    let answer = "fio installed\nqemu-utils not-installed\nkmod config-files\npython3 installed\n";
    assert_eq!(
        not_installed(answer, &["fio", "qemu-utils", "kmod", "gdisk", "python3"]),
        ["qemu-utils", "kmod", "gdisk"]
    );
}

#[test]
fn a_tail_is_the_end_of_a_text_and_never_more_than_there_is() {
    assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
    assert_eq!(tail("a\n", 5), "a");
    assert_eq!(tail("", 5), "");
}
