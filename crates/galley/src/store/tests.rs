//! What edits of files leave, and what is said of them.

use std::collections::BTreeMap;

use config::{Kind, Severity};

use super::*;

const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: shop}\nspec:\n  ports:\n  - {name: http, port: 7080}\n";

fn service(name: &str) -> String {
    GOOD.replace("NAME", name)
}

fn scan(files: &[(&str, &str)]) -> Scan {
    files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), Content::Bytes(text.as_bytes().to_vec())))
        .collect()
}

fn names(store: &Store) -> Vec<String> {
    store
        .state()
        .objects
        .iter()
        .map(|object| object.meta.name.clone())
        .collect()
}

/// Applies each folder in turn; the names served at the end and the errors shown.
fn check(history: &[&[(&str, &str)]], served: &[&str], errors: &[&str]) {
    let mut store = Store::default();
    for files in history {
        store.apply(scan(files));
    }
    assert_eq!(names(&store), served);
    let shown: Vec<String> = store
        .state()
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown.len(), errors.len(), "{shown:?}");
    for (seen, expected) in shown.iter().zip(errors) {
        assert!(seen.contains(expected), "{seen} does not say {expected}");
    }
}

#[test]
fn a_file_that_goes_takes_its_objects_along() {
    let (a, b) = (service("a"), service("b"));
    check(
        &[&[("a.yaml", &a), ("b.yaml", &b)], &[("b.yaml", &b)]],
        &["b"],
        &[],
    );
}

#[test]
fn an_emptied_folder_is_an_accident_and_a_file_without_objects_is_not() {
    let a = service("a");
    check(&[&[("a.yaml", &a)], &[]], &["a"], &["folder is empty"]);
    check(&[&[("a.yaml", &a)], &[], &[("a.yaml", &a)]], &["a"], &[]);
    check(
        &[&[("a.yaml", &a)], &[("b.yaml", "# nothing is meant\n")]],
        &[],
        &[],
    );
    check(&[&[]], &[], &[]);
    let mut store = Store::default();
    assert!(
        store.apply(Scan::new()),
        "a folder that is empty from the start is told"
    );
    assert!(!store.apply(Scan::new()), "once");
    assert_eq!(store.state().findings[0].severity, Severity::Warning);
}

#[test]
fn a_broken_object_is_lost_alone_and_keeps_its_last_good_version() {
    let both = format!("{}---\n{}", service("a"), service("b"));
    let broken = format!("{}---\n{}", service("a").replace("7080", "70800"), service("c"));
    check(
        &[&[("x.yaml", &both)], &[("x.yaml", &broken)]],
        &["a", "c"],
        &["Service shop/a"],
    );
}

#[test]
fn a_file_that_no_longer_parses_keeps_all() {
    let good = format!("{}---\n{}", service("a"), service("b"));
    check(
        &[&[("x.yaml", &good)], &[("x.yaml", "kind: [Service\n")]],
        &["a", "b"],
        &["x.yaml"],
    );
}

#[test]
fn an_object_in_two_files_is_served_from_the_first_by_path() {
    let (first, second) = (service("a"), service("a").replace("7080", "7081"));
    for history in [
        vec![vec![("1.yaml", first.as_str()), ("2.yaml", second.as_str())]],
        vec![
            vec![("2.yaml", second.as_str())],
            vec![("1.yaml", &first), ("2.yaml", &second)],
        ],
    ] {
        let history: Vec<&[(&str, &str)]> = history.iter().map(Vec::as_slice).collect();
        check(&history, &["a"], &["2.yaml"]);
    }
}

#[test]
fn after_a_restart_a_broken_file_still_serves_what_it_held() {
    let both = format!("{}---\n{}", service("a"), service("b"));
    let mut store = Store::default();
    store.apply(scan(&[("x.yaml", &both), ("gone.yaml", &service("c"))]));
    let mut restarted = Store::default().remembering(store.state().objects.iter().cloned());
    restarted.apply(scan(&[("x.yaml", &both.replace("7080", "seventy"))]));
    assert_eq!(
        names(&restarted),
        ["a", "b"],
        "and what was removed meanwhile is gone"
    );
}

#[test]
fn a_lost_folder_changes_nothing_until_it_is_back() {
    let mut store = Store::default();
    store.apply(scan(&[("a.yaml", &service("a"))]));
    assert!(store.folder_lost("no such folder"));
    assert!(!store.folder_lost("no such folder"), "told once");
    assert_eq!(names(&store), ["a"]);
    assert!(
        store
            .state()
            .findings
            .iter()
            .any(|finding| finding.to_string().contains("no such folder"))
    );
    assert!(store.apply(scan(&[("a.yaml", &service("a"))])));
    assert!(store.state().findings.is_empty());
}

#[test]
fn a_file_that_becomes_unreadable_keeps_its_objects() {
    let mut store = Store::default();
    store.apply(scan(&[("a.yaml", &service("a"))]));
    let unreadable = || Scan::from([("a.yaml".to_owned(), Content::Unreadable("denied".to_owned()))]);
    assert!(store.apply(unreadable()));
    assert!(!store.apply(unreadable()), "told once");
    assert_eq!(names(&store), ["a"]);
    assert!(store.apply(scan(&[("a.yaml", &service("b"))])));
    assert_eq!(names(&store), ["b"]);
}

#[test]
fn some_files_give_what_all_files_give() {
    let (a, b) = (service("a"), service("b"));
    let part = |files: &[(&str, Option<&str>)]| -> Part {
        let content = |text: &str| Content::Bytes(text.as_bytes().to_vec());
        let files = files.iter();
        files
            .map(|(path, text)| ((*path).to_owned(), text.map(content)))
            .collect()
    };
    let mut store = Store::default();
    store.apply(scan(&[("a.yaml", &a)]));
    assert!(store.apply_part(part(&[("b.yaml", Some(&b)), ("never.yaml", None)])));
    assert_eq!(names(&store), ["a", "b"]);
    assert!(!store.apply_part(part(&[("b.yaml", Some(&b))])), "the same");
    assert!(store.apply_part(part(&[("a.yaml", None)])));
    assert_eq!(names(&store), ["b"]);
    assert!(store.apply_part(part(&[("b.yaml", None)])));
    assert_eq!(names(&store), ["b"], "an emptied folder is an accident");
    assert!(store.is_in_doubt());
}

/// What a store that has only ever seen these files serves and says.
fn fresh(files: &BTreeMap<String, String>) -> State {
    let content = |text: &String| Content::Bytes(text.as_bytes().to_vec());
    let mut store = Store::default();
    store.apply(
        files
            .iter()
            .map(|(path, text)| (path.clone(), content(text)))
            .collect(),
    );
    store.state()
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Files come, change, repeat one another's objects and go, few objects at once or more than [`FEW`].
    #[test]
    fn histories_leave_what_one_look_finds(
        events in proptest::collection::vec((0..4_u8, proptest::collection::vec(0..9_u8, 0..7), 0..2_u8), 1..20),
    ) {
        let mut files = BTreeMap::from([("keep.yaml".to_owned(), "# none\n".to_owned())]);
        let mut store = Store::default();
        store.apply(scan(&[("keep.yaml", "# none\n")]));
        for (file, objects, port) in events {
            let path = format!("{file}.yaml");
            let one = |object: &u8| service(&format!("s{object}")).replace("7080", &format!("708{port}"));
            let text = objects.iter().map(one).collect::<Vec<_>>().join("---\n");
            let content = (!text.is_empty()).then(|| Content::Bytes(text.clone().into_bytes()));
            match content {
                Some(_) => files.insert(path.clone(), text),
                None => files.remove(&path),
            };
            store.apply_part(Part::from([(path, content)]));
            let (state, expected) = (store.state(), fresh(&files));
            proptest::prop_assert_eq!(state.objects, expected.objects);
            proptest::prop_assert_eq!(state.findings, expected.findings);
        }
    }
}

#[test]
fn kinds_are_found_and_counted() {
    let text = format!(
        "{}---\n{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n",
        service("a"),
        service("b")
    );
    let mut store = Store::default();
    store.apply(scan(&[("x.yaml", &text)]));
    let state = store.state();
    let counts: BTreeMap<Kind, usize> = state.counts().collect();
    assert_eq!(counts, BTreeMap::from([(Kind::Namespace, 1), (Kind::Service, 2)]));
    assert_eq!(state.of(Kind::Service)[1].meta.name, "b");
    assert!(state.of(Kind::Pod).is_empty());
}

#[test]
fn an_unchanged_file_is_not_news() {
    let mut store = Store::default();
    let text = service("a");
    assert!(store.apply(scan(&[("a.yaml", &text)])));
    assert!(!store.apply(scan(&[("a.yaml", &text)])));
    assert!(!store.apply(Scan::from([("a.yaml".to_owned(), Content::Same)])));
}

#[test]
fn an_object_that_a_file_no_longer_repeats_is_served_from_the_other() {
    let (first, second) = (service("a"), service("a").replace("7080", "7081"));
    check(
        &[
            &[("1.yaml", &first), ("2.yaml", &second)],
            &[("1.yaml", "# none\n"), ("2.yaml", &second)],
        ],
        &["a"],
        &[],
    );
}

#[test]
fn what_an_edit_leaves_alone_is_the_same_in_memory() {
    let both = format!("{}---\n{}", service("a"), service("b"));
    let mut store = Store::default();
    store.apply(scan(&[("x.yaml", &both)]));
    let before = store.state().objects;
    store.apply(scan(&[("x.yaml", &format!("{both}---\n{}", service("c")))]));
    let after = store.state().objects;
    assert_eq!(after.len(), 3);
    assert!(
        before
            .iter()
            .zip(after.iter())
            .all(|(was, is)| Arc::ptr_eq(was, is))
    );
}

#[test]
fn of_several_folders_each_remembers_its_own_and_names_itself() {
    let mut store = Store::of_folder("base/");
    store.apply(scan(&[("x.yaml", &service("a"))]));
    let served = store.state().objects;
    assert_eq!(served[0].origin.file.as_deref(), Some("base/x.yaml"));
    let broken = service("a").replace("7080", "seventy");
    let serves = |folder: &str| {
        let mut restarted = Store::of_folder(folder).remembering(served.iter().cloned());
        restarted.apply(scan(&[("x.yaml", &broken)]));
        names(&restarted)
    };
    assert_eq!(serves("base"), ["a"]);
    assert!(serves("over").is_empty());
}

#[test]
fn what_controllers_wrote_comes_and_goes_with_its_object() {
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\nspec: {hosts: [a.example], ports: [{number: 80, name: http}], resolution: DNS}\nstatus: {addresses: [{value: 240.0.0.1}]}\n";
    let mut store = Store::default();
    store.apply(scan(&[("x.yaml", text)]));
    let statuses = store.state().statuses;
    assert_eq!(statuses.values().next().unwrap().addresses, ["240.0.0.1"]);
    store.apply(scan(&[("x.yaml", "# none\n")]));
    assert!(store.state().statuses.is_empty());
}
