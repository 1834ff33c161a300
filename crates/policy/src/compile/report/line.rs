//! Entries of a `stdio` handler as lines of the proxy's own: JSON on its standard output or error.

use std::collections::BTreeMap;

use config::adapters::{Level, Stdio, Stream};
use config::templates::Slot;
use expr::{Expression, Value, ValueType};

use super::attribute::Ended;
use super::part::{Part, When, Worth};
use super::{Reason, Text, filter};
use crate::cel::literal;
use crate::rules::ReportAction;

/// A log entry that the proxy writes by itself: an object of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// The rule, `NAME.NAMESPACE`.
    pub rule: String,
    /// Whether it goes to the standard error, and not to the standard output.
    pub stderr: bool,
    /// CEL that holds for the requests that are written; `None` for all.
    pub when: Option<String>,
    /// The object's fields.
    pub fields: BTreeMap<String, Field>,
}

/// A field of a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A number, a truth or a text, as its value is.
    Typed(Text),
    /// A text, whatever its value is.
    Text(Text),
    /// When the line is written.
    Now,
}

/// Fields of log entries that have a place of their own in the line.
const OWN: [&str; 3] = ["timestamp", "severity", "variables"];

impl Ended<'_> {
    pub(super) fn line(
        &self,
        rule: &str,
        stdio: &Stdio,
        action: &ReportAction,
        condition: &When,
    ) -> Result<Option<Line>, Reason> {
        let (handler, instance) = (&action.handler.name, &action.instance);
        let stderr = match stdio.stream {
            Stream::Stdout => false,
            Stream::Stderr => true,
            Stream::File(_) | Stream::RotatedFile(..) => return Err(Reason::File(handler.clone())),
        };
        if !stdio.json {
            return Err(Reason::PlainLines(handler.clone()));
        }
        if instance.template.name() != "logentry" {
            return Err(Reason::Template(
                handler.clone(),
                instance.template.name().to_owned(),
            ));
        }
        let record = instance.record();
        if let Some((name, _)) = record
            .slots()
            .iter()
            .find(|(name, _)| !OWN.contains(&name.as_str()))
        {
            return Err(Reason::Field(name.clone()));
        }
        let (level, mut when) = self.level(stdio, record.one("severity"))?;
        when = condition.and(&when);
        let mut fields = BTreeMap::new();
        let shown = Text::Fixed(instance.shown().to_owned());
        fields.insert("instance".to_owned(), Field::Text(shown));
        fields.insert("level".to_owned(), Field::Text(level));
        let time = match record.one("timestamp") {
            None => Field::Now,
            Some(expression) => self.field(expression, &mut when)?,
        };
        fields.insert("time".to_owned(), time);
        let variables = record.slots().iter().find_map(|(_, slot)| match slot {
            Slot::Many(variables) => Some(variables),
            _ => None,
        });
        for (name, expression) in variables.into_iter().flatten() {
            let field = self.field(expression, &mut when)?;
            // Names of the line's own come first and are not replaced.
            fields.entry(name.clone()).or_insert(field);
        }
        let line = Line {
            rule: rule.to_owned(),
            stderr,
            when: filter(&when),
            fields,
        };
        Ok((when != When::Never).then_some(line))
    }

    /// A value, which is there under a condition that is added.
    fn field(&self, expression: &Expression, when: &mut When) -> Result<Field, Reason> {
        let part = self.part(expression.root())?;
        *when = when.and(&part.present);
        let text = match (&part.worth, expression.ty()) {
            (_, ValueType::StringMap | ValueType::Double) => return Err(Reason::Type(expression.ty())),
            // A constant may be of a type that CEL shows otherwise.
            (Worth::Known(value), ValueType::Timestamp | ValueType::Duration | ValueType::IpAddress) => {
                Text::Fixed(value.to_string())
            }
            _ => part.text()?,
        };
        Ok(match expression.ty() {
            ValueType::Duration => Field::Text(text),
            _ => Field::Typed(text),
        })
    }

    /// The level's name, and when the line matters enough.
    fn level(&self, stdio: &Stdio, severity: Option<&Expression>) -> Result<(Text, When), Reason> {
        let part = match severity {
            None => Part::known(Value::from("")),
            Some(expression) => self.part(expression.root())?,
        };
        if let Worth::Known(Value::Text(severity)) = &part.worth {
            let level = stdio.level(severity);
            let when = match level >= stdio.least {
                true => part.present,
                false => When::Never,
            };
            return Ok((Text::Fixed(level.name().to_owned()), when));
        }
        let cel = part.cel()?;
        // All others are ordinary.
        let named = stdio
            .severities
            .iter()
            .filter(|(_, level)| **level != Level::Info);
        let named: Vec<(&String, Level)> = named.map(|(name, level)| (name, *level)).collect();
        let chain = |of: &dyn Fn(Level) -> String| {
            named.iter().rev().fold(of(Level::Info), |rest, (name, level)| {
                format!("({cel} == {} ? {} : {rest})", literal(name), of(*level))
            })
        };
        let level = chain(&|level| literal(level.name()));
        let least = stdio.least;
        let matters = match least {
            Level::Info => When::Always,
            _ => When::If(chain(&|level| (level >= least).to_string())),
        };
        let part = Part::computed(level, part.present.and(&matters)).bounded()?;
        Ok((part.text()?, part.present))
    }
}
