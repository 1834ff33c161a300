//! Header operations of Mixer's rules that the proxy carries out by itself.
//!
//! Before the checks a filter for each condition marks the requests for which it holds, and one more finds each value on the
//! request as it came and keeps it in the filter state. Behind the checks a filter changes the headers. A value that is empty or
//! was not kept changes nothing.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, SubstitutionFormatString, data_source,
    header_value_option::HeaderAppendAction, substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue,
    filter_state_value::{Key, Value},
};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as HttpHeaderMutation, Mutations,
};
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use policy::{Change, Mutation, Values};

use super::expression;
use super::marks::Marks;
use super::removal;
use crate::filter;
use crate::wire::plain_any;

/// Where a mutation's value is kept.
fn found(index: usize) -> String {
    format!("argosy.header.{index}")
}

/// Where it is kept for the response once the request has passed: a refusal behind it must not have it.
fn passed(index: usize) -> String {
    format!("argosy.answer.{index}")
}

/// The filters that find the values.
pub(crate) fn capture(mutations: &[Mutation]) -> Vec<HttpFilter> {
    let marks = Marks::new("header", mutations.iter().flat_map(Mutation::conditions));
    let values = valued(mutations).map(|(index, values)| {
        let cel = expression::value(&values.0, |when| marks.prefix(when));
        kept(found(index), format!("%CEL({cel})%"))
    });
    let values = set("found", values.collect());
    marks.filters().chain(values).collect()
}

/// The filters that change the headers; `checked` says whether a check before them may refuse.
pub(crate) fn change(mutations: &[Mutation], checked: bool) -> Vec<HttpFilter> {
    if mutations.is_empty() {
        return Vec::new();
    }
    let answers = mutations
        .iter()
        .enumerate()
        .filter(|(_, m)| checked && m.on_response);
    let answers = answers.map(|(index, _)| kept(passed(index), state(&found(index))));
    let last = |header: &String| {
        let gone = |m: &Mutation| m.on_response && m.change == Change::Remove && m.header == *header;
        mutations.iter().rposition(gone)
    };
    let own = |on_response: bool| {
        let all = mutations.iter().enumerate();
        let own = all.filter(move |(_, mutation)| mutation.on_response == on_response);
        // What is removed later need not be set.
        let own = own.filter(|(index, m)| !on_response || last(&m.header).is_none_or(|last| *index > last));
        own.map(|(index, mutation)| wire(index, mutation, checked))
            .collect()
    };
    let config = HttpHeaderMutation {
        mutations: Some(Mutations {
            request_mutations: own(false),
            response_mutations: own(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    let name = "envoy.filters.http.header_mutation.mixer-operations";
    let answers = set("passed", answers.collect());
    let gone = mutations.iter().filter(|m| m.on_response);
    let gone: BTreeSet<&str> = gone
        .filter(|m| m.change == Change::Remove)
        .map(|m| m.header.as_str())
        .collect();
    let passed = (!gone.is_empty()).then(removal::passed);
    // Responses meet the last filter first.
    let gone = gone
        .into_iter()
        .map(|header| removal::filter("own", header, removal::PASSED, removal::REQUEST));
    answers
        .into_iter()
        .chain(passed)
        .chain([filter::http(name, plain_any(&config))])
        .chain(gone)
        .collect()
}

/// The mutations that set a value, by their place.
fn valued(mutations: &[Mutation]) -> impl Iterator<Item = (usize, &Values)> {
    mutations
        .iter()
        .enumerate()
        .filter_map(|(index, mutation)| match &mutation.change {
            Change::Remove => None,
            Change::Replace(values) | Change::Append(values) => Some((index, values)),
        })
}

fn wire(index: usize, mutation: &Mutation, checked: bool) -> HeaderMutation {
    let action = match &mutation.change {
        Change::Remove => Action::Remove(mutation.header.clone()),
        Change::Replace(_) | Change::Append(_) => {
            let key = match mutation.on_response && checked {
                true => passed(index),
                false => found(index),
            };
            let append = match mutation.change {
                Change::Append(_) => HeaderAppendAction::AppendIfExistsOrAdd,
                _ => HeaderAppendAction::OverwriteIfExistsOrAdd,
            };
            Action::Append(HeaderValueOption {
                header: Some(HeaderValue {
                    key: mutation.header.clone(),
                    value: state(&key),
                    ..Default::default()
                }),
                append_action: append as i32,
                ..Default::default()
            })
        }
    };
    HeaderMutation { action: Some(action) }
}

/// The format of a value that was kept.
fn state(key: &str) -> String {
    format!("%FILTER_STATE({key}:PLAIN)%")
}

/// Keeps what a format gives, unless that is nothing.
fn kept(key: String, format: String) -> FilterStateValue {
    let format = SubstitutionFormatString {
        omit_empty_values: true,
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(format)),
            ..Default::default()
        })),
        ..Default::default()
    };
    FilterStateValue {
        key: Some(Key::ObjectKey(key)),
        factory_key: "envoy.string".to_owned(),
        value: Some(Value::FormatString(format)),
        skip_if_empty: true,
        ..Default::default()
    }
}

fn set(role: &str, values: Vec<FilterStateValue>) -> Option<HttpFilter> {
    let name = format!("envoy.filters.http.set_filter_state.mixer-{role}");
    let config = SetFilterState {
        on_request_headers: values,
        ..Default::default()
    };
    (!config.on_request_headers.is_empty()).then(|| filter::http(&name, plain_any(&config)))
}
