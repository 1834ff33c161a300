//! Patches of listeners, their filter chains and filters.

use config::networking::{ApplyTo, PatchContext, PatchOperation};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, ListenerFilter, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::compile::Compiled;
use super::list;
use super::run::{Run, merge};
use crate::filter as names;
use crate::wire::any;

impl<'a> Run<'a> {
    /// The listener with its patches; `None` if one removes it.
    pub(super) fn listener(&mut self, before: Listener) -> Option<Listener> {
        let mut listener = before;
        for patch in self.of(ApplyTo::Listener) {
            if !patch.meets_listener(&listener) {
                continue;
            }
            if patch.operation == PatchOperation::Remove {
                return None;
            }
            if let Some(merged) = patch
                .merges()
                .zip(patch.value.as_ref())
                .and_then(|(l, v)| merge(&listener, v, l))
            {
                listener = merged;
                self.applied(patch);
            }
        }
        self.listener_filters(&mut listener);
        Some(self.chains(listener))
    }

    fn listener_filters(&mut self, listener: &mut Listener) {
        for patch in self.of_filters(ApplyTo::ListenerFilter) {
            if !patch.meets_listener(listener) {
                continue;
            }
            let name = patch.listener_filter();
            let named = |filter: &ListenerFilter| name == Some(filter.name.as_str());
            let changed = match (patch.merges(), patch.value.as_ref()) {
                (Some(lists), Some(value)) => {
                    let filters = listener
                        .listener_filters
                        .iter_mut()
                        .filter(|filter| named(filter));
                    let merged =
                        filters.filter_map(|filter| merge(filter, value, lists).map(|m| *filter = m));
                    merged.count() > 0
                }
                _ => list::apply(
                    &mut listener.listener_filters,
                    patch.operation,
                    patch.typed(),
                    name.is_some()
                        .then_some(&named as &dyn Fn(&ListenerFilter) -> bool),
                ),
            };
            if changed {
                self.applied(patch);
            }
        }
    }

    /// Patches the filter chains. A listener without any is one that Envoy refuses: then they stay as they were.
    fn chains(&mut self, mut listener: Listener) -> Listener {
        let before = listener.clone();
        let chains = std::mem::take(&mut listener.filter_chains);
        let mut culprit = None;
        for chain in chains {
            match self.chain(&before, chain) {
                Ok(chain) => listener.filter_chains.push(chain),
                Err(patch) => culprit = Some(patch),
            }
        }
        listener.default_filter_chain = listener
            .default_filter_chain
            .and_then(|chain| self.chain(&before, chain).ok());
        for patch in self.of(ApplyTo::FilterChain) {
            if patch.operation == PatchOperation::Add && patch.meets_listener(&before) {
                listener.filter_chains.extend(patch.typed::<FilterChain>());
                self.applied(patch);
            }
        }
        match culprit {
            Some(patch) if listener.filter_chains.is_empty() && listener.default_filter_chain.is_none() => {
                let name = &before.name;
                self.report(
                    patch,
                    format!("leaves listener {name} without a filter chain, so it keeps those that it had"),
                );
                before
            }
            _ => listener,
        }
    }

    /// A chain with its patches, or the patch that removes it.
    fn chain(&mut self, listener: &Listener, mut chain: FilterChain) -> Result<FilterChain, &'a Compiled> {
        for patch in self.of(ApplyTo::FilterChain) {
            let meets = patch.meets_listener(listener) && patch.meets_chain(listener, &chain);
            if patch.operation == PatchOperation::Add || !meets {
                continue;
            }
            if patch.operation == PatchOperation::Remove {
                return Err(patch);
            }
            if let Some(merged) = patch
                .merges()
                .zip(patch.value.as_ref())
                .and_then(|(l, v)| merge(&chain, v, l))
            {
                chain = merged;
                self.applied(patch);
            }
        }
        self.network_filters(listener, &mut chain);
        Ok(chain)
    }

    fn network_filters(&mut self, listener: &Listener, chain: &mut FilterChain) {
        for patch in self.of_filters(ApplyTo::NetworkFilter) {
            if !patch.meets_listener(listener) || !patch.meets_chain(listener, chain) {
                continue;
            }
            let name = patch.network_filter();
            let named = |filter: &Filter| name == Some(filter.name.as_str());
            let changed = match patch.merges() {
                Some(_) => {
                    let filters = chain
                        .filters
                        .iter_mut()
                        .filter(|filter| name.is_none() || named(filter));
                    filters
                        .map(|filter| self.merge_filter(patch, filter))
                        .fold(false, |a, b| a | b)
                }
                None => list::apply(
                    &mut chain.filters,
                    patch.operation,
                    patch.typed(),
                    name.is_some().then_some(&named as &dyn Fn(&Filter) -> bool),
                ),
            };
            if changed {
                self.applied(patch);
            }
        }
        last(&mut chain.filters, |filter| {
            filter.name == names::HTTP_CONNECTION_MANAGER || filter.name == names::TCP_PROXY
        });
        for index in 0..chain.filters.len() {
            let Some(mut filter) = chain.filters.get(index).cloned() else {
                continue;
            };
            if filter.name == names::HTTP_CONNECTION_MANAGER {
                self.manager(listener, chain, &mut filter);
                if let Some(slot) = chain.filters.get_mut(index) {
                    *slot = filter;
                }
            }
        }
    }

    /// Merges into a network filter; its configuration must be of the type that the patch has.
    fn merge_filter(&mut self, patch: &Compiled, filter: &mut Filter) -> bool {
        let given = patch.typed::<Filter>().unwrap_or_default();
        let config = |filter: &Filter| match &filter.config_type {
            Some(filter::ConfigType::TypedConfig(any)) => Some(any.clone()),
            _ => None,
        };
        let merged = if self.same_type(patch, config(filter).as_ref(), config(&given).as_ref()) {
            patch
                .merges()
                .zip(patch.value.as_ref())
                .and_then(|(lists, value)| merge(filter, value, lists))
        } else {
            None
        };
        merged.map(|merged| *filter = merged).is_some()
    }

    /// Whether a patch's configuration is of the type that is there; reported if not.
    fn same_type(&mut self, patch: &Compiled, there: Option<&Any>, given: Option<&Any>) -> bool {
        match (there, given) {
            (Some(there), Some(given)) if there.type_url != given.type_url => {
                self.report(
                    patch,
                    format!("{} cannot be merged into {}", given.type_url, there.type_url),
                );
                false
            }
            (None, _) => false,
            _ => true,
        }
    }

    /// The HTTP filters of a connection manager, and the routes inside it.
    fn manager(&mut self, listener: &Listener, chain: &FilterChain, filter: &mut Filter) {
        let inline = self.place.context == PatchContext::SidecarInbound && self.patches_routes();
        if !inline && !self.any_of(&[ApplyTo::HttpFilter]) {
            return;
        }
        let Some(filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
            return;
        };
        let Ok(mut manager) = HttpConnectionManager::decode(config.value.as_slice()) else {
            return;
        };
        let before = manager.clone();
        if let (true, Some(RouteSpecifier::RouteConfig(routes))) = (inline, manager.route_specifier.clone()) {
            manager.route_specifier = Some(RouteSpecifier::RouteConfig(self.routes(routes)));
        }
        for patch in self.of_filters(ApplyTo::HttpFilter) {
            let meets = patch.meets_listener(listener)
                && patch.meets_chain(listener, chain)
                && patch.network_filter().is_none_or(|name| name == filter.name);
            if meets && self.http_filter(patch, &mut manager.http_filters) {
                self.applied(patch);
            }
        }
        last(&mut manager.http_filters, |filter| filter.name == names::ROUTER);
        if manager != before {
            filter.config_type = Some(filter::ConfigType::TypedConfig(any(&manager)));
        }
    }

    fn http_filter(&mut self, patch: &Compiled, filters: &mut Vec<HttpFilter>) -> bool {
        let name = patch.http_filter();
        let named = |filter: &HttpFilter| name == Some(filter.name.as_str());
        let Some(lists) = patch.merges() else {
            let named = name.is_some().then_some(&named as &dyn Fn(&HttpFilter) -> bool);
            return list::apply(filters, patch.operation, patch.typed(), named);
        };
        let given = patch.typed::<HttpFilter>().unwrap_or_default();
        let config = |filter: &HttpFilter| match &filter.config_type {
            Some(http_filter::ConfigType::TypedConfig(any)) => Some(any.clone()),
            _ => None,
        };
        let mut changed = false;
        for filter in filters
            .iter_mut()
            .filter(|filter| name.is_none() || named(filter))
        {
            if !self.same_type(patch, config(filter).as_ref(), config(&given).as_ref()) {
                continue;
            }
            if let Some(merged) = patch.value.as_ref().and_then(|value| merge(filter, value, lists)) {
                *filter = merged;
                changed = true;
            }
        }
        changed
    }
}

/// Puts the filter that ends a chain behind all others: Envoy refuses it anywhere else.
fn last<T>(filters: &mut Vec<T>, ends: impl Fn(&T) -> bool) {
    let mut own = filters
        .iter()
        .enumerate()
        .filter(|(_, filter)| ends(filter))
        .map(|(at, _)| at);
    if let (Some(at), None) = (own.next(), own.next()) {
        let end = filters.remove(at);
        filters.push(end);
    }
}
