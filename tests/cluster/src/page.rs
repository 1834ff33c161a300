//! Pages of docs/tasks: what their sections apply and run, and what that prints. They are run as they are written.
//!
//! In a section, a fence of `yaml` is applied to the namespace `shop`, or to that which stands behind the word; a fence of `sh`
//! defines functions for the commands below it; a fence of `console` has commands behind `$ ` (gone on with behind `> `), each
//! followed by what it prints. There `…` stands for anything within a line, and a line of its own for any lines.

use anyhow::{Context, bail};

/// A part of a page below a headline of the second level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The headline.
    pub title: String,
    /// What to do, in order.
    pub steps: Vec<Step>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Objects to apply.
    Apply {
        /// Where.
        namespace: String,
        /// The objects.
        yaml: String,
    },
    /// A command to run, with the functions that were defined before it.
    Run {
        /// For `sh -c`.
        command: String,
        /// The lines that it prints.
        expected: Vec<String>,
        /// Definitions.
        functions: String,
    },
}

/// Where a page's objects go unless it says otherwise.
const NAMESPACE: &str = "shop";

/// The sections of a page that have something to do.
///
/// # Errors
/// A fence that is not closed or of another kind; output without a command.
pub fn parse(text: &str) -> anyhow::Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut functions = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section {
                title: title.to_owned(),
                ..Section::default()
            });
        }
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let mut body = Vec::new();
        loop {
            match lines.next() {
                Some("```") => break,
                Some(line) => body.push(line),
                None => bail!("a fence of {kind:?} is not closed"),
            }
        }
        let (kind, namespace) = kind.split_once(' ').unwrap_or((kind, NAMESPACE));
        let body_text = body.join("\n") + "\n";
        if kind == "sh" {
            functions += &body_text;
            continue;
        }
        let section = sections.last_mut().context("a fence before the first section")?;
        match kind {
            "yaml" => section.steps.push(Step::Apply {
                namespace: namespace.to_owned(),
                yaml: body_text,
            }),
            "console" => section.steps.extend(commands(&body, &functions)?),
            _ => bail!("a fence is of yaml, sh or console, and not of {kind:?}"),
        }
    }
    sections.retain(|section| !section.steps.is_empty());
    Ok(sections)
}

fn commands(body: &[&str], functions: &str) -> anyhow::Result<Vec<Step>> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in body {
        match (
            line.strip_prefix("$ "),
            line.strip_prefix("> "),
            commands.last_mut(),
        ) {
            (Some(command), _, _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some(more), Some((command, printed))) if printed.is_empty() => {
                command.push('\n');
                command.push_str(more);
            }
            (None, _, Some((_, printed))) => printed.push((*line).to_owned()),
            (None, _, None) => bail!("output without a command: {line:?}"),
        }
    }
    let step = |(command, expected)| Step::Run {
        command,
        expected,
        functions: functions.to_owned(),
    };
    Ok(commands.into_iter().map(step).collect())
}

/// Whether what was printed is what the page says.
#[must_use]
pub fn is_as_told(expected: &[String], printed: &str) -> bool {
    let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
    lines_match(expected, &printed)
}

fn lines_match(expected: &[String], printed: &[&str]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => (0..=printed.len())
            .any(|skipped| printed.get(skipped..).is_some_and(|left| lines_match(rest, left))),
        (Some((first, rest)), Some((line, left))) => line_matches(first, line) && lines_match(rest, left),
        _ => false,
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_it_applies_and_runs() {
        let text = "# Title\n\n```sh\nf() { echo $1; }\n```\n\n## Nothing to do\n\n## Task\n\
            Words.\n```yaml tools\na: 1\n```\n```console\n$ f one \\\n>   two\none\n$ true\n```\n";
        let functions = "f() { echo $1; }\n".to_owned();
        let expected = [
            Step::Apply {
                namespace: "tools".to_owned(),
                yaml: "a: 1\n".to_owned(),
            },
            Step::Run {
                command: "f one \\\n  two".to_owned(),
                expected: vec!["one".to_owned()],
                functions: functions.clone(),
            },
            Step::Run {
                command: "true".to_owned(),
                expected: Vec::new(),
                functions,
            },
        ];
        let sections = parse(text).unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(
            (&*sections[0].title, &*sections[0].steps),
            ("Task", &expected[..])
        );
        for wrong in [
            "## A\n```yaml\n",
            "## A\n```rust\n```\n",
            "```yaml\n```\n",
            "## A\n```console\nx\n```\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[track_caller]
    fn check(expected: &str, printed: &str, same: bool) {
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        assert_eq!(is_as_told(&expected, printed), same, "{expected:?} {printed:?}");
    }

    #[test]
    fn an_ellipsis_stands_for_anything() {
        check("a\nb", "a\nb\n", true);
        check("a", "a\nb", false);
        check("a…d…f", "abcdef", true);
        check("a…d…f", "abcdefg", false);
        check("a…a", "a", false);
        check("…\nlast", "one\ntwo\nlast\n", true);
        check("one\n…", "one", true);
        check("one\n…\nthree", "one\ntwo", false);
        check("", "", true);
        check("", "x", false);
    }
}
