//! Tables and what streams send of them: applying a change, telling the difference, the first state of a stream, encoding.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; a benchmark may fail loudly"
)]

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use futures::executor::block_on;
use http_body_util::{BodyExt, Full};
use prost::Message;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;
use xds::server::{Hello, Limits, Source};
use xds::stream::{Settings, Stream, Variant};
use xds::table::diff;
use xds::types::ENDPOINTS;
use xds::{Server, Table};

const SIZES: [u32; 3] = [100, 1_000, 10_000];

fn name(at: u32) -> String {
    format!("outbound|80||svc-{at:05}.example")
}

fn table(size: u32) -> Arc<Table> {
    let mut table = Table::builder();
    for at in 0..size {
        table.insert(ENDPOINTS, name(at).into(), content(at));
    }
    Arc::new(table.build(None))
}

fn content(seed: u32) -> Bytes {
    seed.to_be_bytes().repeat(50).into()
}

fn changed(table: &Table) -> Arc<Table> {
    Arc::new(table.with(&ENDPOINTS, [(name(7).into(), content(u32::MAX))], [""; 0]))
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one resource changes in a table");
    for size in SIZES {
        let table = table(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| black_box(changed(&table)));
        });
    }
    group.finish();
}

fn difference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("difference of two tables");
    for size in SIZES {
        let old = table(size);
        let (old, new) = (old.of_type(&ENDPOINTS), changed(&old).of_type(&ENDPOINTS));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| black_box(diff(&old, &new)));
        });
    }
    group.finish();
}

fn request(size: u32) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ENDPOINTS.to_string(),
        resource_names_subscribe: (0..size).map(name).collect(),
        ..Default::default()
    }
}

fn first_state(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state of a stream to its first response");
    for size in SIZES {
        let (table, pool) = (table(size), Arc::default());
        let settings = Settings::default();
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(
                || request(size),
                |request| {
                    let mut stream =
                        Stream::new(Variant::Delta, settings, table.clone()).sharing(Arc::clone(&pool));
                    stream.on_delta(Duration::ZERO, request).unwrap();
                    black_box(stream.poll(Duration::ZERO))
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

struct One(watch::Sender<Arc<Table>>);

impl Source for One {
    async fn connect(&self, _: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        Ok(self.0.subscribe())
    }
}

/// From a request's bytes to the response's frames, as HTTP/2 takes them.
fn encoded(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("request to written response");
    for size in SIZES {
        let message = request(size).encode_to_vec();
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap());
        framed.extend_from_slice(&message);
        let framed = framed.freeze();
        let mut service = Server::new(One(watch::Sender::new(table(size))), Limits::default()).ads();
        let path = "http://x/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let body = Body::new(Full::new(framed.clone()).map_err(|never| match never {}));
                let request = http::Request::post(path).body(body).unwrap();
                let response = block_on(service.call(request)).unwrap();
                black_box(block_on(response.into_body().frame()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, apply, difference, first_state, encoded);
criterion_main!(benches);
