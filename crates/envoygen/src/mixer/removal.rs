//! Headers that are taken out of responses: of a response alone whose request a rule let pass. Envoy's header mutation has no
//! condition, so a composite filter carries it out where the request's dynamic metadata says so.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::common::matching::v3::ExtensionWithMatcher;
use envoy_types::pb::envoy::extensions::filters::http::composite::v3::{Composite, ExecuteFilterAction};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as HttpHeaderMutation, Mutations,
};
use envoy_types::pb::envoy::extensions::filters::http::set_metadata::v3::{Config as SetMetadata, Metadata};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::matching::common_inputs::network::v3::{
    DynamicMetadataInput,
    dynamic_metadata_input::{PathSegment, path_segment::Segment},
};
use envoy_types::pb::envoy::extensions::matching::input_matchers::metadata::v3::Metadata as MetadataMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::{ValueMatcher, value_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::{Any, Struct, Value, value::Kind};
use envoy_types::pb::xds::core::v3::TypedExtensionConfig as Extension;
use envoy_types::pb::xds::r#type::matcher::v3::{
    Matcher,
    matcher::{
        MatcherList, MatcherType, OnMatch,
        matcher_list::{
            FieldMatcher, Predicate,
            predicate::{MatchType, SinglePredicate, single_predicate},
        },
        on_match,
    },
};

use crate::filter;
use crate::wire::plain_any;

/// Metadata of requests that all of Mixer's rules let pass.
pub(super) const PASSED: &str = "argosy.mixer";
/// Its key.
pub(super) const REQUEST: &str = "passed";

/// The filter that notes that a request has passed.
pub(super) fn passed() -> HttpFilter {
    let yes = Value {
        kind: Some(Kind::BoolValue(true)),
    };
    let config = SetMetadata {
        metadata: vec![Metadata {
            metadata_namespace: PASSED.to_owned(),
            value: Some(Struct {
                fields: HashMap::from([(REQUEST.to_owned(), yes)]),
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    filter::http("envoy.filters.http.set_metadata.mixer-passed", plain_any(&config))
}

/// The filter that takes a header out of a response where `key` of the metadata `namespace` is true when the request passes it.
pub(super) fn filter(role: &str, header: &str, namespace: &str, key: &str) -> HttpFilter {
    let name = format!("envoy.filters.http.composite.mixer-{role}-{header}");
    let config = ExtensionWithMatcher {
        extension_config: Some(TypedExtensionConfig {
            name: "composite".to_owned(),
            typed_config: Some(plain_any(&Composite::default())),
        }),
        xds_matcher: Some(Matcher {
            matcher_type: Some(MatcherType::MatcherList(MatcherList {
                matchers: vec![FieldMatcher {
                    predicate: Some(is_true(namespace, key)),
                    on_match: Some(OnMatch {
                        on_match: Some(on_match::OnMatch::Action(extension("remove", removed(header)))),
                        ..Default::default()
                    }),
                }],
            })),
            ..Default::default()
        }),
        ..Default::default()
    };
    filter::http(&name, plain_any(&config))
}

fn extension(name: &str, config: Any) -> Extension {
    Extension {
        name: name.to_owned(),
        typed_config: Some(config),
    }
}

fn is_true(namespace: &str, key: &str) -> Predicate {
    let input = DynamicMetadataInput {
        filter: namespace.to_owned(),
        path: vec![PathSegment {
            segment: Some(Segment::Key(key.to_owned())),
        }],
    };
    let test = MetadataMatcher {
        value: Some(ValueMatcher {
            match_pattern: Some(MatchPattern::BoolMatch(true)),
        }),
        ..Default::default()
    };
    let test = extension("metadata", plain_any(&test));
    Predicate {
        match_type: Some(MatchType::SinglePredicate(SinglePredicate {
            input: Some(extension("metadata", plain_any(&input))),
            matcher: Some(single_predicate::Matcher::CustomMatch(test)),
        })),
    }
}

fn removed(header: &str) -> Any {
    let config = HttpHeaderMutation {
        mutations: Some(Mutations {
            response_mutations: vec![HeaderMutation {
                action: Some(Action::Remove(header.to_owned())),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    plain_any(&ExecuteFilterAction {
        typed_config: Some(TypedExtensionConfig {
            name: filter::HEADER_MUTATION.to_owned(),
            typed_config: Some(plain_any(&config)),
        }),
        ..Default::default()
    })
}
