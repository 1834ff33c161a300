//! docs/attributes.md names every attribute of the vocabulary, with its type, and no other.

use std::collections::BTreeMap;

#[test]
fn the_table_of_attributes_is_the_vocabulary() {
    let text = include_str!("../../../docs/attributes.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        Some((
            cells.next()?.trim_end_matches('`').to_owned(),
            cells.next()?.to_owned(),
        ))
    });
    let written: Vec<(String, String)> = rows.collect();
    let table: BTreeMap<String, String> = written.iter().cloned().collect();
    assert_eq!(table.len(), written.len(), "an attribute stands there twice");
    let vocabulary: BTreeMap<String, String> = expr::STANDARD
        .all()
        .map(|(name, ty)| (name.to_owned(), ty.name().to_owned()))
        .collect();
    assert_eq!(table, vocabulary);
}
