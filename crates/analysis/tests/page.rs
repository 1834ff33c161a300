//! The page of messages in docs is what the catalogue says.

use analysis::{ALL, Code, EXTRA};

fn page() -> String {
    let mut page = "# Messages of analysis

What analysis says of objects that are each valid but do not fit together. Codes, names and severities are those of
`istioctl analyze`. The annotation `galley.istio.io/analyze-suppress: IST0101,IST0102` on an object leaves out these codes,
`*` all. This page is made from the catalogue of the crate `analysis`; its test fails when they differ, and prints the page
as it should be. `…` stands for names. No check gives these yet, since they need a live cluster, several clusters or an
update to look at: IST0141, IST0142, IST0143, IST0156, IST0168, IST0169, IST0170, IST0172.

| code | name | severity | message | way out |
|---|---|---|---|---|
"
    .to_owned();
    for code in Code::ALL {
        let words = code.template().replace("{}", "…");
        let (id, name, severity, help) = (code.id(), code.name(), code.severity(), code.help());
        page.push_str(&format!("| {id} | {name} | {severity} | {words} | {help} |\n"));
    }
    page.push_str("\nThe checks, and the kinds that each reads:\n\n| check | reads |\n|---|---|\n");
    for analyzer in ALL.iter().chain(EXTRA) {
        let mut kinds: Vec<String> = analyzer
            .inputs
            .iter()
            .map(|kind| kind.type_url().to_owned())
            .collect();
        kinds.sort();
        page.push_str(&format!("| {} | {} |\n", analyzer.name, kinds.join(", ")));
    }
    page
}

#[test]
fn the_page_is_current() {
    let wanted = page();
    assert!(
        include_str!("../../../docs/analysis.md") == wanted,
        "docs/analysis.md should be:\n{wanted}"
    );
}
