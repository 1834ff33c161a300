//! The forms in which commands show lists: columns for people, JSON and YAML for programs.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

/// Form of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Columns
    #[value(alias = "short", alias = "summary")]
    Table,
    /// The whole, as JSON
    Json,
    /// The whole, as YAML
    Yaml,
}

impl Form {
    /// Prints the columns, or the whole.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn print(self, columns: impl FnOnce() -> String, whole: impl FnOnce() -> Value) -> Result<()> {
        let text = match self {
            Self::Table => columns(),
            Self::Json => format!("{:#}\n", whole()),
            Self::Yaml => serde_saphyr::to_string(&whole()).context("writing YAML")?,
        };
        crate::output::print(&text)
    }
}

/// Rows below a headline, each column as wide as its widest cell. What could steer a terminal is not passed on: the cells
/// come from far machines.
pub(crate) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let plain = |row: &Vec<String>| -> Vec<String> { row.iter().map(|cell| plain(cell)).collect() };
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(plain)).collect();
    let width = |at: usize| {
        let cells = lines.iter().filter_map(|line| line.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(shown, "{cell:width$}   ");
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
}

/// A text without control characters; an empty one is a dash.
pub(crate) fn plain(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        _ => text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["catalog", "", "x"]), row(["ä", "\u{1b}[31m", "yy"])];
        let text = columns(&["NAME", "PORT", "Z"], &rows);
        assert_eq!(
            text,
            "NAME      PORT    Z\ncatalog   -       x\nä         \u{fffd}[31m   yy\n"
        );
    }
}
