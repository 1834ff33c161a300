//! The pages of docs/tasks, section by section, as they are written.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use cluster::page::{self, Section, Step};
use cluster::root;
use mesh::Seen;
use testkit::wait::until_blocking as until;

use crate::day::Day;

const PAGES: [&str; 5] = ["operations", "policies", "security", "telemetry", "traffic"];
/// Images of the pages, and those that the cluster has.
const IMAGES: [(&str, &str); 3] = [
    ("docker.io/library/redis:7", "localhost/argosy/redis:dev"),
    (
        "docker.io/prom/prometheus:v2.53.0",
        "localhost/argosy/prometheus:dev",
    ),
    ("localhost/argosy/sample:0.1.0", "localhost/argosy/sample:dev"),
];

/// Sections that were not run yet, by page.
pub(crate) struct Pages {
    left: BTreeMap<&'static str, Vec<Section>>,
}

impl Pages {
    /// Reads all pages.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let read = |name: &'static str| {
            let path = root().join(format!("docs/tasks/{name}.md"));
            let text = std::fs::read_to_string(&path)?;
            let sections = page::parse(&text).with_context(|| path.display().to_string())?;
            anyhow::Ok((name, sections))
        };
        let left = PAGES.into_iter().map(read).collect::<anyhow::Result<_>>()?;
        Ok(Self { left })
    }

    /// The next section of a page, whose headline begins so.
    pub(crate) fn next(&mut self, page: &str, title: &str) -> anyhow::Result<Section> {
        let sections = self.left.get_mut(page).context("no such page")?;
        let first = sections.first().context("the page has no more sections")?;
        anyhow::ensure!(
            first.title.starts_with(title),
            "{page}.md goes on with {:?}",
            first.title
        );
        Ok(sections.remove(0))
    }

    /// Headlines of sections that nobody has run.
    pub(crate) fn left(&self) -> Vec<String> {
        let titles = |(page, sections): (&&str, &Vec<Section>)| -> Vec<String> {
            sections
                .iter()
                .map(|section| format!("{page}.md: {}", section.title))
                .collect()
        };
        self.left.iter().flat_map(titles).collect()
    }
}

impl Day {
    /// Does what a section says. A command may take that long to print what the page says.
    pub(crate) fn task(
        &self,
        pages: &mut Pages,
        page: &str,
        title: &str,
        patience: Duration,
    ) -> anyhow::Result<Seen> {
        let section = pages.next(page, title)?;
        let mut commands = 0;
        for step in &section.steps {
            match step {
                Step::Apply { namespace, yaml } => {
                    let yaml = IMAGES
                        .iter()
                        .fold(yaml.clone(), |yaml, (page, ours)| yaml.replace(page, ours));
                    self.cluster.apply(namespace, &yaml)?;
                }
                Step::Run {
                    command,
                    expected,
                    functions,
                } => {
                    self.prints(functions, command, expected, patience)?;
                    commands += 1;
                }
            }
        }
        Ok(Seen::new(
            true,
            format!("{commands} commands print what the page says"),
        ))
    }

    /// Runs a command until it prints that.
    fn prints(
        &self,
        functions: &str,
        command: &str,
        expected: &[String],
        patience: Duration,
    ) -> anyhow::Result<()> {
        let expected_text = expected.join("\n");
        until(command, patience, || {
            let printed = self.cluster.shell(&format!("{functions}{command}"))?;
            let told = page::is_as_told(expected, &printed);
            anyhow::ensure!(told, "it prints\n{printed}\nand not\n{expected_text}");
            Ok(())
        })
    }
}
