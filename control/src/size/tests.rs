//! Sizes, both ways.

use super::*;
use crate::error::Kind;

#[test]
fn sizes_that_are_understood() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("512K", 512 << 10),
        ("512k", 512 << 10),
        ("10G", 10 << 30),
        ("10g", 10 << 30),
        ("10GiB", 10 << 30),
        ("10gib", 10 << 30),
        ("10Gi", 10 << 30),
        ("10 GiB", 10 << 30),
        ("10GB", 10_000_000_000),
        ("1kB", 1000),
        ("1KB", 1000),
        ("3TB", 3_000_000_000_000),
        ("1.5G", 3 << 29),
        ("0.5K", 512),
        ("1.001KB", 1001),
        ("15E", 15 << 60),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse(text).unwrap(), bytes, "{text}");
    }
}

#[test]
fn sizes_that_are_not_each_with_its_reason() {
    for (text, why) in [
        ("", "empty"),
        ("G", "number"),
        ("-1", "number"),
        (".5G", "number"),
        ("1.G", "number"),
        ("1.2.3G", "number"),
        ("10gb", "GiB"),
        ("10Gb", "GiB"),
        ("10X", "unknown unit"),
        ("10GiBs", "unknown unit"),
        ("0.3", "whole number of bytes"),
        ("16E", "16 EiB"),
        ("99999999999999999999999999999999999999999", "16 EiB"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{text:?}");
        assert!(error.message.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn sizes_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 << 30, "10.0 GiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(Size(bytes).to_string(), text);
    }
}
