//! `argosy bootstrap`: a bootstrap for a stock Envoy that connects to Pilot itself, over mutual TLS with a certificate from
//! files, without an agent.
//!
//! The proxy gets its clusters, listeners and routes as any other. Secrets come over SDS from an agent; without one
//! (`--sds-socket`) what needs them (mutual TLS within the mesh, gateways' credentials) does not serve.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The proxy's workload, NAMESPACE/NAME
    #[arg(long, value_name = "NAMESPACE/NAME")]
    workload: String,
    /// Beside an application, or a gateway of its own
    #[arg(long, value_enum, default_value_t = Type::Sidecar)]
    proxy_type: Type,
    /// The workload's address
    #[arg(long, value_name = "IP")]
    address: IpAddr,
    /// How traffic reaches a sidecar
    #[arg(long, value_enum, default_value_t = Mode::None)]
    interception: Mode,
    /// Pilot's address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15012")]
    pilot_address: String,
    /// Certificate of the workload's identity, with its chain (PEM)
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The mesh's roots (PEM)
    #[arg(long, value_name = "FILE")]
    ca_root: PathBuf,
    /// SPIFFE trust domain of the mesh
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// Namespace of Pilot's identity
    #[arg(long, value_name = "NAME", default_value = "argosy-system")]
    system_namespace: String,
    /// DNS domain of the mesh's services
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    domain: String,
    /// Where Envoy's administration interface listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15000")]
    admin_address: SocketAddr,
    /// Unix socket of an SDS server, such as an agent
    #[arg(long, value_name = "FILE")]
    sds_socket: Option<PathBuf>,
    /// One response a type that holds everything (state of the world), instead of differences
    #[arg(long)]
    sotw: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Type {
    Sidecar,
    Router,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Mode {
    Redirect,
    Tproxy,
    None,
}

/// Prints it. Exit status 2: the flags make no sense.
pub(crate) fn run(args: &Args) -> ExitCode {
    let printed = render(args).and_then(|bootstrap| crate::output::print(&format!("{bootstrap:#}\n")));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn render(args: &Args) -> Result<Value> {
    Ok(json!({
        "node": node(args)?,
        // Envoy's default refuses ordinary regular expressions.
        "layered_runtime": { "layers": [
            { "name": "static", "static_layer": { "re2.max_program_size.error_level": 32768 } },
            { "name": "admin", "admin_layer": {} },
        ]},
        "admin": { "address": socket(args.admin_address.ip(), args.admin_address.port()) },
        "dynamic_resources": dynamic(args.sotw),
        "static_resources": { "clusters": [pilot(args)?, sds(args)] },
    }))
}

fn node(args: &Args) -> Result<Value> {
    let (namespace, name) = args
        .workload
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        .with_context(|| format!("--workload {:?} is not NAMESPACE/NAME", args.workload))?;
    let kind = match args.proxy_type {
        Type::Sidecar => "sidecar",
        Type::Router => "router",
    };
    let mode = match args.interception {
        Mode::Redirect => "REDIRECT",
        Mode::Tproxy => "TPROXY",
        Mode::None => "NONE",
    };
    Ok(json!({
        "id": format!("{kind}~{}~{name}.{namespace}~{namespace}.svc.{}", args.address, args.domain),
        "cluster": format!("{name}.{namespace}"),
        "metadata": { "NAME": name, "NAMESPACE": namespace, "INTERCEPTION_MODE": mode },
    }))
}

fn dynamic(sotw: bool) -> Value {
    let over_ads = json!({ "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" });
    json!({
        "lds_config": over_ads,
        "cds_config": over_ads,
        "ads_config": {
            "api_type": if sotw { "GRPC" } else { "DELTA_GRPC" },
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
        },
    })
}

/// Pilot, which must present its own identity and is shown the workload's.
fn pilot(args: &Args) -> Result<Value> {
    let (host, port) = args
        .pilot_address
        .rsplit_once(':')
        .with_context(|| format!("--pilot-address {:?} is not HOST:PORT", args.pilot_address))?;
    let Ok(port) = port.parse::<u16>() else {
        bail!("--pilot-address {:?} is not HOST:PORT", args.pilot_address);
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let identity = format!(
        "spiffe://{}/ns/{}/sa/pilot",
        args.trust_domain, args.system_namespace
    );
    let address = json!({ "socket_address": { "address": host, "port_value": port } });
    let kind = if host.parse::<IpAddr>().is_ok() {
        "STATIC"
    } else {
        "STRICT_DNS"
    };
    let mut cluster = grpc("xds-grpc", kind, Some(&address));
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.insert("transport_socket".to_owned(), json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_2" },
                    "tls_certificates": [{
                        "certificate_chain": { "filename": args.certificate },
                        "private_key": { "filename": args.key },
                    }],
                    "validation_context": {
                        "trusted_ca": { "filename": args.ca_root },
                        "match_typed_subject_alt_names": [
                            { "san_type": "URI", "matcher": { "exact": identity } },
                        ],
                    },
                },
            },
        }));
    }
    Ok(cluster)
}

/// Where secrets come from, under the name that configuration uses.
fn sds(args: &Args) -> Value {
    let address = args
        .sds_socket
        .as_ref()
        .map(|socket| json!({ "pipe": { "path": socket } }));
    grpc("sds-grpc", "STATIC", address.as_ref())
}

fn grpc(name: &str, kind: &str, address: Option<&Value>) -> Value {
    let endpoints: Vec<Value> = address
        .iter()
        .map(|address| json!({ "endpoint": { "address": address } }))
        .collect();
    json!({
        "name": name,
        "type": kind,
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {
                    "connection_keepalive": { "interval": "30s", "timeout": "10s" },
                }},
            },
        },
    })
}

fn socket(ip: IpAddr, port: u16) -> Value {
    json!({ "socket_address": { "address": ip.to_string(), "port_value": port } })
}
