//! The client writes the slashes in the name of a blob as `%2F`. The service takes that for the same name; what stands
//! between (gateways, proxies, logs) may not. Names of ours have no other `%2F`.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};

/// Writes slashes as slashes. Must come before a signature.
#[derive(Debug)]
pub(super) struct PlainPathPolicy;

#[async_trait]
impl Policy for PlainPathPolicy {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let path = request.url().path();
        if path.contains("%2F") {
            let plain = path.replace("%2F", "/");
            request.url_mut().set_path(&plain);
        }
        next[0].send(context, request, &next[1..]).await
    }
}
