//! The walk itself: listener, filter chain, network filters, and then HTTP or bytes.

use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;

use crate::call::{Call, Tls};
use crate::resources::{LISTENER, Resources, resource, unpack};
use crate::tls::Terminates;
use crate::verdict::{Refusal, Verdict};
use crate::{address, http, listener, policy, tcp, tls};

impl Resources {
    /// What a call meets.
    pub fn walk(&self, call: &Call) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(listener) = listener::choose(&self.listeners, call) else {
            let text = format!("nothing listens on {}:{}", call.address, call.port);
            verdict.refuse(Refusal::NoListener, text);
            return verdict;
        };
        verdict.listener = Some(listener.name.clone());
        let text = format!(
            "{} at {}",
            listener.name,
            address::show(listener.address.as_ref())
        );
        verdict.step("listener", text, resource(LISTENER, &listener.name));
        if let Some(chain) = self.chain(listener, call, &mut verdict) {
            self.filters(listener, chain, call, &mut verdict);
        }
        verdict
    }

    /// The filter chain for a call, or the refusal.
    fn chain<'a>(
        &'a self,
        listener: &'a Listener,
        call: &Call,
        verdict: &mut Verdict,
    ) -> Option<&'a FilterChain> {
        let seen = listener::inspect(listener, call);
        let mut found = listener::chains(listener.filter_chains.iter(), call, &seen);
        if let Some(aside) = self.set_aside.get(&listener.name)
            && !found.is_empty()
        {
            let asked = listener::chains(listener.filter_chains.iter().chain(aside), call, &seen);
            if asked.len() > found.len() {
                found = asked;
            }
        }
        let chain = match found.as_slice() {
            [only] => only,
            [] => match &listener.default_filter_chain {
                Some(default) => default,
                None => {
                    let application = seen.application.as_deref().unwrap_or("none");
                    let text = format!(
                        "no filter chain takes port {}, server name {:?}, {}, application protocol {application}",
                        call.port, seen.server_name, seen.transport
                    );
                    verdict.refuse(Refusal::NoFilterChain, text);
                    return None;
                }
            },
            several => {
                let text = format!(
                    "{} filter chains match the same; of the servers and hosts behind them only the first is served",
                    several.len()
                );
                verdict.refuse(Refusal::MultipleFilterChain, text);
                return None;
            }
        };
        verdict.filter_chain = Some(chain.name.clone());
        let ends = tls::of(chain);
        let text = match chain.name.as_str() {
            "" => ends.describe(),
            name => format!("{name}: {}", ends.describe()),
        };
        verdict.step("filter chain", text, resource(LISTENER, &listener.name));
        match ends.check(call) {
            Ok(()) => Some(chain),
            Err((error, text)) => {
                verdict.refuse(error, text);
                None
            }
        }
    }

    /// The network filters in turn, up to the one that carries the connection.
    fn filters(&self, listener: &Listener, chain: &FilterChain, call: &Call, verdict: &mut Verdict) {
        for filter in &chain.filters {
            if let Some(manager) = typed::<HttpConnectionManager>(filter) {
                let ended = matches!(tls::of(chain), Terminates::Yes { .. });
                if !call.is_http() || (call.tls != Tls::Plaintext && !ended) {
                    let text = "the filter chain reads HTTP, and something else is sent";
                    verdict.refuse(Refusal::ProtocolError, text);
                    return;
                }
                http::walk(self, &manager, call, verdict);
                return;
            }
            if let Some(proxy) = typed::<TcpProxy>(filter) {
                tcp::walk(self, &proxy, call, verdict);
                return;
            }
            let from = resource(LISTENER, &listener.name);
            if policy::network(filter, call, verdict, from) {
                return;
            }
        }
        verdict.step("filter chain", "no filter carries the connection on", None);
    }
}

fn typed<M: prost::Message + Default + prost::Name>(filter: &Filter) -> Option<M> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) => unpack(any),
        _ => None,
    }
}
