//! What was expected and what was seen: rows that are printed as they come, and as a table at the end.

use std::fmt::Write;
use std::future::Future;
use std::time::{Duration, Instant};

/// What one row saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whether it is what was expected.
    pub ok: bool,
    /// It, in words.
    pub text: String,
}

impl Seen {
    /// What was seen, and whether it is what was expected.
    pub fn new(ok: bool, text: impl Into<String>) -> Self {
        Self {
            ok,
            text: text.into(),
        }
    }
}

/// One row of the scenario.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// What should be seen.
    pub expected: String,
    /// What was.
    pub seen: Seen,
    /// How long it took.
    pub took: Duration,
}

/// The rows of one run.
#[derive(Debug, Clone)]
pub struct Table {
    title: String,
    rows: Vec<Row>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row by seeing. An error is a row that failed. Says on stderr how it went.
    pub async fn row(&mut self, name: &str, expected: &str, see: impl Future<Output = anyhow::Result<Seen>>) {
        let started = Instant::now();
        let seen = see
            .await
            .unwrap_or_else(|error| Seen::new(false, format!("{error:#}")));
        let took = started.elapsed();
        eprintln!(
            "{} {name}: {} ({:.1} s)",
            mark(seen.ok),
            seen.text,
            took.as_secs_f32()
        );
        self.rows.push(Row {
            name: name.to_owned(),
            expected: expected.to_owned(),
            seen,
            took,
        });
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that failed.
    pub fn failed(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| !row.seen.ok).collect()
    }

    /// The table as text.
    pub fn render(&self) -> String {
        let name = width(self.rows.iter().map(|row| row.name.as_str()), 46);
        let expected = width(self.rows.iter().map(|row| row.expected.as_str()), 60);
        let mut out = format!("\n{}\n", self.title);
        let _ = writeln!(out, "     {:name$}  {:expected$}  seen", "row", "expected");
        for row in &self.rows {
            let seen = seen(&row.seen);
            let _ = writeln!(
                out,
                "{} {:name$}  {:expected$}  {seen}",
                mark(row.seen.ok),
                row.name,
                row.expected
            );
        }
        let failed = self.failed().len();
        let _ = writeln!(out, "{} rows, {failed} failed", self.rows.len());
        out
    }
}

/// The beginning of what was seen; all of it where it was not what was expected.
fn seen(seen: &Seen) -> String {
    match seen.ok {
        true => seen
            .text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(160)
            .collect(),
        false => seen.text.clone(),
    }
}

fn mark(ok: bool) -> &'static str {
    if ok { "ok  " } else { "FAIL" }
}

/// The widest text, but not more than `most`.
fn width<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> usize {
    texts
        .map(|text| text.chars().count())
        .max()
        .unwrap_or(0)
        .min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_is_a_failed_row_with_its_reason() {
        let mut table = Table::new("title");
        table.row("good", "1", async { Ok(Seen::new(true, "1")) }).await;
        table.row("bad", "1", async { anyhow::bail!("no answer") }).await;
        assert_eq!(
            table
                .failed()
                .iter()
                .map(|row| row.name.as_str())
                .collect::<Vec<_>>(),
            ["bad"]
        );
        let text = table.render();
        assert!(
            text.contains("FAIL bad") && text.contains("no answer") && text.contains("2 rows, 1 failed"),
            "{text}"
        );
    }
}
