//! The Mixer configurations of the corpus `inputs` load: what is not served is named, and nothing else is wrong.

#![allow(clippy::disallowed_methods, reason = "the cases are files")]

use std::path::Path;
use std::sync::Arc;

use config::mesh::MeshConfig;
use policy::Rules;

#[test]
fn mixer_configurations_of_the_corpus() {
    let Ok(shared) = std::env::var("ARGOSY_SHARED") else {
        eprintln!("skipped: set ARGOSY_SHARED to the folder that holds corpora/inputs");
        return;
    };
    for folder in ["bookinfo-mixer-policy", "mixer-config"] {
        let folder = Path::new(&shared).join("corpora/inputs").join(folder);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty());
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let parsed = config::parse(&name, &std::fs::read(&file).unwrap(), "default");
            let objects: Vec<_> = parsed.objects.into_iter().map(Arc::new).collect();
            let (rules, findings) = Rules::build(&objects, &MeshConfig::default().with_defaults());
            println!("{name}: {} objects, {} rules", objects.len(), rules.len());
            for finding in findings.iter().filter(|f| f.is_error()) {
                let text = finding.to_string();
                println!("  {text}");
                let reasons = [
                    "not served yet",
                    "cannot be used",
                    "there is no adapter",
                    "there is no handler",
                    "there is no instance",
                    "takes no instances of logentry",
                ];
                assert!(reasons.iter().any(|reason| text.contains(reason)), "{text}");
            }
        }
    }
}
