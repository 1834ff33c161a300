//! Random rules that refuse requests.

use proptest::prelude::*;

/// A handler's specification, and the value that it looks up.
pub(crate) fn action() -> impl Strategy<Value = (String, String)> {
    let denier = prop::sample::select(vec![
        "compiledAdapter: denier, params: {status: {code: 7, message: 'no 100% and 50%'}}",
        "compiledAdapter: denier, params: {}",
        "compiledAdapter: denier, params: {status: {code: 16, details: [{'@type': x.DirectHttpResponse, code: 418, body: go, headers: {x-why: 5%}}]}}",
        "compiledAdapter: denier, params: {status: {code: 14, details: [{'@type': x.DirectHttpResponse, code: 503}]}}",
    ]);
    let list = (
        prop::sample::select(vec![
            r#"overrides: [jason, none, shop, /a, nobody]"#,
            r#"overrides: [Jason, GOLD, SHOP], entryType: CASE_INSENSITIVE_STRINGS"#,
            r#"overrides: ["^j", "a$", "/a/.*"], entryType: REGEX"#,
        ]),
        any::<bool>(),
        prop::sample::select(vec![
            r#"request.headers["x-user"]"#,
            r#"request.headers["x-user"] | "none""#,
            r#"request.headers["x-user"] | request.headers["x-tier"] | "jason""#,
            "request.url_path",
            r#"source.namespace | "shop""#,
            r#"destination.labels["app"]"#,
            r#"source.principal | "nobody""#,
            "source.namespace",
        ]),
    );
    let networks = (
        prop::sample::select(vec!["[10.0.0.0/8, 127.0.0.0/30]", "[10.1.0.1]", "[]"]),
        any::<bool>(),
    );
    prop_oneof![
        denier.prop_map(|spec| (spec.to_owned(), r#""1""#.to_owned())),
        list.prop_map(|(list, blacklist, value)| {
            let spec = format!("compiledAdapter: listchecker, params: {{{list}, blacklist: {blacklist}}}");
            (spec, value.to_owned())
        }),
        networks.prop_map(|(list, blacklist)| {
            let spec = format!(
                "compiledAdapter: listchecker, params: {{overrides: {list}, entryType: IP_ADDRESSES, blacklist: {blacklist}}}"
            );
            (spec, "source.ip".to_owned())
        }),
    ]
}

/// A rule for requests of its own, told by the header `x-case`.
pub(crate) fn rule(number: usize, condition: &str, handler: &str, value: &str) -> String {
    let condition = format!(r#"request.headers["x-case"] == "c{number}" && {condition}"#);
    let text = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "---\n{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: h{number}, namespace: shop}}, spec: {{{handler}}}}}\n\
         ---\n{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: i{number}, namespace: shop}}, spec: {{compiledTemplate: listentry, params: {{value: {}}}}}}}\n\
         ---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: r{number}, namespace: shop}}, spec: {{match: {}, actions: [{{handler: h{number}, instances: [i{number}]}}]}}}}\n",
        text(value),
        text(&condition)
    )
}
