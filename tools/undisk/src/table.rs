//! Lists: columns for people, tabs for scripts.
//!
//! Owns `-H` and `-o`. A list names its columns once; people see sizes and local times, `-H` prints exact numbers and
//! UTC.

use crate::report::Report;
use clap::Args;
use control::error::ControlError;

#[cfg(test)]
mod tests;

/// Options of every list.
#[derive(Clone, Debug, Default, Args)]
pub struct ListArgs {
    /// For scripts: no header, tabs between columns, bytes and UTC times written out
    #[arg(short = 'H', long)]
    pub no_header: bool,
    /// Which columns, as in name,device or +warnings (in addition); help lists them
    #[arg(short = 'o', long, value_name = "COLS")]
    pub columns: Option<String>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The same for everybody; empty prints as `-`.
    Text(String),
    /// A number.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// Nanoseconds since 1970 UTC; 0 for none.
    Time(u64),
}

/// One column of a list of `T`.
#[derive(Debug)]
pub struct Column<T> {
    /// Its name, for `-o` and the header.
    pub name: &'static str,
    /// What it holds, for `-o help`.
    pub about: &'static str,
    /// Whether it is shown unless told otherwise.
    pub usual: bool,
    /// The cell.
    pub cell: fn(&T) -> Cell,
}

impl ListArgs {
    /// The answer to `-o help`, if that was asked. Refuses unknown columns, before anybody else is asked anything.
    pub fn help<T>(&self, columns: &[Column<T>]) -> Result<Option<Report>, ControlError> {
        if self.columns.as_deref() != Some("help") {
            return self.choose(columns).map(|_| None);
        }
        let width = columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
        let lines = columns.iter().map(|column| {
            let mark = if column.usual { '*' } else { ' ' };
            format!("{mark} {:width$}  {}", column.name, column.about)
        });
        Ok(Some(Report::new().results(lines.chain(["* shown unless -o says otherwise".to_owned()]))))
    }

    /// The rows as lines.
    pub fn lines<T>(&self, columns: &[Column<T>], rows: &[T]) -> Result<Vec<String>, ControlError> {
        let chosen = self.choose(columns)?;
        if self.no_header {
            let line = |row: &T| chosen.iter().map(|column| exact(&(column.cell)(row))).collect::<Vec<_>>().join("\t");
            return Ok(rows.iter().map(line).collect());
        }
        let header = chosen.iter().map(|column| (column.name.to_uppercase(), false)).collect();
        let body = rows.iter().map(|row| chosen.iter().map(|column| readable(&(column.cell)(row))).collect());
        Ok(align(&std::iter::once(header).chain(body).collect::<Vec<Vec<(String, bool)>>>()))
    }

    /// The columns that `-o` names.
    fn choose<'a, T>(&self, columns: &'a [Column<T>]) -> Result<Vec<&'a Column<T>>, ControlError> {
        let usual: Vec<_> = columns.iter().filter(|column| column.usual).collect();
        let Some(asked) = &self.columns else { return Ok(usual) };
        let (mut chosen, asked) = match asked.strip_prefix('+') {
            Some(more) => (usual, more),
            None => (Vec::new(), asked.as_str()),
        };
        for name in asked.split(',') {
            let column = columns.iter().find(|column| column.name == name.trim());
            chosen.push(column.ok_or_else(|| {
                let known: Vec<_> = columns.iter().map(|column| column.name).collect();
                ControlError::usage(format!("there is no column {name:?}"))
                    .hint(format!("columns: {}", known.join(",")))
            })?);
        }
        Ok(chosen)
    }
}

/// A cell for scripts.
fn exact(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) if text.is_empty() => "-".into(),
        Cell::Text(text) => text.replace(['\t', '\n'], " "),
        Cell::Count(number) | Cell::Bytes(number) => number.to_string(),
        Cell::Time(0) => "-".into(),
        Cell::Time(nanos) => control::time::rfc3339(*nanos),
    }
}

/// A cell for people, and whether it stands to the right.
fn readable(cell: &Cell) -> (String, bool) {
    match cell {
        Cell::Text(text) if text.is_empty() => ("-".into(), false),
        Cell::Text(text) => (text.replace(['\t', '\n'], " "), false),
        Cell::Count(number) => (number.to_string(), true),
        Cell::Bytes(bytes) => (control::size::Size(*bytes).to_string(), true),
        Cell::Time(0) => ("-".into(), false),
        Cell::Time(nanos) => (control::time::local(*nanos), false),
    }
}

/// Columns under each other, two blanks between them. A header stands as its column does.
fn align(rows: &[Vec<(String, bool)>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|i| rows.iter().map(|row| row.get(i).map_or(0, |cell| cell.0.chars().count())).max().unwrap_or(0))
        .collect();
    let right: Vec<bool> = (0..count).map(|i| rows.iter().any(|row| row.get(i).is_some_and(|cell| cell.1))).collect();
    let line = |row: &Vec<(String, bool)>| {
        let cells = row.iter().enumerate().map(|(i, (text, _))| {
            let width = widths[i];
            if right[i] { format!("{text:>width$}") } else { format!("{text:width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Lines of a label and a text, the texts under each other.
pub fn labelled(pairs: &[(&str, String)]) -> Vec<String> {
    align(
        &pairs
            .iter()
            .map(|(label, text)| vec![((*label).to_owned(), false), (text.clone(), false)])
            .collect::<Vec<_>>(),
    )
}
