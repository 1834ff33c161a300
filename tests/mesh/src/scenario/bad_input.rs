//! Bad input in the folder: each gets one clear message, and nothing else is lost.

use anyhow::Context;
use serde_json::Value;
use testkit::wait;

use super::{PATIENCE, browse, finding_about, findings, no_finding_about, one_line, text};
use crate::control::Service;
use crate::mesh::Mesh;
use crate::table::{Seen, Table};

/// A file that should not be there.
struct Bad {
    name: &'static str,
    expected: &'static str,
    file: &'static str,
    contents: Vec<u8>,
    /// What the message, with object and field, must say.
    says: &'static [&'static str],
}

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    for bad in bad_files() {
        table.row(bad.name, bad.expected, bad_file(mesh, &bad)).await;
    }
    table
        .row(
            "bad input: empty folder",
            "one message; the mesh keeps running",
            emptied(mesh),
        )
        .await;
    table
        .row(
            "bad input: folder removed and back",
            "one message; the mesh keeps running",
            removed(mesh),
        )
        .await;
}

fn bad_files() -> Vec<Bad> {
    vec![
        Bad {
            name: "bad input: unknown kind",
            expected: "the kind and the nearest known one are named",
            file: "bad-kind.yaml",
            contents:
                b"apiVersion: networking.istio.io/v1\nkind: VirtualServise\nmetadata: {name: x}\nspec: {}\n"
                    .into(),
            says: &["VirtualServise", "VirtualService"],
        },
        Bad {
            name: "bad input: unknown field",
            expected: "the field and the nearest known one are named",
            file: "bad-field.yaml",
            contents: b"apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                        metadata: {name: typo, namespace: shop}\nspec:\n  hosts: [typo]\n  \
                        http:\n  - timeuot: 3s\n    route: [{destination: {host: orders}}]\n"
                .into(),
            says: &["VirtualService shop/typo", "spec.http[0].timeuot", "\"timeout\""],
        },
        Bad {
            name: "bad input: an object in two files",
            expected: "the object and both files are named; the first holds",
            file: "zz-again.yaml",
            contents: b"apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                        metadata: {name: catalog, namespace: shop}\nspec:\n  hosts: [catalog]\n  \
                        http:\n  - fault: {abort: {httpStatus: 500, percentage: {value: 100}}}\n    \
                        route: [{destination: {host: orders}}]\n"
                .into(),
            says: &["VirtualService shop/catalog", "traffic.yaml"],
        },
        Bad {
            name: "bad input: YAML bomb",
            expected: "refused for what it expands to",
            file: "bomb.yaml",
            contents: bomb(),
            says: &["anchors and aliases repeat"],
        },
        Bad {
            name: "bad input: 100 MB file",
            expected: "refused for its size",
            file: "huge.yaml",
            contents: b"# a line of a comment, as there are many in this file\n".repeat(1_900_000),
            says: &["102600000 bytes"],
        },
        Bad {
            name: "bad input: binary file",
            expected: "refused as not being text",
            file: "binary.yaml",
            contents: (0..4096_u32)
                .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
                .collect(),
            says: &["the file is binary"],
        },
        Bad {
            name: "bad input: half a file",
            expected: "line and reason; the last good state holds",
            file: "half.yaml",
            contents:
                b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: half, namesp"
                    .into(),
            says: &["half.yaml:3:", "not valid YAML"],
        },
    ]
}

/// Nine levels of nine aliases each: 387 million nodes.
fn bomb() -> Vec<u8> {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    text.into_bytes()
}

async fn bad_file(mesh: &Mesh, bad: &Bad) -> anyhow::Result<Seen> {
    mesh.folder.write(bad.file, &bad.contents)?;
    let seen = bad_file_seen(mesh, bad).await;
    mesh.folder.remove(bad.file)?;
    let seen = seen?;
    no_finding_about(mesh, bad.file).await?;
    Ok(seen)
}

async fn bad_file_seen(mesh: &Mesh, bad: &Bad) -> anyhow::Result<Seen> {
    let finding = finding_about(mesh, bad.file).await?;
    let line = one_line(&finding);
    let about = findings(mesh)
        .await?
        .iter()
        .filter(|one| text(one, "file") == bad.file)
        .count();
    let said = bad.says.iter().all(|word| line.contains(word));
    let browsed = browse(mesh).await?;
    let ok = said && about == 1 && browsed.status("200") == 1;
    let more = if about == 1 {
        String::new()
    } else {
        format!(" ({about} messages)")
    };
    Ok(Seen::new(
        ok,
        format!("{line}{more}; requests: {}", browsed.statuses()),
    ))
}

/// The folder is replaced by an empty one, as when a volume is not mounted.
async fn emptied(mesh: &Mesh) -> anyhow::Result<Seen> {
    without(mesh, true, "is empty").await
}

/// The folder goes away and comes back.
async fn removed(mesh: &Mesh) -> anyhow::Result<Seen> {
    without(mesh, false, "configuration folder cannot be read").await
}

async fn without(mesh: &Mesh, empty: bool, told: &str) -> anyhow::Result<Seen> {
    let folder = mesh.folder.path();
    let away = folder.with_extension("away");
    // Only what is said from now on counts.
    let before = mesh.control.output(Service::Galley).lines().count();
    std::fs::rename(folder, &away)?;
    if empty {
        std::fs::create_dir(folder)?;
    }
    let line = until_logged(mesh, told, before).await;
    let browsed = browse(mesh).await;
    if empty {
        // Galley may keep its own state there.
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::rename(&away, folder)?;
    came_back(mesh).await?;
    let (line, browsed) = (line?, browsed?);
    Ok(Seen::new(
        browsed.status("200") == 1,
        format!("{line}; requests: {}", browsed.statuses()),
    ))
}

/// Waits for a warning or an error of Galley, after so many lines of its log, that contains `word`; gives its line.
async fn until_logged(mesh: &Mesh, word: &str, before: usize) -> anyhow::Result<String> {
    let look = || {
        let output = mesh.control.output(Service::Galley);
        let loud = |line: &&str| line.contains("ERROR") || line.contains("WARN");
        let found = output
            .lines()
            .skip(before)
            .filter(loud)
            .find(|line| line.contains(word))
            .map(str::to_owned);
        std::future::ready(found.with_context(|| format!("Galley has logged nothing that {word:?}")))
    };
    wait::until("Galley's log", PATIENCE, look)
        .await
        .map(|(line, _)| line)
}

/// Waits until Galley serves the sample again, and requests are answered.
async fn came_back(mesh: &Mesh) -> anyhow::Result<()> {
    let look = || async {
        let page = mesh
            .control
            .admin(Service::Galley, "/debug/config")
            .await?
            .json()?;
        let objects = page.get("objects").and_then(Value::as_array).map_or(0, Vec::len);
        anyhow::ensure!(
            page.to_string().contains("VirtualService shop/catalog"),
            "{objects} objects"
        );
        anyhow::ensure!(browse(mesh).await?.status("200") == 1, "requests fail");
        Ok(())
    };
    wait::until("the configuration to be back", PATIENCE, look)
        .await
        .map(drop)
}
