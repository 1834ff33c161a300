//! `rbac`: authorization by conditions in CEL, which are `policy`'s; here they get a thread of their own.

use policy::{Answer, InstanceValue, Rbac};

use super::Fault;

/// The adapter.
pub(super) struct Adapter(pub(super) Rbac);

#[tonic::async_trait]
impl super::Adapter for Adapter {
    async fn check(&self, instance: &InstanceValue) -> Result<Answer, Fault> {
        let (rbac, fields) = (self.0.clone(), instance.fields.clone());
        let answer = tokio::task::spawn_blocking(move || Answer::of_rbac(&rbac, &fields));
        answer.await.map_err(|_| Fault::Panicked)
    }
}
