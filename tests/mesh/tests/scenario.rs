//! The scenario, asserted row by row: the same rows that `make demo ONCE=1` prints.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail loudly, as the test itself"
)]

use mesh::{Layout, Mesh, Table, scenario};
use testkit::net::Block;
use tokio::sync::Mutex;

/// A mesh is 20 processes: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn every_row_passes(layout: Layout) {
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut mesh = Mesh::start(scenario::options(layout), Block::take().unwrap(), |_| ())
        .await
        .unwrap();
    let mut table = Table::new(layout.to_string());
    scenario::drive(&mut mesh, &mut table, &scenario::PARTS).await;
    assert!(!table.rows().is_empty(), "the scenario has no rows");
    let failed: Vec<String> = table
        .failed()
        .iter()
        .map(|row| format!("{}: {}", row.name, row.seen.text))
        .collect();
    assert!(
        failed.is_empty(),
        "{}\nfailed:\n{}",
        table.render(),
        failed.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process() {
    Box::pin(every_row_passes(Layout::OneProcess)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_separate_binaries() {
    Box::pin(every_row_passes(Layout::Separate)).await;
}
