//! The program itself, on journals that the engine wrote: what it prints and how it ends.
//!
//! Each test makes a journal in a folder of its own with the engine and a splitter's chunks without a splitter, closes
//! it, and runs `inspect` on it as a person would.

use crate::made::{self, Made, inspect};
use record::op::Op;
use serde_json::Value;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// The lines of an answer as JSON.
fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn a_whole_journal_is_verified_with_exit_0() {
    let made = Made::new();
    let ran = inspect(&["verify", made.dir()]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("nothing is damaged"), "{ran:?}");
    let ran = inspect(&["verify", made.dir(), "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["damaged"], false);
    assert_eq!(report["group"], "shop");
    assert_eq!(report["findings"], serde_json::json!([]));
    assert_eq!(report["head"], made.head());
}

#[test]
fn a_flipped_bit_of_a_payload_is_named_with_segment_offset_position_and_extent() {
    let made = Made::new();
    let (file, offset) = made.find_write(1);
    made.flip(&file, offset + 100);
    let ran = inspect(&["verify", made.dir()]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains(&file), "{ran:?}");
    let ran = inspect(&["verify", made.dir(), "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let finding = &report["findings"][0];
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(finding["kind"], "payload");
    assert_eq!(finding["file"], file);
    assert_eq!(finding["offset"], offset / 4096 * 4096);
    let position = made.position_of_write(1);
    assert_eq!(finding["positions"], serde_json::json!([position, position]));
    assert_eq!(finding["extents"][0]["volume"], "data");
    assert_eq!((&finding["extents"][0]["sector"], &finding["extents"][0]["sectors"]), (&64.into(), &8.into()));
    assert_eq!(finding["extents_known"], true);
}

#[test]
fn where_there_is_no_journal_every_verb_says_so_with_exit_4() {
    let empty = tempfile::tempdir().expect("a folder");
    let dir = empty.path().to_str().expect("UTF-8");
    let file = empty.path().join("image");
    let output = file.to_str().expect("UTF-8");
    let verbs: [&[&str]; 6] = [
        &["verify", dir],
        &["dump", dir],
        &["points", dir],
        &["extract", dir, "--point", "latest", "--volume", "data", "--output", output],
        &["read", dir, "--seq", "1", "--volume", "data", "--sector", "0"],
        &["trace", dir, "--volume", "data", "--sector", "0"],
    ];
    for verb in verbs {
        for dir in [dir, "/nonexistent"] {
            let words: Vec<&str> = verb.iter().map(|w| if *w == verb[1] { dir } else { *w }).collect();
            let ran = inspect(&words);
            assert_eq!(ran.status, 4, "{words:?}: {ran:?}");
            assert!(ran.err.contains(dir) && ran.out.is_empty(), "{words:?}: {ran:?}");
        }
    }
    assert!(!file.exists(), "nothing half made");
}

#[test]
fn wrong_arguments_end_with_exit_2_and_help_with_0() {
    let made = Made::new();
    let dir = made.dir();
    let wrong: [&[&str]; 10] = [
        &[],
        &["frobnicate"],
        &["verify"],
        &["verify", dir, "--fix"],
        &["dump", dir, "--from", "x"],
        &["extract", dir, "--point", "yesterday", "--volume", "data", "--output", "x"],
        &["read", dir, "--volume", "data", "--sector", "0"],
        &["read", dir, "--seq", "9", "--volume", "data", "--sector", "2048"],
        &["read", dir, "--seq", "9", "--volume", "data", "--sector", "0", "--sectors", "0"],
        &["trace", dir, "--volume", "data", "--volume", "log", "--sector", "0", "--replica", "x"],
    ];
    for words in wrong {
        let ran = inspect(words);
        assert_eq!(ran.status, 2, "{words:?}: {ran:?}");
        assert!(!ran.err.is_empty(), "{words:?}: {ran:?}");
    }
    assert_eq!(inspect(&["--help"]).status, 0);
    assert_eq!(inspect(&["trace", "--help"]).status, 0);
}

#[test]
fn the_dump_has_every_record_in_order_with_its_place() {
    let made = Made::new();
    let ran = inspect(&["dump", made.dir(), "--json"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let records = lines(&ran.out);
    let positions: Vec<u64> = records.iter().map(|r| r["position"].as_u64().expect("a position")).collect();
    assert_eq!(positions, (1..=made.head()).collect::<Vec<_>>(), "dense from 1 up to what the engine calls the head");
    let at = |position: u64| &records[usize::try_from(position - 1).expect("small")];
    let write = at(made.position_of_write(1));
    assert_eq!(write["op"], "WRITE");
    assert_eq!(write["volume"], "data");
    assert_eq!((&write["sector"], &write["sectors"]), (&64.into(), &8.into()));
    // The place that is printed is where the payload is.
    let file = std::fs::File::open(made.path().join(write["file"].as_str().expect("a file"))).expect("open it");
    let mut first = [0; 8];
    file.read_exact_at(&mut first, write["payload_at"].as_u64().expect("an offset")).expect("read it");
    assert_eq!(u64::from_le_bytes(first), made::COUNTER + 1);
    let ops: Vec<&str> = records.iter().map(|r| r["op"].as_str().expect("an operation")).collect();
    for op in [Op::Join, Op::Joined, Op::SessionGranted, Op::Write, Op::Punch, Op::Bookmark, Op::Flush] {
        assert!(ops.contains(&op.to_string().as_str()), "{op} in {ops:?}");
    }
    let bookmark = records.iter().find(|r| r["op"] == "BOOKMARK").expect("a bookmark");
    assert_eq!(bookmark["note"]["bookmark"], "midway");

    let ran = inspect(&["dump", made.dir(), "--from", "3", "--to", "5"]);
    assert_eq!(ran.out.lines().count(), 3, "{ran:?}");
    assert!(ran.out.starts_with("seq:3 ") && ran.out.contains("\nseq:5 "), "{ran:?}");
}

#[test]
fn a_lost_chunk_is_a_line_of_the_dump_and_exit_1() {
    let made = Made::new();
    let place = made.record(made.position_of_write(1));
    // Its journal header, in the middle of the segment.
    let file = place["file"].as_str().expect("a file").to_owned();
    made.flip(&file, place["offset"].as_u64().expect("an offset") + 40);
    let ran = inspect(&["dump", made.dir(), "--json"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let lost: Vec<Value> = lines(&ran.out).into_iter().filter(|line| !line["lost"].is_null()).collect();
    assert_eq!(lost.len(), 1, "{ran:?}");
    assert_eq!((&lost[0]["file"], &lost[0]["offset"]), (&place["file"], &place["offset"]));
    let position = made.position_of_write(1);
    let (first, last) = (lost[0]["lost"][0].as_u64().expect("first"), lost[0]["lost"][1].as_u64().expect("last"));
    assert!((first..=last).contains(&position), "{position} in {first}..={last}");
}

#[test]
fn the_points_are_the_timeline() {
    let made = Made::new();
    let ran = inspect(&["points", made.dir()]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(
        ran.out.contains("#midway") && ran.out.contains("oldest") && ran.out.contains("volume data joined"),
        "{ran:?}"
    );
    let ran = inspect(&["points", made.dir(), "-J"]);
    let view: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(view["head"]["position"], made.head());
    assert_eq!(view["window"]["newest"]["position"], made.head());
    assert_eq!(view["bookmarks"][0]["name"], "midway");
    assert_eq!(view["gaps"], serde_json::json!([]));
    assert_eq!(view["records"]["PUNCH"], 1);
}

#[test]
fn an_extracted_image_is_the_volume_as_it_was() {
    let made = Made::new();
    for (point, n) in [("#midway", 2), ("latest", made::WRITES)] {
        let file = made.folder().join(format!("image-{n}"));
        let name = file.to_str().expect("UTF-8");
        let replica = made.replica("data");
        let words =
            ["extract", made.dir(), "--point", point, "--volume", "data", "--output", name, "--replica", &replica];
        let ran = inspect(&words);
        assert_eq!(ran.status, 0, "{point}: {ran:?}");
        let bytes = std::fs::read(&file).expect("the image");
        assert!(bytes == Made::expected("data", n), "{point}: the image differs");
        let allocated = std::fs::metadata(&file).expect("the file").blocks() * 512;
        assert!(allocated <= 256 * 1024, "{point}: sparse, but {allocated} bytes are allocated");
        // Again: nothing is overwritten.
        let ran = inspect(&words);
        assert_eq!((ran.status, ran.err.contains("exists already")), (1, true), "{ran:?}");
        assert!(std::fs::read(&file).expect("the image") == bytes);
    }
}

#[test]
fn refused_sectors_are_named_with_exit_3_and_the_rest_is_right() {
    let made = Made::new();
    let (file, offset) = made.find_write(made::WRITES);
    made.flip(&file, offset + 512);
    let image = made.folder().join("image");
    let name = image.to_str().expect("UTF-8");
    let replica = made.replica("data");
    let words =
        ["extract", made.dir(), "--point", "latest", "--volume", "data", "--output", name, "--replica", &replica];
    let ran = inspect(&words);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.err.contains("volume 'data' sectors 64..72 refused"), "{ran:?}");
    let mut wanted = Made::expected("data", made::WRITES);
    wanted[64 * 512..72 * 512].fill(0);
    assert!(std::fs::read(&image).expect("the image") == wanted, "zeros where refused, right elsewhere");

    let ran = inspect(&["read", made.dir(), "--point", "latest", "--volume", "data", "--sector", "64"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    // Before that write the same sectors are right.
    let before = (made.position_of_write(made::WRITES) - 1).to_string();
    let ran = inspect(&["read", made.dir(), "--seq", &before, "--volume", "data", "--sector", "64"]);
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[test]
fn without_its_replica_a_volume_is_refused_where_nothing_was_written_since_it_joined() {
    let made = Made::new();
    let at = made.head().to_string();
    let ran = inspect(&["read", made.dir(), "--seq", &at, "--volume", "data", "--sector", "8", "--sectors", "1"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.err.contains("replica"), "{ran:?}");
    let replica = made.replica("data");
    let words = ["read", made.dir(), "--seq", &at, "--volume", "data", "--sector", "8", "--replica", &replica];
    let ran = inspect(&words);
    assert_eq!((ran.status, ran.bytes.len()), (0, 512), "{ran:?}");
    assert!(ran.bytes == Made::expected("data", made::WRITES)[8 * 512..9 * 512]);
}

#[test]
fn sectors_are_read_raw_at_a_position() {
    let made = Made::new();
    for n in 1..=made::WRITES {
        let at = made.position_of_write(n).to_string();
        let ran = inspect(&["read", made.dir(), "--seq", &at, "--volume", "data", "--sector", "64", "--sectors", "8"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.bytes == Made::expected("data", n)[64 * 512..72 * 512], "write {n}");
    }
}

#[test]
fn points_and_volumes_that_are_not_there_end_with_exit_4_and_say_what_is() {
    let made = Made::new();
    let beyond = (made.head() + 1).to_string();
    let read = |point: &str, volume: &str| {
        inspect(&["read", made.dir(), "--point", point, "--volume", volume, "--sector", "64"])
    };
    let ran = read("#nowhere", "data");
    assert_eq!((ran.status, ran.err.contains("nowhere")), (4, true), "{ran:?}");
    let ran = read(&format!("seq:{beyond}"), "data");
    assert_eq!((ran.status, ran.err.contains("does not exist yet: the window reaches")), (4, true), "{ran:?}");
    let ran = read("seq:1", "data");
    assert_eq!((ran.status, ran.err.contains("outside the window")), (4, true), "{ran:?}");
    let ran = read("latest", "nobody");
    assert_eq!((ran.status, ran.err.contains("its volumes: data, log")), (4, true), "{ran:?}");
    let joined = made.joined("data").to_string();
    let ran = read(&format!("seq:{joined}"), "log");
    assert_eq!((ran.status, ran.err.contains("was not in group 'shop'")), (4, true), "{ran:?}");
}

#[test]
fn a_trace_prints_each_change_of_two_volumes_side_by_side() {
    let made = Made::new();
    let words =
        ["trace", made.dir(), "--volume", "data", "--volume", "log", "--sector", "64", "--sectors", "8", "--json"];
    let replicas = ["data", "log"].map(|name| format!("{name}={}", made.replica(name)));
    let words = [&words[..], &["--replica", &replicas[0], "--replica", &replicas[1]]].concat();
    let ran = inspect(&words);
    assert_eq!(ran.status, 0, "{ran:?}");
    let mut seen = Vec::new();
    for line in lines(&ran.out) {
        let first = |name: &str| line["volumes"][name]["first"].as_u64();
        seen.push((line["position"].as_u64().expect("a position"), first("data"), first("log")));
    }
    // Each write to `data` is followed by one of the same counter to `log`; before, both hold what they joined with.
    for (_, data, log) in &seen {
        if let (Some(data), Some(log)) = (data, log)
            && *data >= made::COUNTER
        {
            assert!(*log == *data || *log + 1 == *data || *log < made::COUNTER, "{seen:?}");
        }
    }
    let changes = |n: u64| seen.iter().filter(|(_, data, _)| *data == Some(made::COUNTER + n)).map(|(p, ..)| *p).min();
    for n in 1..=made::WRITES {
        assert_eq!(changes(n), Some(made.position_of_write(n)), "{seen:?}");
    }
    assert!(seen.windows(2).all(|pair| (pair[0].1, pair[0].2) != (pair[1].1, pair[1].2)), "only changes: {seen:?}");

    let all = inspect(&[&words[..], &["--every"]].concat());
    assert_eq!(lines(&all.out).len() as u64, made.head() - made.joined("data") + 1, "a line for every point");
    let text = inspect(&["trace", made.dir(), "--volume", "data", "--sector", "64", "--sectors", "8"]);
    assert!(text.out.contains(&format!("data={} crc32c:", made::COUNTER + 1)), "{text:?}");
    assert_eq!(text.status, 3, "before the first write the replica is needed: {text:?}");
}

#[test]
fn an_unfinished_tail_is_no_record_and_no_damage() {
    let made = Made::killed();
    let whole = inspect(&["dump", made.dir()]);
    // What a crash leaves: the newest segment ends in a chunk of which only the front reached the disk.
    made.tear_tail();
    let ran = inspect(&["verify", made.dir()]);
    assert_eq!(ran.status, 0, "a note, not damage: {ran:?}");
    let ran = inspect(&["dump", made.dir()]);
    assert_eq!((ran.status, &ran.out), (0, &whole.out), "the torn chunk is no record");
}

#[test]
fn nothing_is_ever_written() {
    let made = Made::new();
    let before = made.contents();
    let image = made.folder().join("image");
    let name = image.to_str().expect("UTF-8");
    inspect(&["verify", made.dir()]);
    inspect(&["dump", made.dir()]);
    inspect(&["points", made.dir()]);
    inspect(&["extract", made.dir(), "--point", "latest", "--volume", "data", "--output", name]);
    inspect(&["trace", made.dir(), "--volume", "data", "--sector", "64"]);
    assert!(made.contents() == before);
}
