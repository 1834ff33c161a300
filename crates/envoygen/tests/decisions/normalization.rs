//! MeshConfig's `pathNormalization`: whatever it says, a value that refuses a path refuses what is written like it.

use crate::NORMALIZATIONS;
use crate::cases::{DENIED, OK, check_with, path, policy};

const SPELLINGS: [(&str, &[&str]); 6] = [
    ("/a%2fb", &["/a%2fb", "/a%2Fb", "/a/b"]),
    ("/a%5Cb*", &["/a%5Cb", "/a%5cb/x", "/a\\b", "/a/b"]),
    ("'*\\b'", &["/a\\b", "/x/a%5cb", "/a/b"]),
    ("/%61dmin", &["/%61dmin", "/admin"]),
    ("'/{*}/x%2fy'", &["/1/x%2Fy", "/1/x%2fy", "/1/x/y"]),
    ("'/{*}/y'", &["/1*/y", "/[1]/y", "/1:/y"]),
];

#[test]
fn a_value_refuses_what_is_written_like_it_under_any_normalization() {
    for normalization in NORMALIZATIONS {
        let denied = SPELLINGS.map(|(value, spellings)| {
            let mut sent: Vec<_> = spellings.iter().map(|p| (path(p), DENIED)).collect();
            sent.push((path("/other"), OK));
            let rule = format!("{{to: [{{operation: {{paths: [{value}]}}}}]}}");
            (policy("DENY", &rule), sent)
        });
        let mut cases = denied.to_vec();
        // The same for what ALLOW excepts.
        cases.push((
            policy("ALLOW", "{to: [{operation: {notPaths: [/a%2fb]}}]}"),
            vec![
                (path("/a%2fb"), DENIED),
                (path("/a/b"), DENIED),
                (path("/other"), OK),
            ],
        ));
        check_with(normalization, cases);
    }
}

#[test]
fn a_mesh_may_leave_paths_as_they_are() {
    let plain = || policy("ALLOW", "{to: [{operation: {paths: [/admin/x]}}]}");
    for (normalization, slashes, escaped, letters) in [
        ("NONE", DENIED, DENIED, DENIED),
        ("BASE", DENIED, DENIED, OK),
        ("MERGE_SLASHES", OK, DENIED, OK),
        ("DECODE_AND_MERGE_SLASHES", OK, OK, OK),
    ] {
        let sent = vec![
            (path("/admin/x"), OK),
            (path("/admin//x"), slashes),
            (path("/admin%2fx"), escaped),
            (path("/%61dmin/x"), letters),
        ];
        check_with(normalization, vec![(plain(), sent)]);
    }
}
