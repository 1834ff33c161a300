//! `argosy crds`: prints the CustomResourceDefinitions of Argosy's kinds, for `kubectl apply -f -`.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;

/// Flags of `argosy crds`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Form of the output: YAML documents, or one JSON List
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

/// Prints the definitions.
pub(crate) fn run(args: &Args) -> Result<()> {
    let text = match args.output {
        Output::Yaml => yaml()?,
        Output::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": config::crd::all()});
            serde_json::to_string_pretty(&list)? + "\n"
        }
    };
    crate::output::print(&text)
}

fn yaml() -> Result<String> {
    let mut text = String::new();
    for definition in config::crd::all() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).context("writing YAML")?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use config::{Kind, Severity};

    #[test]
    fn printed_yaml_reads_back_as_definitions() {
        let text = super::yaml().unwrap();
        let parsed = config::parse("crds.yaml", text.as_bytes(), "default");
        let bad: Vec<_> = parsed
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(parsed.objects.len(), config::crd::all().len());
        assert!(
            parsed
                .objects
                .iter()
                .all(|object| object.kind == Kind::CustomResourceDefinition)
        );
    }
}
