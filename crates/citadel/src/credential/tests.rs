//! Who gets what by which name.

use super::*;
use crate::kubernetes::access::{Access, Decision, Reader};
use futures::FutureExt;
use rcgen::{CertificateParams, KeyPair};
use std::fmt::Write;

fn certified() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["shop.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A Secret as a person writes it.
fn yaml(namespace: &str, name: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!("kind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData:\n");
    for (key, value) in values {
        let value = value.replace('\n', "\n    ");
        write!(text, "  {key}: |\n    {}\n", value.trim_end()).unwrap();
    }
    text
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        Self(tempfile::Builder::new().permissions(private).tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        crate::ca::files::write_atomic(&self.0.path().join(name), text.as_bytes(), 0o600).unwrap();
    }

    fn load(&self) -> folder::Loaded {
        Folder(Some(self.0.path().to_owned())).load().unwrap()
    }
}

/// As a session does it where there is no cluster.
fn read(secrets: &Secrets, name: &str, caller: &str) -> Result<Material, Missing> {
    let name = Name::parse(name, caller)?;
    let reader = Reader {
        namespace: caller.to_owned(),
        account: "gateway".to_owned(),
    };
    let key = name.key();
    let decision = Access::OwnNamespace.decide(&reader, &key);
    match decision.now_or_never().expect("nobody is asked") {
        Decision::Allowed => find(secrets, name),
        Decision::Denied(denial) => Err(denial.into()),
        Decision::Unknown(reason) => panic!("{reason}"),
    }
}

fn check(secrets: &Secrets, name: &str, caller: &str, expected: Result<&str, &str>) {
    let found = read(secrets, name, caller);
    match (&found, expected) {
        (Ok(material), Ok(part)) => assert_eq!(format!("{material:?}"), part, "{name}"),
        (Err(reason), Err(part)) => assert!(reason.to_string().contains(part), "{name}: {reason}"),
        _ => panic!("{name} for {caller}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn every_cell_of_who_may_read_what() {
    let files = Files::new();
    let (certificate, key) = certified();
    let pair: [(&str, &str); 3] = [
        ("tls.crt", &certificate),
        ("tls.key", &key),
        ("ca.crt", &certificate),
    ];
    let mut text = String::new();
    for namespace in ["shop", "bank"] {
        text += &yaml(namespace, "web", &pair);
        text += "---\n";
    }
    files.write("secrets.yaml", &text);
    let secrets = files.load().secrets;
    assert_eq!(secrets.len(), 2);
    for caller in ["shop", "bank"] {
        check(&secrets, "kubernetes://web", caller, Ok("KeyPair"));
        check(&secrets, "kubernetes://web-cacert", caller, Ok("Roots"));
        for owner in ["shop", "bank"] {
            let allowed = owner == caller;
            for scheme in ["kubernetes", "kubernetes-gateway"] {
                let expected = |part| {
                    if allowed {
                        Ok(part)
                    } else {
                        Err("its own namespace alone")
                    }
                };
                check(
                    &secrets,
                    &format!("{scheme}://{owner}/web"),
                    caller,
                    expected("KeyPair"),
                );
                check(
                    &secrets,
                    &format!("{scheme}://{owner}/web-cacert"),
                    caller,
                    expected("Roots"),
                );
            }
        }
    }
    // A refusal is the same whether the Secret exists or not.
    check(
        &secrets,
        "kubernetes://bank/none",
        "shop",
        Err("its own namespace alone"),
    );
    check(
        &secrets,
        "kubernetes://none",
        "shop",
        Err("there is no Secret shop/none"),
    );
    check(
        &secrets,
        "kubernetes://web",
        "other",
        Err("there is no Secret other/web"),
    );
}

#[test]
fn names_are_taken_apart_strictly() {
    let none = Secrets::new();
    for name in [
        "",
        "web",
        "kubernetes://",
        "kubernetes://a/b/c",
        "kubernetes://../web",
        "kubernetes:///web",
        "kubernetes-gateway://web",
        "kubernetes://-cacert",
        "kubernetes://Web",
        "file:///etc/passwd",
        &format!("kubernetes://{}", "a".repeat(600)),
    ] {
        check(&none, name, "shop", Err("not the name of a credential"));
    }
}

#[test]
fn a_secret_of_its_own_for_roots_comes_first_and_generic_keys_count() {
    let files = Files::new();
    let ((one, key), (other, _)) = (certified(), certified());
    files.write(
        "a.yaml",
        &yaml("shop", "web", &[("cert", &one), ("key", &key), ("cacert", &one)]),
    );
    files.write("b.yaml", &yaml("shop", "web-cacert", &[("cacert", &other)]));
    let secrets = files.load().secrets;
    let Ok(Material::Roots { certificates, .. }) = read(&secrets, "kubernetes://web-cacert", "shop") else {
        panic!("no roots");
    };
    assert_eq!(certificates.trim(), other.trim());
    check(&secrets, "kubernetes://web", "shop", Ok("KeyPair"));
}

#[test]
fn what_is_wrong_with_a_secret_is_named_without_its_values() {
    let files = Files::new();
    let ((certificate, key), (_, other)) = (certified(), certified());
    let spoilt = [
        (
            "empty",
            vec![("tls.crt", ""), ("tls.key", key.as_str())],
            "tls.crt",
        ),
        (
            "nokey",
            vec![("tls.crt", certificate.as_str())],
            "neither tls.key nor key",
        ),
        (
            "pair",
            vec![("tls.crt", certificate.as_str()), ("tls.key", other.as_str())],
            "tls.key is not the key of",
        ),
        (
            "pem",
            vec![("tls.crt", "sekret"), ("tls.key", key.as_str())],
            "tls.crt: holds no CERTIFICATE",
        ),
        (
            "keypem",
            vec![("tls.crt", certificate.as_str()), ("tls.key", "sekret")],
            "tls.key: ",
        ),
    ];
    let text: Vec<String> = spoilt
        .iter()
        .map(|(name, values, _)| yaml("shop", name, values))
        .collect();
    files.write("all.yaml", &text.join("---\n"));
    let secrets = files.load().secrets;
    for (name, _, expected) in spoilt {
        let error = read(&secrets, &format!("kubernetes://{name}"), "shop")
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected) && !error.contains("sekret"), "{error}");
    }
}

#[test]
fn a_broken_file_keeps_what_it_held_and_a_deleted_one_does_not() {
    let files = Files::new();
    let (certificate, key) = certified();
    let pair: [(&str, &str); 2] = [("tls.crt", &certificate), ("tls.key", &key)];
    let (mut watcher, seen) = Watcher::new(Folder(Some(files.0.path().to_owned())));
    let mut look = |files: &Files| {
        watcher.take(Ok(files.load()));
        let held: Vec<String> = seen.borrow().secrets.keys().map(|key| key.name.clone()).collect();
        held.join(" ")
    };
    files.write("a.yaml", &yaml("shop", "a", &pair));
    files.write("b.yaml", &yaml("shop", "b", &pair));
    assert_eq!(look(&files), "a b");
    files.write("a.yaml", "kind: [");
    assert_eq!(look(&files), "a b");
    std::fs::remove_file(files.0.path().join("a.yaml")).unwrap();
    assert_eq!(look(&files), "b");
}

#[test]
fn a_secret_that_two_files_have_is_reported_and_is_the_first_ones() {
    let files = Files::new();
    let ((one, key), (other, other_key)) = (certified(), certified());
    let text =
        |certificate: &str, key: &str| yaml("shop", "a", &[("tls.crt", certificate), ("tls.key", key)]);
    files.write("1.yaml", &text(&one, &key));
    files.write("2.yaml", &text(&other, &other_key));
    let loaded = files.load();
    let Ok(Material::KeyPair { chain, .. }) = read(&loaded.secrets, "kubernetes://a", "shop") else {
        panic!("no pair");
    };
    assert_eq!(chain.trim(), one.trim());
    let told: Vec<_> = loaded.twice.iter().collect();
    let [(path, reason)] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(
        path.ends_with("2.yaml") && reason.contains("shop/a"),
        "{path:?}: {reason}"
    );
    // In one file neither is known to be meant.
    files.write(
        "3.yaml",
        &[text(&one, &key), text(&other, &other_key)].join("---\n"),
    );
    let reason = files.load().faults.into_values().next().unwrap();
    assert!(reason.contains("shop/a is in it twice"), "{reason}");
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    files.write("a.yaml", "kind: Secret\nmetadata: {name: a}\n");
    std::fs::set_permissions(
        files.0.path().join("a.yaml"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let loaded = files.load();
    assert!(loaded.secrets.is_empty());
    assert!(
        loaded.faults.values().any(|reason| reason.contains("chmod 640")),
        "{:?}",
        loaded.faults
    );
}

#[test]
fn sources_lie_above_each_other_and_all_must_be_read() {
    let secret = |kind: &str| {
        let secret = Secret::new(kind.to_owned(), BTreeMap::new(), []);
        Arc::new(secret)
    };
    let key = |name: &str| Key {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    };
    let known = |names: &[&str], kind: &str, complete: bool| Known {
        secrets: Arc::new(names.iter().map(|name| (key(name), secret(kind))).collect()),
        complete,
    };
    let all = together(&[
        known(&["a", "b"], "below", true),
        known(&["b", "c"], "above", false),
    ]);
    let kinds: Vec<&str> = all.secrets.values().map(|secret| &*secret.r#type).collect();
    assert_eq!(kinds, ["below", "above", "above"]);
    assert!(!all.complete);
}
