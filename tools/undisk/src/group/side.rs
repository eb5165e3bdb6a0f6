//! This host's side of its groups, as a list: what is recorded, how far the journal is behind, how it is protected.

use super::set::policy;
use super::status::mode;
use crate::table::{Cell, Column, ListArgs};
use control::answer::SplitterGroup;
use control::error::ControlError;

const COLUMNS: &[Column<SplitterGroup>] = &[
    Column { name: "group", about: "name", usual: true, cell: |g| Cell::Text(g.name.clone()) },
    Column {
        name: "state",
        about: "active, marking, resyncing or paused",
        usual: true,
        cell: |g| Cell::Text(mode(g.mode).into()),
    },
    Column {
        name: "lag-writes",
        about: "records that are not durable yet",
        usual: true,
        cell: |g| Cell::Count(g.lag.writes),
    },
    Column { name: "lag-size", about: "bytes of host data in them", usual: true, cell: |g| Cell::Bytes(g.lag.bytes) },
    Column {
        name: "lag",
        about: "age of the oldest of them",
        usual: true,
        cell: |g| Cell::Text(format!("{}.{:03} s", g.lag.ms / 1000, g.lag.ms % 1000)),
    },
    Column { name: "dirty", about: "bytes to be read again", usual: true, cell: |g| Cell::Bytes(g.dirty_bytes) },
    Column { name: "policy", about: "how hosts are answered", usual: true, cell: |g| Cell::Text(policy(&g.policy)) },
];

/// The list as lines.
pub fn lines(list: &ListArgs, groups: &[SplitterGroup]) -> Result<Vec<String>, ControlError> {
    list.lines(COLUMNS, groups)
}
