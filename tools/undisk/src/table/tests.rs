//! Lists for people and for scripts.

use super::*;
use control::error::Kind;

struct Row(&'static str, u64, u64);

const COLUMNS: &[Column<Row>] = &[
    Column { name: "name", about: "a name", usual: true, cell: |r| Cell::Text(r.0.into()) },
    Column { name: "size", about: "a size", usual: true, cell: |r| Cell::Bytes(r.1) },
    Column { name: "when", about: "a time", usual: false, cell: |r| Cell::Time(r.2) },
];

const ROWS: [Row; 2] = [Row("a\tb", 2048, 1_795_341_600_000_000_000), Row("", 1, 0)];

fn args(no_header: bool, columns: Option<&str>) -> ListArgs {
    ListArgs { no_header, columns: columns.map(str::to_owned) }
}

#[test]
fn people_get_aligned_columns() {
    assert_eq!(args(false, None).lines(COLUMNS, &ROWS).unwrap(), ["NAME     SIZE", "a b   2.0 KiB", "-         1 B"]);
}

#[test]
fn scripts_get_tabs_and_exact_values() {
    assert_eq!(
        args(true, Some("+when")).lines(COLUMNS, &ROWS).unwrap(),
        ["a b\t2048\t2026-11-22T10:00:00.000000000Z", "-\t1\t-"]
    );
    assert_eq!(args(true, Some("when,name")).lines(COLUMNS, &ROWS[1..]).unwrap(), ["-\t-"]);
}

#[test]
fn an_unknown_column_is_refused_with_those_there_are() {
    for columns in ["nosuch", "+nosuch", "name,nosuch", ""] {
        let error = args(false, Some(columns)).help(COLUMNS).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert_eq!(error.hint.as_deref(), Some("columns: name,size,when"));
    }
}
