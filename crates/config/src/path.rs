//! Where in an object a check stands, and what it found there.
//!
//! An [`At`] is a link of a list that lives on the stack: going into a field costs nothing, and only a finding writes its
//! path down.

use std::cell::RefCell;
use std::fmt;

use crate::clip::{self, clip};
use crate::{Options, Severity};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Key(Box<str>),
    Index(usize),
}

/// Something found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) severity: Severity,
    pub(crate) path: Vec<Segment>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// A path as people write it: `spec.http[0].match`, odd keys as `labels["a.b/c"]`.
pub(crate) struct Display<'a>(pub(crate) &'a [Segment]);

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key)
                    if !key.is_empty()
                        && key.len() <= clip::NAME
                        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) =>
                {
                    write!(f, "{}{key}", if position > 0 { "." } else { "" })?;
                }
                Segment::Key(key) => write!(f, "[{:?}]", clip(key.to_string(), clip::NAME))?,
            }
        }
        Ok(())
    }
}

/// Collects what checks find; at most [`Report::LIMIT`] issues, so that bad input cannot make an endless list.
#[derive(Debug, Default)]
pub(crate) struct Report {
    options: Options,
    found: RefCell<Found>,
}

#[derive(Debug, Default)]
struct Found {
    issues: Vec<Issue>,
    errors: usize,
    /// Fields without a value that could be used: nothing further is said about them.
    unusable: Vec<Vec<Segment>>,
}

impl Report {
    /// Most issues kept for one object.
    const LIMIT: usize = 200;

    /// A report of checks by these options.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    pub(crate) fn into_issues(self) -> Vec<Issue> {
        self.found.into_inner().issues
    }

    /// Whether an error was found.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.borrow().errors > 0
    }
}

/// A place in an object that is being checked.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    report: &'a Report,
    link: Option<Link<'a>>,
}

#[derive(Clone, Copy)]
struct Link<'a> {
    parent: &'a At<'a>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The object itself.
    pub(crate) fn root(report: &'a Report) -> Self {
        At { report, link: None }
    }

    /// A field, or a map's entry.
    pub(crate) fn key<'b>(&'b self, key: &'b str) -> At<'b> {
        At {
            report: self.report,
            link: Some(Link {
                parent: self,
                step: Step::Key(key),
            }),
        }
    }

    /// A list's item.
    pub(crate) fn index<'b>(&'b self, index: usize) -> At<'b> {
        At {
            report: self.report,
            link: Some(Link {
                parent: self,
                step: Step::Index(index),
            }),
        }
    }

    /// Checks each item of a list field.
    pub(crate) fn each<T>(&self, key: &str, items: &[T], check: impl Fn(&T, &At<'_>)) {
        let field = self.key(key);
        for (index, item) in items.iter().enumerate() {
            check(item, &field.index(index));
        }
    }

    /// Checks a field that may be absent.
    pub(crate) fn some<T: ?Sized>(&self, key: &str, value: Option<&T>, check: impl FnOnce(&T, &At<'_>)) {
        if let Some(value) = value {
            check(value, &self.key(key));
        }
    }

    fn path(&self) -> Vec<Segment> {
        let mut path = Vec::new();
        let mut at = self;
        while let Some(link) = &at.link {
            path.push(match link.step {
                Step::Key(key) => Segment::Key(key.into()),
                Step::Index(index) => Segment::Index(index),
            });
            at = link.parent;
        }
        path.reverse();
        path
    }

    fn add(&self, severity: Severity, message: String, help: Option<String>) {
        let mut found = self.report.found.borrow_mut();
        let path = self.path();
        if found.unusable.contains(&path) {
            return;
        }
        if severity == Severity::Error {
            found.errors += 1;
        }
        if found.issues.len() < Report::LIMIT {
            found.issues.push(Issue {
                severity,
                path,
                message,
                help,
            });
        }
    }

    /// By which options is checked.
    pub(crate) fn options(&self) -> &'a Options {
        &self.report.options
    }

    /// How many errors there are so far, anywhere in the object.
    pub(crate) fn error_count(&self) -> usize {
        self.report.found.borrow().errors
    }

    /// This field has no value that could be used. Nothing further will be said about it.
    pub(crate) fn unusable(&self, message: impl Into<String>, help: Option<String>) {
        self.add(Severity::Error, message.into(), help);
        self.report.found.borrow_mut().unusable.push(self.path());
    }

    /// This is wrong.
    pub(crate) fn error(&self, message: impl Into<String>) {
        self.add(Severity::Error, message.into(), None);
    }

    /// This is wrong, and there is a way out.
    pub(crate) fn error_help(&self, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, message.into(), Some(help.into()));
    }

    /// This may not be what was meant.
    pub(crate) fn warning(&self, message: impl Into<String>) {
        self.add(Severity::Warning, message.into(), None);
    }

    /// This may not be what was meant, and there is a way out.
    pub(crate) fn warning_help(&self, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, message.into(), Some(help.into()));
    }

    /// This is worth knowing.
    pub(crate) fn info(&self, message: impl Into<String>) {
        self.add(Severity::Info, message.into(), None);
    }

    /// Wrong unless `holds`; says whether it held.
    pub(crate) fn require(&self, holds: bool, message: &str) -> bool {
        if !holds {
            self.error(message);
        }
        holds
    }
}
