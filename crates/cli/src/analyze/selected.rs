//! Which analyzers run, and what has to be read for them.

use analysis::{ALL, Analyzer, EXTRA, PRECHECK};
use anyhow::bail;
use config::Kind;

use super::args::Args;
use super::output;

/// Names of the analyzers that validate single objects: this, and the kind.
pub(super) const SCHEMA: &str = "schema.ValidationAnalyzer.";

/// Which analyzers are to run.
pub(super) struct Selected {
    pub(super) analyzers: Vec<&'static Analyzer>,
    /// Kinds of which single objects are validated; none for all.
    schemas: Option<Vec<String>>,
}

impl Selected {
    /// The kinds that have to be read.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let analyzed = self
            .analyzers
            .iter()
            .flat_map(|analyzer| analyzer.inputs.iter().copied());
        let validated = output::validated().filter(|kind| self.validates(*kind));
        let mut kinds: Vec<Kind> = analyzed.chain(validated).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Whether single objects of the kind are validated.
    pub(super) fn validates(&self, kind: Kind) -> bool {
        let named = |names: &Vec<String>| names.iter().any(|name| name == kind.as_str());
        self.schemas.as_ref().is_none_or(named)
    }
}

/// What the flags select; all that is of use unless they name some.
pub(super) fn selected(args: &Args) -> anyhow::Result<Selected> {
    let (mut analyzers, mut schemas) = (Vec::new(), None);
    if args.analyzers.is_empty() {
        analyzers.extend(ALL);
        if args.precheck {
            analyzers.extend(PRECHECK.iter().chain(EXTRA));
        }
        return Ok(Selected { analyzers, schemas });
    }
    for name in &args.analyzers {
        match (analysis::find(name), name.strip_prefix(SCHEMA)) {
            (Some(analyzer), _) => analyzers.push(analyzer),
            (None, Some(kind)) if output::validated().any(|known| known.as_str() == kind) => {
                schemas.get_or_insert_with(Vec::new).push(kind.to_owned());
            }
            _ => bail!("there is no analyzer {name:?}; --list-analyzers lists them"),
        }
    }
    let schemas = Some(schemas.unwrap_or_default());
    Ok(Selected { analyzers, schemas })
}
